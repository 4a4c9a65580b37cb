r"""The gate of van den Oord et al. 2016, *Conditional image generation with PixelCNN decoders*, eq. 2, with a fused gradient.

    y = tanh(a) s(b),   a and b the two halves of the channels,   s the sigmoid

Neither half is copied out of x, and no array is made on the way, forward or backward. `decomposed` says the same in smaller
primitives: what the fused passes are tested against, and the derivative of the backward pass.
"""

from .. import kernels
from ..autograd.core import Primitive
from ..autograd.reverse import jvp, vjp
from .elementwise import sigmoid, tanh
from .shape import split

__all__ = ["gate"]


@Primitive
def gate(x):
    """tanh(a) sigmoid(b), a and b the halves of the last axis: (..., 2 C) -> (..., C). ValueError if its length is odd."""
    if not x.ndim or x.shape[-1] % 2:
        raise ValueError(f"gate: x has shape {x.shape}, but its last axis must have two equal halves; give an even length")
    return kernels.gate.forward(x)


@Primitive
def gate_gradient(dy, x):
    """The cotangent of x for a cotangent dy of gate(x)."""
    return kernels.gate.backward(dy, x)


def decomposed(x):
    """`gate` in smaller primitives."""
    a, b = split(x, 2)
    return tanh(a) * sigmoid(b)


gate.rule(x=lambda g, x: gate_gradient(g, x))
gate_gradient.rule(
    dy=lambda g, x: jvp(decomposed, (x,), (g,))[1],
    x=lambda g, dy, x: vjp(lambda x: vjp(decomposed, x)[1](dy)[0], x)[1](g)[0],
)
