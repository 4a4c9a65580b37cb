r"""Reductions over axes, and their numerically safe relatives: sums, extrema, log-sum-exp, softmax.

`axis` is None (all axes), an integer or a tuple, and `keepdims` keeps the reduced axes at length 1, as in NumPy. A rule first
puts the reduced axes back at length 1 (`_restore`); the rest is broadcasting.
"""

import math

import numpy as np

from .. import kernels
from ..autograd.core import Primitive
from ..autograd.reverse import broadcast_to
from ..backend import array_module
from .elementwise import exp, where
from .shape import reshape

__all__ = [
    "cumsum", "log_softmax", "logsumexp", "max", "mean", "min", "softmax", "sum",
]  # fmt: skip


@Primitive
def sum(x, axis=None, keepdims=False):
    r"""\sum x over the axes."""
    if axis in (-1, (1,)) and x.ndim == 2 and 0 < x.shape[1] < 8 and x.dtype in (np.float32, np.float64) and not keepdims:
        total = x[:, 0] + 0  # the sum that NumPy makes row by row, to the last bit, in a third of the time
        for i in range(1, x.shape[1]):
            total += x[:, i]
        return total
    return x.sum(axis=axis, keepdims=keepdims)


@Primitive
def max(x, axis=None, keepdims=False):
    """The largest x over the axes; where several are equal, they share the derivative equally."""
    return x.max(axis=axis, keepdims=keepdims)


@Primitive
def cumsum(x, axis=-1, reverse=False):
    r"""y_i = \sum_{j <= i} x_j along one axis, or \sum_{j >= i} x_j if reverse: each is the other's adjoint."""
    xp = array_module(x)
    return xp.flip(xp.cumsum(xp.flip(x, axis), axis), axis) if reverse else xp.cumsum(x, axis)


@Primitive
def logsumexp(x, axis=None, keepdims=False):
    r"""log \sum e^x over the axes; its derivative is softmax(x).

    Written as m + log \sum e^(x - m) with m = max x: the largest term is e^0, so nothing overflows, and entries of -inf
    contribute nothing; where all are -inf, so is the result, and its derivative is taken as 0. The naive form is inf from
    x = 89 on in float32.
    """
    xp = array_module(x)
    m = x.max(axis=axis, keepdims=True)
    finite = xp.isfinite(m)  # elsewhere the result is m, and x - m might be inf - inf
    y = xp.log(xp.exp(xp.where(finite, x, 0) - xp.where(finite, m, 0)).sum(axis=axis, keepdims=True)) + m
    return y if keepdims else y.reshape(_shape_after(x.shape, axis))


@Primitive
def softmax(x, axis=-1):
    r"""e^x / \sum e^x along one axis, written with x - max x."""
    if _is_last(x, axis):
        return kernels.softmax.softmax(x)
    e = array_module(x).exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@Primitive
def softmax_gradient(dy, result, axis=-1):
    r"""p (dy - \sum dy p): dy times the derivative of softmax, by its result p."""
    if _is_last(result, axis):
        return kernels.softmax.softmax_gradient(dy, result)
    return result * (dy - (dy * result).sum(axis=axis, keepdims=True))


@Primitive
def log_softmax(x, axis=-1):
    """x - logsumexp(x) along one axis: finite where softmax itself underflows."""
    if _is_last(x, axis):
        return kernels.softmax.log_softmax(x)
    x = x - x.max(axis=axis, keepdims=True)
    xp = array_module(x)
    return x - xp.log(xp.exp(x).sum(axis=axis, keepdims=True))


@Primitive
def log_softmax_gradient(dy, result, axis=-1):
    r"""dy - e^l \sum dy: dy times the derivative of log_softmax, by its result l."""
    if _is_last(result, axis):
        return kernels.softmax.log_softmax_gradient(dy, result)
    return dy - array_module(result).exp(result) * dy.sum(axis=axis, keepdims=True)


def mean(x, axis=None, keepdims=False):
    """The arithmetic mean over the axes."""
    return sum(x, axis=axis, keepdims=keepdims) / math.prod(n for n, gone in zip(x.shape, _reduced(x.shape, axis)) if gone)


def min(x, axis=None, keepdims=False):
    """The smallest x over the axes; where several are equal, they share the derivative equally."""
    return -max(-x, axis=axis, keepdims=keepdims)


def _is_last(x, axis):
    """Whether this is the last axis, for which there is a kernel of one pass; see kernels/softmax/spec.py."""
    return x.ndim > 0 and axis in (-1, x.ndim - 1)


def _reduced(shape, axis):
    """For each axis, whether it is reduced."""
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = {a % len(shape) for a in axes}
    return [i in axes for i in range(len(shape))]


def _shape_after(shape, axis):
    return tuple(n for n, gone in zip(shape, _reduced(shape, axis)) if not gone)


def _restore(g, shape, axis, keepdims):
    """A reduced array with its reduced axes back, at length 1."""
    return g if keepdims else reshape(g, shape=tuple(1 if gone else n for n, gone in zip(shape, _reduced(shape, axis))))


def _max_rule(g, x, y, axis, keepdims):
    winners = x == _restore(y, x.shape, axis, keepdims)
    return _restore(g, x.shape, axis, keepdims) * winners / winners.sum(axis=axis, keepdims=True).astype(x.dtype)


def _logsumexp_rule(g, x, y, axis, keepdims):
    """g softmax(x), with weights of no weight made 0.

    Below the root of the smallest normal number, 1e-19 in float32, a share is lost in any sum, but products with it become
    subnormal numbers, on which a processor is up to a hundred times slower: a step of IWAE was five times slower for them.
    """
    y = where(y == -math.inf, 0, y)  # an empty sum: e^-inf is 0, and e^(-inf + inf) not a number
    weights = exp(x - _restore(y, x.shape, axis, keepdims))
    negligible = math.sqrt(np.finfo(weights.dtype).tiny)
    return _restore(g, x.shape, axis, keepdims) * where(weights < negligible, 0, weights)


sum.rule(x=lambda g, x_shape, axis, keepdims: broadcast_to(_restore(g, x_shape, axis, keepdims), shape=x_shape))
max.rule(x=_max_rule)
cumsum.rule(x=lambda g, axis, reverse: cumsum(g, axis=axis, reverse=not reverse))
logsumexp.rule(x=_logsumexp_rule)
softmax.rule(x=lambda g, y, axis: softmax_gradient(g, y, axis=axis))
softmax_gradient.rule(
    dy=lambda g, result, axis: softmax_gradient(g, result, axis=axis),
    result=lambda g, dy, result, axis: (
        g * (dy - sum(dy * result, axis=axis, keepdims=True)) - dy * sum(g * result, axis=axis, keepdims=True)
    ),
)
log_softmax.rule(x=lambda g, y, axis: log_softmax_gradient(g, y, axis=axis))
log_softmax_gradient.rule(
    dy=lambda g, result, axis: g - sum(g * exp(result), axis=axis, keepdims=True),
    result=lambda g, dy, result, axis: -(g * exp(result) * sum(dy, axis=axis, keepdims=True)),
)
