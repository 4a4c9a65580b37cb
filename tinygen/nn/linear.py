"""Linear maps: of vectors, and of the choices among n things (a choice is a one-hot vector)."""

import numpy as np

from ..autograd.tree import Array, module
from ..backend import array_module
from ..ops import affine, matmul, opaque, take
from .doors import require_at_least_one, require_last_axis
from .init import glorot_uniform, lecun_normal, zeros


@module
class Linear:
    """y = x W + b, along the last axis: x (..., d_in), W (d_in, d_out), b (d_out,) or None -> y (..., d_out)."""

    weight: Array
    bias: Array

    @classmethod
    def init(cls, rng, d_in, d_out, bias=True, initialiser=glorot_uniform):
        """Weights by the initialiser, with fans d_in and d_out; biases 0. ValueError for a size below 1."""
        require_at_least_one("Linear", d_in=d_in, d_out=d_out)
        return cls(initialiser(rng, (d_in, d_out), d_in, d_out), zeros(rng, (d_out,)) if bias else None)

    def __call__(self, x, activation=None):
        """activation(y), at the cost of y where it is one of ops. ValueError unless the last axis of x has length d_in."""
        require_last_axis("Linear", x, self.weight.shape[0], "flatten what belongs to one example: ops.flatten(x, start=1)")
        if self.bias is not None:
            return affine(x, self.weight, self.bias, activation)
        y = matmul(x, self.weight)
        return y if activation is None else activation(y)


@module
class Embedding:
    """y = W[i], the i-th row: integers i (...), W (n, d) -> y (..., d). It is one_hot(i) W, without the zeros."""

    weight: Array

    @classmethod
    def init(cls, rng, n, d, initialiser=lecun_normal):
        """Rows by the initialiser, standard normal unless told: a one-hot product has one term, so the fan_in is 1."""
        return cls(initialiser(rng, (n, d), 1, d))

    def __call__(self, indices):
        """TypeError unless the indices are an integer array, IndexError where one is negative or not below n."""
        if getattr(getattr(indices, "dtype", None), "kind", None) not in ("i", "u"):
            seen = getattr(indices, "dtype", type(indices).__name__)
            raise TypeError(f"Embedding: the indices must be an integer array, not {seen}; convert them with .astype(int)")
        _require_rows(indices, self.weight.shape[0])
        return take(self.weight, indices)


@opaque
def _require_rows(indices, n):
    if array_module(indices) is np and indices.size and (indices.min() < 0 or indices.max() >= n):
        raise IndexError(
            f"Embedding: indices from {indices.min()} to {indices.max()}, but the table has rows 0 to {n - 1}; give it more "
            "rows, or find where these indices come from (a negative one would silently count from the end)"
        )
