"""The kernel distance, against sums in plain loops, and on average over all samples that there are."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator
from tinygen.metrics import KernelDistance, cubic_kernel, kernel_distance, points

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32)


def k(x, y):
    return (sum(a * b for a, b in zip(x, y)) / len(x) + 1) ** 3


def by_loops(x, y):
    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@few
@given(seeds, st.integers(2, 7), st.integers(2, 7), st.integers(1, 4))
def test_it_is_the_double_sum(seed, n, m, d):
    rng = Generator(seed)
    x, y = rng.normal((n, d), np.float64), rng.normal((m, d), np.float64) + 1
    np.testing.assert_allclose(cubic_kernel(x, y), [[k(a, b) for b in y] for a in x], rtol=1e-12, atol=1e-12)
    assert kernel_distance(x, y).value == pytest.approx(by_loops(x, y), rel=1e-9, abs=1e-9)


@few
@given(seeds, st.integers(3, 6), st.integers(3, 6))
def test_its_standard_error_is_the_jackknifes(seed, n, m):
    rng = Generator(seed)
    x, y = rng.normal((n, 2), np.float64), rng.normal((m, 2), np.float64)
    without_x = [by_loops(np.delete(x, i, axis=0), y) for i in range(n)]
    without_y = [by_loops(x, np.delete(y, j, axis=0)) for j in range(m)]
    variance = (n - 1) * np.var(without_x) + (m - 1) * np.var(without_y)
    assert kernel_distance(x, y).standard_error == pytest.approx(np.sqrt(variance), rel=1e-7, abs=1e-9)


def all_samples(places, p, n):
    """Every sample of size n of a distribution p over places, with its probability."""
    for chosen in product(range(len(p)), repeat=n):
        yield places[list(chosen)], np.prod(p[list(chosen)])


@settings(max_examples=8, deadline=None)
@given(seeds, st.booleans())
def test_over_all_samples_it_is_right_and_its_variance_no_smaller_than_the_true_one(seed, same):
    """By enumeration, for p = q as well, where the estimate is degenerate, and for different numbers of samples."""
    rng = Generator(seed)
    places, p = rng.normal((2, 2), np.float64), np.array([0.3, 0.7])
    q = p if same else np.array([0.8, 0.2])
    truth = (p - q) @ cubic_kernel(places, places) @ (p - q)
    found = [(kernel_distance(x, y), a * b) for x, a in all_samples(places, p, 4) for y, b in all_samples(places, q, 3)]
    values, weights = np.array([f.value for f, _ in found]), np.array([w for _, w in found])
    assert weights @ values == pytest.approx(truth, rel=1e-9, abs=1e-9)
    true_variance = weights @ (values - truth) ** 2
    assert weights @ np.array([f.standard_error**2 for f, _ in found]) >= true_variance * (1 - 1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_its_interval_holds_the_truth_as_often_as_it_says(shift):
    """x ~ U(-1, 1) and y = x' + shift: the kernel of numbers is 1 + 3 xy + 3 (xy)^2 + (xy)^3, so MMD^2 compares moments."""
    moments = np.array([shift, shift**2, shift + shift**3])  # E y^i - E x^i, for i = 1, 2, 3
    truth = np.array([3, 3, 1]) @ moments**2
    held = []
    for rng in Generator(0).split(400):
        x, y = 2 * rng.uniform((2, 80, 1), np.float64) - 1
        low, high = kernel_distance(x, y + shift).interval(0.9)
        held.append(low <= truth <= high)
    assert np.mean(held) > 0.9 - 4 * np.sqrt(0.09 / 400)


def test_intervals_are_of_the_normal_distribution_and_levels_are_checked():
    found = kernel_distance(Generator(0).normal((20, 3)), Generator(1).normal((20, 3)) + 2)
    low, high = found.interval(0.95)
    assert (high - low) / 2 == pytest.approx(1.959964 * found.standard_error, rel=1e-5)
    assert (low + high) / 2 == pytest.approx(found.value)
    assert KernelDistance(-3.0, 0.5).interval() == (pytest.approx(-3.98, abs=1e-3), 0.0)  # MMD^2 is no less
    for level in (0, 1, 95, float("nan")):
        with pytest.raises(ValueError, match=f"level is {level}; it must be between 0 and 1"):
            found.interval(level)


def test_blocks_do_not_show(monkeypatch):
    x, y = Generator(0).normal((30, 3)), Generator(1).normal((23, 3))
    whole = kernel_distance(x, y)
    monkeypatch.setattr(points, "BLOCK", 50)
    assert kernel_distance(x, y) == pytest.approx(whole, rel=1e-12)


def test_the_order_of_samples_and_of_the_two_sets_does_not_matter():
    x, y = Generator(0).normal((20, 3)), Generator(1).normal((15, 3))
    assert kernel_distance(y[::-1], x[::-1]) == pytest.approx(kernel_distance(x, y), rel=1e-9)


def test_two_of_each_have_no_standard_error():
    found = kernel_distance(np.eye(2), 2 * np.eye(2))
    assert np.isfinite(found.value) and np.isnan(found.standard_error)
