"""What a tracer can do that an array can: operators, indexing and the common methods, each one an operation of this package."""

import operator

from ..autograd.core import Tracer
from ..autograd.reverse import cast, stop_gradient
from . import elementwise, linalg, reductions, shape


def _reflected(operation):
    return lambda self, other: operation(other, self)


def _compared(comparison):
    return lambda self, other: comparison(stop_gradient(self), stop_gradient(other))


def _unpacked(numbers):
    """(2, 3), given as x.reshape(2, 3) or as x.reshape((2, 3))."""
    return numbers[0] if len(numbers) == 1 and not isinstance(numbers[0], int) else numbers


for _name, _operation in {
    "add": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "truediv": elementwise.divide,
    "pow": elementwise.power,
    "matmul": linalg.matmul,
}.items():
    setattr(Tracer, f"__{_name}__", _operation)
    setattr(Tracer, f"__r{_name}__", _reflected(_operation))

for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Tracer, f"__{_name}__", _compared(getattr(operator, _name)))

Tracer.__bool__ = lambda self: bool(stop_gradient(self))
Tracer.__neg__ = elementwise.negative
Tracer.__abs__ = elementwise.absolute
Tracer.__getitem__ = shape.index
Tracer.sum = reductions.sum
Tracer.mean = reductions.mean
Tracer.max = reductions.max
Tracer.min = reductions.min
Tracer.astype = lambda self, dtype: cast(self, dtype=dtype)
Tracer.reshape = lambda self, *lengths: shape.reshape(self, shape=_unpacked(lengths))
Tracer.transpose = lambda self, *axes: shape.transpose(self, axes=_unpacked(axes) or None)
Tracer.T = property(shape.transpose)
