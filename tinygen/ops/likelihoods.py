"""Log-likelihoods that training spends its time in, each in one pass over its logits where NumPy would make several."""

import numpy as np

from .. import kernels
from ..autograd.core import Primitive
from ..backend import array_module
from .elementwise import sigmoid
from .reductions import softmax, sum
from .shape import expand_dims, take_along_axis

__all__ = ["bernoulli_log_prob", "bernoulli_residual", "categorical_log_prob", "categorical_log_prob_gradient"]


@Primitive
def bernoulli_log_prob(x, logits):
    """x l - softplus(l), elementwise: log p(x) in nats for x in {0, 1} and p(x = 1) = sigmoid(l); finite for every finite l."""
    return kernels.bernoulli.log_prob(x, logits)


@Primitive
def bernoulli_residual(x, logits):
    """x - sigmoid(l), elementwise: the derivative of `bernoulli_log_prob` with respect to l."""
    return kernels.bernoulli.residual(x, logits)


def _sigmoid_derivative(l):
    p = sigmoid(l)
    return p * (1 - p)


bernoulli_log_prob.rule(x=lambda g, logits: g * logits, logits=lambda g, x, logits: g * bernoulli_residual(x, logits))
bernoulli_residual.rule(x=lambda g: g, logits=lambda g, logits: -(g * _sigmoid_derivative(logits)))


@Primitive
def categorical_log_prob(x, logits):
    """l_x - log sum_i e^l_i: log p(x) in nats for x in 0 .. n - 1 and p(x = i) = softmax(l)_i; (...) and (..., n) -> (...).

    TypeError for x that are not integers, ValueError for shapes that do not fit, IndexError for x outside 0 .. n - 1.
    """
    _check_choices("categorical_log_prob", x, logits)
    return kernels.categorical.log_prob(x, logits)


@Primitive
def categorical_log_prob_gradient(dy, x, logits):
    """dy ([i = x] - softmax(l)_i): dy times the derivative of `categorical_log_prob` with respect to l_i; (..., n)."""
    _check_choices("categorical_log_prob_gradient", x, logits)
    return kernels.categorical.log_prob_gradient(dy, x, logits)


def _check_choices(operation, x, logits):
    if x.dtype.kind not in "iu":
        raise TypeError(f"{operation}: x must be integers, not {x.dtype}; convert it with .astype(int)")
    if x.shape != logits.shape[:-1]:
        raise ValueError(
            f"{operation}: x has shape {x.shape} and the logits {logits.shape}; x must have the logits' shape without its last "
            "axis, which holds the classes"
        )
    if array_module(x) is np and x.size and (x.min() < 0 or x.max() >= logits.shape[-1]):
        raise IndexError(  # on a GPU nobody looks, and waits: there, what is unknown gets NaN
            f"{operation}: x lies in {x.min()} .. {x.max()}, but there are {logits.shape[-1]} classes"
        )


def _along_logits(g, x, logits):
    """sum_i g_i ([i = x] - softmax(l)_i), for each row g of the logits' shape."""
    return take_along_axis(g, x[..., None])[..., 0] - sum(g * softmax(logits), axis=-1)


def _curvature(g, dy, logits):
    """-dy times the derivative of sum_i g_i softmax(l)_i."""
    p = softmax(logits)
    return -expand_dims(dy, -1) * (p * (g - sum(g * p, axis=-1, keepdims=True)))


categorical_log_prob.rule(logits=lambda g, x, logits: categorical_log_prob_gradient(g, x, logits))
categorical_log_prob_gradient.rule(dy=_along_logits, logits=_curvature)
