"""Calibration, on models whose calibration is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator
from tinygen.density import Exact
from tinygen.metrics import calibration_error, likelihood_calibration

few = settings(max_examples=40, deadline=None)


@few
@given(st.integers(1, 9), st.integers(0, 10))
def test_of_one_probability_the_error_is_its_distance_from_the_share(tenth, ones):
    outcomes = np.arange(10) < ones
    assert calibration_error(np.full(10, tenth / 10), outcomes) == pytest.approx(abs(tenth - ones) / 10)


@few
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 60))
def test_it_is_the_sum_over_bins(seed, bins, n):
    rng = Generator(seed)
    p, outcomes = rng.uniform(n, np.float64), rng.bernoulli(np.full(n, 0.5), np.float64)
    p[0] = 1.0
    error = 0.0
    for b in range(bins):
        inside = [i for i in range(n) if b / bins <= p[i] < (b + 1) / bins or (p[i] == 1 and b == bins - 1)]
        if inside:
            error += len(inside) / n * abs(np.mean(p[inside]) - np.mean(outcomes[inside]))
    assert calibration_error(p, outcomes, bins) == pytest.approx(error, abs=1e-12)


@few
@given(st.integers(1, 6), st.integers(1, 5))
def test_outcomes_in_exactly_the_right_shares_have_no_error(parts, copies):
    """For each of the probabilities 0, 1/parts, ..., 1: as many ones as it says."""
    p = np.repeat(np.arange(parts + 1) / parts, parts * copies)
    outcomes = np.concatenate([np.arange(parts * copies) < i * copies for i in range(parts + 1)])
    assert calibration_error(p, outcomes) == pytest.approx(0, abs=1e-12)
    assert calibration_error(1 - p, outcomes, 1) == pytest.approx(0, abs=1e-12)  # one bin sees no more than the mean


def test_a_bernoulli_model_is_calibrated_and_an_overconfident_one_is_not():
    rng = Generator(0)
    p = rng.uniform(100_000, np.float64)
    outcomes = rng.bernoulli(p)
    floor = calibration_error(p, rng.bernoulli(p))
    assert calibration_error(p, outcomes) < 0.01 and floor < 0.01
    sharper = p**2 / (p**2 + (1 - p) ** 2)
    exact = np.abs(p - sharper).mean()  # the sign changes at 1/2, where a bin ends: nothing cancels within one
    assert calibration_error(sharper, outcomes) == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_likelihoods_of_a_gaussian_are_calibrated_if_its_scale_is(scale):
    """Data N(0, scale^2), the model N(0, 1): P(|x| > |z|) = 2/pi arctan(scale), and the error is its distance from 1/2."""
    x, z = scale * Generator(0).normal(40_000, np.float64), Generator(1).normal(40_000, np.float64)
    found = likelihood_calibration(-x * x / 2, -z * z / 2)
    less_likely = 2 / math.pi * math.atan(scale)
    assert found.data_less_likely == pytest.approx(less_likely, abs=0.01)
    assert found.error == pytest.approx(abs(less_likely - 1 / 2), abs=0.01)


@few
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_it_compares_the_shares_above_each_samples_likelihood(data, samples):
    def above(values, level):
        return np.mean([(v > level) + (v == level) / 2 for v in values])

    found = likelihood_calibration(np.array(data), np.array(samples))
    assert found.error == pytest.approx(np.mean([abs(above(data, s) - above(samples, s)) for s in samples]), abs=1e-12)
    assert found.data_less_likely == pytest.approx(np.mean([above([s], d) for s in samples for d in data]), abs=1e-12)
    assert found.error <= 0.5 + 1e-12
    moved = likelihood_calibration(np.exp(np.array(data, float)) + 7, np.exp(np.array(samples, float)) + 7)
    assert moved == found  # only the order counts


def test_it_is_zero_for_the_same_and_half_at_most():
    values = Generator(0).normal(100)
    assert likelihood_calibration(values, values[::-1]) == pytest.approx((0, 0.5), abs=1e-12)
    assert likelihood_calibration(values - 100, values) == pytest.approx((0.5, 1))
    assert likelihood_calibration(np.full(5, -np.inf), values) == pytest.approx((0.5, 1))


def test_what_is_no_probability_or_outcome_is_refused():
    for p, outcomes in (([0.5, 1.5], [0, 1]), ([0.5, np.nan], [0, 1]), ([0.5, 0.5], [0, 0.5]), ([0.5, 0.5], [0, np.nan])):
        with pytest.raises(ValueError, match=r"calibration_error: probabilities must lie in \[0, 1\], and outcomes be 0 or 1"):
            calibration_error(np.array(p), np.array(outcomes))
    with pytest.raises(ValueError, match=r"probabilities have shape \(2,\), and outcomes \(3,\); give one outcome"):
        calibration_error(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="bins is 0; give at least 1"):
        calibration_error(np.zeros(2), np.zeros(2), 0)
    for bad in (np.array([1.0, np.nan]), np.zeros(0), np.zeros((2, 2))):
        with pytest.raises(ValueError, match=r"likelihood_calibration: of_samples has shape .*; give one number for each"):
            likelihood_calibration(np.zeros(3), bad)


def test_a_density_is_asked_for_its_numbers():
    for pair in ((Exact(np.zeros(3)), np.zeros(3)), (np.zeros(3), Exact(np.zeros(3)))):
        with pytest.raises(TypeError, match=r"likelihood_calibration: .* are numbers; give log_prob\(x\).nats"):
            likelihood_calibration(*pair)
