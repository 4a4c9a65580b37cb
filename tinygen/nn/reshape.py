"""Between images and vectors: the layers where a network of convolutions meets one of matrices."""

import math

from .. import ops
from ..autograd.tree import module


@module
class Flatten:
    """(N, ...) -> (N, D), row by row, the last axis fastest."""

    def __call__(self, x):
        return ops.flatten(x, start=1)


@module
class Unflatten:
    """(N, D) -> (N, *shape), where D is the product of shape. ValueError for another D."""

    shape: tuple

    def __call__(self, x):
        if len(x.shape) != 2 or x.shape[1] != math.prod(self.shape):
            raise ValueError(f"Unflatten: x is {tuple(x.shape)}; for {self.shape} it must be (N, {math.prod(self.shape)})")
        return ops.reshape(x, shape=(x.shape[0], *self.shape))
