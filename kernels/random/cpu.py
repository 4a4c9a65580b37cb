r"""Random numbers on the CPU: a loop whose rounds do not wait for one another's results, so 8 or 16 counters advance at once.

The normal numbers are the GPU's to the last bit. Products, sums and roots are rounded alike by all processors, but a compiler
may fuse a product with a sum, and libraries differ in their logarithms and cosines. So nothing is left to either: what is to be
fused is written as fma(a, b, c) = a b + c with one rounding, here as in random.cu, and the functions are these series,

    log m = 2 artanh s = 2 (s + s^3 / 3 + s^5 / 5 + ...),  s = (m - 1) / (m + 1),  m in [sqrt(1/2), sqrt 2], so |s| < 0.172
    cos x, sin x       their Taylor series,                                        |x| <= pi / 4

cut where the next term is lost in rounding. Against exact arithmetic the numbers err by less than 4 units in the last place.
"""

import functools
import math

import numpy as np
from numba.core import config
from numba.extending import intrinsic

from ..jit import inline, jit
from ..threads import in_parts
from . import spec

u32, u64, i32, i64, f, d = np.uint32, np.uint64, np.int32, np.int64, np.float32, np.float64
A, B, W0, W1, ROUNDS = u64(spec.A), u64(spec.B), u32(spec.W0), u32(spec.W1), spec.ROUNDS
COST = 10  # of a number, in multiplications

exactly = functools.partial(jit, assume=False)  # no multiplication and addition fused but those that say so


def bits(y, key, stream, first):
    spec.require("bits", y, "uint32")
    return _fill(_bits, y, key, stream, first)


def uniform(y, key, stream, first):
    spec.require("uniform", y, "float32", "float64")
    return _fill(_uniform_single if y.dtype == f else _uniform_double, y, key, stream, first)


def normal(y, key, stream, first):
    spec.require("normal", y, "float32", "float64")
    return _fill(_normal_single if y.dtype == f else _normal_double, y, key, stream, first)


def order(y, u):
    spec.require("order", y, "int64")
    spec.require_vector("order", y, u)
    y[:] = np.argsort(u, kind="stable")
    return y


def _fill(loop, y, key, stream, first):
    """Fill y: whole blocks where they lie, and what is left of the last one from aside."""
    flat, width = y.reshape(-1), 16 // y.itemsize
    blocks, rest = divmod(y.size, width)
    address = u64(key), u64(stream), u64(first)
    in_parts(lambda a, b: loop(flat[a * width : b * width], *address, a), blocks, COST * y.size)
    if rest:
        last = np.empty(width, y.dtype)
        loop(last, *address, blocks)
        flat[-rest:] = last[:rest]
    return y


@intrinsic
def fma(typing, a, b, c):
    """a b + c, rounded once."""
    return a(a, a, a), lambda context, builder, signature, arguments: builder.fma(*arguments)


if config.DISABLE_JIT:  # to look into these loops, not to use their numbers

    def fma(a, b, c):
        """a b + c, rounded twice: Python has no other."""
        return a * b + c


@inline
def _philox(n, stream, key):
    """Block n of a stream: four words."""
    c0, c1, c2, c3 = u32(n), u32(n >> u64(32)), u32(stream), u32(stream >> u64(32))
    k0, k1 = u32(key), u32(key >> u64(32))
    for _ in range(ROUNDS):
        a, b = A * u64(c0), B * u64(c2)
        c0, c1, c2, c3 = u32(b >> u64(32)) ^ c1 ^ k0, u32(b), u32(a >> u64(32)) ^ c3 ^ k1, u32(a)
        k0, k1 = u32(k0 + W0), u32(k1 + W1)
    return c0, c1, c2, c3


@exactly
def _bits(y, key, stream, first, skip):
    for n in range(y.size // 4):
        w0, w1, w2, w3 = _philox(first + u64(skip + n), stream, key)
        y[4 * n], y[4 * n + 1], y[4 * n + 2], y[4 * n + 3] = w0, w1, w2, w3


@exactly
def _uniform_single(y, key, stream, first, skip):
    for n in range(y.size // 4):
        w0, w1, w2, w3 = _philox(first + u64(skip + n), stream, key)
        y[4 * n], y[4 * n + 1] = f(w0 >> u32(8)) * f(2**-24), f(w1 >> u32(8)) * f(2**-24)
        y[4 * n + 2], y[4 * n + 3] = f(w2 >> u32(8)) * f(2**-24), f(w3 >> u32(8)) * f(2**-24)


@exactly
def _uniform_double(y, key, stream, first, skip):
    for n in range(y.size // 2):
        w0, w1, w2, w3 = _philox(first + u64(skip + n), stream, key)
        y[2 * n], y[2 * n + 1] = d(_joined(w0, w1) >> u64(11)) * d(2**-53), d(_joined(w2, w3) >> u64(11)) * d(2**-53)


def _box_muller(real, signed, unsigned, artanh_terms, circle_terms):
    """(a, b) -> y_2j, y_2j+1: two integers of as many bits as `real` has, to two normal numbers."""
    size, digits = 8 * real().itemsize, np.finfo(real).nmant
    root = signed(real(math.sqrt(0.5)).view(signed))
    fraction, exponent = signed(2**digits - 1), signed(digits)
    artanh = tuple(real(1 / (2 * k + 1)) for k in range(artanh_terms, 0, -1))
    sine = tuple(real((-1) ** k / math.factorial(2 * k + 1)) for k in range(circle_terms, 0, -1))
    cosine = tuple(real((-1) ** k / math.factorial(2 * k)) for k in range(circle_terms + 1, -1, -1))
    half, unit, two_logs, radians = real(0.5), real(2.0**-size), real(-2 * math.log(2)), real(math.pi / 2 ** (size - 1))
    eighth, quarter, one, two = unsigned(2 ** (size - 3)), unsigned(size - 2), unsigned(1), unsigned(2)

    @inline
    def pair(a, b):
        # u = 2^e m: without the bits of sqrt(1/2), those of u are e and a fraction, which with them is m in [sqrt(1/2), sqrt 2)
        bits = signed(real((real(a) + half) * unit).view(signed) - root)
        e, m = real(signed(bits >> exponent)), signed((bits & fraction) + root).view(real)
        s = (m - real(1)) / (m + real(1))
        q = s * s
        r = np.sqrt(fma(real(-4), fma(s * q, _polynomial(q, artanh), s), e * two_logs))  # sqrt(-2 log u)
        quarters = unsigned(b + eighth) >> quarter
        x = real(signed(unsigned(b - unsigned(quarters << quarter)))) * radians
        z = x * x
        c, s = _polynomial(z, cosine), fma(x * z, _polynomial(z, sine), x)
        c, s = (s, c) if quarters & one else (c, s)
        return (-(r * c) if unsigned(quarters + one) & two else r * c), (-(r * s) if quarters & two else r * s)

    return pair


@inline
def _polynomial(x, coefficients):
    """By Horner's scheme, from the highest power down; the compiler unrolls the loop, whose length it knows."""
    p = coefficients[0]
    for c in coefficients[1:]:
        p = fma(x, p, c)
    return p


_pair_single = _box_muller(f, i32, u32, 4, 4)
_pair_double = _box_muller(d, i64, u64, 10, 8)


@exactly
def _normal_single(y, key, stream, first, skip):
    for n in range(y.size // 4):
        w0, w1, w2, w3 = _philox(first + u64(skip + n), stream, key)
        y[4 * n], y[4 * n + 1] = _pair_single(w0, w1)
        y[4 * n + 2], y[4 * n + 3] = _pair_single(w2, w3)


@exactly
def _normal_double(y, key, stream, first, skip):
    for n in range(y.size // 2):
        w0, w1, w2, w3 = _philox(first + u64(skip + n), stream, key)
        y[2 * n], y[2 * n + 1] = _pair_double(_joined(w0, w1), _joined(w2, w3))


@inline
def _joined(low, high):
    return u64(low) | (u64(high) << u64(32))
