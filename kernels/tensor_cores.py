r"""Tensor cores: products of rounded numbers, several times as fast, where somebody asks for them.

    with tensor_cores.precision("tf32"):
        state, metrics = step(state, batch, rng)

Products of matrices and convolutions of float32 arrays on a GPU are then made by the units that multiply whole tiles. These
take numbers with fewer digits, of the same range, and add the products, which are exact, in float32:

              sign   exponent   significand      rounding changes a number by at most
    "fp32"       1          8            23      (nothing is rounded: the default)
    "tf32"       1          8            10      2^-11 of it
    "bf16"       1          8             7      2^-8 of it

So with u for the last column, and eps = 2^-23 for each of the K additions,

    |computed - exact| <= ((1 + u)^2 - 1 + K eps (1 + u)^2) sum_k |a_ik| |b_kj|         Higham 2002, section 3.1

Arrays stay float32, and so do sums, activations, norms, attention and the optimiser; float64 arrays are not rounded, and on the
CPU nothing is. Compute capability 8.0 (Ampere, 2020) or later.
"""

from contextlib import contextmanager

import numpy as np

from . import cuda

DIGITS = {"fp32": 23, "tf32": 10, "bf16": 7}  # of the significand, behind the point
VARIANTS = {"PRECISION": tuple(name.upper() for name in DIGITS)}  # of a program whose tile tensor cores may multiply
OLDEST = 80  # compute capability


@contextmanager
def precision(name):
    """Within, float32 products and convolutions on a GPU are made of numbers rounded to `name`: "fp32", "tf32" or "bf16".

    Gradients are products, too: put the whole step inside. A step that was captured as a graph keeps what it was captured with.
    ValueError for another name; RuntimeError, at the first product, where the card has no such tensor cores.
    """
    global _name
    if name not in DIGITS:
        raise ValueError(f"precision: {name!r} is none of {', '.join(DIGITS)}")
    before, _name = _name, name
    try:
        yield
    finally:
        _name = before


def asked(*arrays):
    """Whether the products of these arrays are for tensor cores."""
    return _name != "fp32" and all(x.dtype == np.float32 for x in arrays)


def define(x):
    """The define that makes PRECISION what was asked for, for a result such as x. RuntimeError where the card is too old."""
    if not asked(x):
        return {"PRECISION": "FP32"}
    capability = cuda.capability()
    if capability is not None and capability < OLDEST:
        raise RuntimeError(
            f"precision: this GPU, of compute capability {capability / 10}, has no tensor cores for {_name}; that takes "
            f"{OLDEST / 10} or later: leave precision at 'fp32'"
        )
    return {"PRECISION": _name.upper()}


def width(widths, columns, x):
    """The narrowest of the widths of a tile that holds so many columns, or the widest; tensor cores make at least 16."""
    return next((w for w in widths if columns <= w and (w >= 16 or not asked(x))), widths[-1])


_name = "fp32"
