"""Sums, extrema, log-sum-exp, softmax: against NumPy in float64 over every choice of axes, at extremes, and at ties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygen import check_grads, grad, ops, vjp

few = settings(max_examples=25, deadline=None)
DTYPES = np.float32, np.float64
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
close = np.testing.assert_allclose

LAYOUTS = [
    lambda x: x,
    lambda x: np.array(x.T, order="C").T,
    lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    lambda x: np.ascontiguousarray(x[::-1])[::-1] if x.ndim else x,
]


@st.composite
def arrays(draw, min_dims=0, min_side=0):
    """Numbers a quarter apart, so that the largest is clearly so, in some layout."""
    shape = draw(hnp.array_shapes(min_dims=min_dims, max_dims=3, min_side=min_side, max_side=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = (rng.permutation(math.prod(shape)) / 4 - 3).reshape(shape)
    return draw(st.sampled_from(LAYOUTS))(x)


@st.composite
def axes(draw, ndim):
    """None, one axis, or several, counted from either end."""
    if ndim == 0:
        return draw(st.sampled_from([None, ()]))
    several = draw(st.permutations(range(ndim)))[: draw(st.integers(0, ndim))]
    several = tuple(a - ndim * draw(st.booleans()) for a in several)
    return draw(st.sampled_from([None, draw(st.integers(-ndim, ndim - 1)), several]))


def assert_agrees_with_numpy(op, reference, x):
    for dtype in DTYPES:
        z = x.astype(dtype)
        y, pullback = vjp(op, z)
        expected = reference(z.astype(np.float64))
        assert y.dtype == dtype and y.shape == np.shape(expected)
        close(y, expected, rtol=30 * np.finfo(dtype).eps, atol=30 * np.finfo(dtype).eps)
        (g,) = pullback(np.ones(y.shape, dtype))
        assert g.dtype == dtype and g.shape == x.shape


REDUCTIONS = {
    ops.sum: (np.sum, 0),
    ops.mean: (np.mean, 1),
    ops.max: (np.max, 1),
    ops.min: (np.min, 1),
    ops.logsumexp: (lambda x, **kwargs: np.log(np.sum(np.exp(x), **kwargs)), 1),
}


@pytest.mark.parametrize("op", REDUCTIONS, ids=lambda op: op.__name__)
@given(data=st.data())
@few
def test_reductions_over_any_axes(op, data):
    reference, min_side = REDUCTIONS[op]
    x = data.draw(arrays(min_side=min_side))
    options = dict(axis=data.draw(axes(x.ndim)), keepdims=data.draw(st.booleans()))
    assert_agrees_with_numpy(lambda x: op(x, **options), lambda x: reference(x, **options), x)
    check_grads(lambda x: op(x, **options), (x,), order=2)


ALONG_AN_AXIS = {
    "softmax": (ops.softmax, lambda x, axis: np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)),
    "log_softmax": (ops.log_softmax, lambda x, axis: x - np.log(np.exp(x).sum(axis=axis, keepdims=True))),
    "cumsum": (ops.cumsum, np.cumsum),
    "cumsum from the end": (
        lambda x, axis: ops.cumsum(x, axis=axis, reverse=True),
        lambda x, axis: np.flip(np.cumsum(np.flip(x, axis), axis), axis),
    ),
}


@pytest.mark.parametrize("name", ALONG_AN_AXIS)
@given(data=st.data())
@few
def test_operations_along_an_axis(name, data):
    op, reference = ALONG_AN_AXIS[name]
    x = data.draw(arrays(min_dims=1, min_side=1))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    assert_agrees_with_numpy(lambda x: op(x, axis=axis), lambda x: reference(x, axis=axis), x)
    check_grads(lambda x: op(x, axis=axis), (x,), order=2)
    if axis == -1:
        np.testing.assert_array_equal(ops.softmax(x), ops.softmax(x, axis=axis))


@pytest.mark.parametrize("op", [ops.softmax, ops.log_softmax, ops.cumsum])
def test_operations_along_an_axis_of_nothing(op):
    x = np.zeros((0, 3))
    assert op(x).shape == vjp(op, x)[1](x)[0].shape == (0, 3)


@given(x=arrays(min_dims=1, min_side=1), shift=st.floats(-100, 100))
@few
def test_softmax_sums_to_one_and_does_not_see_a_shift(x, shift):
    close(ops.softmax(x).sum(axis=-1), 1)
    close(ops.softmax(x + shift), ops.softmax(x), rtol=1e-11)
    close(ops.log_softmax(x + shift), ops.log_softmax(x), rtol=1e-11, atol=1e-11)
    close(ops.logsumexp(x + shift), ops.logsumexp(x) + shift, rtol=1e-11, atol=1e-11)


@given(x=arrays(min_dims=2, min_side=1))
@few
def test_the_derivatives_of_logsumexp_are_softmax_and_its_covariance(x):
    x = x.reshape(-1)
    p = ops.softmax(x)
    close(grad(ops.logsumexp)(x), p)
    v = np.linspace(-1, 1, x.size)
    close(grad(lambda x: (grad(ops.logsumexp)(x) * v).sum())(x), p * v - p * (p @ v), atol=1e-15)


# Nothing to reduce


def test_a_sum_of_nothing_is_zero():
    x = np.zeros((2, 0, 3), np.float32)
    np.testing.assert_array_equal(ops.sum(x, axis=1), np.zeros((2, 3)))
    assert grad(ops.sum)(x).shape == x.shape


@pytest.mark.parametrize("op", [ops.max, ops.logsumexp])
def test_the_largest_of_nothing_is_refused_by_name(op):
    with pytest.raises(ValueError, match=rf"^{op.__name__}\(float64\(2, 0\)\): zero-size array"):
        op(np.zeros((2, 0)), axis=1)
    assert op(np.zeros((0, 2)), axis=1).shape == (0,)


# Ties


def test_equal_maxima_share_the_derivative():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [5.0, 4.0, 3.0]])
    close(grad(lambda x: x.max(axis=1).sum())(x), [[0, 1 / 2, 1 / 2], [1 / 3, 1 / 3, 1 / 3], [1, 0, 0]])
    close(grad(lambda x: x.min(axis=1).sum())(x), [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0, 0, 1]])
    close(grad(ops.max)(np.full((2, 3), 7.0)), np.full((2, 3), 1 / 6))


# Extremes. Warnings are errors in this suite, so an overflow on the way to a right answer fails too.


@pytest.mark.parametrize("shift", [-1e4, -800, -104, 0, 88, 800, 1e4])
@every_dtype
def test_extreme_logits(shift, dtype):
    x = np.array([0, -1, 0.5], dtype) + dtype(shift)
    p = np.exp([0, -1, 0.5]) / np.exp([0, -1, 0.5]).sum()
    tolerance = dict(rtol=max(1, abs(shift)) * 4 * np.finfo(dtype).eps)  # of the logits themselves, which were rounded
    y, pullback = vjp(ops.logsumexp, x)
    close(y, shift - np.log(p[0]), **tolerance)
    close(pullback(dtype(1))[0], p, **tolerance)
    close(ops.softmax(x), p, **tolerance)
    close(ops.log_softmax(x), np.log(p), **tolerance)


@pytest.mark.parametrize("gap", [20, 88, 104, 800, 1e4])
@every_dtype
def test_one_logit_far_above_the_others(gap, dtype):
    x = np.array([gap, 0, 0], dtype)
    u = np.array([1, 2, 4], dtype)
    e = math.exp(-gap)
    tolerance = dict(rtol=gap * 2 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)
    p, pullback = vjp(ops.softmax, x)
    close(p, [1 / (1 + 2 * e), e / (1 + 2 * e), e / (1 + 2 * e)], **tolerance)
    close(pullback(u)[0], p * (u - p @ u), rtol=1e-6, atol=np.finfo(dtype).eps)
    y, pullback = vjp(ops.log_softmax, x)
    close(y, np.array([0, -gap, -gap]) - math.log1p(2 * e), rtol=2 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
    close(pullback(u)[0], u - 7 * p, rtol=1e-6)
    y, pullback = vjp(ops.logsumexp, x)
    close(y, gap + math.log1p(2 * e), rtol=np.finfo(dtype).eps)
    close(pullback(dtype(1))[0], p, **tolerance)


@every_dtype
def test_entries_of_minus_infinity_have_no_part(dtype):
    x = np.array([-np.inf, 1, 2], dtype)
    p = ops.softmax(x[1:])
    u = np.array([7, 1, 0], dtype)
    tolerance = dict(rtol=8 * np.finfo(dtype).eps)
    close(ops.logsumexp(x), ops.logsumexp(x[1:]), **tolerance)
    close(grad(ops.logsumexp)(x), [0, *p], **tolerance)
    close(ops.softmax(x), [0, *p], **tolerance)
    close(vjp(ops.softmax, x)[1](u)[0], [0, p[0] * p[1], -p[0] * p[1]], **tolerance)
    close(ops.log_softmax(x), [-np.inf, *np.log(p)], **tolerance)
    close(vjp(ops.log_softmax, x)[1](u * [0, 1, 0])[0], [0, 1 - p[0], -p[1]], **tolerance)


@pytest.mark.parametrize("keepdims", [False, True])
@every_dtype
def test_logsumexp_of_minus_infinity_alone_is_minus_infinity_with_derivative_zero(dtype, keepdims):
    x = np.array([[-np.inf, -np.inf], [0, 0]], dtype)
    y, pullback = vjp(lambda x: ops.logsumexp(x, axis=1, keepdims=keepdims), x)
    close(y.reshape(-1), [-np.inf, math.log(2)])
    close(pullback(np.ones_like(y))[0], [[0, 0], [0.5, 0.5]])
    close(grad(lambda x: grad(ops.logsumexp)(x).sum())(x), np.zeros((2, 2)), atol=1e-7)


@every_dtype
def test_logsumexp_with_plus_infinity_is_plus_infinity(dtype):
    assert ops.logsumexp(np.array([np.inf, 1000, -np.inf], dtype)) == np.inf
    assert np.isnan(ops.logsumexp(np.array([np.nan, 0], dtype)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("columns", range(1, 10))
def test_the_sum_of_short_rows_is_numpys_to_the_last_bit(columns, dtype):
    x = (100 * np.random.default_rng(columns).normal(size=(50, columns))).astype(dtype)
    for axis in (-1, 1):
        y, expected = ops.sum(x, axis=axis), x.sum(axis=axis)
        assert y.dtype == expected.dtype
        np.testing.assert_array_equal(y, expected)
