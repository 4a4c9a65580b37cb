r"""Affine maps with an activation after them, y = f(x w + b), with no pass over the numbers that can be saved.

BLAS makes the product u = x w. What follows is two primitives, joined by an array that holds the N rows of u, and b below them:

    rows = _product_and_bias(x, w, b)        the last row is b
    y = f(rows[:-1] + rows[-1])              one pass forward; backward the cotangents of u and of b, one below the other

in one pass, too: that of b is the sum of those of all rows, which lie at hand while it is made. The derivatives of relu,
leaky_relu, tanh and sigmoid are functions of the result, which the next layer keeps anyway; those of the others need rows.
"""

import math

from .. import kernels
from ..autograd.core import Primitive
from ..autograd.reverse import stop_gradient, vjp
from ..backend import array_module
from . import elementwise
from .linalg import matmul
from .reductions import sum
from .shape import concatenate, reshape, swapaxes

__all__ = ["affine"]

BY_RESULT = "relu", "leaky_relu", "tanh", "sigmoid"
BY_INPUT = "softplus", "silu", "gelu"
FUSED = {getattr(elementwise, name): name for name in (*BY_RESULT, *BY_INPUT)}


def affine(x, w, b, activation=None):
    """f(x w + b) along the last axis: x (..., d_in), w (d_in, d_out), b (d_out,) -> (..., d_out). f is the identity if None.

    Fastest for an activation of `ops`, such as ops.relu; but any function will do. ValueError for shapes that do not fit.
    """
    if len(w.shape) != 2 or tuple(b.shape) != w.shape[1:] or not x.shape or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"affine: x has shape {tuple(x.shape)}, w {tuple(w.shape)} and b {tuple(b.shape)}; they must be (..., d_in), "
            "(d_in, d_out) and (d_out,)"
        )
    flat = x if len(x.shape) == 2 else reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))
    name = FUSED.get(activation) if type(activation) is Primitive else None
    if name is None:
        y = _affine(flat, w, b)
    else:
        y = (_by_result if name in BY_RESULT else _by_input)(_product_and_bias(flat, w, b), activation=name)
    y = y if flat is x else reshape(y, shape=(*x.shape[:-1], w.shape[1]))
    return y if activation is None or name else activation(y)


@Primitive
def _affine(x, w, b):
    """x w + b, the bias added in place."""
    y = matmul(x, w)
    if y.dtype != b.dtype:
        return y + b
    y += b
    return y


@Primitive
def _product_and_bias(x, w, b):
    """(N + 1, d_out): x w, and b below."""
    xp = array_module(x, w)
    rows = xp.empty((x.shape[0] + 1, w.shape[1]), xp.result_type(x, w, b))
    kernels.matmul.product(x, w, out=rows[:-1])
    rows[-1] = b
    return rows


@Primitive
def _by_result(rows, activation=""):
    """f(rows[:-1] + rows[-1]), for f whose derivative is a function of its result."""
    return kernels.bias.forward(rows, activation)


@Primitive
def _by_input(rows, activation=""):
    """f(rows[:-1] + rows[-1]), for any other f."""
    return kernels.bias.forward(rows, activation)


@Primitive
def _rows_gradient(dy, kept, activation=""):
    """The cotangent of rows for a cotangent dy of the result; kept is the result or rows."""
    return kernels.bias.backward(dy, kept, activation)


def decomposed_gradient(dy, kept, activation):
    """`_rows_gradient` in smaller primitives: what it is tested against, and the way to its derivatives."""
    du = _derivative_times(dy, kept, activation)
    return concatenate(du, sum(du, axis=0, keepdims=True))


def _derivative_times(dy, kept, activation):
    x = kept if activation in BY_RESULT else kept[:-1] + kept[-1]
    return getattr(elementwise, f"{activation}_gradient")(dy, x)


def _by_result_rule(g, y, activation):
    """Of relu and leaky_relu the derivative is piecewise constant, and so the second one 0."""
    return _rows_gradient(g, stop_gradient(y) if activation.endswith("relu") else y, activation=activation)


def _gradient_rule_kept(g, dy, kept, activation):
    return vjp(lambda kept: decomposed_gradient(dy, kept, activation), kept)[1](g)[0]


_affine.rule(x=lambda g, w: matmul(g, swapaxes(w, 0, 1)), w=lambda g, x: matmul(swapaxes(x, 0, 1), g), b=lambda g: g)
_product_and_bias.rule(
    x=lambda g, w: matmul(g[:-1], swapaxes(w, 0, 1)), w=lambda g, x: matmul(swapaxes(x, 0, 1), g[:-1]), b=lambda g: g[-1]
)
_by_result.rule(rows=_by_result_rule)
_by_input.rule(rows=lambda g, rows, activation: _rows_gradient(g, rows, activation=activation))
_rows_gradient.rule(
    dy=lambda g, kept, activation: _derivative_times(g[:-1] + g[-1], kept, activation), kept=_gradient_rule_kept
)
