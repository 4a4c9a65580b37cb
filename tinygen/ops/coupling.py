r"""The affine map of a coupling layer, and its logarithmic slopes, with fused gradients (Dinh et al. 2017, RealNVP, eq. 4-8).

    z = x e^s + t,  log dz/dx = s,   s = scale tanh(a),   a and t the two halves of the parameters

What the network says is read where it lies, and one pass backward makes the gradients of x, of the parameters and of the scale.
`decomposed` says the same in smaller primitives: what the fused passes are tested against, and the derivative of the backward
pass.
"""

import math

from .. import kernels
from ..autograd.core import Primitive
from ..autograd.reverse import broadcast_to, jvp, stack, vjp
from .elementwise import exp, tanh
from .shape import concatenate, flatten, reshape, split

__all__ = ["affine_coupling"]


def affine_coupling(x, parameters, scale):
    """(x e^s + t, s) with s = scale tanh(a): x (..., C), parameters (a, t) (..., 2 C), scale (C,) -> (..., C) each.

    ValueError for shapes that do not fit.
    """
    if not x.shape or tuple(parameters.shape) != (*x.shape[:-1], 2 * x.shape[-1]) or tuple(scale.shape) != x.shape[-1:]:
        raise ValueError(
            f"affine_coupling: x has shape {tuple(x.shape)}, the parameters {tuple(parameters.shape)} and the scale "
            f"{tuple(scale.shape)}; they must be (..., C), (..., 2 C) and (C,)"
        )
    y = _affine_coupling(x, parameters, scale)
    return y[0], y[1]


@Primitive
def _affine_coupling(x, parameters, scale):
    """(z, s), stacked: (2, ..., C)."""
    return kernels.coupling.forward(x, parameters, scale)


@Primitive
def _joined_gradient(dy, x, parameters, scale):
    """The cotangents of x, parameters and scale for a cotangent dy of the result, one after another in a flat array."""
    return kernels.coupling.backward(dy, x, parameters, scale)


def decomposed(x, parameters, scale):
    """`_affine_coupling` in smaller primitives."""
    a, t = split(parameters, 2)
    s = broadcast_to(scale * tanh(a), shape=tuple(x.shape))
    return stack(x * exp(s) + t, s)


def decomposed_gradient(dy, x, parameters, scale):
    """`_joined_gradient` in smaller primitives."""
    return concatenate(*map(flatten, vjp(decomposed, x, parameters, scale)[1](dy)))


def _parted(joined, *arrays):
    """What lies one after another as arrays of the shapes of those."""
    parts = split(joined, [math.prod(a.shape) for a in arrays])
    return tuple(reshape(part, shape=tuple(a.shape)) for part, a in zip(parts, arrays))


def _rule(g, x, parameters, scale):
    return _parted(_joined_gradient(g, x, parameters, scale), x, parameters, scale)


def _gradient_rule_dy(g, x, parameters, scale):
    """dy -> J^T dy is linear, and g -> J g its adjoint."""
    arrays = x, parameters, scale
    return jvp(decomposed, arrays, _parted(g, *arrays))[1]


def _gradient_rule(g, dy, x, parameters, scale):
    return None, *vjp(lambda *arrays: decomposed_gradient(dy, *arrays), x, parameters, scale)[1](g)


_affine_coupling.rule(x=_rule, parameters=_rule, scale=_rule)
_joined_gradient.rule(dy=_gradient_rule_dy, x=_gradient_rule, parameters=_gradient_rule, scale=_gradient_rule)
