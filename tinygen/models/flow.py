r"""Normalising flows from coupling layers: an invertible map f from data to noise, and so the exact density of the data.

    density     log p(x) = log N(f(x); 0, I) + log |det df/dx|                          Dinh et al. 2017 (RealNVP), eq. 3
    additive    z = x where b = 1, and x + t elsewhere:           log |det| = 0         Dinh et al. 2015 (NICE), section 3.2
    affine      z = x where b = 1, and x e^s + t elsewhere:       log |det| = \sum s    RealNVP, eq. 4-6
                s and t are any functions of b x, so z has all that the inverse needs   eq. 7-8, with a mask b: eq. 9
    scaling     z_i = x_i e^(s_i):                                log |det| = \sum s    NICE, section 3.3
    multi-scale f(x) = (h_1, g(h_2)): half of the channels are done, g is one more flow RealNVP, eq. 13-16
    logit       z = logit(alpha + (1 - 2 alpha) x) takes pixels out of [0, 1]           after RealNVP, section 4.1

A coupling keeps part of x and moves the rest by amounts that depend on the kept part alone. Its Jacobian is triangular, and its
inverse needs no inverse of the network. The next coupling keeps what this one moved.

Every layer here has two methods, each other's inverses, which say by how much they stretch volumes:

    z, log_det = layer.to_latent(x)        log_det = log |det dz/dx|, nats (N,)
    x, log_det = layer.to_data(z)          log_det = log |det dx/dz|, minus the former

x (N, D) or (N, H, W, C); the latents of a whole flow are (N, D), D numbers for an example of D numbers.
"""

import math

import numpy as np

from .. import ops
from ..autograd.tree import Array, module
from ..backend import array_module
from ..density import Exact
from ..distributions import Gaussian
from ..nn import Conv2d, Sequential, init, mlp
from ..nn.doors import require_last_axis
from ..optim import minimise

PRIOR = Gaussian(np.float32(0), np.float32(0))  # N(0, 1) for each latent number: mean 0, log-variance 0


@module
class Chain:
    """f = f_n(... f_2(f_1(x))): the determinants of the layers multiply, so their logarithms add up."""

    layers: tuple

    def to_latent(self, x):
        total = _constant(x, 0)
        for layer in self.layers:
            x, log_det = layer.to_latent(x)
            total = total + log_det
        return x, total

    def to_data(self, z):
        total = _constant(z, 0)
        for layer in reversed(self.layers):
            z, log_det = layer.to_data(z)
            total = total + log_det
        return z, total


@module
class Flow:
    """p(x) = N(f(x); 0, I) |det df/dx| for examples of one shape, where f, a chain of layers, ends in vectors (N, D)."""

    chain: Chain
    shape: tuple  # of one example

    @staticmethod
    def mlp(rng, dimensions, couplings=8, hidden=(64, 64), activation=ops.relu, kind="affine", mask="halves", before=()):
        """For vectors (N, dimensions): couplings by fully connected networks, which keep each half in turn, and a scaling.

        kind is "affine" or "additive"; mask is "halves" or "checkerboard"; `before` has layers that come first.
        """

        def network(d_in, d_out):
            return mlp(rng, (d_in, *hidden, d_out), activation, last=init.zeros)

        layers = [_coupling(kind, dimensions, Mask(mask, i % 2), network) for i in range(couplings)]
        return Flow(Chain((*before, *layers, Scaling(init.zeros(rng, (dimensions,))))), (dimensions,))

    @staticmethod
    def convolutional(rng, shape, scales=2, couplings=3, width=32, activation=ops.relu, kind="affine", before=()):
        """For images (N, H, W, C): the multi-scale architecture of RealNVP, section 3.6, with plain convolutions.

        At each scale, couplings that keep the fields of a checkerboard, a squeeze, couplings that keep half of the channels,
        and half of the channels factored out; at the last scale, one checkerboard coupling more and nothing else.
        ValueError unless height and width can be halved scales - 1 times.
        """
        factor = 2 ** (scales - 1)
        if couplings < 1 or width < 1:
            raise ValueError(f"Flow.convolutional: couplings = {couplings} and width = {width} must be at least 1")
        if scales < 1 or shape[0] % factor or shape[1] % factor:
            raise ValueError(
                f"Flow.convolutional: {shape[0]} x {shape[1]} images cannot be halved {scales - 1} times; pad them to a "
                f"multiple of {factor}, or take fewer scales (at least 1)"
            )

        def network(c_in, c_out):
            first, middle = Conv2d.init(rng, c_in, width, kernel=3), Conv2d.init(rng, width, width, kernel=1)
            last = Conv2d.init(rng, width, c_out, kernel=3, initialiser=init.zeros)
            return Sequential([first, activation, middle, activation, last])

        def block(n, mask, channels):
            return [_coupling(kind, channels, Mask(mask, i % 2), network) for i in range(n)]

        def scale(H, W, C, more):
            if not more:
                return [*block(couplings + 1, "checkerboard", C), Flatten((H, W, C)), Scaling(init.zeros(rng, (H * W * C,)))]
            here = [*block(couplings, "checkerboard", C), Squeeze(), *block(couplings, "halves", 4 * C)]
            return [*here, FactorOut(Chain(tuple(scale(H // 2, W // 2, 2 * C, more - 1))))]

        return Flow(Chain((*before, *scale(*shape, scales - 1))), tuple(shape))

    def to_latent(self, x):
        """(z, log |det dz/dx|): x (N, *shape) -> z (N, D), nats (N,). ValueError for another shape."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"Flow: examples have shape {tuple(x.shape[1:])}, but this model was made for {self.shape}")
        return self.chain.to_latent(x)

    def to_data(self, z):
        """(x, log |det dx/dz|): z (N, D) -> x (N, *shape), nats (N,). ValueError for another shape."""
        D = math.prod(self.shape)
        if tuple(z.shape[1:]) != (D,):
            raise ValueError(f"Flow: z has shape {tuple(z.shape)}, but the latents of this model are (N, {D})")
        return self.chain.to_data(z)

    def log_prob(self, x):
        """log N(f(x); 0, I) + log |det df/dx|. Exact, nats (N,)."""
        z, log_det = self.to_latent(x)
        return Exact(PRIOR.log_prob(z).sum(axis=-1) + log_det)

    def sample(self, rng, n):
        """f^-1(z) for n latents from the prior, (n, *shape)."""
        return self.to_data(rng.normal((n, math.prod(self.shape))))[0]


# Couplings


@module
class Mask:
    """b: which numbers of an example a coupling keeps. By channel the first half of them, or every other field of a board.

    "halves" counts along the last axis: the channels of images. "checkerboard" counts rows plus columns of images, whose
    channels stay together, and the positions in vectors. Parity 1 keeps what parity 0 moves.
    ValueError for other settings, and for an odd number of channels to be halved.
    """

    kind: str
    parity: int

    def __post_init__(self):
        if self.kind not in ("halves", "checkerboard") or self.parity not in (0, 1):
            seen = f"{self.kind!r} and {self.parity!r}"
            raise ValueError(f"Mask: kind must be 'halves' or 'checkerboard', and parity 0 or 1, not {seen}")

    def __call__(self, x):
        """b for x (N, ..., C), booleans that broadcast against x."""
        xp, (_, *positions, channels) = array_module(ops.stop_gradient(x)), x.shape
        if self.kind == "halves":
            _require_even_channels(channels)
            return (xp.arange(channels) < channels // 2) != self.parity
        count = xp.indices(positions or (channels,)).sum(axis=0) + self.parity
        return (count % 2 == 0)[..., None] if positions else count % 2 == 0


@module
class AdditiveCoupling:
    """z = x where b = 1, and x + t(b x) elsewhere. It moves, and stretches nothing (NICE, section 3.2)."""

    network: object  # C channels -> C channels
    mask: Mask

    def to_latent(self, x):
        return x + self._shift(x), _constant(x, 0)

    def to_data(self, z):
        return z - self._shift(z), _constant(z, 0)

    def _shift(self, x):
        kept = self.mask(x)
        return ops.where(kept, 0, self.network(ops.where(kept, x, 0)))


@module
class AffineCoupling:
    """z = x where b = 1, and x e^s + t elsewhere, where (s, t) are functions of b x (RealNVP, eq. 9).

    s is scale tanh(...) with one learned scale for each channel: while it is small, no network can make e^s overflow.
    """

    network: object  # C channels -> 2 C channels, s before t
    scale: Array  # (C,)
    mask: Mask

    def to_latent(self, x):
        s, t = self._scale_and_shift(x)
        return x * ops.exp(s) + t, _per_example(s)

    def to_data(self, z):
        s, t = self._scale_and_shift(z)
        return (z - t) * ops.exp(-s), -_per_example(s)

    def _scale_and_shift(self, x):
        kept = self.mask(x)
        s, t = ops.split(self.network(ops.where(kept, x, 0)), 2)
        return ops.where(kept, 0, self.scale * ops.tanh(s)), ops.where(kept, 0, t)


# Layers without a network


@module
class Scaling:
    """z = x e^s, with a learned s for each number of an example (NICE, section 3.3)."""

    log_scale: Array

    def to_latent(self, x):
        return x * ops.exp(self.log_scale), _constant(x, 1) * self.log_scale.sum()

    def to_data(self, z):
        return z * ops.exp(-self.log_scale), _constant(z, -1) * self.log_scale.sum()


@module
class Permutation:
    """z[..., i] = x[..., order[i]]: exchanges numbers, and keeps volumes. ValueError unless each of 0 .. C - 1 comes once."""

    order: tuple

    def __post_init__(self):
        object.__setattr__(self, "order", tuple(int(i) for i in self.order))  # structure: there is nothing to be learned
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"Permutation: {self.order} must contain each of 0 .. {len(self.order) - 1} once")

    def to_latent(self, x):
        return self._reordered(x, self.order), _constant(x, 0)

    def to_data(self, z):
        return self._reordered(z, np.argsort(self.order)), _constant(z, 0)

    def _reordered(self, x, order):
        require_last_axis("Permutation", x, len(self.order), "the order must name every channel")
        return ops.take(x, list(order), axis=-1)


@module
class Squeeze:
    """(N, H, W, C) -> (N, H/2, W/2, 4C): each 2 x 2 pixels become the channels of one (RealNVP, section 3.6)."""

    def to_latent(self, x):
        """ValueError for vectors, and for an odd height or width."""
        if len(x.shape) != 4 or x.shape[1] % 2 or x.shape[2] % 2:
            raise ValueError(f"Squeeze: x has shape {tuple(x.shape)}, not (N, H, W, C) with even H and W: pad the images")
        N, H, W, C = x.shape
        blocks = ops.reshape(x, shape=(N, H // 2, 2, W // 2, 2, C)).transpose(0, 1, 3, 2, 4, 5)
        return ops.reshape(blocks, shape=(N, H // 2, W // 2, 4 * C)), _constant(x, 0)

    def to_data(self, z):
        """ValueError unless there are four channels for each of the image's."""
        if len(z.shape) != 4 or z.shape[3] % 4:
            raise ValueError(f"Squeeze: z has shape {tuple(z.shape)}, not (N, H, W, C) with C a multiple of 4")
        N, H, W, C = z.shape
        blocks = ops.reshape(z, shape=(N, H, W, 2, 2, C // 4)).transpose(0, 1, 3, 2, 4, 5)
        return ops.reshape(blocks, shape=(N, 2 * H, 2 * W, C // 4)), _constant(z, 0)


@module
class Flatten:
    """(N, *shape) -> (N, D)."""

    shape: tuple

    def to_latent(self, x):
        return ops.flatten(x, start=1), _constant(x, 0)

    def to_data(self, z):
        return ops.reshape(z, shape=(z.shape[0], *self.shape)), _constant(z, 0)


@module
class FactorOut:
    """(h_1, h_2) -> (h_1, rest(h_2)): half of the channels are latents already, the others go on (RealNVP, eq. 14-16).

    x (N, H, W, C) -> z (N, D). What is left for later layers is half as much to compute, and it is the coarser half.
    """

    rest: Chain

    def to_latent(self, x):
        _require_even_channels(x.shape[-1])
        done, others = ops.split(x, 2)
        z, log_det = self.rest.to_latent(others)
        return ops.concatenate(ops.flatten(done, start=1), z, axis=1), log_det

    def to_data(self, z):
        done, others = ops.split(z, 2)
        x, log_det = self.rest.to_data(others)
        return ops.concatenate(ops.reshape(done, shape=tuple(x.shape)), x, axis=-1), log_det


# Preparation of the data, part of the density


@module
class Rescale:
    """z = (x - low) / (high - low): takes [low, high] to [0, 1]. With (0, 256) it takes 8-bit grey levels plus noise there."""

    low: float
    high: float

    def __post_init__(self):
        if not self.low < self.high:
            raise ValueError(f"Rescale: low = {self.low} must be less than high = {self.high}")

    def to_latent(self, x):
        return (x - self.low) / (self.high - self.low), _constant(x, -self._log_volume(x))

    def to_data(self, z):
        return z * (self.high - self.low) + self.low, _constant(z, self._log_volume(z))

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
        return _per_example(ops.softplus(z) + ops.softplus(-z) + math.log(1 - 2 * self.alpha))


# Building blocks


def _coupling(kind, channels, mask, network):
    """A coupling of the kind, by network(c_in, c_out); its last layer begins as zeros, and so the coupling as the identity."""
    if mask.kind == "halves":
        _require_even_channels(channels)
    if kind == "additive":
        return AdditiveCoupling(network(channels, channels), mask)
    if kind != "affine":
        raise ValueError(f"Flow: kind must be 'additive' or 'affine', not {kind!r}")
    return AffineCoupling(network(channels, 2 * channels), init.ones(None, (channels,)), mask)


def _constant(x, value):
    """The same number for each example, (N,)."""
    return array_module(ops.stop_gradient(x)).full(x.shape[0], value, x.dtype)


def _per_example(x):
    return x.sum(axis=tuple(range(1, len(x.shape))))


def _require_even_channels(channels):
    if channels % 2:
        raise ValueError(
            f"Flow: {channels} channels cannot be cut into two halves; squeeze the image first, keep every other position with "
            "a checkerboard mask, or add a channel"
        )


def train_step(optimiser, prepare=lambda batch, rng: batch, limit=None, decay=None):
    """(state, batch, rng) -> (state, metrics): one step on -log p(x), nats.

    `prepare` turns a batch into x, as dequantisation does. The state is that of `optim.minimise`, as are limit and decay.
    """

    def loss(flow, batch, rng):
        return -flow.log_prob(prepare(batch, rng)).nats.mean(), {}

    return minimise(loss, optimiser, limit, decay)
