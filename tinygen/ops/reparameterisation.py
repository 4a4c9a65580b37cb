r"""A sample of a Gaussian as a function of its parameters, and its divergence from N(0, 1), in one pass each way.

    z = m + sigma eps,  sigma = e^(l / 2)         KL(N(m, e^l) || N(0, 1)) = 1/2 (m^2 + e^l - 1 - l)

`decomposed` says the same in smaller primitives: what the fused passes are tested against, and the derivative of the backward
pass. Source: Kingma & Welling 2014, section 2.4 and appendix B.
"""

from .. import kernels
from ..autograd.core import Primitive
from ..autograd.reverse import jvp, stack, vjp
from .elementwise import exp, expm1

__all__ = ["reparameterise"]


def reparameterise(mean, log_var, eps):
    """(m + sigma eps, KL), elementwise, for arrays of one shape. ValueError where the shapes differ."""
    if not tuple(mean.shape) == tuple(log_var.shape) == tuple(eps.shape):
        raise ValueError(
            f"reparameterise: mean, log_var and eps have shapes {tuple(mean.shape)}, {tuple(log_var.shape)} and "
            f"{tuple(eps.shape)}; they must be the same: broadcast them with ops.broadcast_to"
        )
    y = _reparameterise(mean, log_var, eps)
    return y[0], y[1]


@Primitive
def _reparameterise(mean, log_var, eps):
    """(z, KL), stacked: (2, *shape)."""
    return kernels.reparameterisation.forward(mean, log_var, eps)


@Primitive
def _stacked_gradient(dy, mean, log_var, eps):
    """The cotangents of mean and log_var for a cotangent dy of the result, stacked."""
    return kernels.reparameterisation.backward(dy, mean, log_var, eps)


def decomposed(mean, log_var, eps):
    """`_reparameterise` in smaller primitives."""
    return stack(mean + exp(0.5 * log_var) * eps, 0.5 * (expm1(log_var) - log_var + mean * mean))


def decomposed_gradient(dy, mean, log_var, eps):
    """`_stacked_gradient` in smaller primitives."""
    return stack(*vjp(lambda *parameters: decomposed(*parameters, eps), mean, log_var)[1](dy))


def _rule(g, mean, log_var, eps):
    d = _stacked_gradient(g, mean, log_var, eps)
    return d[0], d[1], None


def _gradient_rule_dy(g, mean, log_var, eps):
    """dy -> J^T dy is linear, and g -> J g its adjoint."""
    return jvp(lambda *parameters: decomposed(*parameters, eps), (mean, log_var), (g[0], g[1]))[1]


def _gradient_rule(g, dy, mean, log_var, eps):
    return None, *vjp(lambda *arrays: decomposed_gradient(dy, *arrays), mean, log_var, eps)[1](g)


_reparameterise.rule(mean=_rule, log_var=_rule, eps=lambda g, log_var: g[0] * exp(0.5 * log_var))
_stacked_gradient.rule(dy=_gradient_rule_dy, mean=_gradient_rule, log_var=_gradient_rule, eps=_gradient_rule)
