r"""Normalisation of groups of channels, with fused gradients; the equations are in kernels/group_norm/spec.py.

Let T(dy, x, affine) = <dy, group_norm(x, affine)>. It is linear in dy and in affine, so the three maps

    group_norm(x, affine) = dT/ddy,    input_gradient(dy, x, affine) = dT/dx,    parameter_gradient(dy, x) = dT/daffine

are mostly one another's derivatives. What is missing are the derivatives of the second one, which is not linear in x: they are
taken of `decomposed`, the same in smaller primitives, which the fused passes are also tested against.
"""

from .. import kernels
from ..autograd.core import Primitive
from ..autograd.reverse import jvp, vjp
from .convolution import _of_one_dtype
from .elementwise import sqrt
from .reductions import mean
from .shape import reshape

__all__ = ["group_norm"]


@Primitive
def group_norm(x, affine, groups=1, eps=1e-5):
    """scale (x - m) / sqrt(v + eps) + shift, m and v the mean and variance of a group of channels over all positions.

    x (N, P, C), N examples of P positions, and affine (2, C), the scale and the shift of each channel -> y (N, P, C). Groups
    have C / groups neighbouring channels. ValueError for shapes that do not fit, or groups that do not divide C.
    """
    if x.ndim != 3 or affine.shape != (2, x.shape[2]) or groups < 1 or x.shape[2] % groups:
        raise ValueError(
            f"group_norm: x has shape {x.shape}, affine {affine.shape}, and there are {groups} groups; give x (N, P, C), "
            "affine (2, C) and a divisor of C"
        )
    return kernels.group_norm.forward(*_of_one_dtype(x, affine), groups, eps)


@Primitive
def input_gradient(dy, x, affine, groups=1, eps=1e-5):
    """The derivative of <dy, group_norm(x, affine)> with respect to x."""
    return kernels.group_norm.input_gradient(*_of_one_dtype(dy, x, affine), groups, eps)


@Primitive
def parameter_gradient(dy, x, groups=1, eps=1e-5):
    """The derivative of <dy, group_norm(x, affine)> with respect to affine, which does not depend on affine; (2, C)."""
    return kernels.group_norm.parameter_gradient(*_of_one_dtype(dy, x), groups, eps)


def decomposed(x, affine, groups=1, eps=1e-5):
    """`group_norm` in smaller primitives."""
    grouped = reshape(x, shape=(*x.shape[:2], groups, -1))
    centred = grouped - mean(grouped, axis=(1, 3), keepdims=True)
    variance = mean(centred * centred, axis=(1, 3), keepdims=True)
    return reshape(centred / sqrt(variance + eps), shape=tuple(x.shape)) * affine[0] + affine[1]


def _pull_back(dy, groups, eps):
    """(x, affine) -> the derivative of <dy, decomposed(x, affine)> with respect to x."""
    return lambda x, affine: vjp(lambda x: decomposed(x, affine, groups, eps), x)[1](dy)[0]


group_norm.rule(
    x=lambda g, x, affine, groups, eps: input_gradient(g, x, affine, groups=groups, eps=eps),
    affine=lambda g, x, groups, eps: parameter_gradient(g, x, groups=groups, eps=eps),
)
parameter_gradient.rule(
    dy=lambda g, x, groups, eps: group_norm(x, g, groups=groups, eps=eps),
    x=lambda g, dy, x, groups, eps: input_gradient(dy, x, g, groups=groups, eps=eps),
)
input_gradient.rule(
    dy=lambda g, x, affine, groups, eps: jvp(lambda x: decomposed(x, affine, groups, eps), (x,), (g,))[1],
    x=lambda g, dy, x, affine, groups, eps: vjp(lambda x: _pull_back(dy, groups, eps)(x, affine), x)[1](g)[0],
    affine=lambda g, dy, x, affine, groups, eps: vjp(lambda a: _pull_back(dy, groups, eps)(x, a), affine)[1](g)[0],
)
