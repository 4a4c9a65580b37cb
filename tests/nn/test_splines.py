"""Monotone splines against their definition, knot by knot, and against calculus."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, check_grads, jacobian
from tinygen.nn.splines import FLOOR, rational_quadratic

few = settings(max_examples=20, deadline=None)
cases = given(seed=st.integers(0, 2**32), bins=st.integers(1, 6), size=st.sampled_from([0.0, 1.0, 5.0]))
close = np.testing.assert_allclose
REACH = 3.0


def random(seed, bins, size, n=40, width=4.0):
    """Points beyond the interval and within it, and what a network might say of each."""
    rng = Generator(seed)
    return width * (2 * rng.uniform(n, np.float64) - 1), size * rng.normal((n, 3 * bins - 1), np.float64)


def lengths(values, bins):
    parts = np.exp(values) / np.exp(values).sum()
    return 2 * REACH * (FLOOR + (1 - bins * FLOOR) * parts)


def by_hand(x, raw, bins):
    """(y, dy/dx) of one number within the interval."""
    inner = FLOOR + (1 - FLOOR) * np.log1p(np.exp(raw[2 * bins :] + np.log(np.e - 1)))
    d = np.concatenate([[1.0], inner, [1.0]])
    left, bottom = -REACH, -REACH
    for k, (w, h) in enumerate(zip(lengths(raw[:bins], bins), lengths(raw[bins : 2 * bins], bins))):
        if x < left + w or k == bins - 1:
            break
        left, bottom = left + w, bottom + h
    xi, s = (x - left) / w, h / w
    below = s + (d[k + 1] + d[k] - 2 * s) * xi * (1 - xi)
    y = bottom + h * (s * xi**2 + d[k] * xi * (1 - xi)) / below
    return y, s**2 * (d[k + 1] * xi**2 + 2 * s * xi * (1 - xi) + d[k] * (1 - xi) ** 2) / below**2


@few
@cases
def test_the_spline_is_its_definition_and_beyond_the_interval_the_identity(seed, bins, size):
    x, raw = random(seed, bins, size)
    y, log_slope = rational_quadratic(x, raw, REACH)
    inside = abs(x) < REACH
    expected = np.array([by_hand(*pair, bins) if within else (pair[0], 1.0) for *pair, within in zip(x, raw, inside)])
    close(y, expected[:, 0], atol=1e-9)
    close(log_slope, np.log(expected[:, 1]), atol=1e-7)
    np.testing.assert_array_equal(y[~inside], x[~inside])
    if size == 0:
        close(y, x, atol=1e-12)


@few
@cases
def test_the_inverse_undoes_it_and_both_slopes_are_those_of_the_maps(seed, bins, size):
    x, raw = random(seed, bins, size)
    y, log_slope = rational_quadratic(x, raw, REACH)
    back, minus = rational_quadratic(y, raw, REACH, inverse=True)
    close(back, x, atol=1e-6)
    close(minus, -log_slope, atol=1e-4)
    for argument, inverse, said in ((x, False, log_slope), (y, True, minus)):
        slopes = jacobian(lambda x, inverse=inverse: rational_quadratic(x, raw, REACH, inverse)[0])(argument)
        close(np.log(np.diagonal(slopes)), said, atol=1e-8)


@few
@cases
def test_it_increases_with_a_slope_that_does_not_jump_at_a_knot(seed, bins, size):
    x, raw = random(seed, bins, min(size, 1.0), n=1000)  # wilder ones turn within less than the 1e-9 below
    one = raw[:1]
    y, _ = rational_quadratic(np.sort(x), np.repeat(one, len(x), axis=0), REACH)
    assert (np.diff(y) > 0).all()
    knots = np.concatenate([[-REACH], -REACH + np.cumsum(lengths(one[0, :bins], bins))])
    near = 1e-9
    below, above = (rational_quadratic(knots + d, np.repeat(one, bins + 1, axis=0), REACH) for d in (-near, near))
    close(below[0], above[0], atol=1e-4)
    close(below[1], above[1], atol=1e-2)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients(inverse):
    x, raw = random(3, 4, 1.0, n=6, width=2.9)
    check_grads(lambda x, raw: rational_quadratic(x, raw, REACH, inverse), (x, raw), order=2)


def test_float32_stays_and_comes_back():
    x, raw = (a.astype(np.float32) for a in random(0, 8, 1.0))
    y, log_slope = rational_quadratic(x, raw, REACH)
    back, _ = rational_quadratic(y, raw, REACH, inverse=True)
    assert y.dtype == log_slope.dtype == back.dtype == np.float32
    close(back, x, atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 6), (4, 8), (5, 8, 1), (8,)])
def test_a_wrong_number_of_parameters_is_refused(shape):
    with pytest.raises(ValueError, match="rational_quadratic: x has shape .* raw must be"):
        rational_quadratic(np.zeros(5), np.zeros(shape), REACH)
