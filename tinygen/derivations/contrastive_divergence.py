r"""What it costs to train with short Markov chains in the place of a model's samples.

    exact       grad E(x) - E_p[grad E]            nobody can draw from p
    CD-k        grad E(x) - E[grad E(x_k)]         with x_k the ends of chains of k steps that start at the data
    PCD         the same, with chains that go on where the last step left them
    replay      ... that are a sample of many such chains, some begun anew

First on a restricted Boltzmann machine of a few bits, on which contrastive divergence was first tried: its chains are matrices,
and their ends are known. Then the training step of models/ebm.py itself, with Langevin's chains on a Gaussian, in which all is
linear: what happens on average is what happens without noise.
"""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from .. import ops
from ..autograd import grad
from ..distributions import Bernoulli
from ..mcmc import Langevin
from ..models import ebm
from ..models.ebm import EBM
from ..optim import SGD
from .chain import Chain
from .energy import bits, coefficients, made
from .exact import Given
from .instances import numbers, probabilities, vectors


@dataclass
class Boltzmann:
    """A restricted Boltzmann machine, E(v, h) = -v W h - b v - c h on bits, W (n, m); data (2^n,); and k, of CD-k."""

    W: np.ndarray
    b: np.ndarray
    c: np.ndarray
    data: np.ndarray
    k: int

    @property
    def v(self):
        return bits(len(self.b))

    @property
    def h(self):
        return bits(len(self.c))

    def joint(self):
        """p(v, h), (2^n, 2^m), by its definition."""
        weights = np.exp(self.v @ self.W @ self.h.T + (self.v @ self.b)[:, None] + self.h @ self.c)
        return weights / weights.sum()

    def free_energy(self):
        """F(v) in closed form, (2^n,)."""
        return -self.v @ self.b - ops.softplus(self.v @ self.W + self.c).sum(axis=1)

    def up(self, v):
        """p(h | v), (len(v), 2^m)."""
        logits = v @ self.W + self.c
        return ops.exp(Bernoulli(logits[:, None]).log_prob(self.h[None]).sum(axis=2))

    def down(self, h):
        """p(v | h), (len(h), 2^n)."""
        logits = h @ self.W.T + self.b
        return ops.exp(Bernoulli(logits[:, None]).log_prob(self.v[None]).sum(axis=2))

    def gibbs(self):
        """From v to a new v over all h: a row for each v, (2^n, 2^n)."""
        return self.up(self.v) @ self.down(self.h)

    def after(self, steps):
        """The distribution of v after that many transitions from the data."""
        q, K = self.data, self.gibbs()
        for _ in range(steps):
            q = q @ K
        return q

    @property
    def theta(self):
        return np.concatenate([self.W.ravel(), self.b, self.c])

    def at(self, theta):
        n, m = self.W.shape
        W = ops.reshape(theta[: n * m], shape=(n, m))
        return Boltzmann(W, theta[n * m : n * m + n], theta[n * m + n :], self.data, self.k)


@st.composite
def boltzmann(draw):
    n, m = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    return Boltzmann(
        draw(vectors((n, m), -2, 2)), draw(vectors(n)), draw(vectors(m)), draw(probabilities(2**n)), draw(st.integers(1, 3))
    )


contrastive_divergence = Chain(
    "contrastive_divergence",
    "Training by short chains: Gibbs sampling, what CD-k leaves out of the gradient, and chains that are kept.",
    "Hinton 2002",
    boltzmann(),
)


@contrastive_divergence.equal(
    "free_energy",
    r"-\log \sum_h e^{-E(v, h)} = -b^\top v - \sum_j \log\left(1 + e^{c_j + (W^\top v)_j}\right)",
    because="for given v, the sum over all h is a product over the hidden bits, each of which is 0 or 1",
    source="Hinton 2012, a practical guide to training restricted Boltzmann machines",
)
def free_energy(m):
    return summed(m), m.free_energy()


@free_energy.wrong("the most likely h alone: max(0, x) in place of log(1 + e^x)")
def _(m):
    return summed(m), -m.v @ m.b - np.maximum(m.v @ m.W + m.c, 0).sum(axis=1)


@free_energy.wrong("hidden bits that are -1 or 1")
def _(m):
    return summed(m), -m.v @ m.b - np.log(2 * np.cosh(m.v @ m.W + m.c)).sum(axis=1)


def summed(m):
    """The free energy by its definition."""
    energies = -(m.v @ m.W @ m.h.T) - (m.v @ m.b)[:, None] - m.h @ m.c
    return -np.log(np.exp(-energies).sum(axis=1))


@contrastive_divergence.equal(
    "conditionals",
    r"p(h \mid v) = \prod_j \mathrm{Bernoulli}\left(h_j; \sigma(c_j + (W^\top v)_j)\right)",
    because="for given v, the energy is linear in h: the bits do not know of one another; the Bernoulli is the package's",
)
def conditionals(m):
    joint = m.joint()
    return joint / joint.sum(axis=1, keepdims=True), m.up(m.v)


@conditionals.wrong("the hidden biases left out")
def _(m):
    joint = m.joint()
    return joint / joint.sum(axis=1, keepdims=True), Boltzmann(m.W, m.b, 0 * m.c, m.data, m.k).up(m.v)


@contrastive_divergence.equal(
    "block_gibbs",
    r"\sum_{v, h} p(v, h)\, p(h' \mid v)\, p(v' \mid h') = p(v', h')",
    because="to draw a block from its conditional leaves the joint distribution as it is, and to draw the other then, too",
)
def block_gibbs(m):
    return np.einsum("vh,vH,HV->VH", m.joint(), m.up(m.v), m.down(m.h)), m.joint()


@block_gibbs.wrong("both blocks at once, v' from the old h")
def _(m):
    return np.einsum("vh,vH,hV->VH", m.joint(), m.up(m.v), m.down(m.h)), m.joint()


@block_gibbs.wrong("v' from the probabilities of h' in place of its bits, which saves random numbers")
def _(m):
    return np.einsum("vh,vH,vV->VH", m.joint(), m.up(m.v), m.down(m.up(m.v) @ m.h)), m.joint()


@contrastive_divergence.at_most(
    "bias_of_cd",
    r"\left|\mathbb{E}_{q_k}[g] - \mathbb{E}_p[g]\right| \le (\max g - \min g)\, \tau^k\, \mathrm{TV}(data, p),"
    r" \quad \tau = \max_{v, w} \mathrm{TV}(K_v, K_w) < 1",
    because="any two rows of K overlap, so two distributions come closer by a factor tau in each step: the bias vanishes",
    source="Dobrushin 1956",
)
def bias_of_cd(m):
    return np.array([abs_bias(m, m.after(k)) for k in (1, 2, 4, 8)]), np.array([ceiling(m, k) for k in (1, 2, 4, 8)])


@bias_of_cd.wrong("one step from the data taken for a sample")
def _(m):
    return abs_bias(m, m.after(1)), np.zeros(m.theta.size)


@bias_of_cd.wrong("k chains of one step, in place of one chain of k steps")
def _(m):
    return np.array([abs_bias(m, m.after(1)) for _ in (1, 2, 4, 8)]), np.array([ceiling(m, k) for k in (1, 2, 4, 8)])


def slopes(m):
    """g = dF / d theta for each v, (2^n, parameters)."""
    rows = [grad(lambda theta, i=i: m.at(theta).free_energy()[i])(m.theta) for i in range(len(m.v))]
    return np.stack(rows)


def abs_bias(m, q):
    """By how much E_q[dF / d theta] is off, for each parameter."""
    return abs((q - m.joint().sum(axis=1)) @ slopes(m))


def ceiling(m, k):
    K, g = m.gibbs(), slopes(m)
    contraction = max(total_variation(a, b) for a in K for b in K)
    return (g.max(axis=0) - g.min(axis=0)) * contraction**k * total_variation(m.data, m.joint().sum(axis=1))


def total_variation(p, q):
    return 0.5 * abs(p - q).sum()


@contrastive_divergence.grad_equal(
    "cd_is_no_gradient",
    r"\nabla\left(\mathrm{KL}(data \,\|\, p) - \mathrm{KL}(q_k \,\|\, p)\right) = \mathbb{E}_{data}[\nabla F]"
    r" - \mathbb{E}_{q_k}[\nabla F] - \sum_v \nabla q_k(v) \log \frac{q_k(v)}{p(v)}",
    because="log Z cancels, but q_k, the end of the chains, moves with the parameters: CD-k leaves the last term out",
    source="Hinton 2002, section 3; Sutskever & Tieleman 2010",
)
def cd_is_no_gradient(m):
    return difference_of_divergences(m), update(m, third=1.0), m.theta


@cd_is_no_gradient.wrong("CD-k taken for the gradient of the contrastive divergence, which its name says")
def _(m):
    return difference_of_divergences(m), update(m, third=0.0), m.theta


def difference_of_divergences(m):
    def f(theta):
        machine = m.at(theta)
        minus_log_p = machine.free_energy() + ops.log(ops.exp(-machine.free_energy()).sum())
        q = machine.after(m.k)
        return (m.data * (np.log(m.data) + minus_log_p)).sum() - (q * (ops.log(q) + minus_log_p)).sum()

    return f


def update(m, third):
    p, q = m.joint().sum(axis=1), m.after(m.k)

    def f(theta):
        machine = m.at(theta)
        return ((m.data - q) * machine.free_energy()).sum() - third * (machine.after(m.k) * np.log(q / p)).sum()

    return f


# The training step, on Gaussians


@dataclass
class Training:
    """A model with a linear network, data (N, D), a step h of Langevin's chains, and how many of these steps are made."""

    model: EBM
    x: np.ndarray
    h: float
    k: int

    def move(self):
        """By how much one training step with CD-k and a rate of 1 moves the coefficients a, on average over the noise.

        E is linear in a, and the chains are linear in the noise, so the average is what happens without noise.
        """
        step = ebm.train_step(SGD(1.0), Langevin(self.h), self.k)
        state, _ = step(ebm.start(self.model, SGD(1.0)), self.x, Given(0.0))
        return coefficients(self.model)[0] - coefficients(state.training.params)[0]

    @property
    def slope(self):
        """The gradient of -log p in a: E_data[u] - E_p[u], where p is N(-a, I) in u."""
        return ((self.x - self.model.mean) / self.model.std).mean(axis=0) + coefficients(self.model)[0]


@st.composite
def trainings(draw):
    D = draw(st.integers(1, 3))
    return Training(
        made(draw, D, ()), draw(vectors((draw(st.integers(1, 3)), D))), draw(numbers(0.01, 0.2)), draw(st.integers(1, 4))
    )


@contrastive_divergence.equal(
    "part_of_the_gradient",
    r"\mathbb{E}[u(x_0)] - \mathbb{E}[u(x_k)] = \left(1 - \left(1 - \frac{h}{s^2}\right)^k\right)"
    r" \left(\mathbb{E}_{data}[u] - \mathbb{E}_p[u]\right)",
    because="each Langevin step leaves 1 - h / s^2 of the way to the Gaussian's mean; CD-k sees only the way that was made",
    source="Hinton 2002, section 3",
    instances=trainings(),
)
def part_of_the_gradient(t):
    return t.move(), (1 - (1 - t.h / t.model.std**2) ** t.k) * t.slope


@part_of_the_gradient.wrong("the whole gradient after k steps")
def _(t):
    return t.move(), t.slope


@part_of_the_gradient.wrong("one transition too few, the data counted as the first state")
def _(t):
    return t.move(), (1 - (1 - t.h / t.model.std**2) ** (t.k - 1)) * t.slope


@part_of_the_gradient.wrong("the mean of noise in place of the data as the chains' start")
def _(t):
    a = coefficients(t.model)[0]
    return t.move(), t.slope - (1 - t.h / t.model.std**2) ** t.k * a


class Kept(Given):
    """In place of a random generator: no noise, which rows are drawn, and for each a number, by which it begins anew."""

    def __init__(self, order, part):
        super().__init__(0.0, part)
        self.order = order

    def permutation(self, n):
        return self.order


@dataclass
class Replay:
    """The model and steps of a training, chains (M, D), which of them each batch takes, and which begin anew."""

    training: Training
    chains: np.ndarray
    order: np.ndarray
    anew: np.ndarray

    def after(self, steps, renew=0.5):
        """Where the chains are after so many training steps that leave the model as it is."""
        still, t = SGD(0.0), self.training
        step = ebm.train_step(still, Langevin(t.h), t.k, renew=renew)
        state = replace(ebm.start(t.model, still), chains=self.chains)
        for _ in range(steps):
            state, _ = step(state, t.x, Kept(self.order, np.where(self.anew, 0.25, 0.75)))
        return state.chains

    def moved(self, x, transitions):
        """By so many noiseless transitions: what is left of the way to the Gaussian's mean shrinks by 1 - h / s^2."""
        t = self.training
        mean = t.model.mean - t.model.std * coefficients(t.model)[0]
        return mean + (1 - t.h / t.model.std**2) ** transitions * (x - mean)

    @property
    def rows(self):
        """Those that a batch takes."""
        return self.order[: len(self.training.x)]


@st.composite
def replays(draw, spare=2):
    t = draw(trainings())
    n, D = t.x.shape
    M = n + draw(st.integers(0, spare))
    anew = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    return Replay(t, draw(vectors((M, D))), np.array(draw(st.permutations(range(M)))), anew)


@contrastive_divergence.equal(
    "persistent",
    r"x^-_n = K^{n k} x^-_0",
    because="each training step goes on where the chains were left, so that after n of them they have made n k transitions",
    source="Tieleman 2008",
    instances=st.tuples(replays(spare=0), st.integers(1, 3)),
)
def persistent(instance):
    r, n = instance
    return r.after(n, renew=0), r.moved(r.chains, n * r.training.k)


@persistent.wrong("begun again at the data in each step, as in CD-k")
def _(instance):
    r, n = instance
    return r.after(n, renew=0), r.moved(r.training.x, r.training.k)


@persistent.wrong("the chains not kept: k transitions from where they began")
def _(instance):
    r, n = instance
    return r.after(n, renew=0), r.moved(r.chains, r.training.k)


@contrastive_divergence.equal(
    "replay",
    r"x^-_i \leftarrow K^k x^-_i \ \mathrm{or}\ K^k x^{\mathrm{new}} \ (i\ \mathrm{drawn}), \quad x^-_i\ \mathrm{otherwise}",
    because="a batch takes some of the chains, a part of which begin anew from N(m, s^2), and puts them back in their places",
    source="Du & Mordatch 2019, algorithm 1",
    instances=replays(),
)
def replay(r):
    return r.after(1), put_back(r, r.rows, r.anew)


@replay.wrong("put back in the places of the batch, not in their own")
def _(r):
    return r.after(1), put_back(r, np.arange(len(r.rows)), r.anew)


@replay.wrong("the others begun anew")
def _(r):
    return r.after(1), put_back(r, r.rows, ~r.anew)


def put_back(r, places, anew):
    kept = r.chains.copy()
    begun = np.where(anew[:, None], r.training.model.mean, r.chains[r.rows])
    kept[places] = r.moved(begun, r.training.k)
    return kept
