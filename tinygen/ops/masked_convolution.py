r"""Convolution that reads only the live taps of a mask: what makes an autoregressive model of images causal.

A mask is static: a boolean array (kh, kw), or pairs (a, b) of the places in the kernel that are live. Dead taps are skipped,
never multiplied by zero: what they lie on may be NaN, and the gradient of a dead weight is exactly zero. As in convolution.py,
the three maps of one trilinear form (see kernels/masked_conv2d/spec.py) are three primitives whose rules are each other.
"""

from functools import lru_cache

from .. import kernels
from ..autograd.core import Primitive
from ..autograd.reverse import stop_gradient
from .convolution import _check, _check_bias, _of_one_dtype, _pair
from .elementwise import relu, relu_gradient


@Primitive
def masked_conv2d(x, w, taps=(), padding=0):
    """y[n, i, j, o] = sum_{(a, b) in taps} sum_c x[n, i + a - py, j + b - px, c] w[a, b, c, o], where x is 0 outside.

    x (N, H, W, C), w (kh, kw, C, O) -> y (N, H', W', O), H' = H + 2 py - kh + 1 and W' likewise. taps: a boolean array
    (kh, kw), or different pairs (a, b). padding: a pair (py, px), or an integer for both, less than the kernel is long.

    TypeError for arrays that are not floating, ValueError for shapes, taps or a padding that do not fit together.
    Source of masks: van den Oord et al. 2016, *Pixel recurrent neural networks*, section 3.4.
    """
    return _forward("masked_conv2d", x, w, taps, padding)


@Primitive
def affine_masked_conv2d(x, w, b, taps=(), padding=0):
    """masked_conv2d(x, w) + b, with a bias b (O,), in one pass. The rest is as there. ValueError for another shape of b."""
    _check_bias("affine_masked_conv2d", w, b)
    return _forward("affine_masked_conv2d", x, w, taps, padding, b)


@Primitive
def masked_conv2d_of_relu(x, w, b, taps=(), padding=0):
    """masked_conv2d(relu(x), w) + b, with a bias b (O,), in one pass on the CPU. The rest is as there."""
    _check_bias("masked_conv2d_of_relu", w, b)
    return _forward("masked_conv2d_of_relu", x, w, taps, padding, b, True)


def _forward(operation, x, w, taps, padding, b=None, relu=False):
    taps, padding = _static(operation, w.shape[:2], taps, padding)
    _check(operation, x, w)
    for n, k, p in zip(x.shape[1:3], w.shape[:2], padding):
        if not 0 <= p < k <= n + 2 * p:
            raise ValueError(
                f"{operation}: a kernel of length {k} with padding {p} does not fit onto {n} pixels (x {x.shape}, w "
                f"{w.shape}, padding {padding}); the padding must be less than the kernel, which must fit onto the padded image"
            )
    return kernels.masked_conv2d.forward(*_of_one_dtype(x, w), taps, padding, b, relu)


@Primitive
def masked_input_gradient(dy, w, taps=(), input_size=None, padding=0):
    """The derivative of <dy, masked_conv2d(x, w)> with respect to x, for x of shape (N, *input_size, C)."""
    taps, padding = _static("masked_input_gradient", w.shape[:2], taps, padding)
    return kernels.masked_conv2d.input_gradient(*_of_one_dtype(dy, w), taps, input_size, padding)


@Primitive
def masked_weight_gradient(x, dy, taps=(), kernel_size=None, padding=0):
    """The derivative of <dy, masked_conv2d(x, w)> with respect to w, of shape (*kernel_size, C, O): 0 at dead taps."""
    taps, padding = _static("masked_weight_gradient", kernel_size, taps, padding)
    return kernels.masked_conv2d.weight_gradient(*_of_one_dtype(x, dy), taps, kernel_size, padding)


@Primitive
def masked_input_gradient_of_relu(dy, w, x, taps=(), padding=0):
    """The derivative of <dy, masked_conv2d(relu(x), w)> with respect to x: 0 where x is not above 0."""
    taps, padding = _static("masked_input_gradient_of_relu", w.shape[:2], taps, padding)
    return kernels.masked_conv2d.input_gradient(*_of_one_dtype(dy, w), taps, x.shape[1:3], padding, x)


@Primitive
def masked_weight_gradient_of_relu(x, dy, taps=(), kernel_size=None, padding=0):
    """The derivative of <dy, masked_conv2d(relu(x), w)> with respect to w, of shape (*kernel_size, C, O): 0 at dead taps."""
    taps, padding = _static("masked_weight_gradient_of_relu", kernel_size, taps, padding)
    return kernels.masked_conv2d.weight_gradient(*_of_one_dtype(x, dy), taps, kernel_size, padding, True)


def _input_gradient(dy, w, x_shape, taps, padding):
    return masked_input_gradient(dy, w, taps=taps, input_size=x_shape[1:3], padding=padding)


def _weight_gradient(x, dy, w_shape, taps, padding):
    return masked_weight_gradient(x, dy, taps=taps, kernel_size=w_shape[:2], padding=padding)


masked_conv2d.rule(
    x=lambda g, w, x_shape, taps, padding: _input_gradient(g, w, x_shape, taps, padding),
    w=lambda g, x, w_shape, taps, padding: _weight_gradient(x, g, w_shape, taps, padding),
)
affine_masked_conv2d.rule(
    x=lambda g, w, x_shape, taps, padding: _input_gradient(g, w, x_shape, taps, padding),
    w=lambda g, x, w_shape, taps, padding: _weight_gradient(x, g, w_shape, taps, padding),
    b=lambda g: g,
)
masked_input_gradient.rule(
    dy=lambda g, w, taps, padding: masked_conv2d(g, w, taps=taps, padding=padding),
    w=lambda g, dy, w_shape, taps, padding: _weight_gradient(g, dy, w_shape, taps, padding),
)
masked_weight_gradient.rule(
    x=lambda g, dy, x_shape, taps, padding: _input_gradient(dy, g, x_shape, taps, padding),
    dy=lambda g, x, taps, padding: masked_conv2d(x, g, taps=taps, padding=padding),
)


masked_conv2d_of_relu.rule(
    x=lambda g, x, w, taps, padding: masked_input_gradient_of_relu(g, w, stop_gradient(x), taps=taps, padding=padding),
    w=lambda g, x, w_shape, taps, padding: masked_weight_gradient_of_relu(
        x, g, taps=taps, kernel_size=w_shape[:2], padding=padding
    ),
    b=lambda g: g,
)
masked_input_gradient_of_relu.rule(
    dy=lambda g, w, x, taps, padding: masked_conv2d(relu_gradient(g, stop_gradient(x)), w, taps=taps, padding=padding),
    w=lambda g, dy, w_shape, x, taps, padding: _weight_gradient(relu_gradient(g, stop_gradient(x)), dy, w_shape, taps, padding),
)
masked_weight_gradient_of_relu.rule(
    x=lambda g, x, dy, taps, padding: masked_input_gradient_of_relu(dy, g, stop_gradient(x), taps=taps, padding=padding),
    dy=lambda g, x, taps, padding: masked_conv2d(relu(x), g, taps=taps, padding=padding),
)


def _static(operation, kernel_size, taps, padding):
    taps = taps.tolist() if hasattr(taps, "tolist") else taps
    taps = tuple(map(tuple, taps))
    is_mask = bool(taps) and all(type(entry) is bool for row in taps for entry in row)
    return _live(operation, tuple(kernel_size), taps, is_mask), _pair(operation, "padding", padding, 0)


@lru_cache(None)
def _live(operation, kernel_size, taps, is_mask):
    """The taps as ascending pairs of integers, from pairs or from the rows of a mask: True == 1, so the cache must be told."""
    kh, kw = kernel_size
    if is_mask:
        if len(taps) != kh or any(len(row) != kw for row in taps):
            raise ValueError(f"{operation}: the mask has the rows {taps}, but the kernel is {kh} x {kw}; give it that shape")
        taps = tuple((a, b) for a, row in enumerate(taps) for b, live in enumerate(row) if live)
    wrong = [tap for tap in taps if len(tap) != 2 or not (0 <= tap[0] < kh and 0 <= tap[1] < kw)]
    if wrong or len(set(taps)) < len(taps):
        raise ValueError(
            f"{operation}: taps must be different pairs (a, b) inside the {kh} x {kw} kernel, or a boolean array of its shape; "
            f"got {wrong[0] if wrong else 'a pair twice'}"
        )
    return tuple(sorted(taps))
