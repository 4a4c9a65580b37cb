"""Divergences against closed forms, and grids whose cells are where they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demos.divergences import Grid, jensen_shannon, kl_on_grid
from tinygen import Generator, plot

LINE, PLANE = Grid(1, 6.0, 30, 20), Grid(2, 6.0, 12, 10)
both = pytest.mark.parametrize("grid", [LINE, PLANE], ids=["line", "plane"])


def gaussian(x, mean, std):
    """log N(x; mean, std^2 I), (n,)."""
    return (-(((x - mean) / std) ** 2) / 2 - math.log(std) - math.log(2 * math.pi) / 2).sum(axis=1)


def shares(n):
    return st.lists(st.floats(0.01, 1), min_size=n, max_size=n).map(lambda parts: np.array(parts) / sum(parts))


@both
@given(mean=st.floats(-0.5, 0.5), std=st.floats(0.5, 0.8))
def test_kl_of_two_gaussians_is_the_closed_form(grid, mean, std):
    p, q = gaussian(grid.points, mean, std), gaussian(grid.points, 0.2, 0.8)
    closed = math.log(0.8 / std) + (std**2 + (mean - 0.2) ** 2) / (2 * 0.8**2) - 0.5
    assert kl_on_grid(p, q, grid.volume) == pytest.approx(grid.dimensions * closed, abs=1e-6)


def test_kl_does_not_count_where_the_truth_is_0_and_is_infinite_where_the_model_misses_it():
    half, whole = np.array([0.0, -np.inf]), np.log([0.5, 0.5])
    assert kl_on_grid(half, whole, 1.0) == pytest.approx(math.log(2))
    assert kl_on_grid(whole, half, 1.0) == math.inf
    assert kl_on_grid(np.array([0.0, -800.0]), np.array([0.0, -np.inf]), 1.0) == 0  # e^-800 is 0


@given(shares(5), shares(5))
def test_jensen_shannon_is_symmetric_and_within_0_and_log_2(p, q):
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p))
    assert -1e-12 <= jensen_shannon(p, q) < math.log(2)


@given(shares(4), st.floats(0.01, 0.99))
def test_jensen_shannon_where_a_part_has_moved_elsewhere_is_the_closed_form(p, t):
    here, moved = np.concatenate([p, 0 * p]), np.concatenate([(1 - t) * p, t * p])
    closed = (-math.log(1 - t / 2) + (1 - t) * math.log((1 - t) / (1 - t / 2)) + t * math.log(2)) / 2
    assert jensen_shannon(here, moved) == pytest.approx(closed)
    assert jensen_shannon(here, here) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(here, here[::-1]) == pytest.approx(math.log(2))


@both
def test_the_smaller_cells_fill_the_square_and_each_cell_has_as_many(grid):
    counts = np.bincount(grid.numbers(grid.places(grid.points)))
    assert counts.tolist() == [grid.fine**grid.dimensions] * grid.cells**grid.dimensions
    assert len(grid.points) * grid.volume == pytest.approx((2 * grid.side) ** grid.dimensions)


def test_points_of_the_plane_are_those_of_its_plots():
    points, area = plot.plane((-6, 6, -6, 6), 120)
    np.testing.assert_allclose(PLANE.points, points)
    assert PLANE.volume == pytest.approx(area)


def test_a_point_is_counted_in_its_column_and_row_and_outside_apart():
    grid = Grid(2, 1.0, 4, 1)
    x = np.array([[-0.9, -0.9], [0.9, -0.9], [-0.9, -0.4], [0.1, 0.6], [1.1, 0.0], [0.0, -1.1]])
    assert grid.numbers(grid.places(x)).tolist() == [0, 3, 4, 14, 16, 16]
    assert grid.shares(x)[[0, 3, 4, 14, 16]].tolist() == pytest.approx([1 / 6] * 4 + [2 / 6])


@both
def test_integrals_over_cells_are_those_of_the_density_and_what_is_missing(grid):
    inside = grid.integrals(gaussian(grid.points, 0.0, 0.7))
    assert inside.sum() == pytest.approx(1) and inside[-1] == pytest.approx(0, abs=1e-9)
    assert grid.integrals(gaussian(grid.points, 0.0, 0.7) - math.log(4))[-1] == pytest.approx(0.75)
    width, middle = 2 * grid.side / grid.cells, grid.cells // 2  # the cell from 0 to the width, in each coordinate
    closed = (math.erf(width / 0.7 / math.sqrt(2)) / 2) ** grid.dimensions
    assert inside[middle * sum(grid.cells**k for k in range(grid.dimensions))] == pytest.approx(closed, rel=2e-3)


@both
def test_an_evened_density_is_flat_in_cells_keeps_their_shares_and_is_a_little_away(grid):
    p = gaussian(grid.points, 0.0, 1.0)
    evened = grid.evened(p)
    np.testing.assert_allclose(grid.integrals(evened), grid.integrals(p), atol=1e-12)
    cells = grid.numbers(grid.places(grid.points))
    assert all(np.ptp(evened[cells == cell]) < 1e-9 for cell in np.unique(cells)[::7])
    width = 2 * grid.side / grid.cells
    assert 0.5 < kl_on_grid(p, evened, grid.volume) / (grid.dimensions * width**2 / 24) < 1.1  # E|p'/p|^2 = 1 a dimension


@both
def test_what_is_drawn_from_a_density_on_the_grid_has_its_mean_and_its_spread(grid):
    x = grid.draw(gaussian(grid.points, 1.0, 0.5) + 7.0, Generator(0), 20_000)  # not normalised
    assert x.shape == (20_000, grid.dimensions)
    np.testing.assert_allclose(x.mean(axis=0), 1.0, atol=0.02)
    width = 2 * grid.side / (grid.cells * grid.fine)
    np.testing.assert_allclose(x.var(axis=0), 0.25 + width**2 / 12, rtol=0.04)


@both
def test_samples_of_the_density_itself_are_as_near_to_it_as_their_number_says(grid):
    p = gaussian(grid.points, 0.0, 1.0)
    seen = [jensen_shannon(grid.integrals(p), grid.shares(grid.draw(p, Generator(seed), 4000))) for seed in range(3)]
    filled = (grid.integrals(p) > 1 / 4000).sum()
    assert 0.3 < np.mean(seen) / (filled / (8 * 4000)) < 2
