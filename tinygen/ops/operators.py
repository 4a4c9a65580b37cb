"""What a tracer can do that an array can: operators, indexing and the common methods, each one an operation of this package.

And how a program (see autograd/program.py) writes these operations.
"""

import math
import operator
from functools import partial
from importlib import import_module

import numpy as np

from ..autograd.core import Tracer
from ..autograd.program import Notation, notations, together
from ..autograd.reverse import cast, opaque, stop_gradient, sum_to
from . import elementwise, linalg, reductions, shape
from .affine import _affine, _by_input, _by_result, _product_and_bias, _rows_gradient
from .coupling import _affine_coupling, _joined_gradient
from .reparameterisation import _reparameterise, _stacked_gradient
from .shape import is_basic


def _reflected(operation):
    return lambda self, other: operation(other, self)


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

_converted = opaque(lambda x, dtype=None: x.astype(dtype))


def _astype(x, dtype):
    """x.astype(dtype): to a floating dtype, where a derivative follows x."""
    return _converted(x, dtype=dtype) if stop_gradient(x) is x else cast(x, dtype=dtype)


_constant = {name: opaque(getattr(operator, name)) for name in ("lt", "le", "gt", "ge", "eq", "ne", "and_", "or_", "invert")}
for _name, _operation in _constant.items():
    setattr(Tracer, f"__{_name.rstrip('_')}__", _operation)
Tracer.__rand__, Tracer.__ror__ = _reflected(_constant["and_"]), _reflected(_constant["or_"])


def _truth(x):
    """bool(x), for those who know it; in a recorded program nobody does, and `__array__` says so."""
    x = stop_gradient(x)
    return bool(x.__array__() if type(x) is Tracer else x)


Tracer.__bool__ = _truth
Tracer.__neg__ = elementwise.negative
Tracer.__abs__ = elementwise.absolute
Tracer.__getitem__ = shape.index


def _refuse_assignment(x, index, value):
    raise TypeError("an array that is being differentiated cannot be written to; make a new one, by ops.where say")


Tracer.__setitem__ = _refuse_assignment
Tracer.sum = reductions.sum
Tracer.mean = reductions.mean
Tracer.max = reductions.max
Tracer.min = reductions.min
Tracer.astype = _astype
Tracer.reshape = lambda self, *lengths: shape.reshape(self, shape=_unpacked(lengths))
Tracer.transpose = lambda self, *axes: shape.transpose(self, axes=_unpacked(axes) or None)
Tracer.T = property(shape.transpose)

# Programs


def _numpys(name):
    """The function of NumPy's which a forward looks up."""
    return lambda *operands: getattr(np, name)


def _kernel(name):
    """The kernel to which a forward hands its arguments, if they are arrays already and not single numbers."""

    def settle(*operands, **static):
        from ..kernels.activations import cpu

        return partial(getattr(cpu, name), **static) if all(getattr(x, "shape", None) for x in operands) else None

    return settle


def _product(a, b):
    from ..kernels.matmul import cpu

    return cpu.by_tiles if cpu.suits(a, b) else cpu.by_blas


def _affine_map(x, w, b):
    if not (x.dtype == w.dtype == b.dtype):
        return None
    from ..kernels.matmul import cpu

    def added(x, w, b):
        y = cpu.by_blas(x, w)
        y += b
        return y

    return cpu.affine if cpu.suits(x, w) else added


def _affine_with_relu(first, second):
    """f(x w + b) in one pass, for relu."""
    from ..kernels.matmul import cpu

    (x, w, b), relu = first.operands, second.all_static()["activation"] == "relu"
    return partial(cpu.affine, relu=True) if relu and cpu.suits(x, w) and b.dtype == x.dtype else None


def _product_with_relu_gradient(first, second):
    """g w and, of it, the cotangent of the rows before a relu, in one pass."""
    from ..kernels.bias.cpu import BLOCK
    from ..kernels.matmul import cpu

    (a, b), relu = first.operands, second.all_static()["activation"] == "relu"
    return cpu.relu_gradient if relu and cpu.suits(a, b) and a.shape[0] <= BLOCK else None


def _multiplied(x, w, b):
    """x w with b below."""
    if not (x.dtype == w.dtype == b.dtype):
        return None
    shape, dtype, product = (x.shape[0] + 1, w.shape[1]), x.dtype, _product(x, w)

    def joined(x, w, b):
        rows = np.empty(shape, dtype)
        product(x, w, out=rows[:-1])
        rows[-1] = b
        return rows

    return joined


def _kernel_of(folder, name):
    """The function of a kernel to which a forward hands all that it is given."""

    def settle(*operands, **static):
        function = getattr(import_module(f"tinygen.kernels.{folder}.cpu"), name)
        return partial(function, **static) if static else function

    return settle


def _summed_to(x, shape=()):
    rows, rest = math.prod(x.shape[: len(x.shape) - len(shape)]), x.shape[len(x.shape) - len(shape) :]
    if rest != shape or x.dtype.kind != "f" or not rows * math.prod(rest):
        return None
    ones = np.ones(rows, x.dtype)

    def settled(x):
        if not x.flags.c_contiguous:
            return sum_to.forward(x, shape=shape)
        return (ones @ x.reshape(rows, -1)).reshape(shape)

    return settled


def _summed(x, axis=None, keepdims=False):
    return lambda x: reductions.sum.forward(x, axis, keepdims)


def _scattered(g, key=(), shape=()):
    if not is_basic(key):
        return None
    dtype = g.dtype

    def settled(g):
        x = np.zeros(shape, dtype)
        x[key] = g
        return x

    return settled


def _concatenated(*arrays, axis=0):
    return lambda *arrays: np.concatenate(arrays, axis)


notations |= {
    elementwise.add: Notation("{0} + {1}"),
    elementwise.subtract: Notation("{0} - {1}"),
    elementwise.multiply: Notation("{0} * {1}"),
    elementwise.divide: Notation("{0} / {1}"),
    elementwise.power: Notation("{0} ** {1}"),
    elementwise.negative: Notation("-{0}"),
    linalg.matmul: Notation("{0} @ {1}", settle=_product),
    _affine: Notation(settle=_affine_map),
    _product_and_bias: Notation(settle=_multiplied),
    _by_result: Notation(settle=_kernel_of("bias", "forward")),
    _by_input: Notation(settle=_kernel_of("bias", "forward")),
    _rows_gradient: Notation(settle=_kernel_of("bias", "backward")),
    _affine_coupling: Notation(settle=_kernel_of("coupling", "forward")),
    _joined_gradient: Notation(settle=_kernel_of("coupling", "backward")),
    _reparameterise: Notation(settle=_kernel_of("reparameterisation", "forward")),
    _stacked_gradient: Notation(settle=_kernel_of("reparameterisation", "backward")),
    shape.index: Notation("{0}[{key}]"),
    shape.reshape: Notation("{0}.reshape({shape})"),
    shape.transpose: Notation("{0}.transpose({axes})"),
    reductions.sum: Notation(settle=_summed),
    _converted.primitive: Notation("{0}.astype({dtype})"),
    **{
        _constant[name].primitive: Notation(f"{{0}} {symbol} {{1}}")
        for name, symbol in zip(_constant, ("<", "<=", ">", ">=", "==", "!=", "&", "|"))
    },
    _constant["invert"].primitive: Notation("~{0}"),
    **{
        getattr(elementwise, name): Notation(settle=_numpys(name))
        for name in ("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh", "absolute", "maximum", "minimum", "where")
    },
    **{
        getattr(elementwise, name): Notation(settle=_kernel(name))
        for name in (
            *("sigmoid", "softplus", "silu", "gelu", "leaky_relu", "tanh_gradient", "relu_gradient", "sigmoid_gradient"),
            *("softplus_gradient", "silu_gradient", "gelu_gradient", "leaky_relu_gradient"),
        )
    },
    sum_to: Notation(settle=_summed_to),
    shape.scatter_add: Notation(settle=_scattered),
    shape.concatenate: Notation(settle=_concatenated),
}
together |= {
    (_product_and_bias, _by_result): _affine_with_relu,
    (linalg.matmul, _rows_gradient): _product_with_relu_gradient,
}
