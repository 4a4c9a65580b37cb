"""masked_conv2d: values, derivatives to the third order, gradients of dead weights, and what is refused at the door."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import check_grads, kernels, ops, vjp
from tinygen.ops import masked_conv2d

close = np.testing.assert_allclose


@st.composite
def problems(draw):
    """(x, w, taps, padding) whose kernel fits."""
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    size = tuple(draw(st.integers(max(1, k - 2 * p), 5)) for k, p in zip(kernel, padding))
    taps = draw(st.lists(st.sampled_from(list(np.ndindex(kernel))), unique=True))
    N, C, O = draw(st.integers(1, 2)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return rng.normal(size=(N, *size, C)), rng.normal(size=(*kernel, C, O)), tuple(taps), padding


@given(problems())
@settings(deadline=None, max_examples=40)
def test_it_is_its_definition_whatever_the_order_of_the_taps(problem):
    x, w, taps, padding = problem
    expected = kernels.masked_conv2d.spec.forward(x, w, taps, padding)
    close(masked_conv2d(x, w, taps, padding), expected, rtol=1e-12, atol=1e-12)
    close(masked_conv2d(x, w, taps[::-1], padding), expected, rtol=1e-12, atol=1e-12)


@given(problems())
@settings(deadline=None, max_examples=20)
def test_a_boolean_mask_says_the_same_as_its_taps(problem):
    x, w, taps, padding = problem
    mask = np.zeros(w.shape[:2], bool)
    mask[tuple(np.array(taps, int).reshape(-1, 2).T)] = True
    assert np.array_equal(masked_conv2d(x, w, mask, padding), masked_conv2d(x, w, taps, padding))


@given(problems())
@settings(deadline=None, max_examples=30)
def test_with_all_taps_alive_it_is_conv2d(problem):
    x, w, _, padding = problem
    close(masked_conv2d(x, w, np.ones(w.shape[:2], bool), padding), ops.conv2d(x, w, 1, padding), rtol=1e-12, atol=1e-12)


@given(problems())
@settings(deadline=None, max_examples=30)
def test_derivatives_are_right_to_the_second_order(problem):
    x, w, taps, padding = problem
    check_grads(lambda x, w: masked_conv2d(x, w, taps, padding), (x, w), order=2)


def test_derivatives_are_right_to_the_third_order():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 4, 5, 2)), rng.normal(size=(3, 3, 2, 3))
    check_grads(lambda x, w: masked_conv2d(x * x, w, ((0, 0), (0, 2), (1, 1)), 1) ** 2, (x, w), order=3)


@given(problems())
@settings(deadline=None, max_examples=30)
def test_dead_weights_get_a_gradient_of_exactly_zero_and_live_ones_that_of_conv2d(problem):
    x, w, taps, padding = problem
    dead = np.ones(w.shape[:2], bool)
    dead[tuple(np.array(taps, int).reshape(-1, 2).T)] = False
    w[dead] = np.nan
    y, pullback = vjp(lambda w: masked_conv2d(x, w, taps, padding), w)
    g = np.cos(np.arange(y.size)).reshape(y.shape)
    dw = pullback(g)[0]
    full = vjp(lambda w: ops.conv2d(x, w, 1, padding), np.zeros_like(w))[1](g)[0]
    assert not dw[dead].any()
    close(dw[~dead], full[~dead], rtol=1e-12, atol=1e-12)


def test_mixed_dtypes_are_promoted_and_cotangents_keep_the_dtype_of_their_argument():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 5, 5, 2)).astype(np.float32), rng.normal(size=(3, 3, 2, 2))
    y, pullback = vjp(lambda x, w: masked_conv2d(x, w, ((0, 0),), 1), x, w)
    assert y.dtype == np.float64
    assert [c.dtype for c in pullback(y)] == [np.float32, np.float64]


X, W = np.ones((1, 5, 5, 3)), np.ones((3, 3, 3, 2))


@pytest.mark.parametrize("arrays, static, error, message", [
    ((X[0], W), {}, ValueError, r"\(N, H, W, C\).*\(5, 5, 3\).*x\[None\]"),
    ((X[..., :2], W), {}, ValueError, "x has 2 channels but w expects 3"),
    ((X.astype(np.uint8), W), {}, TypeError, "x must be a floating array, not uint8"),
    ((X[:, :2], W), {}, ValueError, "length 3 with padding 0 does not fit onto 2 pixels"),
    ((X, W), {"padding": 3}, ValueError, "length 3 with padding 3 does not fit"),
    ((X, W), {"padding": -1}, ValueError, "padding must be .* at least 0, not -1"),
    ((X, W), {"taps": ((0, 3),)}, ValueError, r"pairs \(a, b\) inside the 3 x 3 kernel.*got \(0, 3\)"),
    ((X, W), {"taps": ((-1, 0),)}, ValueError, r"got \(-1, 0\)"),
    ((X, W), {"taps": ((0, 0, 0),)}, ValueError, r"got \(0, 0, 0\)"),
    ((X, W), {"taps": ((0, 0), (0, 0))}, ValueError, "got a pair twice"),
    ((X, W), {"taps": np.ones((3, 2), bool)}, ValueError, "the kernel is 3 x 3; give it that shape"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_a_remedy(arrays, static, error, message):
    with pytest.raises(error, match=f"^masked_conv2d: .*{message}"):
        masked_conv2d(*arrays, **static)


def test_a_mask_and_taps_that_compare_equal_are_told_apart():
    x, w = np.ones((1, 2, 2, 1)), np.array([[[[1.0]], [[10.0]]], [[[100.0]], [[1000.0]]]])
    mask, taps = ((True, False), (False, False)), ((1, 0), (0, 0))  # as tuples, Python finds them equal
    for _ in range(2):
        assert float(masked_conv2d(x, w, taps=mask)[0, 0, 0, 0]) == 1
        assert float(masked_conv2d(x, w, taps=taps)[0, 0, 0, 0]) == 101
