r"""The exponential and its relatives in float32, written so that LLVM turns a loop over them into vector instructions.

A call of the C library's `expf` is a call: a loop around it handles one number at a time. The functions here are straight
lines of additions and multiplications, so 8 or 16 numbers go through them at once. What they err by, against float64, in
units in the last place, found by trying all numbers (tests/kernels/test_vector_math.py):

    exp 1.1    expm1 1.5    tanh 2.6    sigmoid_pair 2.9    log1p 2.9    normal 6.6 and 2.2

where the result is a normal number, above 1.2e-38, and at most 3e-45 below. NaN stays NaN: a number is put within bounds as
min(max(x, low), high), which lets NaN through in this order only.
"""

import numpy as np

from .jit import inline, scalar, sum_in_any_order

f, i = np.float32, np.int32

LOG2_E = f(1.4426950408889634)
LOG_2_HIGH, LOG_2_LOW = f(0.693359375), f(-2.12194440e-4)  # log 2 in two parts: the high one times n is exact
ROUND = f(12582912.0)  # 1.5 * 2^23: adding it leaves no room for a fraction, so the last bits of the sum are the integer


@scalar
def exp(x):
    """e^x, from 0 below -104 to infinity above 88.73."""
    return exp_of_sum(x, f(0))


@scalar
def exp_of_negative(x):
    """e^x for x <= 0, the same to the last bit: here 2^n cannot be too large, and 2^(n + 64) not too small."""
    r, n = _remainder(max(x, f(-104)))
    return (_exp_less_one(r) + f(1)) * _power_of_two(i(n + 64)) * f(2.0**-64)


@scalar
def exp_of_sum(x, rest):
    """e^(x + rest), where rest is a small number that x has no digits for.

    e^x = 2^n e^r, with n = round(x / log 2), so that |r| <= log(2) / 2. 2^n in two factors, as it may be too large for one.
    """
    r, n = _remainder(min(max(x, f(-104)), f(89)))
    half = i(n >> 1)
    return (_exp_less_one(r + rest) + f(1)) * _power_of_two(half) * _power_of_two(i(n - half))


@scalar
def expm1(x):
    """e^x - 1 = 2^n (e^r - 1 + 1 - 2^-n), which loses no digits near 0; -1 below -20, infinity above 88.73."""
    r, n = _remainder(min(max(x, f(-20)), f(89)))
    half = i(n >> 1)
    return (_exp_less_one(r) + (f(1) - _power_of_two(max(i(-n), i(-126))))) * _power_of_two(half) * _power_of_two(i(n - half))


@scalar
def tanh(x):
    """sign(x) (1 - e^-2|x|) / (1 + e^-2|x|), with e^-2|x| - 1 = 2^n (e^r - 1) + 2^n - 1, which loses no digits near 0."""
    r, n = _remainder(max(f(-2) * abs(x), f(-80)))
    less_one = _exp_less_one(r) * _power_of_two(n) + (_power_of_two(n) - f(1))
    y = -less_one / (f(2) + less_one)
    return y if x > f(0) else -y


@scalar
def sigmoid_pair(x):
    """s(x) = 1 / (1 + e^-x) and s(-x) = 1 - s(x): both to the last digits, since neither is made by a subtraction."""
    e = exp_of_negative(-abs(x))
    large = f(1) / (f(1) + e)
    return (large, e * large) if x > f(0) else (e * large, large)


@scalar
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


@scalar
def normal(x):
    """Phi(x) and phi(x) = e^(-x^2 / 2) / sqrt(2 pi), the distribution function and the density of N(0, 1).

    Phi(-|x|) = e^(-x^2 / 2) t P(t) with t = 1 / (1 + 0.35 |x|), where the polynomial P was fitted so that its largest relative
    error is least, 3e-8. x^2 needs more digits than a float32 has: an error of its last one is multiplied by x^2 / 2 in e^.
    """
    z = min(abs(x), f(20))
    exponent = np.float64(z) * np.float64(z) * -0.5
    high = f(exponent)
    e = exp_of_sum(high, f(exponent - np.float64(high)))
    t = f(1) / (f(1) + f(0.35) * z)
    p = f(-0.0291461345)
    p = p * t + f(0.143972683)
    p = p * t + f(-0.255716268)
    p = p * t + f(0.159176432)
    p = p * t + f(-0.0231113755)
    p = p * t + f(0.105508645)
    p = p * t + f(0.119832709)
    p = p * t + f(0.139861891)
    p = p * t + f(0.139621403)
    tail = e * (p * t)
    return (f(1) - tail if x > f(0) else tail), e * f(0.3989422804014327)


@scalar
def _remainder(x):
    """r and n with x = n log 2 + r."""
    shifted = x * LOG2_E + ROUND
    n = shifted - ROUND
    return (x - n * LOG_2_HIGH) - n * LOG_2_LOW, i(f(shifted).view(i) - f(ROUND).view(i))


@scalar
def _exp_less_one(r):
    """e^r - 1 for |r| <= log(2) / 2, by the polynomial of Cephes' expf."""
    p = f(1.9875691500e-4)
    p = p * r + f(1.3981999507e-3)
    p = p * r + f(8.3334519073e-3)
    p = p * r + f(4.1665795894e-2)
    p = p * r + f(1.6666665459e-1)
    p = p * r + f(5.0000001201e-1)
    return p * (r * r) + r


@scalar
def _power_of_two(n):
    """2^n for n from -126 to 127: n in the bits of the exponent."""
    return i((n + 127) << 23).view(f)


@sum_in_any_order
def total(x):
    """The sum of a vector."""
    total = f(0)
    for j in range(x.size):
        total += x[j]
    return total


@inline
def largest(x):
    """The largest number of a vector that has one; NaN, or any of its numbers, where one of them is NaN.

    As integers, the bits of floats are in the floats' order, apart from the negative ones, whose order is turned around. The
    largest integer is found in any order, so many at a time; of floats, the compiler would have to ask which of them are NaN.
    """
    best = i(-(2**31))
    for j in range(x.size):
        bits = f(x[j]).view(i)
        best = max(best, i(bits ^ ((bits >> 31) & 0x7FFFFFFF)))
    return i(best ^ ((best >> 31) & 0x7FFFFFFF)).view(f)
