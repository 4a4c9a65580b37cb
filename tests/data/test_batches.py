import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.backend import Generator
from tinygen.data import Batches, Draws


@st.composite
def sizes(draw):
    n = draw(st.integers(1, 40))
    return n, draw(st.integers(1, n))


seeds = st.integers(0, 2**32)


@given(sizes(), seeds, st.integers(0, 3))
def test_no_row_comes_twice_in_an_epoch_and_less_than_a_batch_of_them_is_left_over(size, seed, epoch):
    n, batch_size = size
    batches = Batches(np.arange(n), batch_size, seed)
    steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    seen = np.concatenate([batches.at(step) for step in steps])
    assert len(set(seen)) == len(seen) == n - n % batch_size
    assert set(seen) <= set(range(n))


@given(sizes(), seeds, st.lists(st.integers(0, 1000), max_size=20))
def test_a_batch_depends_on_the_step_and_on_no_other_that_was_asked_for(size, seed, steps):
    n, batch_size = size
    jumping = Batches(np.arange(n), batch_size, seed)
    for step in steps + steps[::-1]:
        np.testing.assert_array_equal(jumping.at(step), Batches(np.arange(n), batch_size, seed).at(step))


@given(sizes(), seeds, st.integers(0, 100))
def test_rows_of_a_tuple_stay_together_and_keep_their_types(size, seed, step):
    n, batch_size = size
    images, labels = np.arange(n * 6, dtype=np.uint8).reshape(n, 2, 3, 1), np.arange(n)
    image, label = Batches((images, labels), batch_size, seed).at(step)
    assert image.shape == (batch_size, 2, 3, 1) and image.dtype == np.uint8 and label.dtype == labels.dtype
    np.testing.assert_array_equal(image, images[label])
    np.testing.assert_array_equal(label, Batches(labels, batch_size, seed).at(step))


def test_epochs_and_seeds_have_orders_of_their_own():
    def epoch(seed, number):
        batches = Batches(np.arange(100), 10, seed)
        return tuple(np.concatenate([batches.at(10 * number + i) for i in range(10)]))

    assert len({epoch(seed, number) for seed in range(3) for number in range(3)} | {tuple(range(100))}) == 10


def test_rows_left_over_change_from_epoch_to_epoch():
    batches = Batches(np.arange(100), 99, seed=0)
    assert len({4950 - batches.at(epoch).sum() for epoch in range(50)}) > 25


def test_every_row_is_as_likely_as_any_other_to_come_first():
    batches = Batches(np.arange(10), 10, seed=0)
    first = np.bincount([batches.at(epoch)[0] for epoch in range(2000)], minlength=10)
    assert ((first - 200) ** 2 / 200).sum() < 9 + 4 * np.sqrt(18)


def test_the_order_is_not_the_one_a_training_loop_draws_from_the_same_seed():
    batches = Batches(np.arange(100), 100, seed=0)
    for step in range(10):
        assert np.any(batches.at(step) != Generator(0).at(step).permutation(100))


def test_a_batch_is_a_copy():
    rows = np.arange(10)
    Batches(rows, 5, seed=0).at(0)[:] = -1
    np.testing.assert_array_equal(rows, np.arange(10))


@pytest.mark.parametrize(
    "arrays, batch_size, message",
    [
        (np.zeros((10, 2)), 0, "batch_size is 0; give one from 1 to the number of rows, 10"),
        (np.zeros((10, 2)), 11, "batch_size is 11; give one from 1 to the number of rows, 10"),
        (np.zeros((0, 2)), 1, "no rows"),
        ((), 1, "no arrays"),
        ((np.zeros(10), np.zeros(9)), 1, r"\[10, 9\] rows"),
    ],
)
def test_errors_say_what_is_wrong(arrays, batch_size, message):
    with pytest.raises(ValueError, match=message):
        Batches(arrays, batch_size, seed=0)


def test_a_list_of_arrays_and_a_part_of_a_row_are_refused():
    with pytest.raises(TypeError, match="arrays is a list; give one array, or a tuple"):
        Batches([np.zeros(9), np.zeros(9)], 1, seed=0)
    with pytest.raises(TypeError, match="batch_size is 2.0, not an integer"):
        Batches(np.zeros(9), 2.0, seed=0)


def test_steps_count_from_zero():
    with pytest.raises(ValueError, match="-1"):
        Batches(np.zeros(3), 1, seed=0).at(-1)


def test_draws_are_not_the_order_of_an_epoch_of_the_same_seed():
    shuffled, drawn = Batches(np.arange(100), 100, seed=0), Draws(lambda rng: rng.permutation(100), seed=0)
    for step in range(5):
        assert np.any(shuffled.at(step) != drawn.at(step))


def test_draws_depend_on_seed_and_step_alone_and_are_not_what_a_training_loop_draws():
    batches = Draws(lambda rng: rng.normal((5,)), seed=3)
    np.testing.assert_array_equal(batches.at(7), Draws(lambda rng: rng.normal((5,)), seed=3).at(7))
    seen = [batches.at(7), batches.at(8), Draws(lambda rng: rng.normal((5,)), seed=4).at(7), Generator(3).at(7).normal((5,))]
    assert len({a.tobytes() for a in seen}) == 4
    with pytest.raises(ValueError, match="at least 0"):
        batches.at(-1)
