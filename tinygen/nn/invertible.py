r"""Invertible maps without a network, the smaller parts of normalising flows: scaling, moving numbers about, preparing pixels.

    Scaling                        z_i = x_i e^(s_i)                           log |det| = \sum s       NICE, section 3.3
    Permutation, Squeeze, Flatten  the same numbers in other places            log |det| = 0
    Rescale                        z = (x - low) / (high - low)                -D log(high - low)
    Logit                          z = logit(p), p = alpha + (1 - 2 alpha) x   \sum log dz/dx           after RealNVP, sec. 4.1

Each has two methods, each other's inverses, which say by how much they stretch volumes:

    z, log_det = layer.to_latent(x)        log_det = log |det dz/dx|, nats (N,)
    x, log_det = layer.to_data(z)          log_det = log |det dx/dz|, minus the former

NICE is Dinh et al. 2015, RealNVP Dinh et al. 2017.
"""

import math

import numpy as np

from .. import ops
from ..autograd.tree import Array, module
from ..backend import array_module
from .doors import require_last_axis


@module
class Scaling:
    """z = x e^s, with a learned s for each number of an example (NICE, section 3.3). ValueError for another shape."""

    log_scale: Array

    def to_latent(self, x):
        return x * ops.exp(self.log_scale), self._log_volume(x)

    def to_data(self, z):
        return z * ops.exp(-self.log_scale), -self._log_volume(z)

    def _log_volume(self, x):
        if tuple(x.shape[1:]) != tuple(self.log_scale.shape):  # one s for many numbers would count once
            raise ValueError(f"Scaling: examples have shape {tuple(x.shape[1:])}, and s {tuple(self.log_scale.shape)}")
        return constant(x, 1) * self.log_scale.sum()


class Rearrangement:
    """The same numbers in other places: log |det| = 0. What follows says how, there and back."""

    def to_latent(self, x):
        return self._there(x), constant(x, 0)

    def to_data(self, z):
        return self._back(z), constant(z, 0)


@module
class Permutation(Rearrangement):
    """z[..., i] = x[..., order[i]]. ValueError unless each of 0 .. C - 1 comes once, and for other numbers of channels."""

    order: tuple

    def __post_init__(self):
        object.__setattr__(self, "order", tuple(int(i) for i in self.order))  # structure: there is nothing to be learned
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"Permutation: {self.order} must contain each of 0 .. {len(self.order) - 1} once")

    def _there(self, x):
        require_last_axis("Permutation", x, len(self.order), "the order must name every channel")
        return ops.take(x, list(self.order), axis=-1)

    def _back(self, z):
        require_last_axis("Permutation", z, len(self.order), "the order must name every channel")
        return ops.take(z, np.argsort(self.order), axis=-1)


@module
class Squeeze(Rearrangement):
    """(N, H, W, C) -> (N, H/2, W/2, 4C): each 2 x 2 pixels become the channels of one (RealNVP, section 3.6).

    ValueError for vectors, for an odd height or width, and, on the way back, unless the channels come in fours.
    """

    def _there(self, x):
        if len(x.shape) != 4 or x.shape[1] % 2 or x.shape[2] % 2:
            raise ValueError(f"Squeeze: x has shape {tuple(x.shape)}, not (N, H, W, C) with even H and W: pad the images")
        N, H, W, C = x.shape
        blocks = ops.reshape(x, shape=(N, H // 2, 2, W // 2, 2, C)).transpose(0, 1, 3, 2, 4, 5)
        return ops.reshape(blocks, shape=(N, H // 2, W // 2, 4 * C))  # [couplings.squeeze]

    def _back(self, z):
        if len(z.shape) != 4 or z.shape[3] % 4:
            raise ValueError(f"Squeeze: z has shape {tuple(z.shape)}, not (N, H, W, C) with C a multiple of 4")
        N, H, W, C = z.shape
        blocks = ops.reshape(z, shape=(N, H, W, 2, 2, C // 4)).transpose(0, 1, 3, 2, 4, 5)
        return ops.reshape(blocks, shape=(N, 2 * H, 2 * W, C // 4))


@module
class Flatten(Rearrangement):
    """(N, *shape) -> (N, D)."""

    shape: tuple

    def _there(self, x):
        return ops.flatten(x, start=1)

    def _back(self, z):
        return ops.reshape(z, shape=(z.shape[0], *self.shape))


@module
class Rescale:
    """z = (x - low) / (high - low): takes [low, high] to [0, 1]. With (0, 256) it takes 8-bit grey levels plus noise there."""

    low: float
    high: float

    def __post_init__(self):
        if not self.low < self.high:
            raise ValueError(f"Rescale: low = {self.low} must be less than high = {self.high}")

    def to_latent(self, x):
        return (x - self.low) / (self.high - self.low), constant(x, -self._log_volume(x))

    def to_data(self, z):
        return z * (self.high - self.low) + self.low, constant(z, self._log_volume(z))

    def _log_volume(self, x):
        return math.prod(x.shape[1:]) * math.log(self.high - self.low)


@module
class Logit:
    """z = logit(p) with p = alpha + (1 - 2 alpha) x: takes [0, 1] to numbers of any size, in which Gaussians feel at home.

    dz/dx = (1 - 2 alpha) / (p (1 - p)), and -log(p (1 - p)) = softplus(z) + softplus(-z). alpha > 0 keeps black and white
    finite; the density then has tails a little beyond [0, 1]. (RealNVP's p = alpha + (1 - alpha) x is 1 for white.)
    """

    alpha: float = 0.05

    def __post_init__(self):
        if not 0 <= self.alpha < 0.5:
            raise ValueError(f"Logit: alpha is {self.alpha}; it must be at least 0 and less than 1/2, such as 0.05")

    def to_latent(self, x):
        """ValueError for x that does not lie within p's (0, 1), as grey levels that nobody divided by their number."""
        p = self.alpha + (1 - 2 * self.alpha) * x
        values = ops.stop_gradient(p)
        if isinstance(values, np.ndarray) and values.size and not (values.min() > 0 and values.max() < 1):
            raise ValueError(  # on a GPU nobody looks: the answer would have to be waited for
                f"Logit: x lies in [{ops.stop_gradient(x).min():g}, {ops.stop_gradient(x).max():g}], but pixels must lie in "
                "[0, 1] (inside it, if alpha is 0); dequantise grey levels with data.prepare"
            )
        z = ops.log(p) - ops.log1p(-p)
        return z, self._log_stretch(z)

    def to_data(self, z):
        return (ops.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha), -self._log_stretch(z)

    def _log_stretch(self, z):
        return per_example(ops.softplus(z) + ops.softplus(-z) + math.log(1 - 2 * self.alpha))  # [change_of_variables.logit]


def constant(x, value):
    """The same number for each example, (N,), of x's type. TypeError for integers, which could not hold a logarithm."""
    if x.dtype.kind != "f":
        raise TypeError(
            f"a flow has a density of real numbers, and x holds {x.dtype}; dequantise grey levels with data.prepare, or "
            "convert x with .astype(float)"
        )
    return array_module(ops.stop_gradient(x)).full(x.shape[0], value, x.dtype)


def per_example(x):
    """The sum over all numbers of each example, (N,)."""
    return x.sum(axis=tuple(range(1, len(x.shape))))
