"""The float32 exponential and logarithm: their stated errors, and what they make of NaN and infinity."""

import numpy as np

from tinygen.kernels import vector_math
from tinygen.kernels.jit import jit


@jit
def exp_of(x, y):
    for i in range(x.size):
        y[i] = vector_math.exp(x[i])


@jit
def log1p_of(x, y):
    for i in range(x.size):
        y[i] = vector_math.log1p(x[i])


def run(kernel, x):
    y = np.empty_like(x)
    kernel(x, y)
    return y


def error_in_last_places(y, exact):
    return np.max(np.abs(y.astype(np.float64) - exact) / np.spacing(exact.astype(np.float32)).astype(np.float64))


def test_exp_errs_by_two_units_at_most():
    rng = np.random.default_rng(0)
    x = np.concatenate([np.linspace(-87.3, 88.3, 400_001), rng.standard_normal(100_000) * 1e-3]).astype(np.float32)
    assert error_in_last_places(run(exp_of, x), np.exp(x.astype(np.float64))) <= 2


def test_log1p_errs_by_four_units_at_most():
    x = np.concatenate([np.linspace(0, 1, 400_001)[1:], np.logspace(-30, 0, 100_000)]).astype(np.float32)
    assert error_in_last_places(run(log1p_of, x), np.log1p(x.astype(np.float64))) <= 4


def test_limits():
    y = run(exp_of, np.array([-np.inf, -1000, 0, 1000, np.inf, np.nan], np.float32))
    assert 0 <= y[0] == y[1] < 1.3e-38 and y[2] == 1
    assert 2.3e38 < y[3] == y[4] < np.inf
    assert np.isnan(y[5]) and np.isnan(run(log1p_of, np.array([np.nan], np.float32))[0])
    assert run(log1p_of, np.zeros(1, np.float32))[0] == 0
