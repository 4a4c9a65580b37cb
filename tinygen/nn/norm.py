r"""Normalisation: y = scale (x - m) / sqrt(v + eps) + shift, where m and v are the mean and variance over a set of numbers.

    LayerNorm    the channels of one position                     Ba et al. 2016, eq. 4
    GroupNorm    a group of channels of one example               Wu & He 2018, eq. 7
    BatchNorm    one channel, of all examples and positions       Ioffe & Szegedy 2015, algorithm 1

v is the mean squared deviation, the biased variance: it describes these numbers and estimates nothing. scale and shift have one
number for each channel, the last axis; they begin as 1 and 0.

Only BatchNorm makes an example's result depend on the other examples. At evaluation it must not, and uses running averages of m
and v instead. These are not parameters: no gradient moves them, and no average over parameters may touch them. So they
are no part of the layer but a tree of their own, `Statistics`, which goes in and comes out:

    y, statistics = norm.on_batch(x, statistics)     training: normalised by the batch; returns the moved averages
    y = norm(x, statistics)                          evaluation: normalised by what it is given
"""

import math

from .. import ops
from ..autograd.tree import Array, module
from .doors import require_last_axis
from .init import ones, zeros


@module
class LayerNorm:
    """Normalises the last axis: x (..., d) -> y (..., d). Neither x + c nor c x (for c > 0, up to eps) changes y."""

    scale: Array
    shift: Array
    eps: float

    @classmethod
    def init(cls, rng, d, eps=1e-5):
        return cls(ones(rng, (d,)), zeros(rng, (d,)), eps)

    def __call__(self, x):
        """ValueError unless the last axis of x has length d."""
        d = self.scale.shape[0]
        require_last_axis("LayerNorm", x, d, "it normalises features, which come last")
        return ops.layer_norm(x, ops.stack(self.scale, self.shift), eps=self.eps)


@module
class GroupNorm:
    """Normalises each group of C / groups neighbouring channels of each example over all positions: x (N, ..., C) -> y."""

    scale: Array
    shift: Array
    groups: int
    eps: float

    @classmethod
    def init(cls, rng, channels, groups, eps=1e-5):
        """ValueError unless the groups divide the channels."""
        if groups < 1 or channels % groups:
            raise ValueError(f"GroupNorm: {channels} channels cannot be cut into {groups} equal groups")
        return cls(ones(rng, (channels,)), zeros(rng, (channels,)), groups, eps)

    def __call__(self, x, activation=None):
        """activation(y), at the cost of y for ops.relu and ops.silu. ValueError unless x is (N, ..., C)."""
        channels = self.scale.shape[0]
        require_last_axis("GroupNorm", x, channels, "images are channels last, (N, H, W, C)")
        if len(x.shape) < 2:
            raise ValueError(f"GroupNorm: x has shape {tuple(x.shape)}, but the first axis is the batch; give x[None]")
        positions = ops.reshape(x, shape=(x.shape[0], math.prod(x.shape[1:-1]), channels))
        y = ops.group_norm(positions, ops.stack(self.scale, self.shift), self.groups, self.eps, activation)
        return ops.reshape(y, shape=tuple(x.shape))


@module
class Statistics:
    """What BatchNorm knows of its inputs: a running mean and a running variance, (C,) each. Data, never parameters."""

    mean: Array
    variance: Array


@module
class BatchNorm:
    """Normalises each channel over all examples and positions: x (N, ..., C) -> y. Its two calls are above."""

    scale: Array
    shift: Array
    eps: float
    needs = ("statistics",)

    @classmethod
    def init(cls, rng, channels, eps=1e-5):
        return cls(ones(rng, (channels,)), zeros(rng, (channels,)), eps)

    def initial_statistics(self):
        """Mean 0 and variance 1: where the running averages start. After t batches this start has a weight of momentum^t."""
        return Statistics(ops.stop_gradient(self.scale) * 0, ops.stop_gradient(self.scale) * 0 + 1)

    def on_batch(self, x, statistics, momentum=0.9):
        """(y, statistics'): y normalised by the mean m and variance v of this batch, and the averages moved towards them,

            mean' = momentum mean + (1 - momentum) m,   variance' = momentum variance + (1 - momentum) v n / (n - 1).

        n is the number of values in a channel, and v n / (n - 1) the unbiased estimate of the variance that later examples
        have. Gradients pass through m and v to x, as they must, and none through statistics'.
        ValueError unless x is (N, ..., C) with n > 1.
        """
        axes, n = self._require(x, statistics)
        if n < 2:
            raise ValueError(
                f"BatchNorm: x of shape {tuple(x.shape)} has one value in each channel, whose variance is 0; give a larger "
                "batch"
            )
        y, m, v = _standardise(x, axes, self.eps)
        m, v = ops.stop_gradient(m).reshape(-1), ops.stop_gradient(v).reshape(-1) * (n / (n - 1))
        moved = Statistics(momentum * statistics.mean + (1 - momentum) * m, momentum * statistics.variance + (1 - momentum) * v)
        return y * self.scale + self.shift, moved

    def __call__(self, x, statistics):
        """y normalised by the given statistics: each example on its own. ValueError unless x is (N, ..., C)."""
        self._require(x, statistics)
        y = (x - statistics.mean) / ops.sqrt(statistics.variance + self.eps)
        return y * self.scale + self.shift

    def _require(self, x, statistics):
        channels = self.scale.shape[0]
        require_last_axis("BatchNorm", x, channels, "images are channels last, (N, H, W, C)")
        if not isinstance(statistics, Statistics) or statistics.mean.shape != (channels,):
            raise TypeError(
                f"BatchNorm: the statistics must be a Statistics of {channels} channels, as initial_statistics() and on_batch "
                f"return; got {statistics!r}"
            )
        return tuple(range(len(x.shape) - 1)), x.size // channels


def _standardise(x, axes, eps):
    """(x - m) / sqrt(v + eps), and the mean m and biased variance v over the axes, kept at length 1."""
    mean = ops.mean(x, axis=axes, keepdims=True)
    centred = x - mean
    variance = ops.mean(centred * centred, axis=axes, keepdims=True)
    return centred / ops.sqrt(variance + eps), mean, variance
