"""2-D convolution on a GPU: the implicit product of matrices of kernels/implicit_gemm.py, with all taps of the kernel alive.

Shapes and equations are in spec.py.
"""

from functools import lru_cache

import numpy as np

from .. import implicit_gemm


def forward(x, w, stride, padding, bias=None):
    return implicit_gemm.forward(x, w, _taps(*w.shape[:2]), stride, padding, bias)


def input_gradient(g, w, input_size, stride, padding):
    return implicit_gemm.input_gradient(g, w, _taps(*w.shape[:2]), input_size, stride, padding)


def weight_gradient(x, g, kernel_size, stride, padding):
    return implicit_gemm.weight_gradient(x, g, _taps(*kernel_size), kernel_size, stride, padding)


@lru_cache(None)
def _taps(kh, kw):
    return tuple(np.ndindex(kh, kw))
