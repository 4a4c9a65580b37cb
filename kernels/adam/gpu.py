"""Adam on the GPU in one launch for all that lies in one array."""

import numpy as np

from .. import cuda
from ..elementwise import grid

program = cuda.Program(__file__, "adam.cu")


def update(p, g, m, v, t, learning_rate, beta1, beta2, eps, weight_decay):
    numbers = beta1, 1 - beta1, beta2, 1 - beta2, 1 / (1 - beta1**t), 1 / (1 - beta2**t), learning_rate, eps, weight_decay
    old = [cuda.contiguous(a.astype(p.dtype, copy=False)) for a in (p, g, m, v)]
    new = tuple(cuda.empty(p.shape, p.dtype) for _ in range(3))
    numbers = map(p.dtype.type, numbers)
    program.launch("update", *grid(p.size), *old, *new, np.int32(p.size), *numbers, defines=cuda.real(p))
    return new
