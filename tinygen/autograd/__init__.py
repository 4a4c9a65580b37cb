"""Differentiation of functions of arrays: `core.py` records, `reverse.py` pulls back, `tree.py` holds arrays together.

`program.py` writes a function down as a straight line of instructions, and `replay.py` replays it.
"""

from .check import check_grads
from .core import Primitive
from .replay import capture, trace
from .reverse import grad, hvp, jacobian, jvp, opaque, stop_gradient, value_and_grad, vjp
from .tree import module

__all__ = [
    "Primitive", "capture", "check_grads", "grad", "hvp", "jacobian", "jvp", "module", "opaque", "stop_gradient", "trace",
    "value_and_grad", "vjp",
]  # fmt: skip
