r"""Why a chain that knows p only up to a constant draws from p, and what is lost where nothing is rejected.

    detailed balance   p(x) K(x, x') = p(x') K(x', x), and so p K = p
    rejection          from any proposal q, by accepting with probability min(1, p(x') q(x | x') / p(x) q(x' | x))
    Langevin           q from the score; without rejection it has p only in the limit of short steps

On few states a chain is a matrix. Elsewhere the noise is given and not drawn: then the kernels of mcmc.py can be led from any
point to any other, and the probability with which `walk` accepts is found by search, since it moves where u < r.
"""

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.linalg import inv

from .. import ops
from ..mcmc import AdjustedLangevin, Langevin, Point, RandomWalk, walk
from .chain import Chain
from .exact import Given, null_vector
from .instances import Mixture, covariances, mixtures, numbers, probabilities, vectors


def log_acceptance(kernel, log_density, x, noise, parts=256):
    """log of the probability that `walk` moves from x (N, d) with that noise, (N,): the u up to which it does, by search."""
    low, width = np.full(len(x), -700.0), 700.0
    for _ in range(7):
        tried = low[:, None] + width / parts * np.arange(parts)
        rng = Given(np.repeat(noise, parts, axis=0), np.exp(tried).ravel())
        _, accepts = next(walk(kernel, log_density, np.repeat(x, parts, axis=0), rng))
        width = width / parts
        low = low + width * (accepts.reshape(tried.shape).sum(axis=1) - 1)
    return low


# Few states


@dataclass
class Finite:
    """Flows F(x, x') >= 0 between K states, a distribution p (K,), and proposals q(x' | x), a row for each x: (K, K)."""

    flow: np.ndarray
    p: np.ndarray
    q: np.ndarray

    def acceptance(self, kernel):
        """The probabilities with which `walk` accepts to go from x to x', (K, K)."""
        K = len(self.p)
        origins, targets = np.repeat(np.arange(K), K)[:, None], np.tile(np.arange(K), K)[:, None]
        found = log_acceptance(kernel, self.log_density, origins.astype(float), targets.astype(float))
        return np.exp(found).reshape(K, K)

    def log_density(self, x):
        return np.log(self.p)[x[:, 0].astype(int)]

    def transitions(self, acceptance):
        """K(x, x'): to propose x' and accept it, or, for x' = x, also to reject another."""
        K = self.q * acceptance
        return K + np.diag(1 - K.sum(axis=1))


@dataclass
class Jumps:
    """Proposes what the noise says, a state with probability q(x' | x); log r with that of the way back, unless `symmetric`."""

    q: np.ndarray
    symmetric: bool = False
    inverted: bool = False

    def start(self, log_density, x):
        return Point(x, log_density(x))

    def propose(self, log_density, point, rng):
        new = self.start(log_density, rng.normal(point.x.shape))
        a, b = point.x[:, 0].astype(int), new.x[:, 0].astype(int)
        correction = 0.0 if self.symmetric else np.log(self.q[b, a] / self.q[a, b])
        log_r = new.log_p - point.log_p + correction
        return new, -log_r if self.inverted else log_r


@st.composite
def finite(draw):
    K = draw(st.integers(2, 5))
    return Finite(draw(vectors((K, K), 0.01, 1.0)), draw(probabilities(K)), draw(probabilities((K, K))))


mcmc = Chain(
    "mcmc",
    "Markov chains that draw from a density known up to a constant: detailed balance, and three ways to it or near it.",
    "Metropolis et al. 1953; Hastings 1970; Roberts & Tweedie 1996",
    finite(),
)


@mcmc.equal(
    "balance_is_enough",
    r"p(x) K(x, x') = p(x') K(x', x) \;\Rightarrow\; \sum_x p(x) K(x, x') = p(x')",
    because="sum over x: on the right, K(x', .) sums to 1. The left side here is the stationary distribution of K, solved for",
    source="Metropolis et al. 1953",
)
def balance_is_enough(m):
    return stationary_of(m.flow + m.flow.T)


@balance_is_enough.wrong("flows that differ between the directions")
def _(m):
    return stationary_of(m.flow)


@balance_is_enough.wrong("the sum over the states that follow, not those before")
def _(m):
    flow = m.flow + m.flow.T
    p = flow.sum(axis=1) / flow.sum()
    return flow / flow.sum(axis=1, keepdims=True) @ p, p


def stationary_of(flow):
    """The null vector of K^T - 1 for the K that has these flows from p, and p."""
    K = flow / flow.sum(axis=1, keepdims=True)
    return null_vector(K.T - np.eye(len(K))), flow.sum(axis=1) / flow.sum()


@mcmc.equal(
    "metropolis_hastings",
    r"K(x, x') = q(x' \mid x) \min\left(1, \frac{p(x')\, q(x \mid x')}{p(x)\, q(x' \mid x)}\right)"
    r" \;(x' \neq x) \;\Rightarrow\; p K = p",
    because="p(x) K(x, x') is the smaller one of p(x) q(x' | x) and p(x') q(x | x'), the same in both directions",
    source="Hastings 1970",
)
def metropolis_hastings(m):
    return m.p @ m.transitions(m.acceptance(Jumps(m.q))), m.p


@metropolis_hastings.wrong("Metropolis' ratio p(x') / p(x), for proposals that are not symmetric")
def _(m):
    return m.p @ m.transitions(m.acceptance(Jumps(m.q, symmetric=True))), m.p


@metropolis_hastings.wrong("rejected moves tried again until one is accepted, and not counted")
def _(m):
    moved = m.q * m.acceptance(Jumps(m.q))
    return m.p @ (moved / moved.sum(axis=1, keepdims=True)), m.p


@metropolis_hastings.wrong("the ratio upside down")
def _(m):
    return m.p @ m.transitions(m.acceptance(Jumps(m.q, inverted=True))), m.p


# Densities


@dataclass
class Move:
    """A density, points x and noise, (N, d) each, and a step."""

    p: Mixture
    x: np.ndarray
    noise: np.ndarray
    step: float
    leapfrogs: int

    def reach(self, kernel):
        """Where the kernel goes from x with that noise."""
        point = kernel.start(self.p.log_density, self.x)
        return kernel.propose(self.p.log_density, point, Given(self.noise))[0].x

    def flows(self, kernel, mean, std):
        """log p(x) q(x' | x) a(x, x') and the same back, for the x' that is reached, with q(. | x) = N(mean(x), std^2)."""

        def flow(x, noise):
            return self.p.log_density(x) - (noise**2).sum(axis=1) / 2 + log_acceptance(kernel, self.p.log_density, x, noise)

        new = self.reach(kernel)
        return flow(self.x, (new - mean(self.x)) / std), flow(new, (self.x - mean(new)) / std)


@st.composite
def moves(draw):
    p, N = draw(mixtures()), draw(st.integers(1, 3))
    x, noise = draw(vectors((N, p.D), -2, 2)), draw(vectors((N, p.D), -2, 2))
    return Move(p, x, noise, draw(numbers(0.05, 0.5)), draw(st.integers(1, 4)))


@mcmc.equal(
    "random_walk",
    r"p(x)\, \mathcal{N}(x'; x, \sigma^2 I)\, a(x, x') = p(x')\, \mathcal{N}(x; x', \sigma^2 I)\, a(x', x)",
    because="the proposal is the same in both directions, so a = min(1, p(x') / p(x)) balances the two; compared as logarithms",
    source="Metropolis et al. 1953",
    instances=moves(),
)
def random_walk(m):
    return m.flows(RandomWalk(m.step), lambda x: x, m.step)


class Eager(RandomWalk):
    """Accepts with the root of the ratio."""

    def propose(self, log_density, point, rng):
        new, log_r = super().propose(log_density, point, rng)
        return new, log_r / 2


@random_walk.wrong("the ratio of amplitudes in place of probabilities: p taken for p^2")
def _(m):
    return m.flows(Eager(m.step), lambda x: x, m.step)


@random_walk.wrong("a drift in the proposal that the ratio does not know of")
def _(m):
    return m.flows(RandomWalk(m.step), lambda x: x + m.step**2 / 2 * m.p.score(x), m.step)


@mcmc.equal(
    "widths",
    r"x' = x + \sigma \epsilon, \quad \log \sigma = (1 - u) \log \sigma_1 + u \log \sigma_2, \quad"
    r" \log r = \log p(x') - \log p(x)",
    because="each width is as likely on the way back, so a mixture of symmetric proposals is symmetric; log sigma is uniform",
    source="Metropolis et al. 1953",
    instances=st.tuples(moves(), numbers(1, 20), numbers(0, 0.99)),
)
def widths(drawn):
    m, ratio, u = drawn
    return moved_by_width(*drawn), moved_and_ratio(m, math.exp((1 - u) * math.log(m.step) + u * math.log(ratio * m.step)))


@widths.wrong("sigma itself uniform, so that hardly any move is short")
def _(drawn):
    m, ratio, u = drawn
    return moved_by_width(*drawn), moved_and_ratio(m, (1 - u) * m.step + u * ratio * m.step)


def moved_by_width(m, ratio, u):
    kernel = RandomWalk(m.step, m.step * ratio)
    new, log_r = kernel.propose(m.p.log_density, kernel.start(m.p.log_density, m.x), Given(m.noise, u))
    return np.concatenate([new.x, log_r[:, None]], axis=1)


def moved_and_ratio(m, sigma):
    new = m.x + sigma * m.noise
    return np.concatenate([new, (m.p.log_density(new) - m.p.log_density(m.x))[:, None]], axis=1)


# Langevin


@mcmc.equal(
    "langevin_step",
    r"\mathbb{E}[x' - x] = h \nabla \log p(x), \quad \mathrm{Cov}[x'] = 2 h I",
    because="x' is linear in the noise, so the corners of a cube in place of the noise give its moments",
    source="Roberts & Tweedie 1996",
    instances=moves(),
)
def langevin_step(m):
    return np.concatenate(moments(Langevin(m.step), m), axis=1), drift_and_covariance(m, 2 * m.step)


@langevin_step.wrong("noise of standard deviation 2 h, the root forgotten")
def _(m):
    return np.concatenate(moments(Langevin(m.step), m), axis=1), drift_and_covariance(m, 4 * m.step**2)


@langevin_step.wrong("the h of another convention, which moves by h / 2 times the score and has noise of variance h")
def _(m):
    return np.concatenate(moments(Langevin(m.step), m), axis=1), drift_and_covariance(m, 2 * m.step) / 2


def moments(kernel, m):
    """Mean (N, d) and covariance (N, d d) of the move, for noise of -1 or 1 in each dimension, which has those of N(0, I)."""
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * m.p.D)).reshape(m.p.D, -1).T
    reached = np.stack([Move(m.p, m.x, corner, m.step, 1).reach(kernel) - m.x for corner in corners])
    away = reached - reached.mean(axis=0)
    covariance = np.einsum("sni,snj->nij", away, away) / len(corners)
    return reached.mean(axis=0), covariance.reshape(len(m.x), -1)


def drift_and_covariance(m, variance):
    covariance = np.tile(variance * np.eye(m.p.D).ravel(), (len(m.x), 1))
    return np.concatenate([m.step * m.p.score(m.x), covariance], axis=1)


@dataclass
class Circle:
    """log p(x) = sum_j a_j cos(j x) + b_j sin(j x), not normalised, on a circle; and a step h."""

    a: np.ndarray
    b: np.ndarray
    h: float

    def log_density(self, x):
        angles = x * np.arange(1, len(self.a) + 1)
        return (ops.cos(angles) * self.a + ops.sin(angles) * self.b).sum(axis=1)

    def stationary(self, kernel, n=61):
        """The null vector of p -> -(drift p)' + (spread p)'' on n points, with drift and spread of the kernel, and p."""
        x = 2 * math.pi / n * np.arange(n)[:, None]
        point = kernel.start(self.log_density, x)
        up, down = (kernel.propose(self.log_density, point, Given(noise))[0].x[:, 0] for noise in (1.0, -1.0))
        drift, spread = ((up + down) / 2 - x[:, 0]) / self.h, ((up - down) / 2) ** 2 / (2 * self.h)
        D = fourier_derivative(n)
        p = np.exp(self.log_density(x))
        return null_vector(-D * drift + D @ D * spread), p / p.sum()


def fourier_derivative(n):
    """The matrix that differentiates trigonometric polynomials of an odd number n of values, exactly."""
    k = np.arange(n)
    apart = k[:, None] - k + np.eye(n)  # on the diagonal anything but 0
    return (1 - np.eye(n)) * (-1.0) ** apart.astype(int) / (2 * np.sin(math.pi / n * apart))


circles = st.integers(1, 2).flatmap(
    lambda n: st.builds(Circle, vectors(n, -1, 1), vectors(n, -1, 1), numbers(0.01, 1.0).map(lambda h: max(h, 0.01)))
)


@mcmc.equal(
    "fokker_planck",
    r"-\nabla \cdot (p\, \nabla \log p) + \nabla \cdot \nabla p = 0",
    because="p grad log p is grad p: what drifts uphill diffuses back, so that dx = s dt + sqrt(2) dW leaves p as it is",
    source="Roberts & Tweedie 1996",
    instances=circles,
)
def fokker_planck(c):
    return c.stationary(Langevin(c.h))


class Cool(Langevin):
    """Noise of variance h."""

    def propose(self, log_density, point, rng):
        return super().propose(log_density, point, Given(rng.normal(point.x.shape) / math.sqrt(2)))


@fokker_planck.wrong("noise of variance h: samples of p^2, which look better than they are")
def _(c):
    return c.stationary(Cool(c.h))


@fokker_planck.wrong("the sign of the score turned, as if log p were an energy")
def _(c):
    found, _ = c.stationary(Langevin(c.h))
    return found, Circle(-c.a, -c.b, c.h).stationary(Langevin(c.h))[1]


@dataclass
class Gaussian:
    """N(0, S), and a step as a part of the longest that is stable."""

    S: np.ndarray
    part: float

    @property
    def h(self):
        return float(self.part * 2 * np.linalg.eigvalsh(self.S)[0])

    def stationary(self):
        """The covariance V that Langevin's kernel keeps, from its linear map x' = x A + noise B: V = A^T V A + B^T B."""
        kernel, n, precision = Langevin(self.h), len(self.S), inv(self.S)

        def log_density(x):
            return -0.5 * (x @ precision * x).sum(axis=1)

        A = kernel.propose(log_density, Point(np.eye(n)), Given(0.0))[0].x
        B = kernel.propose(log_density, Point(np.zeros((n, n))), Given(np.eye(n)))[0].x
        return np.linalg.solve(np.eye(n * n) - np.kron(A.T, A.T), (B.T @ B).ravel()).reshape(n, n)


gaussians = st.integers(1, 3).flatmap(lambda n: st.builds(Gaussian, covariances(n), numbers(0.01, 0.95)))


@mcmc.equal(
    "bias_of_the_step",
    r"V = S \left(I - \frac{h}{2} S^{-1}\right)^{-1}",
    because="one step turns V into (1 - h / S)^2 V + 2 h, which is V again for this V: too wide, and infinite at h = 2 S",
    source="Roberts & Tweedie 1996",
    instances=gaussians,
)
def bias_of_the_step(g):
    return g.stationary(), g.S @ inv(np.eye(len(g.S)) - g.h / 2 * inv(g.S))


@bias_of_the_step.wrong("no bias: the covariance of p")
def _(g):
    return g.stationary(), g.S


@bias_of_the_step.wrong("h without its half")
def _(g):
    return g.stationary(), g.S @ inv(np.eye(len(g.S)) - g.h / 4 * inv(g.S))


@mcmc.equal(
    "adjusted_langevin",
    r"p(x)\, \mathcal{N}(x'; x + h s(x), 2 h I)\, a(x, x') = p(x')\, \mathcal{N}(x; x' + h s(x'), 2 h I)\, a(x', x)",
    because="Hastings' ratio for Langevin's proposal, which is not symmetric: moves uphill are proposed more than moves back",
    source="Roberts & Tweedie 1996",
    instances=moves(),
)
def adjusted_langevin(m):
    return langevin_flows(m, AdjustedLangevin(m.step))


class AsIfSymmetric(AdjustedLangevin):
    def log_q(self, to, origin):
        return 0.0


class TheOtherWay(AdjustedLangevin):
    def log_q(self, to, origin):
        return super().log_q(origin, to)


class TwiceAsSure(AdjustedLangevin):
    def log_q(self, to, origin):
        return 2 * super().log_q(to, origin)


@adjusted_langevin.wrong("the ratio p(x') / p(x), as if the proposal were symmetric")
def _(m):
    return langevin_flows(m, AsIfSymmetric(m.step))


@adjusted_langevin.wrong("q(x' | x) and q(x | x') exchanged")
def _(m):
    return langevin_flows(m, TheOtherWay(m.step))


@adjusted_langevin.wrong("log q with 2 h below the square, where 4 h belongs")
def _(m):
    return langevin_flows(m, TwiceAsSure(m.step))


def langevin_flows(m, kernel):
    return m.flows(kernel, lambda x: x + m.step * m.p.score(x), math.sqrt(2 * m.step))
