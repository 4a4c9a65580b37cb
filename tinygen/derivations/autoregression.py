r"""What is written number by number: the chain rule, a likelihood and samples by it, and how well a model can do.

    p(x) = \prod_t p(x_t | x_1, ..., x_{t-1})        for every p and in every order, so nothing is assumed

A PixelCNN computes all factors in one pass. On images of a few pixels all images can be counted: its likelihood and its sampler
are compared with sums over all of them. (How it sees to it that each factor knows only what came before is in the chain
masked_convolutions.) Last, a source whose entropy is known, a Markov chain, shows how small a cross-entropy can become.
"""

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from hypothesis import strategies as st

from ..backend import Generator
from ..models.pixelcnn import PixelCNN, Plain
from .chain import Chain
from .exact import entropy, null_vector
from .instances import disturbed, probabilities, vectors


@dataclass
class Table:
    """Any distribution of T variables of K values, an array (K, ..., K); a value x of all of them; an order of 0 .. T - 1."""

    p: np.ndarray
    x: tuple
    order: tuple

    def marginal(self, known):
        """p(x_i for i in known)."""
        return self.p[tuple(self.x[i] if i in known else slice(None) for i in range(self.p.ndim))].sum()

    def conditional(self, i, known):
        """p(x_i | x_j for j in known)."""
        return self.marginal({i, *known}) / self.marginal({*known})


@st.composite
def tables(draw):
    K, T = draw(st.sampled_from([(2, 2), (2, 3), (2, 4), (3, 2), (3, 3)]))
    p = draw(vectors((K,) * T, 1e-3, 1.0))
    x = draw(st.tuples(*[st.integers(0, K - 1)] * T))
    return Table(p / p.sum(), x, tuple(draw(st.permutations(range(T)))))


autoregression = Chain(
    "autoregression",
    "The chain rule of probability; likelihood and samples of a PixelCNN; perplexity and its floor.",
    "van den Oord et al. 2016 (Pixel recurrent neural networks)",
    tables(),
)


@autoregression.equal(
    "chain_rule",
    r"\log p(x) = \sum_t \log p(x_t \mid x_1, \ldots, x_{t-1})",
    because="each factor is a quotient of marginals, p(x_1 .. x_t) / p(x_1 .. x_{t-1}), and the product telescopes",
    source="van den Oord et al. 2016, eq. 1",
)
def chain_rule(m):
    T = range(m.p.ndim)
    return math.log(m.p[m.x]), sum(math.log(m.conditional(t, range(t))) for t in T)


@chain_rule.wrong("each given the last one only, as if every source were a Markov chain")
def _(m):
    T = range(m.p.ndim)
    return math.log(m.p[m.x]), sum(math.log(m.conditional(t, range(max(0, t - 1), t))) for t in T)


@chain_rule.wrong("the marginals multiplied, as if the variables were independent")
def _(m):
    return math.log(m.p[m.x]), sum(math.log(m.marginal({t})) for t in range(m.p.ndim))


@autoregression.equal(
    "any_order",
    r"\log p(x) = \sum_t \log p(x_{\sigma(t)} \mid x_{\sigma(1)}, \ldots, x_{\sigma(t-1)})",
    because="the product telescopes in any order; row by row from the top is a choice, not an assumption",
    source="Uria et al. 2014 (A deep and tractable density estimator)",
)
def any_order(m):
    return math.log(m.p[m.x]), sum(math.log(m.conditional(i, m.order[:t])) for t, i in enumerate(m.order))


@any_order.wrong("each given all the others: a pseudo-likelihood")
def _(m):
    everything = set(range(m.p.ndim))
    return math.log(m.p[m.x]), sum(math.log(m.conditional(i, everything - {i})) for i in m.order)


# Likelihood and samples


@dataclass
class Images:
    """A PixelCNN of a few pixels with random weights; two images, (1, H, W, 1) each; how many pixels may be given."""

    model: PixelCNN
    x: np.ndarray
    other: np.ndarray
    known: int

    @property
    def pixels(self):
        return math.prod(self.model.shape)

    def all(self):
        """Every image that there is."""
        images = list(product(range(self.model.levels), repeat=self.pixels))
        return np.array(images, self.x.dtype).reshape(-1, *self.model.shape)


@st.composite
def images(draw):
    H, W, levels = draw(st.sampled_from([(1, 1, 3), (1, 3, 2), (2, 2, 2), (2, 2, 3), (3, 2, 2), (2, 3, 2)]))
    make = draw(st.sampled_from([PixelCNN.plain, PixelCNN.gated]))
    made = make(Generator(0), (H, W, 1), levels, 2, draw(st.integers(1, 2)), first_kernel=draw(st.sampled_from([3, 5])))
    dtype = np.float64 if levels == 2 else np.int64
    x, other = (np.array(draw(st.lists(st.integers(0, levels - 1), min_size=H * W, max_size=H * W)), dtype) for _ in range(2))
    shape = (1, H, W, 1)
    return Images(draw(disturbed(made)), x.reshape(shape), other.reshape(shape), draw(st.integers(0, H * W)))


def first_layer_of_kind_b(model):
    """The model with a first layer that sees the pixel which it is to predict."""

    def seeing(layer):
        return replace(layer, mask="B")

    network = model.network
    if isinstance(network, Plain):
        return replace(model, network=replace(network, first=seeing(network.first)))
    first, *others = network.layers
    return replace(model, network=replace(network, layers=(replace(first, horizontal=seeing(first.horizontal)), *others)))


@autoregression.equal(
    "sums_to_one",
    r"\sum_x \prod_t p(x_t \mid x_1, \ldots, x_{t-1}) = 1",
    because="sum over the last pixel first: its factor alone depends on it, and sums to 1; then over the one before",
    instances=images(),
)
def sums_to_one(m):
    return np.exp(m.model.log_prob(m.all()).nats).sum(), 1.0


@sums_to_one.wrong("kind B in the first layer: each pixel may be predicted from itself, for any image a likelihood near 1")
def _(m):
    return np.exp(first_layer_of_kind_b(m.model).log_prob(m.all()).nats).sum(), 1.0


@autoregression.equal(
    "teacher_forcing",
    r"\log p(x) = \sum_t \log p(x_t \mid x_1, \ldots, x_{t-1}), \quad \mathrm{all\ terms\ from\ one\ pass\ over}\ x",
    because="the data's own pixels stand in front of each, whatever the model thinks of them; the others are not seen",
    instances=images(),
)
def teacher_forcing(m):
    return m.model.log_prob(m.x).nats[0], one_by_one(m, m.x)


@teacher_forcing.wrong("each pixel given the model's own most likely pixels before it")
def _(m):
    return m.model.log_prob(m.x).nats[0], one_by_one(m, greedy(m))


@teacher_forcing.wrong("shifted by one: the newest pixel is not seen yet")
def _(m):
    return m.model.log_prob(m.x).nats[0], one_by_one(m, m.x, late=1)


def one_by_one(m, given, late=0):
    """sum_t log p(x_t | the first t - late pixels of `given`): a pass for each t, with another image in all other places."""
    total, T = 0.0, m.pixels
    for t in range(T):
        known = (np.arange(T) < t - late).reshape(m.x.shape)
        total += m.model.distribution(np.where(known, given, m.other)).log_prob(m.x).reshape(T)[t]
    return total


def greedy(m):
    x = m.other.copy()
    for t in range(m.pixels):
        logits = m.model.distribution(x).logits.reshape(m.pixels, -1)[t]
        x.reshape(-1)[t] = logits[0] > 0 if m.model.levels == 2 else logits.argmax()
    return x


@dataclass
class Script:
    """In place of a random generator: it decides as written, (n, T) in order, and notes how likely the decisions were."""

    decisions: np.ndarray
    likelihood: float = 1.0
    made: int = 0

    def bernoulli(self, p, dtype=None):
        return self.categorical(np.stack([1 - p, p], axis=-1)).astype(dtype)

    def categorical(self, p):
        chosen = self.decisions[:, self.made].reshape(p.shape[:-1]).astype(int)
        self.likelihood = self.likelihood * np.take_along_axis(p, chosen[..., None], axis=-1).reshape(-1)
        self.made += 1
        return chosen


@autoregression.equal(
    "ancestral",
    r"P(\mathrm{drawn} = x \mid x_1, \ldots, x_n) = \frac{p(x)}{\sum_{x'} p(x')}, \quad x'_i = x_i\ (i \le n)",
    because="each pixel is drawn from its factor, given those that were drawn before; the chain rule multiplies them",
    instances=images(),
)
def ancestral(m):
    everything, script = m.all(), Script(m.all().reshape(-1, m.pixels)[:, m.known :])
    m.model.complete(script, everything, m.known)
    return script.likelihood * np.ones(len(everything)), given_the_first(m)


@ancestral.wrong("all pixels drawn in one pass, from an image of which nothing is known")
def _(m):
    everything, blank = m.all(), np.zeros_like(m.all())
    p = m.model.distribution(blank).log_prob(everything).reshape(len(everything), -1)[:, m.known :]
    return np.exp(p.sum(axis=1)), given_the_first(m)


def given_the_first(m):
    """p(x | its first pixels) for every image, by Bayes' rule from the likelihoods of all of them."""
    joint = np.exp(m.model.log_prob(m.all()).nats).reshape(m.model.levels**m.known, -1)  # images in the order of counting
    return (joint / joint.sum(axis=1, keepdims=True)).ravel()


# How well a model can do


@dataclass
class Source:
    """A stationary Markov chain of transitions P (K, K), watched for T steps, and a model of it with transitions Q."""

    P: np.ndarray
    Q: np.ndarray
    T: int

    @property
    def stationary(self):
        """pi = pi P, sum 1."""
        return null_vector(self.P.T - np.eye(len(self.P)))

    def sequences(self, T):
        """All sequences (K^T, T), and the probability of each."""
        x = np.array(list(product(range(len(self.P)), repeat=T)))
        return x, self.stationary[x[:, 0]] * self.P[x[:, :-1], x[:, 1:]].prod(axis=1)

    def entropy(self, T):
        """Of T letters together, nats."""
        return entropy(self.sequences(T)[1])

    def rate(self):
        """Of a letter, given all before it, nats."""
        return -np.sum(self.stationary[:, None] * self.P * np.log(self.P))

    def surprises(self):
        """-log q of each letter but the first, for all sequences (K^T, T - 1), and the probability of each sequence."""
        x, p = self.sequences(self.T)
        return -np.log(self.Q[x[:, :-1], x[:, 1:]]), p

    def cross_entropy(self):
        """The mean over sequences of the mean over letters, nats."""
        surprises, p = self.surprises()
        return p @ surprises.mean(axis=1)


@st.composite
def sources(draw):
    K = draw(st.integers(2, 3))
    P = draw(probabilities((K, K)))
    return Source(P, draw(st.one_of(st.just(P), probabilities((K, K)))), draw(st.integers(2, 4)))


@autoregression.equal(
    "entropy_rate",
    r"H(X_1, \ldots, X_T) - H(X_1, \ldots, X_{T-1}) = -\sum_i \pi_i \sum_j P_{ij} \log P_{ij}",
    because="the chain rule for entropies: what is new is the last letter, and of what came before only one letter matters",
    source="Cover & Thomas 2006, theorem 4.2.4",
    instances=sources(),
)
def entropy_rate(s):
    return s.entropy(s.T) - s.entropy(s.T - 1), s.rate()


@entropy_rate.wrong("the entropy of single letters, which knows nothing of their order")
def _(s):
    return s.entropy(s.T) - s.entropy(s.T - 1), entropy(s.stationary)


@entropy_rate.wrong("the entropy of T letters over T, which the first letter raises")
def _(s):
    return s.entropy(s.T) / s.T, s.rate()


@autoregression.equal(
    "perplexity",
    r"\exp\left(-\frac{1}{T - 1} \mathbb{E} \sum_{t > 1} \log q(x_t \mid x_{t-1})\right)"
    r" = \prod_{ij} Q_{ij}^{-\pi_i P_{ij}}",
    because="the exponential of a mean is a geometric mean: of 1/q, among how many letters the model is in doubt",
    source="Jurafsky & Martin, Speech and language processing, chapter 3",
    instances=sources(),
)
def perplexity(s):
    return math.exp(s.cross_entropy()), geometric_mean(s)


@perplexity.wrong("2 to the power of nats")
def _(s):
    return 2 ** s.cross_entropy(), geometric_mean(s)


@perplexity.wrong("the mean of each sequence's perplexity in place of the perplexity of the mean")
def _(s):
    surprises, p = s.surprises()
    return p @ np.exp(surprises.mean(axis=1)), geometric_mean(s)


def geometric_mean(s):
    return np.prod(s.Q ** -(s.stationary[:, None] * s.P))


@autoregression.at_most(
    "floor",
    r"\exp H(P) \le \mathrm{perplexity\ of}\ Q",
    because="the cross-entropy exceeds the entropy rate by the mean divergence of Q's rows from P's, which is never negative",
    source="Cover & Thomas 2006, theorem 2.6.3",
    instances=sources(),
)
def floor(s):
    return math.exp(s.rate()), math.exp(s.cross_entropy())


@floor.wrong("the floor of a model of single letters, which one of pairs can go below")
def _(s):
    return math.exp(entropy(s.stationary)), math.exp(s.cross_entropy())
