"""The checker of gradients: it accepts what is right, and every planted fault makes it fail at the order where the fault is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygen import Primitive, check_grads, module, ops, stop_gradient

POINT = (np.array([[0.4, -0.7], [1.2, 0.9]]),)


def with_rule(forward, rule):
    """y = forward(x) with the rule g, x -> rule(g, x)."""
    p = Primitive(forward)
    p.__name__ = "planted"
    return p.rule(x=lambda g, x: rule(g, x))


def sine(rule):
    return with_rule(lambda x: np.sin(x), rule)


def cube_with_second_derivative(slope):
    """x^3 whose first rule, g 3 x^2, is right, while that rule's own rule is `slope` instead of 6 x."""
    square = with_rule(lambda x: 3 * x * x, slope)
    return with_rule(lambda x: x**3, lambda g, x: g * square(x))


def cube_with_third_derivative(slope):
    return with_rule(lambda x: x**3, lambda g, x: g * (0.5 * cube_with_second_derivative_of_square(slope)(x)))


def cube_with_second_derivative_of_square(slope):
    line = with_rule(lambda x: 12 * x, slope)
    return with_rule(lambda x: 6 * x * x, lambda g, x: g * line(x))


FAULTS = {
    "wrong sign": (sine(lambda g, x: -g * ops.cos(x)), 1),
    "wrong factor": (sine(lambda g, x: 1.001 * g * ops.cos(x)), 1),
    "cotangent forgotten": (sine(lambda g, x: ops.cos(x)), 1),
    "zero": (sine(lambda g, x: g * 0.0), 1),
    "none": (sine(lambda g, x: None), 1),
    "not a number": (sine(lambda g, x: g * np.nan), 1),
    "wrong in one element": (sine(lambda g, x: g * ops.cos(x) * np.array([[1.0, 1.0], [1.0, 1.0001]])), 1),
    "missing broadcast": (with_rule(lambda x: x - x.mean(), lambda g, x: g), 1),
    "sum over the wrong axis": (with_rule(lambda x: x.cumsum(axis=0), lambda g, x: ops.cumsum(g, axis=1, reverse=True)), 1),
    "transposed": (with_rule(lambda x: x.T * 1.0, lambda g, x: g), 1),
    "off by a constant": (sine(lambda g, x: g * (ops.cos(x) + 1e-4)), 1),
    "right first, wrong second": (cube_with_second_derivative(lambda g, x: g * 3 * x), 2),
    "right first, zero second": (cube_with_second_derivative(lambda g, x: None), 2),
    "right first, NaN second": (cube_with_second_derivative(lambda g, x: g * np.nan), 2),
    "constant in the backward pass": (sine(lambda g, x: g * np.cos(stop_gradient(x))), 2),
    "right first and second, wrong third": (cube_with_third_derivative(lambda g, x: 11 * g), 3),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught_at_its_order(fault):
    f, order = FAULTS[fault]
    with pytest.raises(AssertionError, match=rf"^planted: order {order}: reverse mode gives .* wrong at order {order}"):
        check_grads(f, POINT, order=order)
    if order > 1:
        assert len(check_grads(f, POINT, order=order - 1)) == order - 1  # and it is right below that order


def test_the_same_functions_without_the_fault_pass():
    for f in (
        sine(lambda g, x: g * ops.cos(x)),
        cube_with_second_derivative(lambda g, x: g * 6 * x),
        cube_with_third_derivative(lambda g, x: 12 * g),
    ):
        errors = check_grads(f, POINT, order=3)
        assert len(errors) == 3 and max(errors) < 1e-8


@pytest.mark.parametrize("seed", range(20))
def test_a_small_fault_is_caught_along_every_random_direction(seed):
    with pytest.raises(AssertionError):
        check_grads(FAULTS["wrong factor"][0], POINT, seed=seed)


@given(n=st.integers(1, 40), where=st.integers(0, 39), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_fault_in_one_of_many_elements_is_caught(n, where, seed):
    mask = np.ones(n)
    mask[where % n] = -1
    f = with_rule(lambda x: x * 1.0, lambda g, x: g * mask)
    with pytest.raises(AssertionError):
        check_grads(f, (np.ones(n),), order=1, seed=seed)


@given(x=hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=3), elements=st.floats(-1.5, 1.5)))
@settings(max_examples=20, deadline=None)
def test_right_gradients_pass_at_three_orders(x):
    errors = check_grads(lambda x: ops.tanh(x) * ops.exp(0.5 * x), (x,), order=3)
    assert len(errors) == 3 and max(errors) < 1e-6


def test_a_rule_of_a_wrong_shape_is_an_error_of_its_own():
    f = with_rule(lambda x: x.sum(axis=1), lambda g, x: g[:, None] * 1.0)
    with pytest.raises(ValueError, match="a rule of planted returned a cotangent of shape"):
        check_grads(f, POINT)


def test_every_argument_is_checked():
    product = Primitive(lambda a, b: a * b).rule(a=lambda g, b: g * b, b=lambda g, a: -g * a)
    check_grads(lambda a: product(a, np.ones(3)), (np.ones(3),))
    with pytest.raises(AssertionError, match="order 1"):
        check_grads(product, (np.ones(3), np.ones(3)))


def test_numbers_are_checked_too():
    assert len(check_grads(lambda x: x**3, (2.0,))) == 2
    with pytest.raises(AssertionError, match="order 1"):
        check_grads(lambda x: x * stop_gradient(x), (2.0,))


def test_trees_are_taken_and_returned():
    @module
    class Line:
        slope: object
        shift: object
        name: str = "line"

    def f(line, xs):
        return {"y": [line.slope * x + line.shift for x in xs], "square": (line.slope**2).sum()}

    line, xs = Line(np.ones(3), np.array(2.0)), (np.ones(3), np.zeros((2, 1)))
    assert max(check_grads(f, (line, xs))) < 1e-9

    def wrong(line, xs):
        return f(Line(line.slope, stop_gradient(line.shift)), xs)

    with pytest.raises(AssertionError, match="wrong: order 1"):
        check_grads(wrong, (line, xs))


def test_a_fault_in_one_of_several_results_is_caught():
    with pytest.raises(AssertionError, match="order 1"):
        check_grads(lambda x: (x * x, x * stop_gradient(x)), POINT)


def test_float32_arguments_are_checked_in_float64():
    seen = []
    check_grads(lambda x: seen.append(x.dtype) or x * x, (np.ones(2, np.float32),))
    assert set(seen) == {np.dtype(np.float64)}


def test_a_kink_at_the_point_is_not_accepted():
    with pytest.raises(AssertionError, match="not smooth here"):
        check_grads(ops.absolute, (np.array([1e-4]),), order=1)


def test_the_arguments_are_not_changed():
    x = np.ones((2, 2))
    x.flags.writeable = False
    check_grads(lambda x: x @ x, (x,))


def test_zero_size_arrays_pass():
    assert check_grads(lambda x: x * x, (np.zeros((0, 3)),)) == [0, 0]
