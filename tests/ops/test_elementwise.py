"""Elementwise operations: values and dtypes against NumPy in float64, derivatives of two orders, extremes, kinks, ties."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygen import check_grads, grad, ops, vjp

few = settings(max_examples=12, deadline=None)
DTYPES = np.float32, np.float64
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
close = np.testing.assert_allclose

LAYOUTS = [
    lambda x: x,
    lambda x: np.array(x.T, order="C").T,
    lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    lambda x: np.ascontiguousarray(x[::-1])[::-1] if x.ndim else x,
    lambda x: np.broadcast_to(x, (2, *x.shape))[1],  # read-only
]


@st.composite
def arrays(draw, shape, low, high, kink=None):
    """An array in some layout with numbers between low and high, a tenth away from a kink."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.uniform(low, high, shape)
    if kink is not None:
        x = np.where(abs(x - kink) < 0.1, kink + np.where(x < kink, -0.1, 0.1), x)
    return draw(st.sampled_from(LAYOUTS))(x)


shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
pairs_of_shapes = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3).map(
    lambda s: s.input_shapes
)


def assert_agrees_with_numpy(op, reference, *args):
    """Value and gradient in the dtype of the arguments, and the value that of the reference in float64."""
    for dtype in DTYPES:
        cast = [x.astype(dtype) for x in args]
        y, pullback = vjp(op, *cast)
        assert y.dtype == dtype and type(op(*cast)) is type(y)
        expected = reference(*(x.astype(np.float64) for x in cast))
        assert y.shape == np.shape(expected)
        close(y, expected, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)
        for x, g in zip(cast, pullback(np.ones(y.shape, dtype))):
            assert g.dtype == dtype and g.shape == x.shape


def erf(x):
    return np.vectorize(math.erf, otypes=[float])(x)


UNARY = {  # operation: its reference, and an interval to draw from, with a kink to avoid
    ops.negative: (lambda x: -x, -2, 2),
    ops.exp: (np.exp, -2, 2),
    ops.expm1: (np.expm1, -2, 2),
    ops.log: (np.log, 0.2, 3),
    ops.log1p: (np.log1p, -0.7, 3),
    ops.sqrt: (np.sqrt, 0.2, 3),
    ops.square: (np.square, -2, 2),
    ops.sin: (np.sin, -4, 4),
    ops.cos: (np.cos, -4, 4),
    ops.tanh: (np.tanh, -2, 2),
    ops.sigmoid: (lambda x: 1 / (1 + np.exp(-x)), -4, 4),
    ops.softplus: (lambda x: np.log(1 + np.exp(x)), -4, 4),
    ops.log_sigmoid: (lambda x: -np.log(1 + np.exp(-x)), -4, 4),
    ops.silu: (lambda x: x / (1 + np.exp(-x)), -4, 4),
    ops.erf: (erf, -2, 2),
    ops.gelu: (lambda x: x * (1 + erf(x / np.sqrt(2))) / 2, -3, 3),
    ops.relu: (lambda x: x * (x > 0), -2, 2, 0),
    ops.leaky_relu: (lambda x: np.where(x > 0, x, 0.2 * x), -2, 2, 0),
    ops.absolute: (np.abs, -2, 2, 0),
}


@pytest.mark.parametrize("op", UNARY, ids=lambda op: op.__name__)
@given(data=st.data())
@few
def test_functions_of_one_array(op, data):
    reference, *domain = UNARY[op]
    x = data.draw(arrays(data.draw(shapes), *domain))
    assert_agrees_with_numpy(op, reference, x)
    check_grads(op, (x,), order=2)


BINARY = {  # operation: its reference, and an interval for each argument
    ops.add: (np.add, (-2, 2), (-2, 2)),
    ops.subtract: (np.subtract, (-2, 2), (-2, 2)),
    ops.multiply: (np.multiply, (-2, 2), (-2, 2)),
    ops.divide: (np.divide, (-2, 2), (0.3, 2)),
    ops.power: (np.power, (0.3, 2), (-2, 2)),
}


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
@given(data=st.data())
@few
def test_functions_of_two_arrays_that_broadcast(op, data):
    reference, *domains = BINARY[op]
    a, b = (data.draw(arrays(shape, *domain)) for shape, domain in zip(data.draw(pairs_of_shapes), domains))
    assert_agrees_with_numpy(op, reference, a, b)
    check_grads(op, (a, b), order=2)


@pytest.mark.parametrize("op, reference", [(ops.maximum, np.maximum), (ops.minimum, np.minimum)])
@given(data=st.data())
@few
def test_the_larger_and_the_smaller(op, reference, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    even, odd = (2 * rng.integers(-4, 5, shape) / 8 + shift for shape, shift in zip(data.draw(pairs_of_shapes), (0, 0.125)))
    assert_agrees_with_numpy(op, reference, even, odd)
    check_grads(op, (even, odd), order=2)


@given(data=st.data())
@few
def test_where_takes_from_one_array_or_the_other(data):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, min_side=0, max_side=3)).input_shapes
    condition = data.draw(arrays(shapes[0], -1, 1)) > 0
    a, b = (data.draw(arrays(shape, -2, 2)) for shape in shapes[1:])
    assert_agrees_with_numpy(lambda a, b: ops.where(condition, a, b), lambda a, b: np.where(condition, a, b), a, b)
    check_grads(lambda a, b: ops.where(condition, a, b), (a, b), order=2)


@given(data=st.data())
@few
def test_clip_limits(data):
    x = data.draw(arrays(data.draw(shapes), -3, 3, kink=0.5))
    x = np.where(abs(x + 1) < 0.1, -1.2, x)
    assert_agrees_with_numpy(lambda x: ops.clip(x, -1, 0.5), lambda x: np.clip(x, -1, 0.5), x)
    check_grads(lambda x: ops.clip(x, -1, 0.5), (x,), order=2)


@given(x=st.floats(-3, 3))
@few
def test_sign_is_a_constant(x):
    assert ops.sign(np.float32(x)) == np.sign(np.float32(x)) and ops.sign(np.float32(x)).dtype == np.float32
    assert grad(lambda x: ops.sign(x) * x)(x) == np.sign(x)


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
def test_leaky_relu_has_the_slope_asked_for(slope):
    x = np.array([-2.0, 3.0])
    close(ops.leaky_relu(x, slope=slope), [-2 * slope, 3])
    close(vjp(lambda x: ops.leaky_relu(x, slope=slope), x)[1](np.ones(2))[0], [slope, 1])


# Extremes. Warnings are errors in this suite, so an overflow on the way to a right answer fails too.


def digits(f):
    """A function of one number, evaluated with so many digits that 1 + 1e-308 is not 1, and rounded."""

    def rounded(x):
        with localcontext() as context:
            context.prec = 340
            return float(f(Decimal(float(x))))

    return rounded


def sigmoid(x):
    return 1 / (1 + (-x).exp())


def normal_cdf(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def normal_pdf(x):
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


EXTREMES = {  # operation: value, slope, and where terms cancel, how many epsilons of 1 or |x| are lost in each
    ops.sigmoid: (digits(sigmoid), digits(lambda x: sigmoid(x) * sigmoid(-x)), 0, 1),
    ops.softplus: (digits(lambda x: (1 + x.exp()).ln()), digits(sigmoid), 0, 0),
    ops.log_sigmoid: (digits(lambda x: sigmoid(x).ln()), digits(lambda x: sigmoid(-x)), 0, 0),
    ops.tanh: (digits(lambda x: 2 * sigmoid(2 * x) - 1), digits(lambda x: 4 * sigmoid(2 * x) * sigmoid(-2 * x)), 0, 2),
    ops.silu: (digits(lambda x: x * sigmoid(x)), digits(lambda x: sigmoid(x) * (1 + x * sigmoid(-x))), 0, 2),
    ops.gelu: (lambda x: x * normal_cdf(x), lambda x: normal_cdf(x) + x * normal_pdf(x), 1, 2),
    ops.expm1: (digits(lambda x: x.exp() - 1), digits(lambda x: x.exp()), 0, 1),
    ops.exp: (digits(lambda x: x.exp()), digits(lambda x: x.exp()), 0, 0),
}
GROWING = ops.exp, ops.expm1
POINTS = [0, 1e-30, 1e-8, 1e-3, 0.5, 5, 17, 40, 88, 104, 700, 800, 1e4]


@pytest.mark.parametrize("op", EXTREMES, ids=lambda op: op.__name__)
@every_dtype
def test_values_and_slopes_at_extremes(op, dtype):
    value, slope, lost_in_value, lost_in_slope = EXTREMES[op]
    points = [*(-p for p in POINTS), *(p for p in POINTS if op not in GROWING or p < 50)]
    for x in np.array(points, dtype):
        y, pullback = vjp(op, x)
        epsilon, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny  # below tiny, digits are lost one by one
        scale = min(max(1.0, abs(float(x))), 10.0)
        close(y, value(float(x)), rtol=8 * epsilon, atol=lost_in_value * scale * epsilon + tiny)
        close(pullback(dtype(1))[0], slope(float(x)), rtol=8 * epsilon, atol=lost_in_slope * scale * epsilon + tiny)


@pytest.mark.parametrize(
    "op, at_minus_infinity, at_infinity",
    [
        (ops.sigmoid, (0, 0), (1, 0)),
        (ops.softplus, (0, 0), (np.inf, 1)),
        (ops.log_sigmoid, (-np.inf, 1), (0, 0)),
        (ops.tanh, (-1, 0), (1, 0)),
        (ops.erf, (-1, 0), (1, 0)),
        (ops.relu, (0, 0), (np.inf, 1)),
        (ops.exp, (0, 0), None),
        (ops.absolute, (np.inf, -1), (np.inf, 1)),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
@every_dtype
def test_limits_at_infinity(op, at_minus_infinity, at_infinity, dtype):
    for x, limits in ((-np.inf, at_minus_infinity), (np.inf, at_infinity)):
        if limits:
            y, pullback = vjp(op, dtype(x))
            assert (y, pullback(dtype(1))[0]) == limits and y.dtype == dtype


@every_dtype
def test_the_second_derivative_of_softplus_is_finite_at_extremes(dtype):
    for x in (-1e4, -104, -88, 88, 104, 1e4):
        assert abs(grad(grad(ops.softplus))(dtype(x))) < 1e-30


# Kinks and ties


@pytest.mark.parametrize(
    "f, slope",
    [(ops.relu, 0), (lambda x: ops.leaky_relu(x, slope=0.3), 0.3), (ops.absolute, 0), (lambda x: ops.clip(x, 0.0, 1.0), 0.5)],
)
def test_the_derivative_at_a_kink_is_the_documented_one(f, slope):
    assert grad(f)(0.0) == slope


@pytest.mark.parametrize("op", [ops.maximum, ops.minimum])
def test_equal_numbers_share_the_derivative(op):
    a, b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])
    ga, gb = grad(lambda a, b: op(a, b).sum(), argnums=(0, 1))(a, b)
    first = [0, 0.5, 1] if op is ops.maximum else [1, 0.5, 0]
    close(ga, first)
    close(gb, 1 - np.array(first))
    assert grad(lambda x: op(x, x))(3.0) == 1


# Powers at zero


@pytest.mark.parametrize("kind", [int, float, np.array, np.float64])
@pytest.mark.parametrize("exponent, derivatives", [(0, [1, 0, 0, 0]), (1, [0, 1, 0, 0]), (2, [0, 0, 2, 0]), (3, [0, 0, 0, 6])])
def test_powers_of_zero_have_every_derivative(kind, exponent, derivatives):
    exponent = kind(exponent) if kind in (int, float) else kind(float(exponent))
    f = lambda x: x**exponent  # noqa: E731
    for derivative in derivatives:
        assert f(np.float64(0)) == derivative
        f = grad(f)


def test_integer_powers_of_negative_numbers():
    assert grad(lambda x: x**3)(-2.0) == 12
    assert grad(grad(lambda x: x**-1))(-2.0) == 2 / (-2.0) ** 3
    close(grad(lambda x: (x ** np.array([2.0, 3.0])).sum())(np.array([-1.0, -2.0])), [-2, 12])


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_derivative_by_the_exponent_vanishes_at_base_zero(exponent):
    assert grad(ops.power, argnums=1)(0.0, exponent) == 0
    assert grad(grad(ops.power, argnums=1), argnums=1)(0.0, exponent) == 0


def test_the_mixed_derivative_of_a_power_at_exponent_zero():
    close(grad(grad(ops.power), argnums=1)(2.0, 0.0), 1 / 2)  # d/db (b a^(b - 1)) = a^(b - 1) + ...
    close(grad(grad(ops.power, argnums=1))(2.0, 0.0), 1 / 2)


# Promotion


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x + 1.5,
        lambda x: 2 - x,
        lambda x: x * 3,
        lambda x: 1.5 / x,
        lambda x: x / 2,
        lambda x: x**2,
        lambda x: x**0.5,
        lambda x: 2.0**x,
        lambda x: ops.maximum(x, 0.5),
        lambda x: ops.minimum(0.5, x),
        lambda x: ops.clip(x, 0, 1),
        lambda x: ops.where(x > 1, x, 0),
        lambda x: ops.where(x > 1, -1e9, x),
        lambda x: ops.leaky_relu(x, slope=0.3),
    ],
)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_python_numbers_do_not_promote_float32(f, shape):
    y, pullback = vjp(f, np.full(shape, 0.7, np.float32))
    assert y.dtype == np.float32 and pullback(np.ones(shape, np.float32))[0].dtype == np.float32


def test_a_branch_that_is_not_taken_has_derivative_zero():
    x = np.array([-1.0, 4.0])
    close(grad(lambda x: ops.where(x > 0, ops.sqrt(ops.where(x > 0, x, 1.0)), 0.0).sum())(x), [0, 0.25])
