"""Log-likelihoods in one pass against their formulas in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, check_grads, grad, ops


def formula(x, l):
    return x * l - np.logaddexp(0, l)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-6), (np.float64, 1e-14)])
@settings(max_examples=30, deadline=None)
@given(x=st.floats(0, 1), l=st.floats(-1e4, 1e4))
def test_bernoulli_log_prob_is_x_l_minus_softplus(dtype, tolerance, x, l):
    x, l = np.full(3, x, dtype), np.full(3, l, dtype)
    y = ops.bernoulli_log_prob(x, l)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, formula(x.astype(np.float64), l.astype(np.float64)), atol=tolerance * (1 + np.abs(l).max()))


@pytest.mark.parametrize("x_shape, l_shape", [((3,), (3,)), ((4, 3), (2, 4, 3)), ((3,), (4, 3)), ((4, 1), (1, 3)), ((0,),) * 2])
def test_bernoulli_log_prob_broadcasts_and_has_gradients_of_second_order(x_shape, l_shape):
    rng = Generator(0)
    x, l = rng.uniform(x_shape, np.float64), rng.normal(l_shape, np.float64)
    np.testing.assert_allclose(ops.bernoulli_log_prob(x, l), formula(x, l), rtol=1e-12)
    check_grads(ops.bernoulli_log_prob, (x, l))
    check_grads(ops.bernoulli_residual, (x, l))


def test_its_gradient_is_the_residual_and_finite_at_extreme_logits():
    l = np.array([-1e4, -100, 0, 100, 1e4], np.float32)
    g = grad(lambda l: ops.bernoulli_log_prob(np.full(5, 0.25, np.float32), l).sum())(l)
    assert g.dtype == np.float32
    np.testing.assert_allclose(g, [0.25, 0.25, -0.25, -0.75, -0.75], rtol=1e-6)
    second = grad(lambda l: (grad(lambda l: ops.bernoulli_log_prob(np.zeros(5), l).sum())(l)).sum())(l.astype(np.float64))
    np.testing.assert_allclose(second, [0, -np.exp(-100), -0.25, -np.exp(-100), 0], atol=1e-18)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,)])
def test_categorical_log_prob_is_a_chosen_log_softmax_and_has_gradients_of_second_order(shape):
    rng = Generator(0)
    logits, x = rng.normal((*shape, 4), np.float64), rng.integers(0, 4, shape)
    chosen = np.take_along_axis(ops.log_softmax(logits), x[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(ops.categorical_log_prob(x, logits), chosen, rtol=1e-12)
    check_grads(lambda logits: ops.categorical_log_prob(x, logits), (logits,))
    check_grads(lambda g, logits: ops.categorical_log_prob_gradient(g, x, logits), (rng.normal(shape, np.float64), logits))


def test_categorical_log_prob_is_finite_at_extreme_logits():
    logits = np.array([[1e4, 0, -1e4]], np.float32)
    for x, value, slope in ((0, 0, [0, 0, 0]), (2, -2e4, [-1, 0, 1])):
        x = np.array([x])
        np.testing.assert_allclose(ops.categorical_log_prob(x, logits), [value])
        np.testing.assert_allclose(grad(lambda l: ops.categorical_log_prob(x, l).sum())(logits), [slope])  # noqa: B023


@pytest.mark.parametrize(
    "x, error, message",
    [
        (np.zeros(2), TypeError, "must be integers, not float64"),
        (np.zeros(3, int), ValueError, "must have the logits' shape without its last axis"),
        (np.array([0, 4]), IndexError, "x lies in 0 .. 4, but there are 4 classes"),
        (np.array([0, -1]), IndexError, "x lies in -1 .. 0"),
    ],
)
def test_categorical_log_prob_refuses_choices_that_are_none(x, error, message):
    with pytest.raises(error, match=message):
        ops.categorical_log_prob(x, np.zeros((2, 4), np.float32))
