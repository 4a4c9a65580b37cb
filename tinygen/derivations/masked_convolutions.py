r"""How a network of convolutions sees to it that each pixel knows only what came before it, and how much of that it sees.

    masks    a tap is live if it reads a pixel above, or to the left: as a matrix, the convolution is triangular
    A, B     A excludes the pixel itself and comes first, once: products of triangular matrices are triangular
    stacks   one for the rows above and one for the row so far, or a part of what came before is never seen

A masked layer is compared with its matrix, made by unit images. What a whole PixelCNN sees is found by experiment: NaN in one
pixel, and whatever becomes NaN has seen it. Between the masked layers lies what happens within a pixel: gates, classes, and the
residual path. The models are those of models/pixelcnn.py.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from ..autograd import grad, jacobian, tree
from ..backend import Generator
from ..models import pixelcnn
from ..models.pixelcnn import PixelCNN, Plain, Residual, receptive_field
from ..nn import MaskedConv2d, live_taps
from ..nn.masked import MASKS
from ..ops import masked_conv2d
from .autoregression import first_layer_of_kind_b, images
from .chain import Chain
from .instances import disturbed, vectors


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


masked_convolutions = Chain(
    "masked_convolutions",
    "The network of a PixelCNN: masks, the order that they keep, blind spots, gates, classes and depth.",
    "van den Oord et al. 2016 (Pixel recurrent neural networks), section 3.4",
    kernels(),
)


@masked_convolutions.equal(
    "masks",
    r"M^A_{ts} = 0\ (s \geq t), \quad M^B_{ts} = 0\ (s > t), \quad M^B_{tt} = w_{\mathrm{middle}}",
    because="a tap above or to the left reads an earlier pixel; the middle one reads the pixel itself, and only B has it",
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


@masked_convolutions.equal(
    "dead_taps",
    r"\frac{\partial \langle g, y \rangle}{\partial w_{ab}} = \sum_{ij} g_{ij}\, x_{i + a - k_h / 2,\, j + b - k_w / 2}"
    r"\ \mathrm{if}\ (a, b)\ \mathrm{is\ live, and}\ 0\ \mathrm{otherwise}",
    because="a tap that reads nothing has no influence: its weight gets no gradient, and no optimiser remembers one",
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


@masked_convolutions.equal(
    "triangular",
    r"\frac{\partial\, \mathrm{logits}_t}{\partial x_s} = 0 \quad (s \geq t)",
    because="products of triangular matrices are triangular, and one factor, the first layer of kind A, has a diagonal of 0",
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


@masked_convolutions.equal(
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


@masked_convolutions.equal(
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


# What else a pixel's distribution is made of


@masked_convolutions.equal(
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


@masked_convolutions.equal(
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


# Depth


@st.composite
def stacks(draw):
    """Fifteen residual blocks, each with its last layer at 0 and the rest at random, and features h (1, 2, 2, 2)."""
    blocks = [Residual.init(Generator(draw(st.integers(0, 99))), 2, 3, None) for _ in range(15)]
    blocks = [replace(block, widen=tree.map(np.zeros_like, block.widen)) for block in blocks]
    return tree.map(lambda leaf: leaf.astype(np.float64), blocks), draw(vectors((1, 2, 2, 2)))


@masked_convolutions.equal(
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
        through = block(through, None, lambda layer, x, before=None: layer(x, before))
    return through, h


@residual.wrong("h added once more around a block that has added it: 2^15 after 15 blocks", published=True)
def _(instance):
    blocks, h = instance
    through = h
    for block in blocks:
        through = through + block(through, None, lambda layer, x, before=None: layer(x, before))
    return through, h
