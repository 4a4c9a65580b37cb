"""Floors are of disjoint halves, bias is seen at growing n, and both can be repeated."""

import numpy as np
import pytest

from tinygen import Generator
from tinygen.metrics import (
    PrecisionRecall,
    Spread,
    against_sample_count,
    density_coverage,
    floor,
    frechet_distance,
    inception_style_score,
    kernel_distance,
    precision_recall,
)


def test_a_floor_is_of_disjoint_parts_of_n():
    seen = []

    def metric(a, b):
        seen.append((a, b))
        return 0.0

    floor(metric, np.arange(20), Generator(0), n=7, repeats=50)
    assert len(seen) == 50 and all(len(a) == len(b) == 7 and len({*a, *b}) == 14 for a, b in seen)
    assert {*np.concatenate([np.concatenate(pair) for pair in seen])} == {*range(20)}
    floor(metric, np.arange(21), Generator(0), repeats=1)
    assert len(seen[-1][0]) == 10


def test_sample_counts_are_drawn_without_repetition_from_both_sets():
    seen = {}

    def metric(a, b):
        seen.setdefault(len(a), []).append((a, b))
        return 0.0

    found = against_sample_count(metric, np.arange(10), np.arange(100, 120), [3, 10], Generator(0), repeats=4)
    assert list(found) == [3, 10] and {n: len(pairs) for n, pairs in seen.items()} == {3: 4, 10: 4}
    for n, pairs in seen.items():
        assert all(len({*a}) == len({*b}) == n and max(a) < 10 and min(b) >= 100 for a, b in pairs)


def test_a_spread_has_the_metrics_own_type_and_its_mean_and_standard_deviation():
    values = iter([PrecisionRecall(0.0, 1.0), PrecisionRecall(0.5, 1.0), PrecisionRecall(1.0, 0.7)])
    found = floor(lambda a, b: next(values), np.zeros(4), Generator(0), repeats=3)
    assert isinstance(found.mean, PrecisionRecall) and isinstance(found.std, PrecisionRecall)
    assert found.mean == pytest.approx((0.5, 0.9)) and found.std == pytest.approx((0.5, np.sqrt(0.03)))
    once = floor(lambda a, b: 3.5, np.zeros(4), Generator(0), repeats=1)
    assert once.mean == 3.5 and np.isnan(once.std)


def test_one_seed_is_one_figure():
    x = Generator(0).normal((40, 2))
    assert floor(frechet_distance, x, Generator(1)) == floor(frechet_distance, x, Generator(1))
    assert floor(frechet_distance, x, Generator(1)) != floor(frechet_distance, x, Generator(2))


def test_the_frechet_distance_is_biased_as_1_over_n_and_the_kernel_distance_is_not():
    """Of N(0, I) in d dimensions: by the means alone, n of each are 2 d / n apart."""
    rng, d = Generator(0), 5
    x, y = rng.normal((2000, d), np.float64), rng.normal((2000, d), np.float64)
    frechet = {n: s.mean for n, s in against_sample_count(frechet_distance, x, y, [50, 200, 800], rng).items()}
    assert 3.5 < frechet[50] / frechet[200] < 4.5 and 3.2 < frechet[200] / frechet[800] < 4.8
    assert all(value > 2 * d / n for n, value in frechet.items())
    kernel = against_sample_count(lambda a, b: kernel_distance(a, b).value, x, y, [50, 200, 800], rng, repeats=20)
    assert all(abs(s.mean) < 4 * s.std / np.sqrt(20) for s in kernel.values())


def test_any_metric_can_be_asked():
    x = Generator(0).normal((60, 2))
    for metric in (frechet_distance, kernel_distance, precision_recall, density_coverage):
        found = floor(metric, x, Generator(0), repeats=3)
        assert type(found) is Spread and type(found.mean) is type(metric(x[:9], x[9:20]))
    p = np.repeat(np.eye(3), 20, axis=0)
    assert 2.8 < floor(lambda real, samples: inception_style_score(samples), p, Generator(0)).mean <= 3


def test_more_than_there_is_cannot_be_drawn():
    with pytest.raises(ValueError, match="floor: n is 4, but 7 examples have two disjoint parts of at most 3"):
        floor(frechet_distance, np.zeros((7, 2)), Generator(0), n=4)
    with pytest.raises(ValueError, match="n is 0"):
        floor(frechet_distance, np.zeros((7, 2)), Generator(0), n=0)
    with pytest.raises(ValueError, match="against_sample_count: n = 8 of 9 real and 7 samples cannot be drawn"):
        against_sample_count(frechet_distance, np.zeros((9, 2)), np.zeros((7, 2)), [2, 8], Generator(0))
    with pytest.raises(ValueError, match="against_sample_count: n = 0 of"):
        against_sample_count(frechet_distance, np.zeros((9, 2)), np.zeros((7, 2)), [0, 5], Generator(0))
    with pytest.raises(ValueError, match="floor: no measurements have no mean; give at least 1 repeat"):
        floor(frechet_distance, np.zeros((7, 2)), Generator(0), repeats=0)
