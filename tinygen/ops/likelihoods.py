"""Log-likelihoods that training spends its time in, each in one pass over its logits where NumPy would make several."""

from .. import kernels
from ..autograd.core import Primitive
from .elementwise import sigmoid

__all__ = ["bernoulli_log_prob", "bernoulli_residual"]


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
