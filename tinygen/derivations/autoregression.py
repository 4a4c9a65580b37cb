r"""What is written number by number: the chain rule, the masks that keep it, samples in its order, and how well it can do.

    p(x) = \prod_t p(x_t | x_1, ..., x_{t-1})        for every p and in every order, so nothing is assumed

A PixelCNN computes all factors in one pass, and its masks see to it that each factor knows only what came before. On images of
a few pixels all images can be counted: the likelihood and the sampler are compared with sums over all of them. Last, a source
whose entropy is known, a Markov chain, shows how small a cross-entropy can become.
"""

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from hypothesis import strategies as st

from ..autograd import grad, jacobian, tree
from ..backend import Generator
from ..models import pixelcnn
from ..models.pixelcnn import PixelCNN, Plain, Residual, receptive_field
from ..nn import MaskedConv2d, live_taps
from ..nn.masked import MASKS
from ..ops import masked_conv2d
from .chain import Chain
from .change_of_variables import disturbed
from .exact import entropy, null_vector
from .instances import probabilities, vectors


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
    "The chain rule of probability; masks that follow it; likelihood and samples of a PixelCNN; perplexity and its floor.",
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


# Masks


@dataclass
class Kernel:
    """A kernel (kh, kw), with numbers under its dead taps, too, that is to slide over an image of the given shape."""

    weight: np.ndarray
    shape: tuple

    @property
    def size(self):
        return self.weight.shape

    def matrix(self, taps):
        """The masked convolution as a matrix: a column for each pixel that it reads, in the order of rows."""
        H, W = self.shape
        x, padding = np.eye(H * W).reshape(-1, H, W, 1), tuple(k // 2 for k in self.size)
        return masked_conv2d(x, self.weight[..., None, None], taps=tuple(taps), padding=padding).reshape(H * W, H * W).T

    def mirrored(self, taps):
        """The same taps counted from the other end of the kernel."""
        return [(self.size[0] - 1 - a, self.size[1] - 1 - b) for a, b in taps]


@st.composite
def kernels(draw):
    size = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([1, 3, 5]))
    return Kernel(draw(vectors(size)), (draw(st.integers(1, 4)), draw(st.integers(1, 4))))


@autoregression.equal(
    "masks",
    r"M^A_{ts} = 0\ (s \geq t), \quad M^B_{ts} = 0\ (s > t), \quad M^B_{tt} = w_{\mathrm{middle}}",
    because="a tap above or to the left reads an earlier pixel; the middle one reads the pixel itself, and only B has it",
    source="van den Oord et al. 2016, section 3.4",
    instances=kernels(),
)
def masks(k):
    return masks_sides(k, live_taps("A", k.size), live_taps("B", k.size))


@masks.wrong("A and B exchanged", published=True)
def _(k):
    return masks_sides(k, live_taps("B", k.size), live_taps("A", k.size))


@masks.wrong("the mask of a convolution whose kernel is turned over, for one whose kernel is not")
def _(k):
    return masks_sides(k, k.mirrored(live_taps("A", k.size)), k.mirrored(live_taps("B", k.size)))


def masks_sides(k, taps_a, taps_b):
    """What is above the diagonal of both matrices, the diagonal of both, and what they must be."""
    a, b, n = k.matrix(taps_a), k.matrix(taps_b), math.prod(k.shape)
    middle = k.weight[k.size[0] // 2, k.size[1] // 2]
    left = np.concatenate([np.triu(a, 1).ravel(), np.triu(b, 1).ravel(), np.diag(a), np.diag(b)])
    return left, np.concatenate([np.zeros(2 * n * n + n), np.full(n, middle)])


@dataclass
class Learned:
    """A masked layer of one channel, with numbers under its dead taps, too, an image (H, W), and a cotangent g (H, W)."""

    layer: MaskedConv2d
    x: np.ndarray
    g: np.ndarray

    def gradient(self):
        """Of <g, y> in the weights, by the rules that training uses."""
        x, g = (image[None, ..., None] for image in (self.x, self.g))
        return grad(lambda weight: (g * replace(self.layer, weight=weight)(x)).sum())(self.layer.weight)[..., 0, 0]

    def tap_by_tap(self, taps):
        """sum_ij g_ij x_(i + a - kh // 2, j + b - kw // 2) for each of these taps, and 0 for the others."""
        (kh, kw), (H, W) = self.layer.kernel, self.x.shape
        around = np.pad(self.x, ((kh // 2,), (kw // 2,)))
        gradient = np.zeros((kh, kw))
        for a, b in taps:
            gradient[a, b] = np.sum(self.g * around[a : a + H, b : b + W])
        return gradient


@st.composite
def learned(draw):
    k, mask = draw(kernels()), draw(st.sampled_from(MASKS))
    layer = MaskedConv2d(k.weight[..., None, None], np.zeros(1), mask)
    return Learned(layer, draw(vectors(k.shape)), draw(vectors(k.shape)))


@autoregression.equal(
    "dead_taps",
    r"\frac{\partial \langle g, y \rangle}{\partial w_{ab}} = \sum_{ij} g_{ij}\, x_{i + a - k_h / 2,\, j + b - k_w / 2}"
    r"\ \mathrm{if}\ (a, b)\ \mathrm{is\ live, and}\ 0\ \mathrm{otherwise}",
    because="a tap that reads nothing has no influence: its weight gets no gradient, and no optimiser remembers one",
    source="van den Oord et al. 2016, section 3.4",
    instances=learned(),
)
def dead_taps(m):
    return m.gradient(), m.tap_by_tap(live_taps(m.layer.mask, m.layer.kernel))


@dead_taps.wrong("dead weights overwritten by 0 in the forward pass alone: they keep gradients", published=True)
def _(m):
    return m.gradient(), m.tap_by_tap(np.ndindex(m.layer.kernel))


@dead_taps.wrong("the mask turned over on the way back")
def _(m):
    kh, kw = m.layer.kernel
    return m.gradient(), m.tap_by_tap((kh - 1 - a, kw - 1 - b) for a, b in live_taps(m.layer.mask, m.layer.kernel))


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
    "triangular",
    r"\frac{\partial\, \mathrm{logits}_t}{\partial x_s} = 0 \quad (s \geq t)",
    because="products of triangular matrices are triangular, and one factor, the first layer of kind A, has a diagonal of 0",
    source="van den Oord et al. 2016, section 3.4",
    instances=images(),
)
def triangular(m):
    J = of_future(m.model, m)
    return J, np.zeros_like(J)


@triangular.wrong("kind B in the first layer, where A belongs")
def _(m):
    J = of_future(first_layer_of_kind_b(m.model), m)
    return J, np.zeros_like(J)


def of_future(model, m):
    """The Jacobian of the logits (T, levels or 1, T), its entries s < t set to 0."""
    J = jacobian(lambda x: model.distribution(x).logits)(m.x.astype(float)).reshape(m.pixels, -1, m.pixels)
    return J * np.triu(np.ones((m.pixels, m.pixels)))[:, None]


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


# What else a pixel's distribution is made of


@autoregression.equal(
    "gate",
    r"y = \frac{1 - e^{-2 f}}{1 + e^{-2 f}} \cdot \frac{1}{1 + e^{-g}}",
    because="tanh says what, the sigmoid how much of it; f is the first half of the channels and g the second",
    source="van den Oord et al. 2016 (Conditional image generation), eq. 2",
    instances=st.integers(1, 3).flatmap(lambda n: vectors((1, 1, 2, 2 * n))),
)
def gate(y):
    return pixelcnn._gate(y), gated_by(*np.split(y, 2, axis=-1))


@gate.wrong("the halves exchanged")
def _(y):
    return pixelcnn._gate(y), gated_by(*np.split(y, 2, axis=-1)[::-1])


@gate.wrong("channels taken in turn for f and g, and not half by half")
def _(y):
    return pixelcnn._gate(y), gated_by(y[..., ::2], y[..., 1::2])


def gated_by(f, g):
    return (1 - np.exp(-2 * f)) / (1 + np.exp(-2 * f)) / (1 + np.exp(-g))


@st.composite
def classes(draw):
    """A PixelCNN of three classes on 2 x 2 pixels, with two images and their classes."""
    make = draw(st.sampled_from([PixelCNN.plain, PixelCNN.gated]))
    made = draw(disturbed(make(Generator(0), (2, 2, 1), 2, 2, 2, first_kernel=3, classes=3)))
    x = draw(vectors((2, 2, 2, 1), 0, 1)).round()
    return made, x, np.array([draw(st.integers(0, 2)), draw(st.integers(0, 2))])


@autoregression.equal(
    "class",
    r"\log p(x \mid y) = \log p_{b + v_y}(x)",
    because="what is added before each activation, for every pixel the same, is a bias: each class has a model of its own",
    source="van den Oord et al. 2016 (Conditional image generation), eq. 4",
    instances=classes(),
)
def class_(instance):
    made, x, labels = instance
    return made.log_prob(x, labels).nats, of_each_class(made, x, labels)


@class_.wrong("the vectors of the first layer alone")
def _(instance):
    made, x, labels = instance
    return made.log_prob(x, labels).nats, of_each_class(made, x, labels, layers=1)


@class_.wrong("classes counted from 1, so that each gets the vector of the one before")
def _(instance):
    made, x, labels = instance
    return made.log_prob(x, labels).nats, of_each_class(made, x, labels - 1)


def of_each_class(made, x, labels, layers=None):
    return np.array([without_classes(made, y, layers).log_prob(image[None]).nats[0] for image, y in zip(x, labels)])


def without_classes(made, y, layers):
    """The model without classes that has the vectors of class y among its biases, those of the first `layers` at least."""

    def of_one_class(layer, convolution, i):
        conv = getattr(layer, convolution)
        bias = conv.bias + layer.label.weight[y] if layers is None or i < layers else conv.bias
        return replace(layer, label=None, **{convolution: replace(conv, bias=bias)})

    network = made.network
    if isinstance(network, Plain):
        blocks = tuple(of_one_class(block, "masked", i) for i, block in enumerate(network.blocks, start=1))
        network = replace(of_one_class(network, "first", 0), blocks=blocks)
    else:
        network = replace(network, layers=tuple(of_one_class(layer, "vertical", i) for i, layer in enumerate(network.layers)))
    return replace(made, network=network, classes=None)


# What is seen


@dataclass
class Field:
    """Kernel sizes, of the first layer and of those that follow, and a pixel of an image of the given shape."""

    kernels: tuple
    shape: tuple
    pixel: tuple

    def seen(self, make):
        """Found by experiment, (H, W), in a network of these kernels."""
        model = make(Generator(0), (*self.shape, 1), 2, 2, len(self.kernels) - 1, first_kernel=self.kernels[0])
        return receptive_field(model, *self.pixel)

    def before(self, rightmost):
        """Pixels before this one within the layers' reach, not farther right than rightmost(rows above)."""
        (i, j), reach = self.pixel, self.reach(len(self.kernels))

        def is_seen(up, right):
            return -reach <= right <= (rightmost(up) if up else -1) and 0 <= up <= reach

        return np.array([[is_seen(i - a, b - j) for b in range(self.shape[1])] for a in range(self.shape[0])])

    def reach(self, n):
        """How far n layers see, the first among them."""
        return sum(size // 2 for size in self.kernels[:n])


@st.composite
def fields(draw):
    shape = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    sizes = draw(st.sampled_from([3, 5, 7])), *[3] * draw(st.integers(1, 3))
    return Field(sizes, shape, (draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))))


@autoregression.equal(
    "blind_spot",
    r"\mathrm{right}(a) \le \sum_{l \le a} \frac{k_l - 1}{2} \quad \mathrm{for\ pixels}\ a\ \mathrm{rows\ above}",
    because="to the right lead only taps of rows above, so a layer that goes right also goes up: in a rows, only a layers can",
    source="van den Oord et al. 2016 (Conditional image generation), section 2.2 and figure 1",
    instances=fields(),
)
def blind_spot(f):
    return f.seen(PixelCNN.plain), f.before(f.reach)


@blind_spot.wrong("all that comes before and is near enough, which nobody measured", published=True)
def _(f):
    return f.seen(PixelCNN.plain), f.before(lambda up: f.reach(len(f.kernels)))


@autoregression.equal(
    "two_stacks",
    r"|\mathrm{right}| \le \sum_l \frac{k_l - 1}{2} \quad \mathrm{in\ all\ rows\ above}",
    because="the vertical stack may see the whole of its rows, since it ends a row above; so nothing stops it on the right",
    source="van den Oord et al. 2016 (Conditional image generation), section 2.2",
    instances=fields(),
)
def two_stacks(f):
    return f.seen(gated), f.before(lambda up: f.reach(len(f.kernels)))


@two_stacks.wrong("the field of a single stack")
def _(f):
    return f.seen(gated), f.before(f.reach)


def gated(rng, shape, levels, channels, others, first_kernel):
    return PixelCNN.gated(rng, shape, levels, channels, 1 + others, first_kernel=first_kernel)


# Likelihood and samples


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


# Depth


@st.composite
def stacks(draw):
    """Fifteen residual blocks, each with its last layer at 0 and the rest at random, and features h (1, 2, 2, 2)."""
    blocks = [Residual.init(Generator(draw(st.integers(0, 99))), 2, 3, None) for _ in range(15)]
    blocks = [replace(block, widen=tree.map(np.zeros_like, block.widen)) for block in blocks]
    return tree.map(lambda leaf: leaf.astype(np.float64), blocks), draw(vectors((1, 2, 2, 2)))


@autoregression.equal(
    "residual",
    r"h_{15} = h_0, \quad h_{l+1} = h_l + \mathrm{net}_l(h_l), \quad \mathrm{net}_l = 0",
    because="the skip path carries h through unchanged, however many blocks add nothing to it",
    source="van den Oord et al. 2016 (Pixel recurrent neural networks), section 3.3",
    instances=stacks(),
)
def residual(instance):
    blocks, h = instance
    through = h
    for block in blocks:
        through = block(through, None, lambda layer, x: layer(x))
    return through, h


@residual.wrong("h added once more around a block that has added it: 2^15 after 15 blocks", published=True)
def _(instance):
    blocks, h = instance
    through = h
    for block in blocks:
        through = through + block(through, None, lambda layer, x: layer(x))
    return through, h
