"""Samples and divergences on the GPU, in one launch each way."""

import numpy as np

from .. import cuda
from ..elementwise import grid

program = cuda.Program(__file__, "reparameterisation.cu")


def forward(mean, log_var, eps):
    return _launch("forward", mean, log_var, eps)


def backward(g, mean, log_var, eps):
    return _launch("backward", mean, log_var, eps, g)


def _launch(kernel, *arrays):
    mean, arrays = arrays[0], [cuda.contiguous(a.astype(arrays[0].dtype, copy=False)) for a in arrays]
    y = cuda.empty((2, *mean.shape), mean.dtype)
    program.launch(kernel, *grid(mean.size), *arrays, y, np.int32(mean.size), defines=cuda.real(mean))
    return y
