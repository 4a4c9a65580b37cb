r"""Normalising flows from coupling layers: an invertible map f from data to noise, and so the exact density of the data.

    density      log p(x) = log N(f(x); 0, I) + log |det df/dx|                          Dinh et al. 2017 (RealNVP), eq. 3
    coupling     z = x where b = 1, and g(x; theta) elsewhere, theta a function of b x:  RealNVP, eq. 9, with a mask b
                 log |det| = \sum log dg/dx, since the Jacobian is triangular            eq. 6
      additive   g(x) = x + t:             log dg/dx = 0                                 Dinh et al. 2015 (NICE), section 3.2
      affine     g(x) = x e^s + t:         log dg/dx = s                                 RealNVP, eq. 4-8
      spline     g(x) a monotone spline:   log dg/dx in closed form                      Durkan et al. 2019, eq. 4-8
    multi-scale  f(x) = (h_1, r(h_2)): half of the channels are done, r is one more flow RealNVP, eq. 13-16

A coupling keeps part of x and moves the rest by amounts that depend on the kept part alone, so z still has all that the inverse
needs, and no network has to be inverted. The next coupling keeps what this one moved.

Every layer here has two methods, each other's inverses, which say by how much they stretch volumes:

    z, log_det = layer.to_latent(x)        log_det = log |det dz/dx|, nats (N,)
    x, log_det = layer.to_data(z)          log_det = log |det dx/dz|, minus the former

x (N, D) or (N, H, W, C); the latents of a whole flow are (N, D), D numbers for an example of D numbers. The layers without a
network, such as Squeeze and Logit, are in nn/invertible.py.
"""

import math

import numpy as np

from .. import ops
from ..autograd.tree import Array, module
from ..backend import array_module
from ..density import Exact
from ..distributions import Gaussian
from ..nn import Conv2d, Sequential, init, mlp
from ..nn.doors import require_at_least_one, require_examples, require_generator, require_image_shape
from ..nn.invertible import Flatten, Scaling, Squeeze, constant, per_example
from ..nn.splines import rational_quadratic
from ..optim import minimise

TIMELINE = {  # what came when, by the sources above
    "NICE": "Dinh et al. 2015",
    "RealNVP": "Dinh et al. 2017",
    "spline couplings": "Durkan et al. 2019",
}

PRIOR = Gaussian(np.float32(0), np.float32(0))  # N(0, 1) for each latent number: mean 0, log-variance 0


@module
class Chain:
    """f = f_n(... f_2(f_1(x))): the determinants of the layers multiply, so their logarithms add up."""

    layers: tuple

    def to_latent(self, x):
        total = constant(x, 0)
        for layer in self.layers:
            x, log_det = layer.to_latent(x)
            total = total + log_det  # [change_of_variables.composition]
        return x, total

    def to_data(self, z):
        total = constant(z, 0)
        for layer in reversed(self.layers):
            z, log_det = layer.to_data(z)
            total = total + log_det  # [change_of_variables.inverse]
        return z, total


@module
class Flow:
    """p(x) = N(f(x); 0, I) |det df/dx| for examples of one shape, where f, a chain of layers, ends in vectors (N, D)."""

    chain: Chain
    shape: tuple  # of one example

    @staticmethod
    def mlp(
        rng, dimensions, couplings=8, hidden=(64, 64), activation=ops.silu, kind="affine", mask="halves", waves=0, before=()
    ):
        """For vectors (N, dimensions): couplings by fully connected networks, which keep each half in turn, and a scaling.

        kind is "additive", "affine" or "spline"; mask is "halves" or "checkerboard". waves: how many frequencies the networks
        see the numbers in, beside the numbers themselves; 8 or so where densities have edges. `before` has layers that come
        first. ValueError for another kind or mask, for halves of an odd number of dimensions, and for fewer than 1 of them.
        """
        require_at_least_one("Flow.mlp", dimensions=dimensions)

        def network(d_in, d_out):
            return Sequential([Waves(waves), *mlp(rng, (d_in * (1 + 2 * waves), *hidden, d_out), activation, last=init.zeros)])

        layers = [_coupling(kind, dimensions, mask, i, network) for i in range(couplings)]
        return Flow(Chain((*before, *layers, Scaling(init.zeros(rng, (dimensions,))))), (dimensions,))

    @staticmethod
    def convolutional(rng, shape, scales=2, couplings=3, width=32, activation=ops.relu, kind="affine", before=()):
        """For images (N, H, W, C): the multi-scale architecture of RealNVP, section 3.6, with plain convolutions.

        At each scale, couplings that keep the fields of a checkerboard, a squeeze, couplings that keep half of the channels,
        and half of the channels factored out; at the last scale, one checkerboard coupling more and nothing else.
        ValueError unless height and width can be halved scales - 1 times.
        """
        require_at_least_one("Flow.convolutional", scales=scales, couplings=couplings, width=width)
        require_image_shape("Flow.convolutional", shape, 2 ** (scales - 1), "take fewer scales")

        def network(c_in, c_out):
            first, middle = Conv2d.init(rng, c_in, width, kernel=3), Conv2d.init(rng, width, width, kernel=1)
            last = Conv2d.init(rng, width, c_out, kernel=3, initialiser=init.zeros)
            return Sequential([first, activation, middle, activation, last])

        def block(n, mask, channels):
            return [_coupling(kind, channels, mask, i, network) for i in range(n)]

        def scale(H, W, C, more):
            if not more:
                return [*block(couplings + 1, "checkerboard", C), Flatten((H, W, C)), Scaling(init.zeros(rng, (H * W * C,)))]
            here = [*block(couplings, "checkerboard", C), Squeeze(), *block(couplings, "halves", 4 * C)]
            return [*here, FactorOut(Chain(tuple(scale(H // 2, W // 2, 2 * C, more - 1))))]

        return Flow(Chain((*before, *scale(*shape, scales - 1))), tuple(shape))

    def to_latent(self, x):
        """(z, log |det dz/dx|): x (N, *shape) -> z (N, D), nats (N,). ValueError for another shape, TypeError for integers."""
        require_examples("Flow", x, self.shape)
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
        return Exact(PRIOR.log_prob(z).sum(axis=-1) + log_det)  # density: [change_of_variables.density]

    def sample(self, rng, n):
        """f^-1(z) for n latents from the prior, (n, *shape)."""
        require_generator("Flow.sample", rng)
        return self.to_data(rng.normal((n, math.prod(self.shape))))[0]


# Couplings

REACH = 5.0  # of splines and of the longest wave: standardised data lies within, and so do the latents


@module
class Halves:
    """Keeps the first half of the channels and moves the second; with an odd parity the other way round (RealNVP, eq. 4-5).

    ValueError for an odd number of channels.
    """

    parity: int

    def split(self, x):
        _require_even_channels(x.shape[-1])
        return self._in_order(*ops.split(x, 2))

    def join(self, kept, moved):
        return ops.concatenate(*self._in_order(kept, moved), axis=-1)

    def total(self, log_slope):
        return per_example(log_slope)

    def _in_order(self, a, b):
        return (b, a) if self.parity % 2 else (a, b)


@module
class Checkerboard:
    """Keeps every other field of a board, with an odd parity the others (RealNVP, section 3.4, eq. 9).

    The board counts rows plus columns of images, whose channels stay together, and the positions in vectors. What is moved is
    computed at the kept fields too, and left out.
    """

    parity: int

    def split(self, x):
        return ops.where(self._b(x), x, 0), x

    def join(self, kept, moved):
        return ops.where(self._b(kept), kept, moved)

    def total(self, log_slope):
        return per_example(ops.where(self._b(log_slope), 0, log_slope))

    def _b(self, x):
        """b for x (N, ..., C), booleans that broadcast against x."""
        xp, (_, *positions, channels) = array_module(ops.stop_gradient(x)), x.shape
        count = xp.indices(positions or (channels,)).sum(axis=0) + self.parity
        return (count % 2 == 0)[..., None] if positions else count % 2 == 0


@module
class Coupling:
    """z = x where b = 1, and law(x; network(b x)) elsewhere: an increasing map of each number x that the kept ones choose.

    The Jacobian is triangular, with ones and the law's slopes on its diagonal (RealNVP, eq. 6).
    """

    network: object  # what is kept -> law.parameters numbers for each number that is moved
    law: object  # of a number x and its parameters: to_latent(x, parameters) -> (z, log dz/dx), and to_data
    mask: object  # Halves or Checkerboard

    def to_latent(self, x):
        return self._through(x, self.law.to_latent)

    def to_data(self, z):
        return self._through(z, self.law.to_data)

    def _through(self, x, law):
        kept, moved = self.mask.split(x)
        y, log_slope = law(moved, self.network(kept))
        return self.mask.join(kept, y), self.mask.total(log_slope)  # coupling: [couplings.triangular]


@module
class Additive:
    """z = x + t: it moves, and stretches nothing (NICE, section 3.2)."""

    parameters = 1  # t

    def to_latent(self, x, t):
        return x + t, 0 * x  # additive: [couplings.additive]

    def to_data(self, z, t):
        return z - t, 0 * z


@module
class Affine:
    """z = x e^s + t (RealNVP, eq. 5).

    s is scale tanh(a) with one learned scale for each channel: while it is small, no network can make e^s overflow.
    """

    scale: Array  # (C,), one for each channel that is moved
    parameters = 2  # a and t

    def to_latent(self, x, parameters):
        # (x e^s + t, s) with s = scale tanh(a), in one pass
        return ops.affine_coupling(x, parameters, self.scale)  # affine: [couplings.affine]

    def to_data(self, z, parameters):
        a, t = ops.split(parameters, 2)
        s = self.scale * ops.tanh(a)
        return (z - t) * ops.exp(-s), -s


@module
class Spline:
    """z = a spline of x within [-reach, reach], of K bins, and z = x beyond: a curve where the affine law has a line.

    So one coupling can part the mass of a column into several heaps. Source: Durkan et al. 2019; see nn/splines.py.
    """

    bins: int = 16
    reach: float = REACH

    def __post_init__(self):
        if self.bins < 1 or not self.reach > 0:
            raise ValueError(f"Spline: bins = {self.bins} must be at least 1, and reach = {self.reach} positive")

    @property
    def parameters(self):
        return 3 * self.bins - 1  # widths, heights and slopes at the inner knots

    def to_latent(self, x, parameters):
        return rational_quadratic(x, self._of_each(x, parameters), self.reach)  # spline: [couplings.knots]

    def to_data(self, z, parameters):
        return rational_quadratic(z, self._of_each(z, parameters), self.reach, inverse=True)

    def _of_each(self, x, parameters):
        return ops.reshape(parameters, shape=(*x.shape, self.parameters))


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
        return ops.concatenate(ops.flatten(done, start=1), z, axis=1), log_det  # multi-scale: [couplings.factor_out]

    def to_data(self, z):
        done, others = ops.split(z, 2)
        x, log_det = self.rest.to_data(others)
        return ops.concatenate(ops.reshape(done, shape=tuple(x.shape)), x, axis=-1), log_det


@module
class Waves:
    """x -> (x, sin(pi k x / 5), cos(pi k x / 5) for k = 1 .. n): (N, D) -> (N, (1 + 2n) D). Their networks turn sharply."""

    n: int

    def __post_init__(self):
        if self.n < 0:
            raise ValueError(f"Waves: waves = {self.n} must be at least 0")

    def __call__(self, x):
        if self.n == 0:
            return x
        k = array_module(ops.stop_gradient(x)).arange(1, self.n + 1, dtype=x.dtype)
        angles = ops.flatten(x[..., None] * (k * (math.pi / REACH)), start=1)
        return ops.concatenate(x, ops.sin(angles), ops.cos(angles), axis=-1)


# Building blocks


def _coupling(kind, channels, mask, parity, network):
    """A coupling of the kind, by network(c_in, c_out); its last layer begins as zeros, and so the coupling as the identity."""
    masks = {"halves": Halves, "checkerboard": Checkerboard}
    if mask not in masks:
        raise ValueError(f"Flow: mask must be 'halves' or 'checkerboard', not {mask!r}")
    if mask == "halves":
        _require_even_channels(channels)
        channels //= 2
    laws = {"additive": Additive(), "affine": Affine(init.ones(None, (channels,))), "spline": Spline()}
    if kind not in laws:
        raise ValueError(f"Flow: kind must be 'additive', 'affine' or 'spline', not {kind!r}")
    return Coupling(network(channels, channels * laws[kind].parameters), laws[kind], masks[mask](parity))


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
