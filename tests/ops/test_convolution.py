"""conv2d and conv_transpose2d: values, derivatives to the third order, and what is refused at the door."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import grad, kernels, ops, vjp
from tinygen.autograd import check_grads
from tinygen.ops.convolution import conv2d, conv2d_of_relu, conv_transpose2d
from tinygen.ops.masked_convolution import masked_conv2d_of_relu

spec = kernels.conv2d.spec
pairs = {low: st.tuples(st.integers(low, 3), st.integers(low, 3)) for low in (0, 1)}


@st.composite
def problems(draw):
    """(x, w, stride, padding) whose kernel fits."""
    padding, stride = draw(pairs[0]), draw(pairs[1])
    size = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    kernel = tuple(draw(st.integers(1, min(4, n + 2 * p))) for n, p in zip(size, padding))
    N, C, O = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return rng.normal(size=(N, *size, C)), rng.normal(size=(*kernel, C, O)), stride, padding


@st.composite
def transposed_problems(draw):
    """(x, w, stride, padding, output_padding) that leave at least one pixel."""
    stride = draw(pairs[1])
    output_padding = tuple(draw(st.integers(0, s - 1)) for s in stride)
    size, kernel = (draw(st.tuples(st.integers(1, 5), st.integers(1, 4))) for _ in range(2))
    full = [(n - 1) * s + k + extra for n, k, s, extra in zip(size, kernel, stride, output_padding)]
    padding = tuple(draw(st.integers(0, min(3, (n - 1) // 2))) for n in full)
    N, C, O = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x, w = rng.normal(size=(N, *size, C)), rng.normal(size=(*kernel, C, O))
    return x, w, stride, padding, output_padding


def assert_close(a, b):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


# Convolution


@given(problems())
@settings(deadline=None, max_examples=60)
def test_conv2d_is_its_definition(problem):
    assert_close(conv2d(*problem), spec.forward(*problem))


def test_an_integer_is_a_pair_of_it():
    x, w = np.random.default_rng(0).normal(size=(2, 1, 7, 6, 3)), np.ones((3, 3, 3, 2))
    assert np.array_equal(conv2d(x[0], w, 2, 1), conv2d(x[0], w, stride=(2, 2), padding=(1, 1)))
    assert np.array_equal(conv_transpose2d(x[1], w, 2, 1, 1), conv_transpose2d(x[1], w, (2, 2), [1, 1], (1, 1)))


@given(problems())
@settings(deadline=None, max_examples=30)
def test_conv2d_has_right_derivatives_to_the_second_order(problem):
    x, w, stride, padding = problem
    check_grads(lambda x, w: conv2d(x, w, stride, padding), (x, w), order=2)


@pytest.mark.parametrize("stride, padding", [(1, 1), ((2, 1), (0, 1)), (3, 2)], ids=str)
def test_conv2d_has_right_derivatives_to_the_third_order(stride, padding):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 5, 4, 2)), rng.normal(size=(3, 2, 2, 3))
    check_grads(lambda x, w: conv2d(x, w, stride, padding), (x, w), order=3)
    check_grads(lambda x, w: conv2d(x * x, w, stride, padding) ** 2, (x, w), order=3)


def test_conv2d_has_the_gradients_of_the_definition():
    rng = np.random.default_rng(0)
    x, w, g = rng.normal(size=(2, 7, 6, 3)), rng.normal(size=(3, 2, 3, 4)), rng.normal(size=(2, 4, 4, 4))
    y, pullback = vjp(lambda x, w: conv2d(x, w, 2, 1), x, w)
    dx, dw = pullback(g)
    assert_close(dx, spec.input_gradient(g, w, (7, 6), (2, 2), (1, 1)))
    assert_close(dw, spec.weight_gradient(x, g, (3, 2), (2, 2), (1, 1)))


def test_a_gradient_penalty_reaches_the_weights():
    # For f(x) = sum conv2d(x, w) without padding, df/dx at an inner pixel is sum w, whatever x is; for a 1x1 kernel at all
    # pixels, so that |df/dx|^2 = 9 pixels * sum_c (sum_o w)^2.
    w = np.array([[1.0, 2], [3, 4], [5, -6]]).reshape(1, 1, 3, 2)

    def penalty(w):
        gx = grad(lambda x: conv2d(x, w).sum())(np.ones((1, 3, 3, 3)))
        return (gx * gx).sum()

    assert penalty(w) == 9 * (3**2 + 7**2 + 1)
    assert_close(grad(penalty)(w)[0, 0], 18.0 * np.array([[3, 3], [7, 7], [-1, -1]]))


# Transposed convolution


def test_conv_transpose2d_doubles_an_image():
    x = np.array([[1.0, 2], [3, 4]]).reshape(1, 2, 2, 1)
    y = conv_transpose2d(x, np.ones((2, 2, 1, 1)), stride=2)
    assert y[0, :, :, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_conv_transpose2d_interpolates():
    x, w = np.array([2.0, 4, 8]).reshape(1, 1, 3, 1), np.array([0.5, 1, 0.5]).reshape(1, 3, 1, 1)
    assert conv_transpose2d(x, w, (1, 2), (0, 1)).ravel().tolist() == [2, 3, 4, 6, 8]
    assert conv_transpose2d(x, w, (1, 2), (0, 1), (0, 1)).ravel().tolist() == [2, 3, 4, 6, 8, 4]


@given(transposed_problems())
@settings(deadline=None, max_examples=60)
def test_conv_transpose2d_inserts_zeros_and_convolves_with_the_turned_kernel(problem):
    x, w, (sy, sx), (py, px), extra = problem
    (N, H, W, C), (kh, kw) = x.shape, w.shape[:2]
    spread = np.zeros((N, (H - 1) * sy + 1, (W - 1) * sx + 1, C))
    spread[:, ::sy, ::sx] = x
    around = [(0, 0), (kh - 1, kh - 1 + extra[0]), (kw - 1, kw - 1 + extra[1]), (0, 0)]
    full = spec.forward(np.pad(spread, around), w[::-1, ::-1], (1, 1), (0, 0))
    expected = full[:, py : full.shape[1] - py, px : full.shape[2] - px]
    assert_close(conv_transpose2d(x, w, (sy, sx), (py, px), extra), expected)


@given(problems())
@settings(deadline=None, max_examples=40)
def test_conv_transpose2d_is_the_adjoint_of_conv2d(problem):
    x, w, stride, padding = problem
    y = conv2d(x, w, stride, padding)
    g = np.random.default_rng(1).normal(size=y.shape)
    left_over = tuple((n + 2 * p - k) % s for n, k, s, p in zip(x.shape[1:3], w.shape, stride, padding))
    back = conv_transpose2d(g, w.swapaxes(2, 3), stride, padding, left_over)
    assert back.shape == x.shape
    np.testing.assert_allclose(np.sum(g * y), np.sum(back * x), rtol=1e-10, atol=1e-10)


@given(transposed_problems())
@settings(deadline=None, max_examples=30)
def test_conv_transpose2d_has_right_derivatives_to_the_second_order(problem):
    x, w, *rest = problem
    check_grads(lambda x, w: conv_transpose2d(x, w, *rest), (x, w), order=2)


# Types and errors


@pytest.mark.parametrize("operation", [conv2d, conv_transpose2d], ids=lambda f: f.__name__)
def test_mixed_dtypes_are_promoted_and_cotangents_keep_the_dtype_of_their_argument(operation):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 5, 5, 2)).astype(np.float32), rng.normal(size=(3, 3, 2, 2))
    y, pullback = vjp(operation, x, w)
    assert y.dtype == np.float64
    assert [c.dtype for c in pullback(y)] == [np.float32, np.float64]
    assert_close(y, operation(x.astype(np.float64), w))
    assert operation(x, w.astype(np.float32)).dtype == np.float32


def array(*shape, dtype=np.float64):
    return np.ones(shape, dtype)


REFUSED = [
    (conv2d, (array(5, 5, 3), array(3, 3, 3, 2)), {}, ValueError, r"\(N, H, W, C\).*\(5, 5, 3\).*x\[None\]"),
    (conv2d, (array(1, 5, 5, 3), array(3, 3, 4, 2)), {}, ValueError, "x has 3 channels but w expects 4"),
    (conv2d, (array(1, 3, 9, 3), array(5, 1, 3, 2)), {}, ValueError, "length 5 does not fit onto 3 pixels with padding 0"),
    (conv2d, (array(1, 9, 3, 3), array(1, 6, 3, 2)), {"padding": 1}, ValueError, "length 6 does not fit onto 3 pixels"),
    (conv2d, (array(1, 3, 3, 3), array(0, 1, 3, 2)), {}, ValueError, "length 0 does not fit"),
    (conv2d, (array(1, 5, 5, 3), array(3, 3, 3, 2)), {"stride": (1, 0)}, ValueError, r"stride.*at least 1, not \(1, 0\)"),
    (conv2d, (array(1, 5, 5, 3), array(3, 3, 3, 2)), {"stride": (1, 2, 1)}, ValueError, "stride must be an integer"),
    (conv2d, (array(1, 5, 5, 3), array(3, 3, 3, 2)), {"stride": 1.5}, TypeError, "stride must be an integer.*not 1.5"),
    (conv2d, (array(1, 5, 5, 3), array(3, 3, 3, 2)), {"padding": -1}, ValueError, "padding.*at least 0, not -1"),
    (conv2d, (array(1, 5, 5, 3, dtype=np.uint8), array(3, 3, 3, 2)), {}, TypeError, "x must be a floating array, not uint8"),
    (conv2d, (array(1, 5, 5, 3), [[1.0]]), {}, TypeError, "w must be a floating array, not list"),
    (conv_transpose2d, (array(1, 5, 5, 3), array(3, 3, 4, 2)), {}, ValueError, "x has 3 channels but w expects 4"),
    (conv_transpose2d, (array(1, 5, 5, 3), array(3, 3, 3)), {}, ValueError, r"\(5, 5, 3\)|\(3, 3, 3\)"),
    (conv_transpose2d, (array(1, 1, 5, 3), array(2, 2, 3, 1)), {"padding": 1}, ValueError, "give an image of 0 x 4 pixels"),
    (
        conv_transpose2d, (array(1, 5, 5, 3), array(2, 2, 3, 1)), {"stride": 2, "output_padding": (1, 2)},
        ValueError, r"output_padding \(1, 2\) must be less than the stride \(2, 2\)",
    ),
    (conv_transpose2d, (array(1, 5, 5, 3), array(2, 2, 3, 1)), {"stride": 0}, ValueError, "stride.*at least 1, not 0"),
    (conv_transpose2d, (array(1, 5, 5, 3, dtype=int), array(2, 2, 3, 1)), {}, TypeError, "x must be a floating array"),
]  # fmt: skip


@pytest.mark.parametrize("operation, arrays, static, error, message", REFUSED)
def test_what_does_not_fit_is_refused_with_a_remedy(operation, arrays, static, error, message):
    with pytest.raises(error, match=f"^{operation.__name__}: .*{message}"):
        operation(*arrays, **static)


def test_an_empty_batch_has_an_empty_convolution():
    x, w = array(0, 5, 5, 3), array(3, 3, 3, 2)
    y, pullback = vjp(lambda x, w: conv2d(x, w, 2), x, w)
    dx, dw = pullback(y)
    assert y.shape == (0, 2, 2, 2) and dx.shape == x.shape and not dw.any()


def test_a_bias_is_added_in_the_same_pass_and_must_fit():
    x, w, b = np.ones((1, 3, 3, 2)), np.ones((1, 1, 2, 4)), np.arange(4.0)
    np.testing.assert_array_equal(ops.affine_conv2d(x, w, b), ops.conv2d(x, w) + b)
    taps = ((0, 0),)
    np.testing.assert_array_equal(ops.affine_masked_conv2d(x, w, b, taps=taps), ops.masked_conv2d(x, w, taps=taps) + b)
    for affine in (ops.affine_conv2d, ops.affine_masked_conv2d, conv2d_of_relu, masked_conv2d_of_relu):
        with pytest.raises(ValueError, match=r"b has shape \(3,\) for 4 output channels"):
            affine(x, w, b[:3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_a_relu_before_a_convolution_and_its_gradients_are_those_of_two_operations(masked, dtype):
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=shape).astype(dtype) for shape in ((2, 5, 6, 8), (3, 3, 8, 9), (9,)))
    static = {"taps": ((0, 0), (0, 1), (1, 0)), "padding": 1} if masked else {"stride": (1, 2), "padding": 1}
    fused, then = (masked_conv2d_of_relu, ops.affine_masked_conv2d) if masked else (conv2d_of_relu, ops.affine_conv2d)
    y, pullback = vjp(lambda *args: fused(*args, **static), x, w, b)
    expected, expected_pullback = vjp(lambda x, w, b: then(ops.relu(x), w, b, **static), x, w, b)
    np.testing.assert_array_equal(y, expected)
    g = rng.normal(size=y.shape).astype(dtype)
    for d, e in zip(pullback(g), expected_pullback(g)):
        np.testing.assert_array_equal(d, e)


def test_a_relu_before_a_convolution_has_right_derivatives_to_the_third_order():
    rng = np.random.default_rng(1)
    x, w, b = rng.normal(size=(1, 3, 4, 2)), rng.normal(size=(2, 2, 2, 2)), rng.normal(size=2)
    x += np.sign(x)  # away from the corner
    check_grads(lambda *args: conv2d_of_relu(*args, padding=1) ** 2, (x, w, b), order=3)
    taps = ((0, 0), (1, 0))
    check_grads(lambda *args: masked_conv2d_of_relu(*args, taps=taps, padding=1) ** 2, (x, w, b), order=3)
