"""Differentiation of functions of arrays: `core.py` records, `reverse.py` pulls back, `tree.py` holds arrays together."""

from .check import check_grads
from .core import Primitive
from .reverse import grad, hvp, jacobian, jvp, stop_gradient, value_and_grad, vjp
from .tree import module

__all__ = [
    "Primitive", "check_grads", "grad", "hvp", "jacobian", "jvp", "module", "stop_gradient", "value_and_grad", "vjp",
]  # fmt: skip
