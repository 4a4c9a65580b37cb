r"""The exponential and its relatives in float32, written so that LLVM turns a loop over them into vector instructions.

A call of the C library's `expf` is a call: a loop around it handles one number at a time. The functions here are straight
lines of additions and multiplications, so 8 or 16 numbers go through them at once. Errors against float64, measured by
tests/kernels/test_vector_math.py: at most 2 units in the last place for `exp`, 4 for `log1p`. NaN stays NaN.
"""

import numpy as np

from .jit import inline

f = np.float32

LOG2_E = f(1.4426950408889634)
LOG_2_HIGH, LOG_2_LOW = f(0.693359375), f(-2.12194440e-4)  # log 2 in two parts: the high one times n is exact
ROUND = f(12582912.0)  # 1.5 * 2^23: adding it leaves no room for a fraction, so the last bits of the sum are the integer
SMALLEST, LARGEST = f(-87.33), f(88.37)  # within them n is an exponent of a normal float32, from -126 to 127


@inline
def exp(x):
    """e^x = 2^n e^r, with n = round(x / log 2), so that |r| <= log(2) / 2; e^r by the polynomial of Cephes' expf.

    Below -87.33 the result stays at 1.2e-38, and above 88.37 at 2.4e38.
    """
    x = min(max(x, SMALLEST), LARGEST)
    shifted = x * LOG2_E + ROUND
    n = shifted - ROUND
    r = (x - n * LOG_2_HIGH) - n * LOG_2_LOW
    p = f(1.9875691500e-4)
    p = p * r + f(1.3981999507e-3)
    p = p * r + f(8.3334519073e-3)
    p = p * r + f(4.1665795894e-2)
    p = p * r + f(1.6666665459e-1)
    p = p * r + f(5.0000001201e-1)
    e_r = p * (r * r) + r + f(1)
    two_n = np.int32((np.float32(shifted).view(np.int32) << 23) + (127 << 23)).view(np.float32)  # n in the exponent's bits
    return e_r * two_n


@inline
def log1p(x):
    r"""log(1 + x) = 2 artanh s, s = x / (2 + x), for x in [0, 1]; there s <= 1/3, and \sum s^(2j) / (2j + 1) ends soon."""
    s = x / (f(2) + x)
    q = s * s
    p = f(1 / 15)
    p = p * q + f(1 / 13)
    p = p * q + f(1 / 11)
    p = p * q + f(1 / 9)
    p = p * q + f(1 / 7)
    p = p * q + f(1 / 5)
    p = p * q + f(1 / 3)
    return f(2) * s * (p * q + f(1))
