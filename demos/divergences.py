r"""How far a model is from a known density of the line or the plane: sums over a grid, and histograms of samples.

    KL(p || q) = E_p[log p - log q]                                    where q can be evaluated: 0 only if q = p
    JS(p, q)   = 1/2 KL(p || m) + 1/2 KL(q || m),  m = (p + q) / 2     from 0 to log 2, where q can only be drawn from

KL is a sum over the points of a grid, JS one over cells, each of some points: shares of samples stand for q, and of the
integral of p. Of n samples of p itself it is about (cells that p fills) / 8n. All in nats. Lin 1991.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinygen.backend import array_module


@dataclass(frozen=True)
class Grid:
    """The square [-side, side]^D, D = 1 or 2, cut into cells^D cells, and each of these into fine^D smaller ones.

    Cells are numbered as in plot.plane, the first coordinate fastest: values of all cells, reshaped to (cells, cells), are rows
    that go up.
    """

    dimensions: int
    side: float
    cells: int
    fine: int

    @cached_property
    def points(self):
        """The middles of the smaller cells, (M, D)."""
        n = self.cells * self.fine
        return 2 * self.side * ((np.indices((n,) * self.dimensions).reshape(self.dimensions, -1)[::-1].T + 0.5) / n - 0.5)

    @property
    def volume(self):
        """Of a smaller cell."""
        return (2 * self.side / (self.cells * self.fine)) ** self.dimensions

    def places(self, x):
        """In which cell points x (n, D) lie: the number of its column and row, (n, D); outside, none of 0 .. cells - 1."""
        places = (x.astype(np.float64) + self.side) * (self.cells / (2 * self.side))
        return array_module(x).floor(places).astype(np.int64)

    def numbers(self, places):
        """Which cell that is, (n,); cells^D, one more than there are, for all outside."""
        inside = ((places >= 0) & (places < self.cells)).all(axis=1)
        return np.where(inside, places @ self.cells ** np.arange(self.dimensions), self.cells**self.dimensions)

    def shares(self, x, weights=None):
        """How much of the points x, or of their weights, lies in each cell, and last, in none of them, (cells^D + 1,)."""
        weights = np.full(len(x), 1 / len(x)) if weights is None else weights
        return np.bincount(self.numbers(self.places(x)), weights, minlength=self.cells**self.dimensions + 1)

    def integrals(self, log_p):
        """The integral of the density p over each cell, and last, what is missing from 1; log p (M,) at the points."""
        inside = self.shares(self.points, np.exp(log_p) * self.volume)
        inside[-1] = max(0.0, 1 - inside.sum())
        return inside

    def evened(self, log_p):
        """log of the density, (M,), that has as much in each cell as p has, but evenly."""
        with np.errstate(divide="ignore"):
            each = np.log(self.integrals(log_p)[:-1] / (self.volume * self.fine**self.dimensions))
        return each[self.numbers(self.places(self.points))]

    def draw(self, log_p, rng, n):
        """n samples (n, D) of the density that is p at the points, (M,), and uniform within each smaller cell."""
        total = np.cumsum(np.exp(log_p - log_p.max()))
        chosen = np.searchsorted(total, total[-1] * rng.uniform(n, np.float64), side="right").clip(max=len(total) - 1)
        width = 2 * self.side / (self.cells * self.fine)
        return self.points[chosen] + width * (rng.uniform((n, self.dimensions), np.float64) - 0.5)


def kl_on_grid(log_p, log_q, volume):
    """KL(p || q) of densities by log p and log q, (M,), at the middles of cells of that volume; inf where q misses p."""
    p = np.exp(log_p)
    some = p > 0
    return float((p[some] * (log_p[some] - log_q[some])).sum() * volume)


def jensen_shannon(p, q):
    """JS(p, q) of shares p and q, (K,) each, that sum to 1."""
    return (_kl(p, (p + q) / 2) + _kl(q, (p + q) / 2)) / 2


def _kl(p, q):
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())
