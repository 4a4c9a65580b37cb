r"""How to learn grad log p from samples of p, when nobody can say what grad log p is at any of them.

    wanted       E |psi(x) - grad log p(x)|^2 / 2         which needs the unknown score
    Hyvarinen    E [|psi|^2 / 2 + div psi] + constant     by parts: p is differentiated no more, psi is
    sliced       E [(v psi)^2 / 2 + v grad(v psi)]        the divergence along random directions v
    denoising    E |psi(y) - grad log q(y | x)|^2 / 2     for y = x + noise: a regression, and its constant is known
    Tweedie      E[x | y] = y + sigma^2 grad log q(y)     so that who can denoise has the score, and the reverse

The fields psi here are affine maps plus a sine, of no special form: they need not be a gradient. Densities are mixtures of
Gaussians, integrated over grids whose sums are exact to rounding. The last steps are what diffusion models make of it.
"""

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from hypothesis import strategies as st
from numpy.linalg import inv

from .. import distributions, ops
from ..autograd import grad, jacobian, jvp, vjp
from ..mcmc import evaluate
from ..models import ddpm
from .chain import Chain
from .exact import Given, gauss_hermite
from .gaussian_kl import pairs
from .instances import Mixture, mixtures, numbers, probabilities, vectors


@dataclass
class Field:
    """psi(x) = a + x B + sin(x C), from (N, d) to (N, d)."""

    a: np.ndarray
    B: np.ndarray
    C: np.ndarray

    def __call__(self, x):
        return self.a + x @ self.B + ops.sin(x @ self.C)


def divergence(f, x):
    """sum_i df_i / dx_i at each x (N, d), (N,): a derivative along each axis."""
    total = 0.0
    for i, axis in enumerate(np.eye(x.shape[1])):
        total = total + jvp(f, (x,), (np.broadcast_to(axis, x.shape),))[1][:, i]
    return total


def fields(d):
    return st.builds(Field, vectors(d), vectors((d, d), -2, 2), vectors((d, d), -1.5, 1.5))


@dataclass
class Fit:
    """A density in one or two dimensions, and a field."""

    p: Mixture
    psi: Field

    def integral(self, f, finer=1, within=lambda x: 1.0):
        """The sum of f(x), from (N, d) to (N,), over a grid: what lies beyond it, or between, is less than rounding."""
        std = np.sqrt(self.p.variances)
        spacing, reach = min(0.6 * std.min(), 0.35) / finer, abs(self.p.means).max() + 8 * std.max()
        axis = np.arange(-reach, reach + spacing, spacing)
        x = np.stack(np.meshgrid(*[axis] * self.p.D), axis=-1).reshape(-1, self.p.D)
        return (f(x) * within(x)).sum() * spacing**self.p.D

    def mean(self, f, finer=1, **settings):
        return self.integral(lambda x: np.exp(self.p.log_density(x)) * f(x), finer, **settings)


def fits(*dimensions):
    return st.sampled_from(dimensions).flatmap(lambda d: st.builds(Fit, mixtures(D=d), fields(d)))


score_matching = Chain(
    "score_matching",
    "Fitting the gradient of an unknown log-density: by parts, along random directions, and by denoising, as diffusion does.",
    "Hyvarinen 2005; Vincent 2011",
    fits(1),
)


@score_matching.equal(
    "by_parts",
    r"\int \psi \cdot \nabla p \, dx = -\int p\, \nabla \cdot \psi\, dx",
    because="in each dimension by parts, where p psi is 0 at both ends; the gradient of p by autograd",
    source="Hyvarinen 2005, appendix A",
    instances=fits(1, 2),
)
def by_parts(m):
    return along_gradient(m), -m.mean(lambda x: divergence(m.psi, x))


@by_parts.wrong("the sign, which comes with the derivative's change of sides, forgotten")
def _(m):
    return along_gradient(m), m.mean(lambda x: divergence(m.psi, x))


@by_parts.wrong("a density that ends where it is not 0, and no term for the boundary")
def _(m):
    def half(x):
        return x[:, 0] > 0

    return along_gradient(m, within=half), -m.mean(lambda x: divergence(m.psi, x), within=half)


def along_gradient(m, **settings):
    def f(x):
        p, pullback = vjp(lambda x: ops.exp(m.p.log_density(x)), x)
        return (m.psi(x) * pullback(np.ones(len(x)))[0]).sum(axis=1)

    return m.integral(f, **settings)


FINE = 8  # the square of a mixture's score has poles, not far from the real line, and needs a finer grid


def fisher_divergence(m):
    """E |psi - score|^2 / 2, by its definition."""
    return m.mean(lambda x: 0.5 * ((m.psi(x) - m.p.score(x)) ** 2).sum(axis=1), FINE)


def information(m):
    """E |score|^2, of which psi knows nothing."""
    return m.mean(lambda x: (m.p.score(x) ** 2).sum(axis=1), FINE)


@score_matching.equal(
    "hyvarinen",
    r"\frac{1}{2} \mathbb{E}|\psi - \nabla \log p|^2 = \mathbb{E}\left[\frac{1}{2} |\psi|^2 + \nabla \cdot \psi\right]"
    r" + \frac{1}{2} \mathbb{E}|\nabla \log p|^2",
    because="multiply out: p grad log p in the mixed term is grad p, and the step before moves its derivative to psi",
    source="Hyvarinen 2005, theorem 1",
)
def hyvarinen(m):
    objective = m.mean(lambda x: 0.5 * (m.psi(x) ** 2).sum(axis=1) + divergence(m.psi, x))
    return fisher_divergence(m), objective + 0.5 * information(m)


@hyvarinen.wrong("no half in front of the square: twice the divergence of psi belongs to it then")
def _(m):
    objective = m.mean(lambda x: (m.psi(x) ** 2).sum(axis=1) + divergence(m.psi, x))
    return fisher_divergence(m), objective + 0.5 * information(m)


@hyvarinen.wrong("the objective taken for the divergence: it can be negative")
def _(m):
    objective = m.mean(lambda x: 0.5 * (m.psi(x) ** 2).sum(axis=1) + divergence(m.psi, x))
    return fisher_divergence(m), objective


@score_matching.equal(
    "gaussian_model",
    r"\psi = -\Lambda (x - n): \quad J = \frac{1}{2} \mathrm{tr}\left((\Lambda - S^{-1})\, S\, (\Lambda - S^{-1})\right)"
    r" + \frac{1}{2} |\Lambda (n - m)|^2 - \frac{1}{2} \mathrm{tr}\, S^{-1}",
    because="complete the square: for data of mean m and covariance S, n = m and Lambda = 1/S are best, as for likelihood",
    source="Hyvarinen 2005, section 3.1",
    instances=pairs(),
)
def gaussian_model(g):
    precision, away = inv(g.T), inv(g.T) - inv(g.S)
    found = 0.5 * np.trace(away @ g.S @ away) + 0.5 * np.sum((precision @ (g.n - g.m)) ** 2)
    return objective_of_gaussian(g), found - 0.5 * np.trace(inv(g.S))


@gaussian_model.wrong("smallest where Lambda is the covariance of the data")
def _(g):
    precision, away = inv(g.T), inv(g.T) - g.S
    found = 0.5 * np.trace(away @ g.S @ away) + 0.5 * np.sum((precision @ (g.n - g.m)) ** 2)
    return objective_of_gaussian(g), found - 0.5 * np.trace(inv(g.S))


@gaussian_model.wrong("the mean's error in units of the model's standard deviation, as it is in the likelihood")
def _(g):
    precision, away = inv(g.T), inv(g.T) - inv(g.S)
    found = 0.5 * np.trace(away @ g.S @ away) + 0.5 * (g.n - g.m) @ precision @ (g.n - g.m)
    return objective_of_gaussian(g), found - 0.5 * np.trace(inv(g.S))


def objective_of_gaussian(g):
    """J = E[|psi|^2 / 2 + div psi] over the data N(m, S), psi the score of N(n, T)."""
    precision = inv(g.T)

    def psi(x):
        return (g.n - x) @ precision

    return g.mean(lambda x: 0.5 * (psi(x) ** 2).sum(axis=1) + divergence(psi, x))


@score_matching.equal(
    "sliced",
    r"\mathbb{E}_v\left[v^\top \nabla (v^\top \psi) + \frac{1}{2} (v^\top \psi)^2\right] = \nabla \cdot \psi"
    r" + \frac{1}{2} |\psi|^2, \quad \mathbb{E}[v v^\top] = I",
    because="v J v = tr(J v v^T): one derivative along v in place of d; here the mean is over all v with entries of -1 and 1",
    source="Song et al. 2019, sliced score matching",
    instances=st.integers(1, 3).flatmap(lambda d: st.tuples(fields(d), vectors((1, d)))),
)
def sliced(drawn):
    psi, x = drawn
    return over_directions(psi, x, signs(x.shape[1])), divergence(psi, x) + 0.5 * (psi(x) ** 2).sum(axis=1)


@sliced.wrong("directions of length 1, which see only a part 1 / d of the trace")
def _(drawn):
    psi, x = drawn
    v = signs(x.shape[1])
    unit = v / np.linalg.norm(v, axis=1, keepdims=True)
    return over_directions(psi, x, unit), divergence(psi, x) + 0.5 * (psi(x) ** 2).sum(axis=1)


@sliced.wrong("entries of 0 and 1, whose mean is not 0: mixed derivatives come in")
def _(drawn):
    psi, x = drawn
    v = math.sqrt(2) * (signs(x.shape[1]) > 0)
    return over_directions(psi, x, v), divergence(psi, x) + 0.5 * (psi(x) ** 2).sum(axis=1)


def signs(d):
    return np.array(list(product([-1.0, 1.0], repeat=d)))


def over_directions(psi, x, directions):
    """The mean over v of v grad(v psi) + (v psi)^2 / 2 at each x, in reverse mode."""
    values = []
    for v in directions:
        along, pullback = vjp(lambda x, v=v: (psi(x) * v).sum(axis=1), x)
        values.append(pullback(np.ones(len(x)))[0] @ v + 0.5 * along**2)
    return np.mean(values, axis=0)


# Denoising


@dataclass
class Noisy:
    """Data on K points (K, d) with weights (K,), noise N(0, sigma^2 I) on them, a place y (1, d) to look at, and a field."""

    weights: np.ndarray
    points: np.ndarray
    sigma: float
    y: np.ndarray
    psi: Field = None

    @property
    def q(self):
        """The distribution of y = x + noise."""
        return Mixture(self.weights, self.points, np.full(len(self.points), self.sigma**2))

    @property
    def score(self):
        """grad log q by autograd, (N, d)."""
        return evaluate(self.q.log_density, self.y).score

    def denoised(self):
        """E[x | y] by Bayes' rule, (N, d)."""
        return self.q.shares(self.y) @ self.points

    def on_line(self):
        return Fit(self.q, self.psi)


@st.composite
def noisy(draw, dimensions=(1, 2, 3), with_field=False):
    K, d = draw(st.integers(1, 4)), draw(st.sampled_from(dimensions))
    points, y = draw(vectors((K, d), -2, 2)), draw(vectors((1, d), -4, 4))
    drawn = Noisy(draw(probabilities(K, 0.05)), points, draw(numbers(0.4, 1.5)), y)
    return replace(drawn, psi=draw(fields(d))) if with_field else drawn


@score_matching.equal(
    "mean_of_scores",
    r"\nabla \log q(y) = \mathbb{E}\left[\nabla_y \log q(y \mid x) \mid y\right] = \mathbb{E}\left[\frac{x - y}{\sigma^2}"
    r" \mid y\right]",
    because="grad q(y) is the mean over x of q(y | x) grad log q(y | x); divided by q(y), this is a mean over x given y",
    source="Vincent 2011, appendix",
    instances=noisy(),
)
def mean_of_scores(m):
    return m.score, np.einsum("nk,nkd->nd", m.q.shares(m.y), m.points - m.y[:, None]) / m.sigma**2


@mean_of_scores.wrong("the mean over all of the data, whatever y is")
def _(m):
    return m.score, (m.weights @ m.points - m.y) / m.sigma**2


@mean_of_scores.wrong("the deviation divided by sigma, as a noise of unit variance is scaled")
def _(m):
    return m.score, np.einsum("nk,nkd->nd", m.q.shares(m.y), m.points - m.y[:, None]) / m.sigma


@score_matching.equal(
    "denoising",
    r"\frac{1}{2} \mathbb{E}_{x, y}\left|\psi(y) - \frac{x - y}{\sigma^2}\right|^2 ="
    r" \frac{1}{2} \mathbb{E}_y|\psi - \nabla \log q|^2 + \frac{1}{2}\left(\frac{1}{\sigma^2} -"
    r" \mathbb{E}|\nabla \log q|^2\right)",
    because="a regression is best at the conditional mean, the score; what is left is the variance of the targets about it",
    source="Vincent 2011",
    instances=noisy([1], with_field=True),
)
def denoising(m):
    return regression(m), fisher_divergence(m.on_line()) + 0.5 * (1 / m.sigma**2 - information(m.on_line()))


@denoising.wrong("the field matched to the score of the data in place of that of the noisy data: no constant left over")
def _(m):
    return regression(m), fisher_divergence(m.on_line())


@denoising.wrong("the target's sign turned: towards the noise")
def _(m):
    right = fisher_divergence(m.on_line()) + 0.5 * (1 / m.sigma**2 - information(m.on_line()))
    return regression(m, sign=-1.0), right


def regression(m, sign=1.0):
    """The mean over the data, and over the noise by a Gauss-Hermite rule, as one would train."""
    noise, w = gauss_hermite(40)
    y = m.points + m.sigma * noise
    target = -sign * noise / m.sigma
    errors = (m.psi(y.reshape(-1, 1)).reshape(y.shape) - target) ** 2
    return 0.5 * m.weights @ errors @ w


@score_matching.equal(
    "tweedie",
    r"\mathbb{E}[x \mid y] = y + \sigma^2 \nabla \log q(y)",
    because="multiply the score's mean by sigma^2; the best denoiser, found by Bayes on the left, takes a step uphill",
    source="Robbins 1956; Efron 2011",
    instances=noisy(),
)
def tweedie(m):
    return m.denoised(), m.y + m.sigma**2 * m.score


@tweedie.wrong("a step of sigma")
def _(m):
    return m.denoised(), m.y + m.sigma * m.score


@tweedie.wrong("downhill: y less the step")
def _(m):
    return m.denoised(), m.y - m.sigma**2 * m.score


@score_matching.equal(
    "tweedie_covariance",
    r"\mathrm{Cov}[x \mid y] = \sigma^2 I + \sigma^4 \nabla^2 \log q(y)",
    because="differentiate Tweedie's formula: the derivative of E[x | y] in y is the covariance over sigma^2",
    source="Efron 2011",
    instances=noisy(),
)
def tweedie_covariance(m):
    return covariance(m), m.sigma**2 * np.eye(m.q.D) + m.sigma**4 * hessian(m)


@tweedie_covariance.wrong("sigma^2 with the second derivatives, too")
def _(m):
    return covariance(m), m.sigma**2 * np.eye(m.q.D) + m.sigma**2 * hessian(m)


@tweedie_covariance.wrong("the inverse of the observed information, minus the second derivatives, as for a wide posterior")
def _(m):
    return covariance(m), inv(np.eye(m.q.D) / m.sigma**2 - hessian(m))


def covariance(m):
    """Of x given y, by Bayes' rule."""
    posterior, away = m.q.shares(m.y)[0], m.points - m.denoised()[0]
    return np.einsum("k,ki,kj->ij", posterior, away, away)


def hessian(m):
    return jacobian(grad(lambda y: m.q.log_density(ops.reshape(y, shape=(1, -1))).sum()))(m.y[0])


@score_matching.equal(
    "least_error",
    r"\mathbb{E}\left|x - \mathbb{E}[x \mid y]\right|^2 = \sigma^2 - \sigma^4\, \mathbb{E}|\nabla \log q|^2, \quad d = 1",
    because="the step before, averaged over y: by parts, the mean of (log q)'' is minus the mean of the score's square",
    source="Brown 1971",
    instances=noisy([1]),
)
def least_error(m):
    return error_of_denoiser(m), m.sigma**2 - m.sigma**4 * information(m.on_line())


@least_error.wrong("the second derivative's sign forgotten: noise that makes it harder than no data at all")
def _(m):
    return error_of_denoiser(m), m.sigma**2 + m.sigma**4 * information(m.on_line())


def error_of_denoiser(m):
    def error(y):
        posterior = m.q.shares(y)
        return posterior @ m.points[:, 0] ** 2 - (posterior @ m.points[:, 0]) ** 2

    return m.on_line().mean(error, FINE)


# Diffusion


@dataclass
class Diffused:
    """Data on points, as above, a schedule of diffusion, and a time t."""

    data: Noisy
    schedule: ddpm.Schedule
    t: int

    @property
    def time(self):
        return np.array([self.t])

    @property
    def q(self):
        """The distribution of x_t."""
        abar = self.schedule.abar[self.t]
        return Mixture(self.data.weights, math.sqrt(abar) * self.data.points, np.full(len(self.data.points), 1 - abar))

    @property
    def std(self):
        """Of the noise in x_t."""
        return math.sqrt(1 - self.schedule.abar[self.t])

    def model(self, network):
        return ddpm.DDPM(lambda x, t, labels: network(x), self.schedule, (self.q.D,))

    def optimal(self, xt):
        """-sqrt(1 - abar) grad log q(x_t)."""
        return -self.std * evaluate(self.q.log_density, xt).score

    def loss(self):
        """DDPM.loss of the first point at time t, for the network -sqrt(1 - abar) psi, and with y for noise."""
        made = self.model(lambda x: -self.std * self.data.psi(x))
        return made.loss(self.data.points[:1], Given(self.data.y, (self.t - 0.5) / self.schedule.T))[0]

    def error(self):
        """|psi - grad log q(x_t | x_0)|^2 for the same x_0 and noise, with the gradient by autograd."""
        one = Mixture(np.ones(1), self.q.means[:1], self.q.variances[:1])
        xt = one.means + self.std * self.data.y
        return np.sum((self.data.psi(xt) - evaluate(one.log_density, xt).score) ** 2)


@st.composite
def diffused(draw):
    schedule = ddpm.Schedule(draw(vectors(draw(st.integers(1, 5)), 0.05, 0.9)))
    return Diffused(draw(noisy([1, 2], with_field=True)), schedule, draw(st.integers(1, schedule.T)))


@score_matching.equal(
    "noise_is_score",
    r"\hat\epsilon(x_t) = -\sqrt{1 - \bar\alpha_t}\, \nabla \log q(x_t) \;\Rightarrow\;"
    r" \hat x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t}\, \hat\epsilon}{\sqrt{\bar\alpha_t}} = \mathbb{E}[x_0 \mid x_t]",
    because="Tweedie's formula for sqrt(abar) x_0 with noise of variance 1 - abar; the conversion is that of DDPM.denoise",
    source="Ho et al. 2020, section 3.2; Song et al. 2021",
    instances=diffused(),
)
def noise_is_score(m):
    return m.model(m.optimal).denoise(m.data.y, m.time)[0], m.q.shares(m.data.y) @ m.data.points


@noise_is_score.wrong("the score itself taken for the noise, but for its sign")
def _(m):
    return m.model(lambda x: m.optimal(x) / m.std).denoise(m.data.y, m.time)[0], m.q.shares(m.data.y) @ m.data.points


@noise_is_score.wrong("noise that points uphill, like the score")
def _(m):
    return m.model(lambda x: -m.optimal(x)).denoise(m.data.y, m.time)[0], m.q.shares(m.data.y) @ m.data.points


@score_matching.equal(
    "ddpm_loss",
    r"\frac{1}{D} |\epsilon - \hat\epsilon(x_t)|^2 = \frac{1 - \bar\alpha_t}{D} |\psi(x_t) - \nabla \log q(x_t \mid x_0)|^2,"
    r" \quad \hat\epsilon = -\sqrt{1 - \bar\alpha_t}\, \psi",
    because="the target of denoising is -eps / sqrt(1 - abar): the loss of diffusion weighs each noise level by its variance",
    source="Song & Ermon 2019, section 4.2; Ho et al. 2020, section 3.2",
    instances=diffused(),
)
def ddpm_loss(m):
    return m.loss(), (1 - m.schedule.abar[m.t]) / m.q.D * m.error()


@ddpm_loss.wrong("all noise levels weighed alike, so that those with little noise outweigh all others")
def _(m):
    return m.loss(), m.error() / m.q.D


@ddpm_loss.wrong("time counted from 0")
def _(m):
    earlier = Diffused(m.data, m.schedule, m.t - 1) if m.t > 1 else m
    return m.loss(), (1 - earlier.schedule.abar[earlier.t]) / m.q.D * earlier.error()


@dataclass
class Widening:
    """Two Gaussians, their means and log-variances, and how much variance t has been added to both."""

    p: np.ndarray
    q: np.ndarray
    t: float

    def divergence(self, t):
        """KL(p_t || q_t)."""
        p, q = (distributions.Gaussian(g[:1], ops.log(math.exp(g[1]) + t)) for g in (self.p, self.q))
        return distributions.kl(p, q).sum()

    def fisher(self):
        """E_p |grad log p_t - grad log q_t|^2, by three nodes, as the scores are linear."""
        z, w = gauss_hermite()
        (m, s), (n, r) = ((g[0], math.exp(g[1]) + self.t) for g in (self.p, self.q))
        x = m + math.sqrt(s) * z
        return w @ ((x - n) / r - (x - m) / s) ** 2


@score_matching.grad_equal(
    "derivative_of_kl",
    r"\frac{d}{dt} \mathrm{KL}(p_t \,\|\, q_t) = -\frac{1}{2} \mathbb{E}_{p_t}|\nabla \log p_t - \nabla \log q_t|^2,"
    r" \quad p_t = p * \mathcal{N}(0, t)",
    because="both obey dp/dt = p'' / 2; by parts, twice: score matching matches how fast noise makes the two alike",
    source="Lyu 2009, theorem 1",
    instances=st.builds(Widening, vectors(2), vectors(2), numbers(0, 3)),
)
def derivative_of_kl(w):
    return w.divergence, lambda t: (-0.5 * w.fisher() * t).sum(), np.array([w.t])


@derivative_of_kl.wrong("without the half")
def _(w):
    return w.divergence, lambda t: (-w.fisher() * t).sum(), np.array([w.t])


@derivative_of_kl.wrong("the mean over the model q in place of the data p")
def _(w):
    return w.divergence, lambda t: (-0.5 * Widening(w.q, w.p, w.t).fisher() * t).sum(), np.array([w.t])
