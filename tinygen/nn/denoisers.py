r"""Networks that are told a time and a label: for diffusion, (x_t, t, labels) -> a prediction of the shape of x_t.

    MLP     for points (N, D): residual blocks
    UNet    for images (N, H, W, C): down to small images and up again                      Ronneberger et al. 2015

Both have the residual blocks, the sinusoids and the attention of Ho et al. 2020, appendix B. Time t (N,) is a number in
(0, 1000], labels are integers (N,) or None; one time may stand for all. The last layer begins as 0, and in the U-Net every
residual path: a new network predicts 0, and learns from there.
"""

import math

from .. import ops
from ..autograd.tree import module
from . import init
from .attention import SelfAttention, sinusoids
from .compose import Sequential
from .conv import Conv2d, ConvTranspose2d
from .linear import Embedding, Linear
from .norm import GroupNorm
from .waves import Waves


@module
class Condition:
    """What tells a network the time and the label: (N,) and (N,) -> (N, width)."""

    first: Linear
    second: Linear
    labels: Embedding  # a row for each class, and a last one for "none"; or None

    @staticmethod
    def init(rng, width, classes):
        if width < 4 or width % 2:
            raise ValueError(f"the width is {width}; the time is told by sines and cosines: give an even width of at least 4")
        labels = Embedding.init(rng, classes + 1, width) if classes else None
        return Condition(Linear.init(rng, width, width), Linear.init(rng, width, width), labels)

    def __call__(self, t, labels):
        e = self.second(ops.silu(self.first(sinusoids(t, self.first.weight.shape[0]))))
        return ops.silu(e if labels is None else e + self.labels(labels))


@module
class MLP:
    """For points (N, D): residual blocks of two layers, h + C silu(A silu(h) + B e), where e tells the time and label.

    With frequencies (lowest, highest), the first layer sees `Waves` of x in place of x: for densities with narrow modes or
    edges, whose score is steep.
    """

    condition: Condition
    first: object
    blocks: tuple
    last: Linear

    @staticmethod
    def init(rng, D, width, depth, classes, frequencies=None):
        """depth blocks of the given width, which is even and at least 4; classes: how many labels there are, or 0."""
        blocks = [[Linear.init(rng, width, width) for _ in range(3)] for _ in range(depth)]
        if frequencies is None:
            # the units of the first layer bend in places all over the data: with biases of 0, all would bend at the origin
            first = Linear(init.he_normal(rng, (D, width), D, width), init.normal(1.0)(rng, (width,)))
        else:
            first = Sequential([Waves.init(rng, D, width, *frequencies), Linear.init(rng, width, width)])
        last = Linear.init(rng, width, D, initialiser=init.zeros)
        return MLP(Condition.init(rng, width, classes), first, blocks, last)

    def __call__(self, x, t, labels):
        e, h = self.condition(t, labels), self.first(x)
        for inner, condition, outer in self.blocks:
            h = h + outer(ops.silu(inner(ops.silu(h)) + condition(e)))
        return self.last(ops.silu(h))


@module
class ResidualBlock:
    """x + conv(silu(norm(conv(silu(norm(x))) + B e))): the last convolution begins as 0; a 1 x 1 one changes x's channels."""

    norms: tuple
    convolutions: tuple
    condition: Linear
    shortcut: Conv2d

    @staticmethod
    def init(rng, c_in, c_out, width):
        convolutions = Conv2d.init(rng, c_in, c_out), Conv2d.init(rng, c_out, c_out, initialiser=init.zeros)
        shortcut = Conv2d.init(rng, c_in, c_out, kernel=1) if c_in != c_out else None
        return ResidualBlock((_norm(rng, c_in), _norm(rng, c_out)), convolutions, Linear.init(rng, width, c_out), shortcut)

    def __call__(self, x, e):
        h = self.convolutions[0](self.norms[0](x, ops.silu)) + self.condition(e)[:, None, None]
        h = self.convolutions[1](self.norms[1](h, ops.silu))
        return h + (x if self.shortcut is None else self.shortcut(x))


@module
class AttentionBlock:
    """x + attention(norm(x)) among the pixels of an image."""

    norm: GroupNorm
    attention: SelfAttention

    def __call__(self, x, e):
        return x + self.attention(self.norm(x))


@module
class UNet:
    """For images: down to small images of many channels and up again, each level up seeing what its level down saw.

    Attention is among the pixels of the smallest image. With patches of p x p pixels the first convolution makes the image p
    times smaller, and the last one p times larger: most of the work is done on large images, for little.
    """

    condition: Condition
    first: Conv2d
    down: tuple  # of each level: its block, then the convolution that halves the image, or None at the last
    middle: tuple
    up: tuple  # of each level, from the smallest: its block, then the convolution after doubling, or None at the last
    norm: GroupNorm
    last: ConvTranspose2d

    @staticmethod
    def init(rng, colours, channels, heads, classes, patch=1):
        """channels: of each level, the largest image first. The heads divide the last of them."""
        width = 4 * channels[0]

        def block(a, b):
            return ResidualBlock.init(rng, a, b, width)

        first = Conv2d.init(rng, colours, channels[0], **_patches(patch))
        down = tuple(
            (block(a, b), Conv2d.init(rng, b, b, stride=2) if i < len(channels) else None)
            for i, (a, b) in enumerate(zip((channels[0], *channels), channels), start=1)
        )
        c = channels[-1]
        attention = AttentionBlock(_norm(rng, c), SelfAttention.init(rng, c, heads, last=init.zeros))
        middle = block(c, c), attention, block(c, c)
        up = tuple(
            (block(2 * a, a), None if b is None else Conv2d.init(rng, a, b))
            for a, b in zip(channels[::-1], (*channels[-2::-1], None))
        )
        last = ConvTranspose2d.init(rng, channels[0], colours, **_patches(patch), initialiser=init.zeros)
        return UNet(Condition.init(rng, width, classes), first, down, middle, up, _norm(rng, channels[0]), last)

    def __call__(self, x, t, labels):
        e, h, seen = self.condition(t, labels), self.first(x), []
        for block, halve in self.down:
            h = block(h, e)
            seen.append(h)
            h = h if halve is None else halve(h)
        for block in self.middle:
            h = block(h, e)
        for block, doubled in self.up:
            h = block(ops.concatenate(h, seen.pop(), axis=3), e)
            h = h if doubled is None else doubled(ops.repeat(ops.repeat(h, 2, axis=1), 2, axis=2))
        return self.last(self.norm(h, ops.silu))


def _norm(rng, channels):
    """Up to 8 groups, of 4 channels or more: the mean of a group of one would take away all that the time added to it."""
    return GroupNorm.init(rng, channels, math.gcd(channels, max(1, channels // 4), 8))


def _patches(p):
    """Convolutions that make an image of H pixels into one of H / p, or transposed, the other way round."""
    return {"kernel": p + 2, "stride": p, "padding": 1}
