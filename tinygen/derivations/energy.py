r"""How a model is trained whose probabilities nobody can compute.

    p(x) = e^-E(x) / Z,  Z = \sum_x e^-E(x)        Z has too many terms, and every gradient of log p needs that of Z
    -grad log p = grad E(x) - E_p[grad E]          which is a mean over the model's own samples: the second phase
    NCE                                            no samples of the model at all: tell data from noise

On a few bits, Z and all means are sums, so that nothing here is estimated. The energy, log Z and the loss are those of
models/ebm.py. What Markov chains put in the place of the model's own samples is in the chain contrastive_divergence.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from hypothesis import strategies as st

from .. import ops
from ..autograd import tree
from ..backend import Generator
from ..models.ebm import EBM, contrastive_loss
from .chain import Chain
from .exact import entropy, kl
from .instances import numbers, probabilities, vectors


def bits(n):
    """All states of n bits, (2^n, n)."""
    return np.array(list(product([0.0, 1.0], repeat=n)))


@dataclass
class Finite:
    """A model with a network of tanh whose states are those of D bits, and how often each of them is in the data, (2^D,)."""

    model: EBM
    counts: np.ndarray

    @property
    def states(self):
        return bits(len(self.model.mean))

    @property
    def x(self):
        """The data, (N, D)."""
        return np.repeat(self.states, self.counts, axis=0)

    @property
    def data(self):
        """The data's distribution, (2^D,)."""
        return self.counts / self.counts.sum()

    @property
    def p(self):
        """The model's distribution, (2^D,)."""
        weights = np.exp(-self.model.energy(self.states).energy)
        return weights / weights.sum()

    @property
    def theta(self):
        """The network's parameters in one row."""
        return np.concatenate([leaf.ravel() for leaf in tree.flatten(self.model.network)[0]])

    def at(self, theta):
        """The model with other parameters."""
        leaves, structure = tree.flatten(self.model.network)
        cut = np.cumsum([0, *(leaf.size for leaf in leaves)])
        parts = [ops.reshape(theta[a:b], shape=leaf.shape) for a, b, leaf in zip(cut, cut[1:], leaves)]
        return EBM(structure.unflatten(parts), self.model.mean, self.model.std)

    def energies(self, theta):
        return self.at(theta).energy(self.states).energy

    def mean_loss(self, model, **settings):
        """E[contrastive_loss] over negatives from p, one at a time."""
        return sum(p * contrastive_loss(model, self.x, state[None], **settings) for p, state in zip(self.p, self.states))


def made(draw, D, hidden):
    """An EBM in float64, its numbers drawn."""
    network = tree.map(lambda leaf: draw(vectors(leaf.shape, -2, 2)), EBM.mlp(Generator(0), (D,), hidden).network)
    return EBM(network, draw(vectors(D)), np.exp(draw(vectors(D, -2, 2))))


@st.composite
def finite(draw):
    D = draw(st.integers(1, 3))
    counts = draw(st.lists(st.integers(0, 3), min_size=2**D, max_size=2**D).filter(any))
    return Finite(made(draw, D, (2,)), np.array(counts))


@st.composite
def linear(draw):
    """A model with a linear network f(u) = a u + b: p is a Gaussian."""
    return made(draw, draw(st.integers(1, 2)), ())


def coefficients(model):
    """a (D,) and b of a linear network, read off from what it says."""
    D = len(model.mean)
    b = model.correction(model.mean[None])[0]
    return model.correction(model.mean + np.diag(model.std)) - b, b, D


energy = Chain(
    "energy",
    "Energy-based models: the likelihood's gradient without the likelihood, and telling data from noise.",
    "Hinton 2002",
    finite(),
)


@energy.equal(
    "partition",
    r"\log \int e^{-a u - b - |u|^2 / 2}\, dx = \sum_i \left(\log s_i + \frac{1}{2} \log 2\pi + \frac{a_i^2}{2}\right) - b,"
    r" \quad u = \frac{x - m}{s}",
    because="complete the square; dx is s du. On the left, log_partition sums over a grid, which for Gaussians is exact",
    source="LeCun et al. 2006, section 1.3",
    instances=linear(),
)
def partition(model):
    a, b, D = coefficients(model)
    return on_grid(model), np.sum(np.log(model.std) + a**2 / 2) + D / 2 * math.log(2 * math.pi) - b


@partition.wrong("the scale of x forgotten: Z of the standardised u")
def _(model):
    a, b, D = coefficients(model)
    return on_grid(model), np.sum(a**2 / 2) + D / 2 * math.log(2 * math.pi) - b


@partition.wrong("the parabola taken for |u|^2, without its half")
def _(model):
    a, b, D = coefficients(model)
    return on_grid(model), np.sum(np.log(model.std) + a**2 / 4) + D / 2 * math.log(math.pi) - b


def on_grid(model, step=0.5, reach=13.0):
    """log Z by EBM.log_partition, over the middles of cells that are half a standard deviation wide."""
    axis = np.arange(-reach, reach + step, step)
    u = np.stack(np.meshgrid(*[axis] * len(model.mean)), axis=-1).reshape(-1, len(model.mean))
    return model.log_partition(model.mean + model.std * u, step ** len(model.mean) * model.std.prod())


@energy.grad_equal(
    "log_partition_gradient",
    r"\nabla \log Z = -\sum_x p(x) \nabla E(x)",
    because="the gradient of a logarithm has Z below it, and e^-E / Z is p",
    source="LeCun et al. 2006, section 2.2",
)
def log_partition_gradient(m):
    return lambda theta: m.at(theta).log_partition(m.states), lambda theta: -(m.p * m.energies(theta)).sum(), m.theta


@log_partition_gradient.wrong("the sign turned")
def _(m):
    return lambda theta: m.at(theta).log_partition(m.states), lambda theta: (m.p * m.energies(theta)).sum(), m.theta


@log_partition_gradient.wrong("the mean over all states alike, not over p")
def _(m):
    return lambda theta: m.at(theta).log_partition(m.states), lambda theta: -m.energies(theta).mean(), m.theta


def negative_log_likelihood(m):
    """theta -> -mean log p(x), with log Z as a sum."""

    def f(theta):
        energies = m.energies(theta)
        return (m.data * energies).sum() + ops.log(ops.exp(-energies).sum())

    return f


@energy.grad_equal(
    "two_phases",
    r"-\nabla \mathbb{E}_{data}[\log p(x)] = \mathbb{E}_{data}[\nabla E(x)] - \mathbb{E}_p[\nabla E(x)]",
    because="-log p = E + log Z, and the step before; on the right stands the EBM's loss, averaged over negatives from p",
    source="Hinton 2002",
)
def two_phases(m):
    return negative_log_likelihood(m), lambda theta: m.mean_loss(m.at(theta)), m.theta


@two_phases.wrong("the phases exchanged: energies rise where data is")
def _(m):
    return negative_log_likelihood(m), lambda theta: -m.mean_loss(m.at(theta)), m.theta


@two_phases.wrong("negatives from the uniform distribution, as if noise would do")
def _(m):
    def loss(theta):
        return contrastive_loss(m.at(theta), m.x, m.states)

    return negative_log_likelihood(m), loss, m.theta


@two_phases.wrong("with the penalty on large energies, which is a bias of its own")
def _(m):
    return negative_log_likelihood(m), lambda theta: m.mean_loss(m.at(theta), penalty=0.1), m.theta


@energy.equal(
    "value_of_the_loss",
    r"\mathbb{E}_{data}[E] - \mathbb{E}_p[E] = \mathrm{KL}(data \,\|\, p) + H(data) - H(p)",
    because="E = -log p - log Z in both means, and log Z cancels: the loss is no divergence; it can be 0 or below 0",
)
def value_of_the_loss(m):
    return m.mean_loss(m.model), kl(m.data, m.p) + entropy(m.data) - entropy(m.p)


@value_of_the_loss.wrong("the loss read as the divergence from the data, as loss curves are")
def _(m):
    return m.mean_loss(m.model), kl(m.data, m.p)


@value_of_the_loss.wrong("the loss read as a negative log-likelihood")
def _(m):
    return m.mean_loss(m.model), kl(m.data, m.p) + entropy(m.data)


@energy.grad_equal(
    "penalty",
    r"\frac{d}{dc} \mathrm{loss}(f + c) = \frac{d}{dc}\, \alpha \left(\mathbb{E}_+[(f + c)^2] + \mathbb{E}_-[(f + c)^2]\right)",
    because="E(x+) - E(x-) does not change when a constant is added to f: only the penalty, on f itself, decides it",
    source="Du & Mordatch 2019, algorithm 1",
    instances=st.tuples(finite(), numbers(0.01, 2), numbers()),
)
def penalty(instance):
    m, alpha, c = instance
    return shifted_loss(m, alpha), squares(m, alpha, corrections(m, m.x), corrections(m, m.states)), c


@penalty.wrong("on the whole energy, with the parabola")
def _(instance):
    m, alpha, c = instance
    return shifted_loss(m, alpha), squares(m, alpha, m.model.energy(m.x).energy, m.model.energy(m.states).energy), c


@penalty.wrong("the difference of the squares, as of the energies")
def _(instance):
    m, alpha, c = instance
    return shifted_loss(m, alpha), squares(m, alpha, corrections(m, m.x), corrections(m, m.states), -1), c


def shifted_loss(m, alpha):
    """c -> the loss with all states for negatives, where c is added to f, by way of its last bias."""
    last = np.eye(m.theta.size)[-1]
    return lambda c: contrastive_loss(m.at(m.theta + c * last), m.x, m.states, penalty=alpha)


def squares(m, alpha, positive, negative, sign=1):
    return lambda c: alpha * (ops.square(positive + c).mean() + sign * ops.square(negative + c).mean())


def corrections(m, x):
    """f, by taking the parabola off the energy."""
    return m.model.energy(x).energy - 0.5 * (((x - m.model.mean) / m.model.std) ** 2).sum(axis=1)


# Noise-contrastive estimation


@dataclass
class Noise:
    """Data p and noise q on K states, nu samples of noise for each of the data, and a deviation from log p: (K,)."""

    p: np.ndarray
    q: np.ndarray
    nu: float
    off: np.ndarray


@st.composite
def noises(draw):
    K = draw(st.integers(2, 5))
    return Noise(draw(probabilities(K)), draw(probabilities(K)), math.exp(draw(numbers(-2, 3))), draw(vectors(K, -1, 1)))


def classification(log_p, data, q, nu, prior=True):
    """E_data[-log P(data | x)] + nu E_q[-log P(noise | x)], where the odds are p(x) / (nu q(x))."""
    log_odds = log_p - np.log(q) - (math.log(nu) if prior else 0.0)
    return (data * ops.softplus(-log_odds)).sum() + nu * (q * ops.softplus(log_odds)).sum()


@energy.at_most(
    "noise_contrastive",
    r"J(\log p_{data}) \le J(f), \quad J(f) = -\mathbb{E}_{data}\left[\log \frac{e^f}{e^f + \nu q}\right]"
    r" - \nu\, \mathbb{E}_q\left[\log \frac{\nu q}{e^f + \nu q}\right]",
    because="the best classifier is Bayes' posterior, so e^f = p_data at each x by itself: the constant is found too",
    source="Gutmann & Hyvarinen 2010, theorem 1",
    instances=noises(),
)
def noise_contrastive(n):
    log_p = np.log(n.p)
    return classification(log_p, n.p, n.q, n.nu), classification(log_p + n.off, n.p, n.q, n.nu)


@noise_contrastive.wrong("the odds without nu, as if there were as much noise as data")
def _(n):
    log_p = np.log(n.p)
    return classification(log_p, n.p, n.q, n.nu, prior=False), classification(log_p + n.off, n.p, n.q, n.nu, prior=False)


@noise_contrastive.wrong("the optimum only up to a constant, as that of the likelihood is")
def _(n):
    log_p = np.log(n.p)
    return classification(log_p + n.off[0], n.p, n.q, n.nu), classification(log_p, n.p, n.q, n.nu)


@energy.grad_equal(
    "weight_of_noise",
    r"-\nabla J = \sum_x \frac{\nu q(x)}{e^{f(x)} + \nu q(x)} \left(p_{data}(x) - e^{f(x)}\right) \nabla f(x),"
    r"\quad f = -E + c",
    because="differentiate both logarithms; with much noise the weight tends to 1: the gradient of the likelihood is left",
    source="Gutmann & Hyvarinen 2012",
    instances=st.tuples(finite(), numbers(-2, 3).map(math.exp), numbers()),
)
def weight_of_noise(drawn):
    m, nu, c = drawn
    f = normalised(m)
    told = np.exp(f(np.append(m.theta, c)))
    weight = nu / len(told) / (told + nu / len(told))
    return minus_nce(m, nu), lambda theta: (weight * (m.data - told) * f(theta)).sum(), np.append(m.theta, c)


@weight_of_noise.wrong("without the weight: the likelihood's gradient, at any amount of noise")
def _(drawn):
    m, nu, c = drawn
    f = normalised(m)
    told = np.exp(f(np.append(m.theta, c)))
    return minus_nce(m, nu), lambda theta: ((m.data - told) * f(theta)).sum(), np.append(m.theta, c)


def normalised(m):
    """(theta, c) -> f = -E + c of all states: c stands for -log Z, and is learned."""
    return lambda theta: theta[-1] - m.energies(theta[:-1])


def minus_nce(m, nu):
    """-J for noise that is uniform over the states of m."""
    q = np.full(len(m.states), 1 / len(m.states))
    return lambda theta: -classification(normalised(m)(theta), m.data, q, nu)
