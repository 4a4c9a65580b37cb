r"""Two-dimensional densities that are easy to draw from and known exactly: what a model learns can be held against them.

    ring_of_8     8 Gaussians of std 0.01 on the unit circle                       Srivastava et al. 2017 (VEEGAN)
    grid_of_25    25 Gaussians of std 0.05 on {-4, -2, 0, 2, 4}^2                  Srivastava et al. 2017
    checkerboard  uniform on 8 of the 16 squares of [-4, 4)^2                      Grathwohl et al. 2019 (FFJORD)
    pinwheel      5 Gaussians on spokes, twisted around the origin                 after Johnson et al. 2016
    rings         4 circles of radii 0.75, 1.5, 2.25, 3, with noise of std 0.08    Grathwohl et al. 2019
    two_moons     2 half circles of radius 2 that clasp, with noise of std 0.2     Pedregosa et al. 2011, scaled by 2
    swiss_roll    a spiral from radius 0.94 to 2.83, with noise of std 0.2         Marsland 2009, scaled by 1/5

Each has `sample(rng, n)`, float32 (n, 2), and `log_prob(x)`, float64 nats (n,), for x (n, 2) of any float type; ValueError for
another shape. The mixtures have `modes` (k, 2) and `std` beside, by which to count the modes that a sampler reached.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..backend import array_module


def load(name):
    """The toy density of that name. ValueError for an unknown name."""
    if name not in TOYS:
        raise ValueError(f"toy.load: no toy density is called {name!r}; the known names are {', '.join(TOYS)}")
    return TOYS[name]()


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """p(x) = mean over k of N(x; modes_k, std^2 I): modes (k, 2), of equal weights, and one standard deviation."""

    modes: np.ndarray
    std: float

    def sample(self, rng, n):
        chosen = rng.integers(0, len(self.modes), n)
        modes = array_module(chosen).asarray(self.modes)
        return (modes[chosen] + self.std * rng.normal((n, 2), np.float64)).astype(np.float32)

    def log_prob(self, x):
        return _log_mixture(_points(x), self.modes, np.full(len(self.modes), 1 / len(self.modes)), self.std)


@dataclass(frozen=True)
class Checkerboard:
    """p(x) = 1/32 on the squares of [-4, 4)^2 of side 2 whose column and row, together, are even; elsewhere 0."""

    def sample(self, rng, n):
        column = rng.integers(0, 4, n)
        row = 2 * rng.integers(0, 2, n) + column % 2
        within = (rng.integers(0, 2**20, (n, 2)) + 0.5) / 2**20  # no more bits, or float32 would round into the next square
        corner = array_module(column).stack([column, row], axis=1)
        return (2 * (corner + within) - 4).astype(np.float32)

    def log_prob(self, x):
        xp = array_module(x)
        square = xp.floor(_points(x) / 2 + 2)
        filled = (square.sum(axis=1) % 2 == 0) & ((square >= 0) & (square < 4)).all(axis=1)
        return xp.where(filled, -np.log(32), -np.inf)


@dataclass(frozen=True)
class Pinwheel:
    r"""x = 2 R(2 pi k / 5 + e^min(|v|, 8) / 4) v,  v ~ N((1, 0), diag(0.3^2, 0.1^2)),  k uniform on 0 .. 4.

    Turning a point by an angle that depends only on its radius keeps areas and radii, so the twist is undone exactly, and its
    Jacobian determinant is 1. The 8 only keeps the angle a number far away. (The original turns by an angle that depends on
    v's first coordinate, almost the radius, but such a map folds over in the tails and has no inverse.)
    """

    def sample(self, rng, n):
        v = rng.normal((n, 2), np.float64)
        v = v * array_module(v).asarray([0.3, 0.1]) + array_module(v).asarray([1.0, 0.0])
        return (2 * _twisted(v, 2 * np.pi / 5 * rng.integers(0, 5, n), 1)).astype(np.float32)

    def log_prob(self, x):
        xp = array_module(x)
        spokes = [_twisted(_points(x) / 2, 2 * np.pi / 5 * k, -1) for k in range(5)]
        exponents = xp.stack([-(((v[:, 0] - 1) / 0.3) ** 2 + (v[:, 1] / 0.1) ** 2) / 2 for v in spokes])
        largest = exponents.max(axis=0)
        return largest + xp.log(xp.exp(exponents - largest).sum(axis=0)) - np.log(5 * 2 * np.pi * 0.3 * 0.1 * 2**2)


def _twisted(v, angle, direction):
    """R(direction (angle + e^min(|v|, 8) / 4)) v for each row of v."""
    xp = array_module(v)
    angle = direction * (angle + xp.exp(xp.minimum(xp.hypot(v[:, 0], v[:, 1]), 8)) / 4)
    c, s = xp.cos(angle), xp.sin(angle)
    return xp.stack([c * v[:, 0] - s * v[:, 1], s * v[:, 0] + c * v[:, 1]], axis=1)


@dataclass(frozen=True)
class NoisyCurves:
    r"""x = c_k(t) + std eps,  k uniform on the curves,  t ~ U[0, 1),  eps ~ N(0, I).

    p(x) = mean over k of \int_0^1 N(x; c_k(t), std^2 I) dt, a mixture of a Gaussian for each point of the curves. The integral
    is a sum over 512 points of each curve: the trapezoidal rule on closed curves, Fejer's on open ones. Both converge
    exponentially for smooth curves: on [-6, 6]^2, log p is off by less than 1e-11.
    """

    curve: Callable  # (k, t) -> two arrays, the coordinates of c_k(t), for t (n,) and k a number or (n,)
    n_curves: int
    closed: bool
    std: float

    def sample(self, rng, n):
        t = rng.uniform(n, np.float64)
        centre = array_module(t).stack(self.curve(rng.integers(0, self.n_curves, n), t), axis=1)
        return (centre + self.std * rng.normal((n, 2), np.float64)).astype(np.float32)

    def log_prob(self, x):
        t, weights = _quadrature(512, self.closed)
        centres = [np.stack(self.curve(k, t), axis=1) for k in range(self.n_curves)]
        return _log_mixture(_points(x), np.concatenate(centres), np.tile(weights / self.n_curves, self.n_curves), self.std)


def _quadrature(n, closed):
    """Nodes t and weights (n,) on [0, 1]: the trapezoidal rule for periodic functions if closed, else Fejer's first."""
    if closed:
        return np.arange(n) / n, np.full(n, 1 / n)
    angle = (np.arange(n) + 0.5) * np.pi / n
    k = np.arange(1, n // 2 + 1)
    return np.sin(angle / 2) ** 2, (1 - 2 * (np.cos(2 * np.outer(angle, k)) / (4 * k**2 - 1)).sum(axis=1)) / n


def _log_mixture(x, centres, weights, std):
    """log sum_j weights_j N(x; centres_j, std^2 I), (n,)."""
    xp = array_module(x)
    (a, b), weights = xp.asarray(centres.T), xp.asarray(weights)
    result = xp.empty(len(x))
    for i in range(0, len(x), 128):  # blocks, or 100,000 points by 2,048 centres would need gigabytes
        exponents = -((x[i : i + 128, :1] - a) ** 2 + (x[i : i + 128, 1:] - b) ** 2) / (2 * std**2)
        largest = exponents.max(axis=1, keepdims=True)
        result[i : i + 128] = largest[:, 0] + xp.log(xp.exp(exponents - largest) @ weights)
    return result - np.log(2 * np.pi * std**2)


def _points(x):
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"log_prob: x has shape {x.shape}; give points of the plane, (n, 2)")
    return x.astype(np.float64)


def ring_of_8():
    angles = 2 * np.pi * np.arange(8) / 8
    return GaussianMixture(np.stack([np.cos(angles), np.sin(angles)], axis=1), 0.01)


def grid_of_25():
    return GaussianMixture(np.array([(a, b) for a in range(-4, 5, 2) for b in range(-4, 5, 2)], np.float64), 0.05)


def rings():
    def circle(k, t):
        return 0.75 * (k + 1) * np.cos(2 * np.pi * t), 0.75 * (k + 1) * np.sin(2 * np.pi * t)

    return NoisyCurves(circle, 4, closed=True, std=0.08)


def two_moons():
    def moon(k, t):  # the second is the first, turned by half a turn about the origin
        return (1 - 2 * k) * (2 * np.cos(np.pi * t) - 1), (1 - 2 * k) * (2 * np.sin(np.pi * t) - 0.5)

    return NoisyCurves(moon, 2, closed=False, std=0.2)


def swiss_roll():
    def spiral(k, t):
        angle = 1.5 * np.pi * (1 + 2 * t)
        return angle * np.cos(angle) / 5, angle * np.sin(angle) / 5

    return NoisyCurves(spiral, 1, closed=False, std=0.2)


TOYS = {
    "ring_of_8": ring_of_8,
    "grid_of_25": grid_of_25,
    "checkerboard": Checkerboard,
    "pinwheel": Pinwheel,
    "rings": rings,
    "two_moons": two_moons,
    "swiss_roll": swiss_roll,
}
