"""Masked convolution on a GPU: the implicit product of matrices of kernels/implicit_gemm.py, over the live taps alone.

Dead taps are not in the list, so they cost nothing, and what they lie on is never read. Shapes and equations are in spec.py.
"""

from .. import implicit_gemm
from ..activations.gpu import relu_gradient


def forward(x, w, taps, padding, bias=None, relu=False):
    x = x.clip(0) if relu else x
    return implicit_gemm.forward(x, w, tuple(taps), (1, 1), padding, bias)


def input_gradient(g, w, taps, input_size, padding, x=None):
    dx = implicit_gemm.input_gradient(g, w, tuple(taps), input_size, (1, 1), padding)
    return dx if x is None else relu_gradient(dx, x)


def weight_gradient(x, g, taps, kernel_size, padding, relu=False):
    x = x.clip(0) if relu else x
    return implicit_gemm.weight_gradient(x, g, tuple(taps), kernel_size, (1, 1), padding)
