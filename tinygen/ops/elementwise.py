r"""Elementwise operations and their derivatives: arithmetic, exponentials, activations, choices.

Two arrays broadcast as in NumPy; a rule returns the cotangent in the broadcast shape, and the core sums it back. Where a
formula has a numerically safe form, that form is the code, and its docstring says what the naive one would lose.
"""

import math

from ..autograd.core import Primitive
from ..autograd.reverse import opaque, stop_gradient
from ..backend import array_module

__all__ = [
    "abs", "absolute", "add", "clip", "cos", "divide", "erf", "exp", "expm1", "floor", "gelu", "leaky_relu", "log", "log1p",
    "log_sigmoid", "maximum", "minimum", "multiply", "negative", "power", "relu", "sigmoid", "sign", "silu", "sin",
    "softplus", "sqrt", "square", "subtract", "tanh", "where",
]  # fmt: skip

# Arithmetic


@Primitive
def add(a, b):
    """a + b."""
    return a + b


@Primitive
def subtract(a, b):
    """a - b."""
    return a - b


@Primitive
def multiply(a, b):
    """a b, elementwise."""
    return a * b


@Primitive
def divide(a, b):
    """a / b, elementwise."""
    return a / b


@Primitive
def negative(x):
    """-x."""
    return -x


@Primitive
def power(a, b):
    """a^b, elementwise; with respect to b only where a > 0 (at a = 0, where a^b log a -> 0 for b > 0, it is 0)."""
    return a**b


add.rule(a=lambda g: g, b=lambda g: g)
subtract.rule(a=lambda g: g, b=lambda g: -g)
multiply.rule(a=lambda g, b: g * b, b=lambda g, a: g * a)
divide.rule(a=lambda g, b: g / b, b=lambda g, y, b: -(g * y) / b)
negative.rule(x=lambda g: -g)
power.rule(
    a=lambda g, a, b: g * (b * a ** _one_less(a, b)),
    b=lambda g, y, a: g * (y * log(where(a == 0, 1, a))),
)


def _one_less(a, b):
    """b - 1, the exponent of the derivative; but 1 for a = b = 0, since a^0 is flat also there, where 0 * 0^-1 is no number."""
    if isinstance(b, (int, float)):
        return b - 1 if b else 1  # a Python number: it must not become an array, which would promote float32
    return where((a == 0) & (b == 0), 1, b - 1)


# Exponentials, logarithms, roots, circular functions


@Primitive
def exp(x):
    """e^x."""
    return array_module(x).exp(x)


@Primitive
def expm1(x):
    """e^x - 1, accurate near 0, where the difference would cancel."""
    return array_module(x).expm1(x)


@Primitive
def log(x):
    """The natural logarithm."""
    return array_module(x).log(x)


@Primitive
def log1p(x):
    """log(1 + x), accurate near 0, where 1 + x would round."""
    return array_module(x).log1p(x)


@Primitive
def sqrt(x):
    """The square root; its derivative is infinite at 0."""
    return array_module(x).sqrt(x)


@Primitive
def sin(x):
    """The sine of x radians."""
    return array_module(x).sin(x)


@Primitive
def cos(x):
    """The cosine of x radians."""
    return array_module(x).cos(x)


exp.rule(x=lambda g, y: g * y)
expm1.rule(x=lambda g, y: g * (y + 1))
log.rule(x=lambda g, x: g / x)
log1p.rule(x=lambda g, x: g / (1 + x))
sqrt.rule(x=lambda g, y: g / (2 * y))
sin.rule(x=lambda g, x: g * cos(x))
cos.rule(x=lambda g, x: -g * sin(x))

# Activations. Those of float32 arrays, and their derivatives, are kernels of one pass; see kernels/activations/spec.py.


@Primitive
def tanh(x):
    """The hyperbolic tangent; its derivative is 1 - tanh^2."""
    return array_module(x).tanh(x)


@Primitive
def tanh_gradient(dy, result):
    """dy (1 - result^2): dy times the derivative of tanh, by its result."""
    return _activation("tanh_gradient", dy, result)


@Primitive
def sigmoid(x):
    """1 / (1 + e^-x); its derivative is y (1 - y).

    Written with e^-|x|, which cannot overflow: sigmoid(-50) = 1.9e-22.
    """
    return _activation("sigmoid", x)


@Primitive
def sigmoid_gradient(dy, result):
    """dy result (1 - result): dy times the derivative of the sigmoid, by its result."""
    return _activation("sigmoid_gradient", dy, result)


@Primitive
def softplus(x):
    """log(1 + e^x); its derivative is sigmoid(x).

    Written as max(x, 0) + log1p(e^-|x|), which neither overflows nor loses the tail: softplus(-50) = 1.9e-22.
    """
    return _activation("softplus", x)


@Primitive
def softplus_gradient(dy, x):
    """dy sigmoid(x): dy times the derivative of softplus."""
    return _activation("softplus_gradient", dy, x)


@Primitive
def relu(x):
    """max(x, 0); its derivative at 0 is taken as 0."""
    return array_module(x).maximum(x, 0)


@Primitive
def relu_gradient(dy, result):
    """dy where the result of relu is above 0, otherwise 0."""
    return _activation("relu_gradient", dy, result)


@Primitive
def leaky_relu(x, slope=0.2):
    """x where x > 0, otherwise slope * x (Maas et al. 2013); its derivative at 0 is the slope."""
    return _activation("leaky_relu", x, slope=slope)


@Primitive
def leaky_relu_gradient(dy, x, slope=0.2):
    """dy where x > 0, otherwise slope * dy."""
    return _activation("leaky_relu_gradient", dy, x, slope=slope)


@Primitive
def silu(x):
    """x sigmoid(x), the sigmoid linear unit (Elfwing et al. 2018), also called swish; 0 at -inf, its limit."""
    return _activation("silu", x)


@Primitive
def silu_gradient(dy, x):
    """dy s (1 + x (1 - s)) with s = sigmoid(x): dy times the derivative of silu."""
    return _activation("silu_gradient", dy, x)


@Primitive
def gelu(x):
    """x Phi(x), the Gaussian error linear unit (Hendrycks & Gimpel 2016), with the exact normal distribution function."""
    return _activation("gelu", x)


@Primitive
def gelu_gradient(dy, x):
    """dy (Phi(x) + x phi(x)), with the density phi of N(0, 1): dy times the derivative of gelu."""
    return _activation("gelu_gradient", dy, x)


@Primitive
def erf(x):
    r"""2 / sqrt(pi) \int_0^x e^{-t^2} dt, the error function."""
    from .. import kernels

    return kernels.erf.forward(array_module(x).asarray(x))


def log_sigmoid(x):
    """log(1 / (1 + e^-x)) = -softplus(-x): finite where sigmoid(x) itself underflows."""
    return -softplus(-x)


def _activation(name, *arrays, **numbers):
    from .. import kernels  # Numba comes with the first kernel that is used, not with the import

    # asarray takes a scalar of NumPy's to be an array
    return getattr(kernels.activations, name)(*map(array_module(*arrays).asarray, arrays), **numbers)


def _silu_curvature(x):
    s = sigmoid(x)
    return s * (1 - s) * (2 + x * (1 - 2 * s))


def _gelu_curvature(x):
    return (2 - x * x) * exp(-0.5 * (x * x)) * (1 / math.sqrt(2 * math.pi))


tanh.rule(x=lambda g, y: tanh_gradient(g, y))
tanh_gradient.rule(dy=lambda g, result: tanh_gradient(g, result), result=lambda g, dy, result: g * (-2 * (dy * result)))
sigmoid.rule(x=lambda g, y: sigmoid_gradient(g, y))
sigmoid_gradient.rule(
    dy=lambda g, result: sigmoid_gradient(g, result), result=lambda g, dy, result: g * (dy * (1 - 2 * result))
)
softplus.rule(x=lambda g, x: softplus_gradient(g, x))
softplus_gradient.rule(dy=lambda g, x: softplus_gradient(g, x), x=lambda g, dy, x: g * sigmoid_gradient(dy, sigmoid(x)))
relu.rule(x=lambda g, y: relu_gradient(g, stop_gradient(y)))  # which is piecewise constant in y
relu_gradient.rule(dy=lambda g, result: relu_gradient(g, result))
leaky_relu.rule(x=lambda g, x, slope: leaky_relu_gradient(g, stop_gradient(x), slope=slope))
leaky_relu_gradient.rule(dy=lambda g, x, slope: leaky_relu_gradient(g, x, slope=slope))
silu.rule(x=lambda g, x: silu_gradient(g, x))
silu_gradient.rule(dy=lambda g, x: silu_gradient(g, x), x=lambda g, dy, x: g * (dy * _silu_curvature(x)))
gelu.rule(x=lambda g, x: gelu_gradient(g, x))
gelu_gradient.rule(dy=lambda g, x: gelu_gradient(g, x), x=lambda g, dy, x: g * (dy * _gelu_curvature(x)))
erf.rule(x=lambda g, x: g * (2 / math.sqrt(math.pi) * exp(-(x * x))))

# Choices and kinks


@Primitive
def absolute(x):
    """|x|; its derivative at 0 is taken as 0."""
    return array_module(x).abs(x)


@Primitive
def maximum(a, b):
    """The larger of a and b; where they are equal, each gets half of the derivative."""
    return array_module(a, b).maximum(a, b)


@Primitive
def minimum(a, b):
    """The smaller of a and b; where they are equal, each gets half of the derivative."""
    return array_module(a, b).minimum(a, b)


@Primitive
def where(condition, a, b):
    """a where the condition holds, otherwise b.

    A branch that is not taken gets the derivative 0, but it is computed: make it finite there (0 * inf is not a number).
    """
    return array_module(condition, a, b).where(condition, a, b)


def clip(x, low, high):
    """x limited to [low, high]; the derivative is 0 outside, 1 inside, and one half at the limits."""
    return minimum(maximum(x, low), high)


@opaque
def sign(x):
    """-1, 0 or 1, as a constant: its derivative is 0 wherever it exists."""
    return array_module(x).sign(x)


@opaque
def floor(x):
    """The largest whole number that is not above x, as a constant: its derivative is 0 wherever it exists."""
    return array_module(x).floor(x)


def _share(g, winner, other):
    """g where winner > other, half of it where they are equal, otherwise 0."""
    half = 0.5 * g
    return half * (winner > other) + half * (winner >= other)


absolute.rule(x=lambda g, x: g * sign(x))
maximum.rule(a=lambda g, a, b: _share(g, a, b), b=lambda g, a, b: _share(g, b, a))
minimum.rule(a=lambda g, a, b: _share(g, b, a), b=lambda g, a, b: _share(g, a, b))
where.rule(a=lambda g, condition: where(condition, g, 0), b=lambda g, condition: where(condition, 0, g))


def square(x):
    """x^2."""
    return x * x


abs = absolute
