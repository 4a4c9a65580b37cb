"""Neighbours, against plain loops, on points that can be counted by hand, and on average over all ways to split a set."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinygen import Generator
from tinygen.metrics import density_coverage, nearest, points, precision_recall, told_apart

few = settings(max_examples=60, deadline=None)


@st.composite
def two_sets(draw, as_many=False):
    """Points of a small lattice, so that copies and equal distances are common, and k."""
    n, m, d, k = (draw(st.integers(least, most)) for least, most in ((4, 9), (4, 9), (1, 3), (1, 3)))
    lattice = st.integers(-2, 2).map(float)
    return draw(arrays(float, (n, d), elements=lattice)), draw(arrays(float, (n if as_many else m, d), elements=lattice)), k


def distance(a, b):
    return sum((p - q) ** 2 for p, q in zip(a, b))


def radius(x, i, k):
    return sorted(distance(x[i], x[j]) for j in range(len(x)) if j != i)[k - 1]


def in_ball(y, x, i, k):
    return distance(y, x[i]) <= radius(x, i, k)


@few
@given(two_sets())
def test_precision_and_recall_are_shares_of_points_in_balls(sets):
    x, y, k = sets
    found = precision_recall(x, y, k)
    assert found.precision == np.mean([any(in_ball(b, x, i, k) for i in range(len(x))) for b in y])
    assert found.recall == np.mean([any(in_ball(a, y, j, k) for j in range(len(y))) for a in x])


@few
@given(two_sets())
def test_density_counts_balls_and_coverage_the_balls_that_are_inhabited(sets):
    x, y, k = sets
    found = density_coverage(x, y, k)
    pairs = [[in_ball(b, x, i, k) for b in y] for i in range(len(x))]
    assert found.density == pytest.approx(np.sum(pairs) / (k * len(y)))
    assert found.coverage == np.mean([any(row) for row in pairs])


@few
@given(two_sets(as_many=True))
def test_told_apart_counts_nearest_neighbours_of_the_own_kind(sets):
    x, y, _ = sets
    heap = [(a, 0, i) for i, a in enumerate(x)] + [(b, 1, i) for i, b in enumerate(y)]
    right = []
    for point, kind, i in heap:
        to = [min(distance(point, q) for q, other, j in heap if other == which and (other, j) != (kind, i)) for which in (0, 1)]
        own, other = to[kind], to[1 - kind]
        right.append(0.5 if own == other else float(own < other))
    assert told_apart(x, y) == pytest.approx(np.mean(right))


@few
@given(two_sets())
def test_the_nearest_is_at_the_least_distance(sets):
    x, among, _ = sets
    found = nearest(x, among)
    np.testing.assert_allclose(found.distance, [min(distance(a, b) for b in among) ** 0.5 for a in x], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(x - among[found.index], axis=1), found.distance, rtol=1e-12, atol=1e-12)


def test_of_hundreds_of_points_too_the_kth_nearest_is_meant():
    x, y = Generator(0).normal((600, 2), np.float64), 2 * Generator(1).normal((250, 2), np.float64)
    radii = np.sort(np.linalg.norm(x[:, None] - x, axis=2), axis=1)[:, 200]  # the first one is its distance from itself
    inside = np.linalg.norm(x[:, None] - y, axis=2) <= radii[:, None]
    assert density_coverage(x, y, 200) == (pytest.approx(inside.sum() / (200 * 250)), inside.any(axis=1).mean())
    assert precision_recall(x, y, 200).precision == inside.any(axis=0).mean()


def test_by_hand():
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    samples = np.array([[2.5], [9.0], [30.0], [30.0], [-2.0]])
    # Balls, k = 1: of images [-1, 1], [0, 2], [1, 3], [2, 18]; of samples [-2, 7], [2.5, 15.5], {30} twice, [-6.5, 2.5].
    assert precision_recall(real, samples, 1) == (pytest.approx(2 / 5), pytest.approx(1.0))
    assert density_coverage(real, samples, 1) == (pytest.approx(3 / 5), pytest.approx(2 / 4))
    assert precision_recall(real, samples[2:4], 1) == (0, 0)


def test_an_outlier_inflates_precision_and_not_density():
    rng = Generator(0)
    real = np.concatenate([rng.normal((100, 2), np.float64), [[100.0, 0.0]]])
    noise = 20 + 60 * rng.uniform((100, 2), np.float64)  # on the way to the outlier, where no other image is
    assert precision_recall(real, noise, 3).precision > 0.9
    assert density_coverage(real, noise, 3).density <= 1 / 3


def test_quality_and_diversity_fall_apart():
    rng = Generator(0)
    real = rng.normal((400, 2), np.float64)
    timid, wild = 0.3 * rng.normal((400, 2), np.float64), 4 * rng.normal((400, 2), np.float64)
    assert precision_recall(real, timid).precision > 0.95 > 0.5 > precision_recall(real, timid).recall
    assert precision_recall(real, wild).recall > 0.85 > 0.5 > precision_recall(real, wild).precision
    assert density_coverage(real, timid).density > 0.9 and density_coverage(real, timid).coverage < 0.6
    assert density_coverage(real, wild).density < 0.4


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 5), st.integers(3, 4), st.integers(1, 2))
def test_over_all_splits_of_a_set_the_floors_are_exact(seed, n, m, k):
    """A ball has no y if the k points nearest to its x are all of x: (n - 1) ... (n - k) / ((n + m - 1) ... (n + m - k))."""
    heap = Generator(seed).normal((n + m, 2), np.float64)
    splits = [list(chosen) for chosen in combinations(range(n + m), n)]
    found = np.mean([density_coverage(heap[s], np.delete(heap, s, axis=0), k) for s in splits], axis=0)
    uncovered = np.prod([(n - i) / (n + m - i) for i in range(1, k + 1)])
    np.testing.assert_allclose(found, [1, 1 - uncovered], rtol=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 4))
def test_over_all_splits_of_a_set_telling_apart_is_a_guess(seed, n):
    heap = Generator(seed).normal((2 * n, 2), np.float64)
    splits = [list(chosen) for chosen in combinations(range(2 * n), n)]
    found = np.mean([told_apart(heap[s], np.delete(heap, s, axis=0)) for s in splits])
    assert found == pytest.approx((n - 1) / (2 * n - 1))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 1e4))
def test_copies_are_good_cover_all_and_are_never_told_apart(seed, far):
    """Also far from 0, where rounding of distances is largest."""
    x = far + Generator(seed).normal((60, 5), np.float64)
    copies = x[Generator(seed).permutation(60)]
    assert precision_recall(x, copies, 1) == (1, 1)
    assert density_coverage(x, copies, 3) == (pytest.approx(4 / 3), 1)  # each ball of k others holds its centre, too
    assert told_apart(x, copies) == 0
    found = nearest(copies, x)
    assert (found.distance == 0).all()
    np.testing.assert_array_equal(x[found.index], copies)


def test_samples_that_flew_away_do_not_blur_the_others():
    x, y = Generator(0).normal((50, 3), np.float64), Generator(1).normal((50, 3), np.float64)
    away = np.concatenate([y, np.full((50, 3), 1e12)])
    assert precision_recall(x, away).precision == precision_recall(x, y).precision / 2
    assert density_coverage(x, away).coverage == density_coverage(x, y).coverage


def test_a_place_far_from_the_origin_does_not_show():
    x, y = Generator(0).normal((60, 3), np.float64), Generator(1).normal((60, 3), np.float64)
    for f in (precision_recall, density_coverage, told_apart):
        assert f(x + 1e8, y + 1e8) == f(x, y)


def test_blocks_order_and_orthogonal_maps_do_not_show(monkeypatch):
    rng = Generator(0)
    x, y = rng.normal((40, 3), np.float64), rng.normal((40, 3), np.float64)
    turn = np.linalg.qr(rng.normal((3, 3), np.float64))[0]
    metrics = (precision_recall, density_coverage, told_apart)
    whole = [f(x, y) for f in metrics]
    monkeypatch.setattr(points, "BLOCK", 100)
    assert [f(x, y) for f in metrics] == whole
    assert [f(x[::-1] @ turn + 5, (y @ turn + 5)[rng.permutation(40)]) for f in metrics] == whole


def test_k_and_numbers_are_checked():
    x = np.zeros((5, 2))
    for f in (precision_recall, density_coverage):
        with pytest.raises(ValueError, match=f"{f.__name__}: k = 5, but real has 5 examples, each with 4 others; draw more"):
            f(x, np.zeros((9, 2)), 5)
        with pytest.raises(ValueError, match=f"{f.__name__}: k = 3, but samples has 3 examples, each with 2 others"):
            f(x, np.zeros((3, 2)), 3)
        with pytest.raises(ValueError, match=f"{f.__name__}: k is 0; a ball reaches to the k-th nearest"):
            f(x, x, 0)
    with pytest.raises(ValueError, match="told_apart: 5 real and 4 samples; give as many of each"):
        told_apart(x, np.zeros((4, 2)))
    with pytest.raises(ValueError, match="told_apart: k = 1, but real has 1 examples"):
        told_apart(x[:1], x[:1])
