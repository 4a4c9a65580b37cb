"""Kernels: arrays in, arrays out, no gradients, nothing of the rest of the library.

Each folder holds one kernel several times over: `spec.py`, the definition in plain loops; `cpu.py`, fast on NumPy arrays;
`gpu.py`, fast on CuPy arrays, where somebody has written it. `kernels.conv2d.forward(x, w, ...)` runs the one that fits
the arrays it is given, and importing this package imports none of the fast ones. All of them are tested against the
definition by one body of tests, over `kernels.tiers("conv2d")`.
"""

if __name__ == "kernels":
    raise ImportError("kernels: this folder is the package tinygen.kernels; write `from tinygen import kernels`")

from . import (
    activations,
    adam,
    attention,
    bernoulli,
    bias,
    categorical,
    conv2d,
    coupling,
    erf,
    gate,
    group_norm,
    masked_conv2d,
    matmul,
    memory,
    random,
    raster,
    reparameterisation,
    softmax,
    tensor_cores,
    threads,
)
from .dispatch import tiers

__all__ = [
    "activations", "adam", "attention", "bernoulli", "bias", "categorical", "conv2d", "coupling", "erf", "gate",
    "group_norm", "masked_conv2d", "matmul", "memory", "random", "raster", "reparameterisation", "softmax", "tensor_cores",
    "threads", "tiers",
]  # fmt: skip
