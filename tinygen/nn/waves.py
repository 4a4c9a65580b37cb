r"""Sines and cosines of points: a network that sees them can turn sharply.

A network of u alone learns what is smooth first, and what is sharp only after long training (Rahaman et al. 2019). Edges, thin
lines and narrow peaks are within its reach when it is given functions of u that already change as fast as they do.
"""

import math

import numpy as np

from .. import ops
from ..autograd.tree import Array, module


@module
class Waves:
    """(sin(u W), cos(u W)): u (N, D), W (D, n / 2) -> (N, n).

    W begins with columns from N(0, f^2 I), their f from the lowest to the highest in equal ratios, so that coarse and fine
    structure have as many each. Source: Tancik et al. 2020, eq. 5, with one f for all, and W kept; here it is trained.
    """

    weight: Array

    @classmethod
    def init(cls, rng, d, n, lowest, highest):
        """ValueError unless n, the number of features, is even, and 0 < lowest <= highest."""
        if n % 2:
            raise ValueError(f"Waves: {n} features are not pairs of a sine and a cosine; give an even number")
        if not 0 < lowest <= highest < math.inf:
            raise ValueError(f"Waves: the frequencies are {lowest} to {highest}; both must be positive, the lower one first")
        return cls(np.geomspace(lowest, highest, n // 2, dtype=np.float32) * rng.normal((d, n // 2)))

    def __call__(self, u):
        angle = ops.matmul(u, self.weight)
        return ops.concatenate(ops.sin(angle), ops.cos(angle), axis=1)
