r"""How a model is trained whose probabilities nobody can compute, and what its shortcuts cost.

    p(x) = e^-E(x) / Z,  Z = \sum_x e^-E(x)        Z has too many terms, and every gradient of log p needs that of Z
    -grad log p = grad E(x) - E_p[grad E]          which is a mean over the model's own samples: the second phase
    CD-k        = grad E(x) - E[grad E(x_k)]       with chains of k steps from the data in the place of samples
    NCE                                            no samples of the model at all: tell data from noise

On a few bits, Z and all means are sums, and a Markov chain is a matrix, so that nothing here is estimated. The energy, log Z,
the loss and the training step are those of models/ebm.py; the restricted Boltzmann machine, on which contrastive divergence
was first tried, is a small one of its own.
"""

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from hypothesis import strategies as st

from .. import ops
from ..autograd import grad, tree
from ..backend import Generator
from ..distributions import Bernoulli
from ..mcmc import Langevin
from ..models import ebm
from ..models.ebm import EBM, contrastive_loss
from ..optim import SGD
from .chain import Chain
from .exact import Given, entropy, kl
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
    "Energy-based models: the likelihood's gradient without the likelihood; what contrastive divergence leaves out; and noise.",
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


# Contrastive divergence: chains on a machine of bits, whose transitions are a matrix


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


@energy.equal(
    "free_energy",
    r"-\log \sum_h e^{-E(v, h)} = -b^\top v - \sum_j \log\left(1 + e^{c_j + (W^\top v)_j}\right)",
    because="for given v, the sum over all h is a product over the hidden bits, each of which is 0 or 1",
    source="Hinton 2012, a practical guide to training restricted Boltzmann machines",
    instances=boltzmann(),
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


@energy.equal(
    "conditionals",
    r"p(h \mid v) = \prod_j \mathrm{Bernoulli}\left(h_j; \sigma(c_j + (W^\top v)_j)\right)",
    because="for given v, the energy is linear in h: the bits do not know of one another; the Bernoulli is the package's",
    instances=boltzmann(),
)
def conditionals(m):
    joint = m.joint()
    return joint / joint.sum(axis=1, keepdims=True), m.up(m.v)


@conditionals.wrong("the hidden biases left out")
def _(m):
    joint = m.joint()
    return joint / joint.sum(axis=1, keepdims=True), Boltzmann(m.W, m.b, 0 * m.c, m.data, m.k).up(m.v)


@energy.equal(
    "block_gibbs",
    r"\sum_{v, h} p(v, h)\, p(h' \mid v)\, p(v' \mid h') = p(v', h')",
    because="to draw a block from its conditional leaves the joint distribution as it is, and to draw the other then, too",
    instances=boltzmann(),
)
def block_gibbs(m):
    return np.einsum("vh,vH,HV->VH", m.joint(), m.up(m.v), m.down(m.h)), m.joint()


@block_gibbs.wrong("both blocks at once, v' from the old h")
def _(m):
    return np.einsum("vh,vH,hV->VH", m.joint(), m.up(m.v), m.down(m.h)), m.joint()


@block_gibbs.wrong("v' from the probabilities of h' in place of its bits, which saves random numbers")
def _(m):
    return np.einsum("vh,vH,vV->VH", m.joint(), m.up(m.v), m.down(m.up(m.v) @ m.h)), m.joint()


@energy.at_most(
    "bias_of_cd",
    r"\left|\mathbb{E}_{q_k}[g] - \mathbb{E}_p[g]\right| \le (\max g - \min g)\, \tau^k\, \mathrm{TV}(data, p),"
    r" \quad \tau = \max_{v, w} \mathrm{TV}(K_v, K_w) < 1",
    because="any two rows of K overlap, so two distributions come closer by a factor tau in each step: the bias vanishes",
    source="Dobrushin 1956",
    instances=boltzmann(),
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


@energy.grad_equal(
    "cd_is_no_gradient",
    r"\nabla\left(\mathrm{KL}(data \,\|\, p) - \mathrm{KL}(q_k \,\|\, p)\right) = \mathbb{E}_{data}[\nabla F]"
    r" - \mathbb{E}_{q_k}[\nabla F] - \sum_v \nabla q_k(v) \log \frac{q_k(v)}{p(v)}",
    because="log Z cancels, but q_k, the end of the chains, moves with the parameters: CD-k leaves the last term out",
    source="Hinton 2002, section 3; Sutskever & Tieleman 2010",
    instances=boltzmann(),
)
def cd_is_no_gradient(m):
    return contrastive_divergence(m), update(m, third=1.0), m.theta


@cd_is_no_gradient.wrong("CD-k taken for the gradient of the contrastive divergence, which its name says")
def _(m):
    return contrastive_divergence(m), update(m, third=0.0), m.theta


def contrastive_divergence(m):
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


@energy.equal(
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


@dataclass
class Kept(Given):
    """In place of a random generator: no noise, which rows are drawn, and for each a number, by which it begins anew."""

    order: np.ndarray = None

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
            state, _ = step(state, t.x, Kept(0.0, np.where(self.anew, 0.25, 0.75), self.order))
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


@energy.equal(
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


@energy.equal(
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
