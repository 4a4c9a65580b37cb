r"""2-D convolution and transposed convolution, channels last.

Convolution is one trilinear form T(dy, x, w) = <dy, conv2d(x, w)>, and its three maps (see kernels/conv2d/spec.py)

    conv2d(x, w),    input_gradient(dy, w) = dT/dx,    weight_gradient(x, dy) = dT/dw

are three primitives, each of whose rules are the other two: the cotangent g fills the slot that the map left open, and the
derivative with respect to a filled slot is the map that leaves this one open. So there are fast derivatives of every order.

A relu before a convolution, and its derivative, cost no pass over the image of their own: conv2d_of_relu and its two gradients.
"""

import operator

import numpy as np

from .. import kernels
from ..autograd.core import Primitive
from ..autograd.reverse import stop_gradient
from .elementwise import relu, relu_gradient
from .shape import swapaxes


@Primitive
def conv2d(x, w, stride=1, padding=0):
    """y[n, i, j, o] = sum_{a, b, c} x[n, i sy + a - py, j sx + b - px, c] w[a, b, c, o], where x is 0 outside the image.

    x (N, H, W, C), w (kh, kw, C, O) -> y (N, H', W', O), H' = (H + 2 py - kh) // sy + 1 and W' likewise. stride (sy, sx) is
    at least 1, padding (py, px) at least 0; each is a pair, or an integer for both. As everywhere in this field the kernel is
    not turned around: mathematically this is a cross-correlation.

    On the CPU, in float32, sums over 3 x 3 taps with stride 1, or 4 x 4 with stride 2, and 24 or more channels may be
    Winograd's: kernels/winograd.py states how far they are off. There NaN reaches up to 3 pixels beyond those that see it (7 in
    a gradient of x with stride 2), and infinity becomes NaN.

    TypeError for arrays that are not floating, ValueError for shapes that do not fit together.
    """
    stride, padding = _pairs("conv2d", stride, padding)
    _check_fit("conv2d", x, w, padding)
    return kernels.conv2d.forward(*_of_one_dtype(x, w), stride, padding)


@Primitive
def affine_conv2d(x, w, b, stride=1, padding=0):
    """conv2d(x, w) + b, with a bias b (O,), in one pass. The rest is as there. ValueError for a bias of another shape."""
    _check_bias("affine_conv2d", w, b)
    stride, padding = _pairs("affine_conv2d", stride, padding)
    _check_fit("affine_conv2d", x, w, padding)
    return kernels.conv2d.forward(*_of_one_dtype(x, w), stride, padding, b)


@Primitive
def input_gradient(dy, w, input_size=None, stride=1, padding=0):
    """The derivative of <dy, conv2d(x, w)> with respect to x, for x of shape (N, *input_size, C)."""
    stride, padding = _pairs("input_gradient", stride, padding)
    return kernels.conv2d.input_gradient(*_of_one_dtype(dy, w), input_size, stride, padding)


@Primitive
def weight_gradient(x, dy, kernel_size=None, stride=1, padding=0):
    """The derivative of <dy, conv2d(x, w)> with respect to w, for w of shape (*kernel_size, C, O)."""
    stride, padding = _pairs("weight_gradient", stride, padding)
    return kernels.conv2d.weight_gradient(*_of_one_dtype(x, dy), kernel_size, stride, padding)


def _input_gradient(g, w, x_shape, stride, padding):
    return input_gradient(g, w, input_size=x_shape[1:3], stride=stride, padding=padding)


def _weight_gradient(g, x, w_shape, stride, padding):
    return weight_gradient(x, g, kernel_size=w_shape[:2], stride=stride, padding=padding)


conv2d.rule(x=_input_gradient, w=_weight_gradient)
affine_conv2d.rule(x=_input_gradient, w=_weight_gradient, b=lambda g: g)
input_gradient.rule(
    dy=lambda g, w, stride, padding: conv2d(g, w, stride=stride, padding=padding),
    w=lambda g, dy, w_shape, stride, padding: weight_gradient(g, dy, kernel_size=w_shape[:2], stride=stride, padding=padding),
)
weight_gradient.rule(
    x=lambda g, dy, x_shape, stride, padding: input_gradient(dy, g, input_size=x_shape[1:3], stride=stride, padding=padding),
    dy=lambda g, x, stride, padding: conv2d(x, g, stride=stride, padding=padding),
)


# After a relu


@Primitive
def conv2d_of_relu(x, w, b, stride=1, padding=0):
    """conv2d(relu(x), w) + b, with a bias b (O,), in one pass on the CPU. The rest is as there."""
    _check_bias("conv2d_of_relu", w, b)
    stride, padding = _pairs("conv2d_of_relu", stride, padding)
    _check_fit("conv2d_of_relu", x, w, padding)
    return kernels.conv2d.forward(*_of_one_dtype(x, w), stride, padding, b, True)


@Primitive
def input_gradient_of_relu(dy, w, x, stride=1, padding=0):
    """The derivative of <dy, conv2d(relu(x), w)> with respect to x: 0 where x is not above 0."""
    stride, padding = _pairs("input_gradient_of_relu", stride, padding)
    return kernels.conv2d.input_gradient(*_of_one_dtype(dy, w), x.shape[1:3], stride, padding, x)


@Primitive
def weight_gradient_of_relu(x, dy, kernel_size=None, stride=1, padding=0):
    """The derivative of <dy, conv2d(relu(x), w)> with respect to w, for w of shape (*kernel_size, C, O)."""
    stride, padding = _pairs("weight_gradient_of_relu", stride, padding)
    return kernels.conv2d.weight_gradient(*_of_one_dtype(x, dy), kernel_size, stride, padding, True)


conv2d_of_relu.rule(
    x=lambda g, x, w, stride, padding: input_gradient_of_relu(g, w, stop_gradient(x), stride=stride, padding=padding),
    w=lambda g, x, w_shape, stride, padding: weight_gradient_of_relu(
        x, g, kernel_size=w_shape[:2], stride=stride, padding=padding
    ),
    b=lambda g: g,
)
input_gradient_of_relu.rule(
    dy=lambda g, w, x, stride, padding: conv2d(relu_gradient(g, stop_gradient(x)), w, stride=stride, padding=padding),
    w=lambda g, dy, w_shape, x, stride, padding: _weight_gradient(
        dy, relu_gradient(g, stop_gradient(x)), w_shape, stride, padding
    ),
)
weight_gradient_of_relu.rule(
    x=lambda g, x, dy, stride, padding: input_gradient_of_relu(dy, g, stop_gradient(x), stride=stride, padding=padding),
    dy=lambda g, x, stride, padding: conv2d(relu(x), g, stride=stride, padding=padding),
)


def conv_transpose2d(x, w, stride=1, padding=0, output_padding=0):
    """y[n, i sy + a - py, j sx + b - px, o] += x[n, i, j, c] w[a, b, c, o]: every pixel stamps the kernel onto the image.

    x (N, H, W, C), w (kh, kw, C, O) -> y (N, H', W', O), H' = (H - 1) sy - 2 py + kh + output_padding and W' likewise. As a
    map of images it is the adjoint of conv2d, whose output has H rows for sy different heights of its input: output_padding
    in [0, sy) chooses one. All three are pairs, or integers for both.

    TypeError for arrays that are not floating, ValueError for shapes that do not fit together.
    Source: Dumoulin & Visin 2016, *A guide to convolution arithmetic for deep learning*, ch. 4.
    """
    stride, padding = _pairs("conv_transpose2d", stride, padding)
    output_padding = _pair("conv_transpose2d", "output_padding", output_padding, 0)
    _check("conv_transpose2d", x, w)
    if any(extra >= s for extra, s in zip(output_padding, stride)):
        raise ValueError(
            f"conv_transpose2d: output_padding {output_padding} must be less than the stride {stride}; the rows beyond would "
            "be zero: add them with pad"
        )
    lengths = zip(x.shape[1:3], w.shape[:2], stride, padding, output_padding)
    size = tuple((n - 1) * s - 2 * p + k + extra for n, k, s, p, extra in lengths)
    if min(size) < 1 or min(w.shape[:2]) < 1:
        raise ValueError(
            f"conv_transpose2d: x {x.shape} and w {w.shape} with stride {stride} and padding {padding} give an image of "
            f"{size[0]} x {size[1]} pixels; take less padding, a larger kernel or a larger image"
        )
    return input_gradient(x, swapaxes(w, 2, 3), input_size=size, stride=stride, padding=padding)


def _pairs(operation, stride, padding):
    return _pair(operation, "stride", stride, 1), _pair(operation, "padding", padding, 0)


def _pair(operation, name, value, least):
    """An integer n as (n, n), a pair as it is; each at least `least`."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    try:
        pair = tuple(operator.index(n) for n in pair)
    except TypeError:
        raise TypeError(f"{operation}: {name} must be an integer or a pair of integers, not {value!r}") from None
    if len(pair) != 2 or min(pair) < least:
        raise ValueError(f"{operation}: {name} must be an integer, or a pair of them, of at least {least}, not {value!r}")
    return pair


def _check(operation, x, w):
    for name, array in (("x", x), ("w", w)):
        dtype = getattr(array, "dtype", None)
        if dtype is None or dtype.kind != "f":
            raise TypeError(
                f"{operation}: {name} must be a floating array, not {dtype or type(array).__name__}; convert it with "
                "numpy.asarray(..., numpy.float32)"
            )
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(
            f"{operation}: x must have shape (N, H, W, C) and w (kh, kw, C, O), got {x.shape} and {w.shape}; x[None] makes a "
            "batch of one image, x[..., None] gives it one channel"
        )
    if x.shape[3] != w.shape[2]:
        raise ValueError(
            f"{operation}: x has {x.shape[3]} channels but w expects {w.shape[2]} (x {x.shape}, w {w.shape}); images are "
            "(N, H, W, C), channels last, and weights (kh, kw, C_in, C_out)"
        )


def _check_fit(operation, x, w, padding):
    _check(operation, x, w)
    for n, k, p in zip(x.shape[1:3], w.shape[:2], padding):
        if not 1 <= k <= n + 2 * p:
            raise ValueError(
                f"{operation}: a kernel of length {k} does not fit onto {n} pixels with padding {p} on both sides (x "
                f"{x.shape}, w {w.shape}, padding {padding}); take a smaller kernel, a larger image or more padding"
            )


def _check_bias(operation, w, b):
    if w.ndim == 4 and tuple(b.shape) != w.shape[3:]:
        raise ValueError(f"{operation}: b has shape {tuple(b.shape)} for {w.shape[3]} output channels; give ({w.shape[3]},)")


def _of_one_dtype(*arrays):
    dtype = np.result_type(*(a.dtype for a in arrays))
    return [a.astype(dtype, copy=False) for a in arrays]
