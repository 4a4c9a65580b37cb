"""Copies are found out, and new data are not."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator
from tinygen.metrics import copying, distance_to_nearest
from tinygen.metrics.points import share_below

few = settings(max_examples=30, deadline=None)


@few
@given(st.integers(0, 2**32), st.integers(1, 20), st.floats(-1e3, 1e3))
def test_copies_are_at_distance_zero(seed, n, far):
    training = far + Generator(seed).normal((20, 4))
    copies = training[Generator(seed).integers(0, 20, n)]
    assert distance_to_nearest(training, copies) == 0
    assert copying(training, training + 1, copies) == 1


@few
@given(st.integers(0, 2**32), st.floats(0.01, 0.4))
def test_on_a_lattice_the_distance_is_the_step_away_from_it(seed, step):
    lattice = np.array([(a, b) for a in range(4) for b in range(4)], float)
    steps = step * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])[Generator(seed).integers(0, 4, 16)]
    assert distance_to_nearest(lattice, lattice + steps) == pytest.approx(step)


@few
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8), st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_copying_counts_pairs(of_held_out, of_samples):
    """One training example, at 0: the distances are the numbers themselves."""
    held_out, samples = (np.array(values, float)[:, None] for values in (of_held_out, of_samples))
    pairs = [(abs(s) < abs(h)) + (abs(s) == abs(h)) / 2 for s in of_samples for h in of_held_out]
    assert copying(np.zeros((1, 1)), held_out, samples) == pytest.approx(np.mean(pairs))


@few
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4))
def test_over_all_splits_new_data_are_copied_half_of_the_time(seed, n, m):
    rng = Generator(seed)
    training, heap = rng.normal((5, 2), np.float64), rng.normal((n + m, 2), np.float64)
    splits = [list(chosen) for chosen in combinations(range(n + m), n)]
    assert np.mean([copying(training, heap[s], np.delete(heap, s, axis=0)) for s in splits]) == pytest.approx(1 / 2)


def test_bad_samples_copy_nothing():
    rng = Generator(0)
    training, held_out = rng.normal((100, 3)), rng.normal((100, 3))
    assert copying(training, held_out, held_out + 20) == 0
    assert copying(training, held_out, training + 1e-3 * rng.normal((100, 3))) > 0.95


@few
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8), st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_equal_numbers_are_half_below(among, values):
    found = share_below(np.array(among, float), np.array(values, float))
    np.testing.assert_allclose(found, [np.mean([(a < v) + (a == v) / 2 for a in among]) for v in values], rtol=1e-12)
