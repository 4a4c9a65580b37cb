"""Adam on the GPU in one launch for all that lies in one array."""

import numpy as np

from .. import cuda
from ..elementwise import grid
from .spec import pace

program = cuda.Program(__file__, "adam.cu")


def update(p, g, m, v, t, learning_rate, beta1, beta2, eps, weight_decay, in_place=False):
    """As in spec.py; or t is an array on the GPU, float64 (3,), that holds the `pace` when the kernel runs, and learning_rate
    is None: so a graph of launches makes another step each time that it is launched.
    """
    now, at = ((0, 0, 0), t) if hasattr(t, "shape") else (pace(t, learning_rate, beta1, beta2), None)
    constants = map(p.dtype.type, (beta1, 1 - beta1, beta2, 1 - beta2, eps, weight_decay))
    old = [cuda.contiguous(a.astype(p.dtype, copy=False)) for a in (p, g, m, v)]
    new = (old[0], *old[2:]) if in_place else tuple(cuda.empty(p.shape, p.dtype) for _ in range(3))
    settings = *constants, at, *map(np.float64, now)
    program.launch("update", *grid(p.size), *old, *new, np.int32(p.size), *settings, defines=cuda.real(p))
    return _brought_back(new, (p, m, v)) if in_place else new


def _brought_back(new, to):
    """The arrays `to`, with the numbers of those that did not lie side by side, and were copied."""
    for a, b in zip(to, new):
        if a is not b:
            a[...] = b
    return to
