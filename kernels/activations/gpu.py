"""Activations on the GPU: one launch and one pass for each, where CuPy's operators would make two to six."""

import numpy as np

from .. import cuda
from ..elementwise import grid

program = cuda.Program(__file__, "activations.cu")


def relu_gradient(g, y):
    return _run("relu_gradient", g, y)


def leaky_relu(x, slope):
    return _run("leaky_relu", x, numbers=(slope,))


def leaky_relu_gradient(g, x, slope):
    return _run("leaky_relu_gradient", g, x, numbers=(slope,))


def tanh_gradient(g, y):
    return _run("tanh_gradient", g, y)


def sigmoid(x):
    return _run("sigmoid_of", x)


def sigmoid_gradient(g, y):
    return _run("sigmoid_gradient", g, y)


def softplus(x):
    return _run("softplus_of", x)


def softplus_gradient(g, x):
    return _run("softplus_gradient", g, x)


def silu(x):
    return _run("silu", x)


def silu_gradient(g, x):
    return _run("silu_gradient", g, x)


def gelu(x):
    return _run("gelu", x)


def gelu_gradient(g, x):
    return _run("gelu_gradient", g, x)


def _run(kernel, *arrays, numbers=()):
    real = cuda.real(arrays[0])
    if len(arrays) == 2 and (arrays[0].shape != arrays[1].shape or arrays[0].dtype != arrays[1].dtype):
        g, x = arrays
        raise ValueError(f"{kernel}: {g.dtype}{g.shape} and {x.dtype}{x.shape} must have one shape and one dtype")
    result = cuda.empty(arrays[0].shape, arrays[0].dtype)
    numbers = map(result.dtype.type, numbers)
    inputs = map(cuda.contiguous, arrays)
    program.launch(kernel, *grid(result.size), *inputs, result, np.int32(result.size), *numbers, defines=real)
    return result
