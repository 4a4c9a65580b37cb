r"""Normalisation of groups of channels, and an activation after it, with fused gradients; the equations are in
kernels/group_norm/spec.py.

The derivatives with respect to x and to affine need the same sums over the same numbers. So one pass makes both, and one rule
stands for both arguments. Its derivatives are taken of `decomposed`, which says the same in smaller primitives: the first order
is fast, and every order is right.
"""

import math

from .. import kernels
from ..autograd.core import Primitive
from ..autograd.reverse import jvp, vjp
from . import elementwise
from .convolution import _of_one_dtype
from .elementwise import sqrt
from .reductions import mean
from .shape import concatenate, reshape

__all__ = ["group_norm", "layer_norm"]

FUSED = {elementwise.relu: "relu", elementwise.silu: "silu"}


def group_norm(x, affine, groups=1, eps=1e-5, activation=None):
    """f(scale (x - m) / sqrt(v + eps) + shift), m and v the mean and variance of a group of channels over all positions.

    x (N, P, C), N examples of P positions, and affine (2, C), the scale and the shift of each channel -> y (N, P, C). Groups
    have C / groups neighbouring channels. f is the identity if None; fastest for ops.relu and ops.silu, but any function will
    do. ValueError for shapes that do not fit, or groups that do not divide C.
    """
    if len(x.shape) != 3 or tuple(affine.shape) != (2, x.shape[2]) or groups < 1 or x.shape[2] % groups:
        raise ValueError(
            f"group_norm: x has shape {tuple(x.shape)}, affine {tuple(affine.shape)}, and there are {groups} groups; give x "
            "(N, P, C), affine (2, C) and a divisor of C"
        )
    name = FUSED.get(activation) if type(activation) is Primitive else None
    y = _group_norm(x, affine, groups=groups, eps=eps, activation=name)
    return y if activation is None or name else activation(y)


def layer_norm(x, affine, eps=1e-5):
    """scale (x - m) / sqrt(v + eps) + shift, m and v the mean and variance along the last axis: x (..., d), affine (2, d).

    ValueError for shapes that do not fit.
    """
    if not x.shape or tuple(affine.shape) != (2, x.shape[-1]):
        raise ValueError(
            f"layer_norm: x has shape {tuple(x.shape)} and affine {tuple(affine.shape)}; they must be (..., d) and (2, d)"
        )
    positions = reshape(x, shape=(math.prod(x.shape[:-1]), 1, x.shape[-1]))
    return reshape(group_norm(positions, affine, eps=eps), shape=tuple(x.shape))


@Primitive
def _group_norm(x, affine, groups=1, eps=1e-5, activation=None):
    """`group_norm` with the name of an activation."""
    return kernels.group_norm.forward(*_of_one_dtype(x, affine), groups, eps, activation)


@Primitive
def _rows_gradient(dy, x, affine, groups=1, eps=1e-5, activation=None):
    """(N P + 2, C): the cotangent of x, as rows, for a cotangent dy of the result, and below it that of affine."""
    return kernels.group_norm.backward(*_of_one_dtype(dy, x, affine), groups, eps, activation)


def decomposed(x, affine, groups=1, eps=1e-5, activation=None):
    """`group_norm` in smaller primitives, with the name of an activation."""
    grouped = reshape(x, shape=(*x.shape[:2], groups, x.shape[2] // groups))
    centred = grouped - mean(grouped, axis=(1, 3), keepdims=True)
    variance = mean(centred * centred, axis=(1, 3), keepdims=True)
    z = reshape(centred / sqrt(variance + eps), shape=tuple(x.shape)) * affine[0] + affine[1]
    return getattr(elementwise, activation)(z) if activation else z


def decomposed_gradient(dy, x, affine, groups=1, eps=1e-5, activation=None):
    """`_rows_gradient` in smaller primitives."""
    dx, d = vjp(lambda *a: decomposed(*a, groups, eps, activation), x, affine)[1](dy)
    return concatenate(reshape(dx, shape=(x.shape[0] * x.shape[1], x.shape[2])), d)


def _rule(g, x, affine, groups, eps, activation):
    rows = _rows_gradient(g, x, affine, groups=groups, eps=eps, activation=activation)
    return reshape(rows[:-2], shape=tuple(x.shape)), rows[-2:]


def _gradient_rule_dy(g, x, affine, groups, eps, activation):
    """dy -> J^T dy is linear, and g -> J g its adjoint."""
    tangents = reshape(g[:-2], shape=tuple(x.shape)), g[-2:]
    return jvp(lambda *a: decomposed(*a, groups, eps, activation), (x, affine), tangents)[1]


def _gradient_rule(g, dy, x, affine, groups, eps, activation):
    return None, *vjp(lambda *a: decomposed_gradient(dy, *a, groups, eps, activation), x, affine)[1](g)


_group_norm.rule(x=_rule, affine=_rule)
_rows_gradient.rule(dy=_gradient_rule_dy, x=_gradient_rule, affine=_gradient_rule)
