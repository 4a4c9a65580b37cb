"""What every metric refuses, in the same words."""

import tracemalloc

import numpy as np
import pytest

from tinygen import Generator
from tinygen.metrics import (
    copying,
    density_coverage,
    distance_to_nearest,
    frechet_distance,
    kernel_distance,
    nearest,
    points,
    precision_recall,
    told_apart,
)

OF_TWO = (frechet_distance, kernel_distance, precision_recall, density_coverage, told_apart, distance_to_nearest, nearest)
TWO_AT_LEAST = (frechet_distance, kernel_distance)


@pytest.mark.parametrize("metric", OF_TWO, ids=lambda f: f.__name__)
def test_nan_is_refused_with_its_place_and_what_to_do(metric):
    x, bad = Generator(0).normal((9, 2)), Generator(0).normal((9, 2))
    bad[3, 1], bad[7, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match=rf"{metric.__name__}: 2 of the 9 examples of \w+ have NaN .* first is number 3; .*"):
        metric(x, bad)


@pytest.mark.parametrize("metric", OF_TWO, ids=lambda f: f.__name__)
def test_other_features_are_refused(metric):
    with pytest.raises(ValueError, match=rf"{metric.__name__}: \w+ has examples of shape \(2,\), and \w+ of \(3,\); give both"):
        metric(np.zeros((9, 2)), np.zeros((9, 3)))
    for shape in ((9,), (9, 0)):
        with pytest.raises(ValueError, match=rf"{metric.__name__}: \w+ has shape .*; give one row for each example"):
            metric(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("metric", TWO_AT_LEAST, ids=lambda f: f.__name__)
def test_one_example_is_too_few(metric):
    with pytest.raises(ValueError, match=f"{metric.__name__}: samples has 1 examples, and needs at least 2; draw more"):
        metric(np.zeros((5, 2)), np.zeros((1, 2)))


def test_no_example_is_too_few():
    for metric in (nearest, distance_to_nearest):
        with pytest.raises(ValueError, match=f"{metric.__name__}: .* has 0 examples, and needs at least 1; draw more"):
            metric(np.zeros((0, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="copying: held_out has 0 examples"):
        copying(np.zeros((3, 2)), np.zeros((0, 2)), np.zeros((3, 2)))


def test_tables_of_all_pairs_are_never_whole_in_memory(monkeypatch):
    monkeypatch.setattr(points, "BLOCK", 2**16)
    x, y = Generator(0).normal((2000, 2), np.float64), Generator(1).normal((2000, 2), np.float64)
    for metric in (kernel_distance, precision_recall, told_apart):
        tracemalloc.start()
        metric(x, y)
        assert tracemalloc.get_traced_memory()[1] < 2000 * 2000 * 8 / 4
        tracemalloc.stop()


def test_whole_numbers_and_images_are_taken_as_they_are():
    x = Generator(0).integers(0, 17, (20, 4, 4, 1)).astype(np.uint8)
    y = Generator(1).integers(0, 17, (20, 4, 4, 1)).astype(np.uint8)
    for metric in (frechet_distance, kernel_distance, precision_recall, density_coverage, told_apart, distance_to_nearest):
        assert metric(x, y) == metric(x.reshape(20, 16).astype(float), y.reshape(20, 16).astype(float))
