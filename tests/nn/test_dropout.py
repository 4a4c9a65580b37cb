"""Dropout: how much is dropped, that the mean stays, and that it never happens unasked."""

import numpy as np
import pytest

from tinygen import Generator, check_grads, grad
from tinygen.nn import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_share_of_rate_is_dropped_and_the_rest_scaled_up(rate):
    x = 1 + Generator(1).uniform((400, 500))
    y = Dropout(rate)(x, Generator(0))
    dropped = y == 0
    assert abs(dropped.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / x.size)
    np.testing.assert_allclose(y[~dropped], x[~dropped] / (1 - rate), rtol=1e-6)
    assert y.dtype == np.float32


def test_the_mean_stays():
    y = Dropout(0.3)(np.ones((400, 500), np.float32), Generator(0))
    assert abs(y.mean() - 1) < 5 * np.sqrt(0.3 / 0.7 / y.size)


def test_elements_are_dropped_independently():
    keep = Dropout(0.5)(np.ones((2000, 40), np.float32), Generator(0)) > 0
    correlations = np.corrcoef(keep.T)[np.triu_indices(40, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(2000)  # 780 of them, each of standard deviation 1 / sqrt(2000)


def test_without_an_rng_or_with_rate_0_nothing_happens():
    x = Generator(1).normal((3, 4))
    assert Dropout(0.5)(x, None) is x
    assert Dropout(0.0)(x, Generator(0)) is x


def test_the_rng_cannot_be_forgotten():
    with pytest.raises(TypeError, match="rng"):
        Dropout(0.5)(np.ones(3))


def test_the_same_rng_drops_the_same_and_the_next_call_others():
    rng, x = Generator(3), np.ones(100, np.float32)
    first = Dropout(0.5)(x, rng)
    assert (first == Dropout(0.5)(x, Generator(3))).all()
    assert (first != Dropout(0.5)(x, rng)).any()


def test_gradients_pass_where_the_value_does():
    x = Generator(1).normal((5, 6))
    check_grads(lambda x: Dropout(0.4)(x * x, Generator(0)), (x,))
    g = grad(lambda x: Dropout(0.5)(x, Generator(0)).sum())(x)
    np.testing.assert_array_equal(g, 2.0 * (Dropout(0.5)(np.ones_like(x), Generator(0)) > 0))


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(ValueError, match="Dropout: the rate is the probability of dropping"):
        Dropout(rate)
