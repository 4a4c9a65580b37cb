"""Modes, counted by hand and on the mixtures themselves."""

import math

import numpy as np
import pytest

from tinygen import Generator, data
from tinygen.metrics import modes_captured


def test_modes_are_counted_by_good_samples_near_them():
    modes = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    samples = np.array([[0.0, 0.0], [0.0, 2.9], [10.0, 3.1], [4.0, 10.0], [2.0, 2.0], [0.0, 11.0]])
    assert modes_captured(samples, modes, std=1.0) == (2, pytest.approx(4 / 6))  # |(2, 2)| = 2.83 is within, (10, 3.1) not
    assert modes_captured(samples, modes, std=1.0, least=2) == (1, pytest.approx(4 / 6))
    assert modes_captured(samples + 100, modes, std=1.0) == (0, 0.0)


@pytest.mark.parametrize("name", ["ring_of_8", "grid_of_25"])
def test_the_data_themselves_capture_every_mode(name):
    density = data.toy.load(name)
    captured, good = modes_captured(density.sample(Generator(0), 20_000), density.modes, density.std, least=600)
    assert captured == len(density.modes)
    assert abs(good - (1 - math.exp(-4.5))) < 4 * math.sqrt(0.011 * 0.989 / 20_000)


def test_samples_of_one_mode_capture_one():
    density = data.toy.load("ring_of_8")
    assert modes_captured(density.modes[[3] * 50], density.modes, density.std) == (1, 1.0)


@pytest.mark.parametrize("settings", [{"std": 0.0}, {"std": -1.0}, {"std": np.nan}, {"std": 1.0, "least": 0}])
def test_a_width_or_a_count_that_means_nothing_is_refused(settings):
    with pytest.raises(ValueError, match="give a std above 0, and at least 1 sample"):
        modes_captured(np.zeros((4, 2)), np.zeros((2, 2)), **settings)


def test_modes_far_from_zero_and_near_each_other_are_told_apart():
    modes = 1e6 + np.array([[0.0, 0.0], [0.5, 0.0]])
    assert modes_captured(modes + [0.01, 0.0], modes, std=0.005) == (2, 1.0)


def test_other_dimensions_and_nan_are_refused():
    with pytest.raises(ValueError, match=r"modes_captured: samples has examples of shape \(3,\), and modes of \(2,\)"):
        modes_captured(np.zeros((4, 3)), np.zeros((2, 2)), 1.0)
    with pytest.raises(ValueError, match="modes_captured: 1 of the 4 examples of samples have NaN"):
        modes_captured(np.array([[0, 0], [0, np.nan], [0, 0], [0, 0]]), np.zeros((2, 2)), 1.0)
