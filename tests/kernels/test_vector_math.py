"""The float32 functions of vector_math: their stated errors over all exponents, and what they make of NaN and infinity."""

import math

import numpy as np
import pytest

from tinygen.kernels import vector_math
from tinygen.kernels.jit import jit

TINY, HUGE = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@jit
def exp_of(x, y):
    for i in range(x.size):
        y[i] = vector_math.exp(x[i])


@jit
def exp_of_negative_of(x, y):
    for i in range(x.size):
        y[i] = vector_math.exp_of_negative(x[i])


@jit
def expm1_of(x, y):
    for i in range(x.size):
        y[i] = vector_math.expm1(x[i])


@jit
def tanh_of(x, y):
    for i in range(x.size):
        y[i] = vector_math.tanh(x[i])


@jit
def sigmoid_of(x, y):
    for i in range(x.size):
        y[i] = vector_math.sigmoid_pair(x[i])[0]


@jit
def opposite_sigmoid_of(x, y):
    for i in range(x.size):
        y[i] = vector_math.sigmoid_pair(x[i])[1]


@jit
def log1p_of(x, y):
    for i in range(x.size):
        y[i] = vector_math.log1p(x[i])


@jit
def distribution_of(x, y):
    for i in range(x.size):
        y[i] = vector_math.normal(x[i])[0]


@jit
def density_of(x, y):
    for i in range(x.size):
        y[i] = vector_math.normal(x[i])[1]


@jit
def largest_of(x):
    return vector_math.largest(x)


def run(kernel, *numbers):
    x = np.array(numbers, np.float32) if len(numbers) > 1 else numbers[0]
    y = np.empty_like(x)
    kernel(x, y)
    return y


WORST = 5.8778844, 0.3634733, 4.5050907, 1.9542445, 0.03109586, 0.7454169, 1.5248883  # of all numbers, for one function each


def of_every_exponent(mantissas=1000):
    """For each exponent, also below the normal ones, as many numbers of either sign; and more where the functions bend."""
    m = 1 + np.random.default_rng(0).random(mantissas)
    x = np.append(np.outer(2.0 ** np.arange(-149, 128), m).ravel(), WORST)
    return np.concatenate([x, -x, np.linspace(-110, 110, 200_001)]).astype(np.float32)


def sigmoid(x):
    return np.where(x >= 0, 1, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x)))


def distribution(x):
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


STATED = {
    "exp": (exp_of, np.exp, 1.1),
    "expm1": (expm1_of, np.expm1, 1.5),
    "tanh": (tanh_of, np.tanh, 2.6),
    "sigmoid": (sigmoid_of, sigmoid, 2.9),
    "opposite sigmoid": (opposite_sigmoid_of, lambda x: sigmoid(-x), 2.9),
    "log1p": (log1p_of, np.log1p, 2.9),
    "normal distribution": (distribution_of, distribution, 6.6),
    "normal density": (density_of, lambda x: np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi), 2.2),
}


@pytest.mark.parametrize("name", STATED)
def test_errs_by_no_more_units_in_the_last_place_than_stated(name):
    errs_by_no_more_than_stated(name, of_every_exponent())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STATED if name != "normal distribution"])  # whose erfc is one of Python's
def test_nor_does_it_for_any_number_at_all(name):
    first, last = (int(np.float32(x).view(np.uint32)) for x in (2**-8, 110))
    for start in range(first, last, 1 << 22):
        x = np.arange(start, min(start + (1 << 22), last), dtype=np.uint32).view(np.float32)
        errs_by_no_more_than_stated(name, x)
        if name != "log1p":
            errs_by_no_more_than_stated(name, -x)


def errs_by_no_more_than_stated(name, x):
    kernel, function, most = STATED[name]
    x = x[(x >= 0) & (x <= 1)] if name == "log1p" else x
    with np.errstate(over="ignore", under="ignore"):
        exact = function(x.astype(np.float64))
    y = run(kernel, x).astype(np.float64)
    above, normal = np.abs(exact) > HUGE, np.abs(exact) >= TINY
    assert np.all(y[above] == np.inf)
    assert np.all(np.abs(y[~normal] - exact[~normal]) <= 3e-45)
    y, exact = y[normal & ~above], exact[normal & ~above]
    assert np.max(np.abs(y - exact) / np.spacing(np.abs(exact).astype(np.float32)), initial=0) <= most


def test_the_exponential_of_a_negative_number_is_the_same_to_the_last_bit():
    x = np.append(-np.abs(of_every_exponent()), np.float32([-np.inf, -0.0, np.nan]))
    assert run(exp_of_negative_of, x).tobytes() == run(exp_of, x).tobytes()


def test_limits_and_nan():
    ends = -np.inf, np.inf, np.nan, -np.nan
    np.testing.assert_array_equal(run(exp_of, *ends), [0, np.inf, np.nan, np.nan])
    np.testing.assert_array_equal(run(exp_of, -1000, 0, 1000), [0, 1, np.inf])
    np.testing.assert_array_equal(run(expm1_of, *ends), [-1, np.inf, np.nan, np.nan])
    np.testing.assert_array_equal(run(tanh_of, *ends), [-1, 1, np.nan, np.nan])
    np.testing.assert_array_equal(run(sigmoid_of, *ends), [0, 1, np.nan, np.nan])
    np.testing.assert_array_equal(run(opposite_sigmoid_of, *ends), [1, 0, np.nan, np.nan])
    np.testing.assert_array_equal(run(distribution_of, *ends), [0, 1, np.nan, np.nan])
    np.testing.assert_array_equal(run(density_of, *ends), [0, 0, np.nan, np.nan])
    np.testing.assert_array_equal(run(log1p_of, 0, np.nan), [0, np.nan])


@pytest.mark.parametrize("n", [1, 2, 7, 16, 33, 256])
def test_sums_and_largest_numbers_of_vectors(n):
    rng = np.random.default_rng(n)
    for shift in (-5, 0, 5):
        x = (rng.standard_normal(n) + shift).astype(np.float32)
        assert vector_math.total(x) == pytest.approx(x.sum(dtype=np.float64), abs=1e-6 * float(np.abs(x).sum()))
        assert largest_of(x) == x.max()
        x[n // 2] = -np.inf
        assert largest_of(x) == x.max() and vector_math.total(x) == -np.inf
        x[n // 2] = np.nan
        assert np.isnan(vector_math.total(x))
    assert largest_of(np.array([-np.inf, np.inf], np.float32)) == np.inf


def test_a_sum_of_doubles_is_taken_in_double_precision():
    x = np.random.default_rng(0).random(100)
    assert vector_math.total(x) == pytest.approx(x.sum(), rel=1e-14)
