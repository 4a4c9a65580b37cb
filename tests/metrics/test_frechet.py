"""The Frechet distance, against closed forms: of numbers, of covariances that commute, and of moved copies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator
from tinygen.metrics import frechet_distance, frechet_of_gaussians

few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32)
sizes = st.integers(1, 6)


def gaussian(rng, d, rank=None):
    """A mean (d,) and a covariance (d, d) of that rank, by default full."""
    factor = rng.normal((d if rank is None else rank, d), np.float64)
    return 2 * rng.normal(d, np.float64), factor.T @ factor


def orthogonal(rng, d):
    return np.linalg.qr(rng.normal((d, d), np.float64))[0]


@few
@given(m=st.floats(-5, 5), n=st.floats(-5, 5), s=st.floats(0, 4), t=st.floats(0, 4))
def test_of_numbers_it_is_the_squared_differences_of_means_and_standard_deviations(m, n, s, t):
    found = frechet_of_gaussians([m], [[s * s]], [n], [[t * t]])
    assert found == pytest.approx((m - n) ** 2 + (s - t) ** 2, abs=1e-13)


@few
@given(seeds, sizes)
def test_where_covariances_commute_it_compares_the_standard_deviations_along_the_common_axes(seed, d):
    rng = Generator(seed)
    axes, s, t = orthogonal(rng, d), 3 * rng.uniform(d, np.float64), 3 * rng.uniform(d, np.float64)
    s[0] = 0  # singular
    found = frechet_of_gaussians(np.zeros(d), axes * s**2 @ axes.T, np.ones(d), axes * t**2 @ axes.T)
    assert found == pytest.approx(d + ((s - t) ** 2).sum(), abs=1e-6)


@few
@given(seeds, sizes)
def test_a_symmetric_positive_map_is_the_shortest_way_so_its_cost_is_the_distance(seed, d):
    """For A symmetric with positive eigenvalues, x -> A x + c is the best transport from N(m, S) to N(A m + c, A S A)."""
    rng = Generator(seed)
    (m, S), (c, A) = gaussian(rng, d), gaussian(rng, d)
    cost = ((A @ m + c - m) ** 2).sum() + np.trace((A - np.eye(d)) @ S @ (A - np.eye(d)))
    assert frechet_of_gaussians(m, S, A @ m + c, A @ S @ A) == pytest.approx(cost, rel=1e-6, abs=1e-6)


@few
@given(seeds, sizes, st.integers(0, 6), st.integers(0, 6))
def test_it_is_a_squared_distance_also_between_singular_gaussians(seed, d, rank, other_rank):
    rng = Generator(seed)
    p, q, r = gaussian(rng, d, min(rank, d)), gaussian(rng, d, min(other_rank, d)), gaussian(rng, d)
    assert frechet_of_gaussians(*p, *q) == pytest.approx(frechet_of_gaussians(*q, *p), rel=1e-9, abs=1e-9)
    root = [np.sqrt(frechet_of_gaussians(*a, *b)) for a, b in ((p, r), (p, q), (q, r))]
    assert root[0] <= root[1] + root[2] + 1e-6
    assert frechet_of_gaussians(*p, *p) < 1e-10


@few
@given(seeds, sizes, st.floats(0.01, 3))
def test_it_is_zero_only_at_equality(seed, d, step):
    m, S = gaussian(Generator(seed), d)
    direction = np.eye(d)[0]
    assert frechet_of_gaussians(m, S, m + step * direction, S) == pytest.approx(step**2, rel=1e-5, abs=1e-8)
    # By what tr changes alone, at least: W_2 >= |(E|x - m|^2)^1/2 - (E|y - n|^2)^1/2|.
    wider = S + step * np.outer(direction, direction)
    assert frechet_of_gaussians(m, S, m, wider) >= (np.sqrt(np.trace(wider)) - np.sqrt(np.trace(S))) ** 2 - 1e-9
    assert frechet_of_gaussians(m, S, m, wider) > 0


@few
@given(seeds, st.integers(2, 12), st.integers(2, 12), sizes)
def test_of_samples_it_is_that_of_their_means_and_covariances(seed, n, m, d):
    """Also of fewer samples than dimensions, and with a feature that never varies."""
    rng = Generator(seed)
    x, y = rng.normal((n, d + 1), np.float64), 2 * rng.normal((m, d + 1), np.float64) + 1
    x[:, -1] = 3.0
    moments = [(z.mean(axis=0), np.cov(z, rowvar=False).reshape(d + 1, d + 1)) for z in (x, y)]
    assert frechet_distance(x, y) == pytest.approx(frechet_of_gaussians(*moments[0], *moments[1]), rel=1e-6, abs=1e-6)


@few
@given(seeds, st.integers(2, 30), sizes)
def test_turning_moving_and_shuffling_both_sets_changes_nothing(seed, n, d):
    rng = Generator(seed)
    x, y = rng.normal((n, d), np.float64), rng.normal((n + 2, d), np.float64) * 1.5
    turn, way = orthogonal(rng, d), rng.normal(d, np.float64)
    moved = frechet_distance((x @ turn + way)[rng.permutation(n)], (y @ turn + way)[rng.permutation(n + 2)])
    assert moved == pytest.approx(frechet_distance(x, y), rel=1e-9, abs=1e-9)
    assert frechet_distance(2 * x, 2 * y) == pytest.approx(4 * frechet_distance(x, y), rel=1e-9, abs=1e-9)


@few
@given(seeds, st.integers(2, 40))
def test_copies_are_at_distance_zero_to_rounding_also_far_from_zero(seed, n):
    rng = Generator(seed)
    x = 1000 + rng.normal((n, 20), np.float64)
    assert frechet_distance(x, x[rng.permutation(n)]) < 1e-10
    assert frechet_distance(x, x + 1e-3) == pytest.approx(20e-6, rel=1e-4)


def test_images_are_flattened_and_float32_is_enough():
    x, y = Generator(0).normal((50, 4, 4, 1)), Generator(1).normal((60, 4, 4, 1))
    flat = [z.reshape(len(z), 16).astype(np.float64) for z in (x, y)]
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(*flat), rel=1e-12)


def test_what_is_no_covariance_is_refused():
    eye, zero = np.eye(2), np.zeros(2)
    with pytest.raises(ValueError, match=r"S is not a finite symmetric matrix; give a covariance"):
        frechet_of_gaussians(zero, [[1, 1], [0, 1]], zero, eye)
    with pytest.raises(ValueError, match=r"T is not a finite symmetric"):
        frechet_of_gaussians(zero, eye, zero, eye * np.nan)
    with pytest.raises(ValueError, match=r"T has the eigenvalue -1"):
        frechet_of_gaussians(zero, eye, zero, np.diag([1.0, -1.0]))
    with pytest.raises(ValueError, match=r"means \(2,\) and \(3,\), covariances \(2, 2\) and \(2, 2\)"):
        frechet_of_gaussians(zero, eye, np.zeros(3), eye)
    with pytest.raises(ValueError, match="a mean has NaN or infinity"):
        frechet_of_gaussians(zero, eye, [0.0, np.nan], eye)


def test_what_is_too_large_for_squares_is_not_called_equal():
    with np.errstate(all="ignore"):
        assert not frechet_distance(np.array([[1e200], [-1e200]]), np.array([[3e200], [-2e200]])) < np.inf
