"""Compile a loop with Numba, and keep the machine code on disk so that the next process need not compile it again."""

import numba

# What may be assumed of floating-point sums: multiply-adds may be fused and signs of zero ignored, but the order of
# operations stays (reassociation would break the rounding tricks of vector_math.py), and NaN and infinity stay what they are.
SAFE = {"contract", "nsz", "arcp"}


def jit(function, assume=SAFE):
    """`function` compiled by Numba at its first call, for the types that it is given; cached where a cache can be written."""
    options = {"fastmath": assume, "error_model": "numpy", "nogil": True}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # Numba finds no directory that it may write to: compile in every process instead
        return numba.njit(**options)(function)


def inline(function):
    """A small function to be compiled into the loops that call it."""
    return numba.njit(inline="always", fastmath=SAFE, error_model="numpy")(function)


def sum_in_any_order(function):
    """A function whose only sums are ones that may be reordered: in the given order, each addition waits for the one before."""
    return jit(function, SAFE | {"reassoc"})
