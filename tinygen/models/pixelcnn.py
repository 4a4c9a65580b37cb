r"""PixelCNN: an image is written like a text, pixel by pixel, each one drawn from a distribution that the earlier ones decide.

    chain rule   log p(x) = \sum_t log p(x_t | x_1, ..., x_{t-1}),  row by row from the top       A, eq. 1
    pixels       Bernoulli for two grey levels; for more, a softmax over all of them              A, section 2.2
    masks        no convolution sees pixels to come, so one pass gives all conditionals           A, section 3.4
    residual     h + net(h), the bottleneck of figure 5, added once                               A, section 3.3
    gate         y = tanh(f) sigmoid(g), with f and g the two halves of the channels              B, eq. 2
    class        a vector for each class, added before the activation                             B, eq. 4
    two stacks   vertical: all rows above; horizontal: the row so far. No blind spot.             B, section 2.2

A is van den Oord et al. 2016, *Pixel recurrent neural networks*, B their *Conditional image generation with PixelCNN decoders*.
The likelihood is exact: a probability, not a density. Training is parallel over pixels. Sampling is not, but it need not run
the network anew for each pixel: all but the masked convolutions happens within one pixel, so with a convolution that remembers
what it was given before (`Memory`), the same network runs on one new pixel. A whole image costs one pass in total. In float32
a kernel does so, by a program read off the network (nn/raster.py): calls from Python took nine tenths of the time.

x (N, H, W, 1), grey levels 0 .. levels - 1; labels (N,), integers; nats.
"""

import numpy as np

from .. import kernels, ops
from ..autograd.tree import module
from ..backend import array_module, device_of
from ..density import Exact
from ..distributions import Bernoulli, Categorical
from ..nn import Conv2d, Embedding, MaskedConv2d, Sequential, init, raster
from ..nn.doors import require_examples, require_generator, require_labels
from ..optim import minimise

TIMELINE = {  # what came when, by the sources above
    "PixelCNN": "van den Oord et al. 2016",
    "gated PixelCNN": "van den Oord et al. 2016",
}

# Networks. `convolve(layer, x)` applies a masked convolution, or `convolve(layer, x, before)` to before(x): to a whole image,
# or when sampling to what is new in it.


@module
class Residual:
    """h + net(h): halve the channels, convolve, double the channels again, each after a relu. A, figure 5."""

    narrow: Conv2d
    masked: MaskedConv2d
    widen: Conv2d
    label: Embedding

    @classmethod
    def init(cls, rng, channels, kernel, classes):
        half = channels // 2
        narrow, masked = Conv2d.init(rng, channels, half, 1), MaskedConv2d.init(rng, half, half, kernel, "B")
        return cls(narrow, masked, Conv2d.init(rng, half, channels, 1), _embedding(rng, classes, half))

    def __call__(self, h, labels, convolve):
        y = self.narrow(h, before=ops.relu)
        y = _with_class(convolve(self.masked, y, before=ops.relu), self.label, labels)
        return h + self.widen(y, before=ops.relu)  # residual: [masked_convolutions.residual]


@module
class Plain:
    """A masked convolution of kind A, then residual blocks of kind B. Its receptive field has a blind spot, to the right."""

    first: MaskedConv2d
    label: Embedding
    blocks: tuple

    @property
    def readers(self):
        """The layers that read the image itself."""
        return (self.first,)

    def rows(self, x, labels, convolve):
        """What can be known of a row before any of its pixels: here, nothing is prepared."""
        return ()

    def pixels(self, x, rows, labels, convolve):
        """x (N, H, W, 1) -> features (N, H, W, C)."""
        h = _with_class(convolve(self.first, x), self.label, labels)
        for block in self.blocks:
            h = block(h, labels, convolve)
        return h


@module
class GatedLayer:
    """Two convolutions, of the rows above and of the row so far; the first also speaks to the second. B, figure 2."""

    vertical: MaskedConv2d
    horizontal: MaskedConv2d
    link: Conv2d
    out: Conv2d
    label: Embedding

    @classmethod
    def init(cls, rng, c_in, channels, kernel, kind, classes):
        vertical = MaskedConv2d.init(rng, c_in, 2 * channels, kernel, f"vertical {kind}")
        horizontal = MaskedConv2d.init(rng, c_in, 2 * channels, (1, kernel), kind)
        link, out = Conv2d.init(rng, 2 * channels, 2 * channels, 1), Conv2d.init(rng, channels, channels, 1)
        return cls(vertical, horizontal, link, out, _embedding(rng, classes, 2 * channels))


@module
class Gated:
    """Gated layers, the first of kind A, with a residual connection along the horizontal stack from the second on."""

    layers: tuple

    @property
    def readers(self):
        """The layers that read the image itself."""
        return self.layers[0].vertical, self.layers[0].horizontal

    def rows(self, x, labels, convolve):
        """The vertical stack: x (N, H, W, 1) -> for each layer, what it tells the horizontal one, (N, H, W, 2 C)."""
        told, y = [], None
        for layer in self.layers:
            y = _with_class(convolve(layer.vertical, x if y is None else _gate(y)), layer.label, labels)
            told.append(layer.link(y))  # two stacks: [masked_convolutions.two_stacks]
        return tuple(told)

    def pixels(self, x, rows, labels, convolve):
        """The horizontal stack: x (N, H, W, 1), and what the vertical one tells -> features (N, H, W, C)."""
        h = None
        for layer, told in zip(self.layers, rows):
            y = layer.out(_gate(convolve(layer.horizontal, x if h is None else h) + told))
            h = y if h is None else h + y
        return h


def _gate(y):
    return ops.gate(y)  # gate: [masked_convolutions.gate]


def _embedding(rng, classes, channels):
    return None if classes is None else Embedding.init(rng, classes, channels, initialiser=init.normal(0.1))


def _with_class(y, embedding, labels):
    return y if embedding is None else y + embedding(labels)[:, None, None]  # class: [masked_convolutions.class]


def _everywhere(layer, x, before=None):
    return layer(x, before)


# The model


@module
class PixelCNN:
    """log p(x) = sum_t log p(x_t | x_<t), or given a class. `network` makes features of the pixels before, `head` logits."""

    network: object
    head: Sequential
    shape: tuple
    levels: int
    classes: int

    @staticmethod
    def plain(rng, shape, levels, channels=32, blocks=15, kernel=3, first_kernel=7, classes=None):
        """The PixelCNN of A. With the defaults and two levels it has 53,569 parameters, of which 37,409 are live."""
        _require_design("PixelCNN.plain", shape, levels, channels, blocks)
        first = MaskedConv2d.init(rng, 1, channels, first_kernel, "A")  # masks: [masked_convolutions.triangular]
        residuals = tuple(Residual.init(rng, channels, kernel, classes) for _ in range(blocks))
        network = Plain(first, _embedding(rng, classes, channels), residuals)
        return PixelCNN(network, _head(rng, channels, levels), tuple(shape), levels, classes)

    @staticmethod
    def gated(rng, shape, levels, channels=32, layers=8, kernel=3, first_kernel=7, classes=None):
        """The gated PixelCNN of B, whose receptive field has no blind spot."""
        _require_design("PixelCNN.gated", shape, levels, channels, layers)
        first = GatedLayer.init(rng, 1, channels, first_kernel, "A", classes)
        others = [GatedLayer.init(rng, channels, channels, kernel, "B", classes) for _ in range(layers - 1)]
        return PixelCNN(Gated((first, *others)), _head(rng, channels, levels), tuple(shape), levels, classes)

    # Density

    def distribution(self, x, labels=None):
        """All p(x_t | x_<t) in one pass, elementwise over pixels (N, H, W, 1): Bernoulli for two levels, else Categorical.

        ValueError for images of another shape, for labels that are missing or too many; IndexError for an unknown class.
        """
        self._require(x, labels)
        x = self._input(x)
        rows = self.network.rows(x, labels, _everywhere)
        return self._pixels(self.network.pixels(x, rows, labels, _everywhere))

    def log_prob(self, x, labels=None):
        """Exact, nats (N,). ValueError also where x is not a whole grey level, for which there is no probability."""
        self._require(x, labels)
        self._require_levels(x)
        x = x if self.levels == 2 else x.astype(np.int64)
        # chain rule: [autoregression.teacher_forcing]
        return Exact(self.distribution(x, labels).log_prob(x).sum(axis=(1, 2, 3)))

    # Samples

    def sample(self, rng, n, labels=None):
        """n images, (n, H, W, 1): float32 zeros and ones for two levels, otherwise uint8. labels (n,) if there are classes."""
        nothing = array_module(self.head[-1].bias).zeros((n, *self.shape), np.float32 if self.levels == 2 else np.uint8)
        return self.complete(rng, nothing, 0, labels)

    def complete(self, rng, x, known, labels=None):
        """Keep the first `known` pixels of each image x, in the order of rows, and draw the others given them: as x.

        ValueError unless 0 <= known <= H W, and where those pixels are no grey levels.
        """
        H, W, _ = self.shape
        require_generator("PixelCNN", rng)
        self._require(x, labels)
        if not 0 <= known <= H * W:
            raise ValueError(f"PixelCNN.complete: known = {known} pixels of {H} x {W}; give a number from 0 to {H * W}")
        self._require_levels(x.reshape(len(x), H * W)[:, :known])
        program = self._program(x, labels)
        return self._draw(rng, x, known, labels) if program is None else self._draw_by_kernel(rng, x, known, program)

    def _draw(self, rng, x, known, labels):
        """For each pixel, the network on it alone. What it made of the others is in the memory."""
        H, W, _ = self.shape
        x, memory, unknown = x.copy(), Memory((H, W)), array_module(x).full((len(x), 1, W, 1), np.nan, self._dtype)
        for i in range(H):
            told = self.network.rows(unknown, labels, memory.at(i, slice(0, W)))
            for j in range(W):
                here = slice(j, j + 1)
                above = tuple(features[:, :, here] for features in told)
                h = self.network.pixels(unknown[:, :, here], above, labels, memory.at(i, here))
                if i * W + j >= known:
                    x[:, i : i + 1, here] = self._pixels(h).sample(rng)  # [autoregression.ancestral]
                for layer in self.network.readers:
                    memory.write(layer, i, here, self._input(x[:, i : i + 1, here]))
        return x

    def _draw_by_kernel(self, rng, x, known, program):
        """The same, from the same random numbers, without Python between the pixels."""
        xp, (H, W, _) = array_module(x), self.shape
        shape = H * W - known, len(x)
        uniforms = rng.uniform(shape, np.float32 if self.levels == 2 else np.float64)
        levels = xp.zeros((len(x), H, W), np.int64)
        levels.reshape(len(x), -1)[:, :known] = x.reshape(len(x), -1)[:, :known]
        drawn = kernels.raster.sample(levels, program, known, uniforms, self._input(xp.arange(self.levels)))
        return drawn[..., None].astype(x.dtype)

    def _program(self, x, labels):
        """The network for the kernel, or None where it is not for it: it is for float32, on a GPU or a fast processor."""
        if self._dtype != np.float32 or not x.size or not (device_of(x) == "gpu" or kernels.raster.fast()):
            return None
        pixel = array_module(x).zeros((len(x), 1, 1, 1), np.float32)
        return raster.program(
            lambda x, convolve: self.network.rows(x, labels, convolve),
            lambda x, rows, convolve: self.network.pixels(x, rows, labels, convolve),
            self.head,
            pixel,
        )

    # Inside

    @property
    def _dtype(self):
        return self.head[-1].bias.dtype

    def _input(self, x):
        """Grey levels as the network sees them, from -1 to 1: so the zeros around an image differ from both colours."""
        return x.astype(self._dtype) * (2 / (self.levels - 1)) - 1

    def _pixels(self, h):
        logits = self.head(h)
        # pixels: [autoregression.sums_to_one]
        return Bernoulli(logits) if self.levels == 2 else Categorical(ops.expand_dims(logits, 3))

    def _require(self, x, labels):
        require_examples("PixelCNN", x, self.shape)
        require_labels("PixelCNN", labels, len(x), self.classes)

    def _require_levels(self, x):
        _require_whole(x, self.levels)


@ops.opaque
def _require_whole(x, levels):
    looked_at = array_module(x) is np  # on a GPU nobody looks: the answer would have to be waited for
    if looked_at and x.size and not ((x >= 0) & (x < levels) & (x == np.floor(x))).all():
        raise ValueError(
            f"PixelCNN: x lies in [{x.min():g}, {x.max():g}] and must hold whole grey levels, 0 .. {levels - 1}: a grey value "
            "between has no probability; binarise with data.prepare for two levels"
        )


class Memory:
    """What every masked layer was given so far, so that a convolution can be taken at new pixels alone.

    What is not known yet is NaN. No live tap ever lies on it; were a mask wrong, the samples would show it.
    """

    def __init__(self, size):
        self.size, self.padded = size, {}

    def at(self, row, columns):
        """`convolve` for the given columns of a row: it writes down x, (N, 1, columns, C), and reads what lies around."""

        def convolve(layer, x, before=None):
            x = x if before is None else before(x)
            self.write(layer, row, columns, x)
            kh, kw = layer.kernel
            return layer.on_window(self.padded[id(layer)][:, row : row + kh, columns.start : columns.stop + kw - 1])

        return convolve

    def write(self, layer, row, columns, x):
        """Replace what the layer was given there."""
        (H, W), (kh, kw) = self.size, layer.kernel
        if id(layer) not in self.padded:
            self.padded[id(layer)] = array_module(x).zeros((len(x), H + kh - 1, W + kw - 1, x.shape[3]), x.dtype)
            self.padded[id(layer)][:, kh // 2 : kh // 2 + H, kw // 2 : kw // 2 + W] = np.nan
        image = self.padded[id(layer)][:, kh // 2 :, kw // 2 :]
        image[:, row : row + 1, columns] = x


def receptive_field(model, row, column, label=None):
    """Which pixels the distribution of pixel (row, column) depends on, booleans (H, W), found by experiment.

    Each pixel in turn is NaN in an image of its own, and whatever depends on it becomes NaN.
    """
    H, W, _ = model.shape
    x = np.zeros((H * W, H, W, 1), np.float32)
    x[range(H * W), np.repeat(range(H), W), np.tile(range(W), H)] = np.nan
    logits = model.distribution(x, None if label is None else np.full(H * W, label)).logits
    return np.isnan(logits[:, row, column]).reshape(H, W, -1).any(axis=-1)


def _head(rng, channels, levels):
    """Two 1 x 1 convolutions after a relu each; the last begins at 0, so that all grey levels begin as equally likely."""
    last = Conv2d.init(rng, channels, 1 if levels == 2 else levels, 1, initialiser=init.zeros)
    return Sequential([ops.relu, Conv2d.init(rng, channels, channels, 1), ops.relu, last])


def _require_design(name, shape, levels, channels, depth):
    if len(shape) != 3 or shape[2] != 1 or min(shape) < 1:
        raise ValueError(f"{name}: shape is {tuple(shape)}; images of one channel, (H, W, 1), are what it is made for")
    if not 2 <= levels <= 256:
        raise ValueError(f"{name}: levels is {levels}; a pixel has 2 (black and white) to 256 grey levels")
    if channels < 2 or channels % 2 or depth < 1:
        raise ValueError(f"{name}: channels must be even, and there must be a layer; got {channels} and {depth}")


def train_step(optimiser, prepare=lambda images, rng: images, decay=None):
    """(state, batch, rng) -> (state, metrics): one step on -log p(x), nats, or on -log p(x | label) for a model of classes.

    A batch is images, or with classes a pair (images, labels); `prepare` turns images into x, as dynamic binarisation does.
    The state, and the decay of the average of its parameters, are those of `optim.minimise`.
    """

    def loss(model, batch, rng):
        images, labels = (batch, None) if model.classes is None else batch
        return -model.log_prob(prepare(images, rng), labels).nats.mean(), {}

    return minimise(loss, optimiser, decay=decay)
