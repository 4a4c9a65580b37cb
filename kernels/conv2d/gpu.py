"""2-D convolution on a GPU: the implicit product of matrices of kernels/implicit_gemm.py, with all taps of the kernel alive.

A relu before it takes a launch of its own. Shapes and equations are in spec.py.
"""

from functools import lru_cache

import numpy as np

from .. import implicit_gemm
from ..activations.gpu import relu_gradient


def forward(x, w, stride, padding, bias=None, relu=False):
    x = x.clip(0) if relu else x
    return implicit_gemm.forward(x, w, _taps(*w.shape[:2]), stride, padding, bias)


def input_gradient(g, w, input_size, stride, padding, x=None):
    dx = implicit_gemm.input_gradient(g, w, _taps(*w.shape[:2]), input_size, stride, padding)
    return dx if x is None else relu_gradient(dx, x)


def weight_gradient(x, g, kernel_size, stride, padding, relu=False):
    x = x.clip(0) if relu else x
    return implicit_gemm.weight_gradient(x, g, _taps(*kernel_size), kernel_size, stride, padding)


@lru_cache(None)
def _taps(kh, kw):
    return tuple(np.ndindex(kh, kw))
