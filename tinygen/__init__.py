"""tinygen: generative models from scratch, where every equation runs.

tinygen.grad, vjp, jvp, ...   derivatives of any order, of functions of trees of arrays
tinygen.capture, trace        such a function as a program: replayed, or printed
tinygen.ops                   differentiable operations          tinygen.kernels   the loops beneath them
tinygen.nn, optim             layers and optimisers              tinygen.data      digits, MNIST, 2-D densities
tinygen.models                one file for each family           tinygen.train     the training loop
"""

import os.path

# kernels/ lies beside tinygen/ in a checkout and inside it when installed. In a checkout that is not installed, its parent
# directory must be searched for it too.
if not os.path.isdir(os.path.join(__path__[0], "kernels")):
    __path__.append(os.path.dirname(__path__[0]))

from . import ops
from .autograd import (
    Primitive,
    capture,
    check_grads,
    grad,
    hvp,
    jacobian,
    jvp,
    module,
    stop_gradient,
    trace,
    value_and_grad,
    vjp,
)
from .backend import Generator

__version__ = "0.1.0"
__all__ = [
    "Generator", "Primitive", "capture", "check_grads", "grad", "hvp", "jacobian", "jvp", "module", "ops", "stop_gradient",
    "trace", "value_and_grad", "vjp",
]  # fmt: skip
