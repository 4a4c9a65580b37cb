"""The recording of computations: what a primitive accepts, keeps, observes, and says when something is wrong."""

import gc
import math
import sys
import types
import weakref

import numpy as np
import pytest

from tinygen import Primitive, grad, ops, stop_gradient, vjp
from tinygen.autograd.core import Tracer, observe


def traced(f, *args):
    """What f gives while its arguments are being differentiated."""
    seen = []

    def watched(*tracers):
        seen.append(f(*tracers))
        return seen[0]

    vjp(watched, *args)
    return seen[0]


def scaled():
    """A fresh primitive y = factor * x."""

    @Primitive
    def scale(x, factor=2.0):
        """factor x."""
        return factor * x

    return scale.rule(x=lambda g, factor: g * factor)


# Calls


def test_on_arrays_a_primitive_just_runs():
    y = ops.add(np.ones(3), np.ones(3))
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, 2 * np.ones(3))


def test_on_a_tracer_it_records_one_node():
    y = traced(scaled(), np.ones((2, 3), np.float32))
    assert type(y) is Tracer and y.shape == (2, 3) and y.dtype == np.float32 and y.ndim == 2 and y.size == 6 and len(y) == 2
    assert repr(y.node.primitive) == "<primitive scale>"
    assert [i for i, _ in y.node.parents] == [0]


@pytest.mark.parametrize(
    "call",
    [
        lambda p, x: p(x, factor=3.0),
        lambda p, x: p(x, 3.0),
        lambda p, x: p(x=x, factor=3.0),
        lambda p, x: p(factor=3.0, x=x),
    ],
)
def test_arguments_are_given_by_position_or_by_keyword(call):
    scale = scaled()
    assert call(scale, np.float64(2)) == 6
    assert grad(lambda x: call(scale, x))(2.0) == 3


def test_array_arguments_by_keyword_are_differentiated():
    assert grad(lambda x: ops.divide(b=x, a=1.0))(2.0) == -0.25
    assert grad(lambda x: ops.power(2.0, b=x))(1.0) == 2 * math.log(2)


def test_defaults_reach_the_rule():
    assert grad(scaled())(1.0) == 2


def test_a_primitive_documents_itself_as_its_forward():
    scale = scaled()
    assert scale.__name__ == "scale" and scale.__doc__ == "factor x." and scale.__module__ == __name__


def test_a_primitive_can_be_a_method():
    class Point:
        def __init__(self, x):
            self.x = x

        __add__ = Primitive(lambda a, b: a.x + b)

    assert Point(1) + 2 == 3


def test_variadic_rules_know_which_argument_they_are_for():
    @Primitive
    def weighted(*arrays, power=1):
        return sum((i + 1) ** power * a for i, a in enumerate(arrays))

    weighted.rule(arrays=lambda g, i, power: g * (i + 1) ** power)
    gradients = grad(lambda a, b, c: weighted(a, b, c, power=2), argnums=(0, 2))(1.0, 1.0, 1.0)
    assert gradients == (1, 9)


def test_a_rule_may_return_none_for_zero():
    flat = Primitive(lambda x: x * 0).rule(x=lambda g: None)
    np.testing.assert_array_equal(grad(lambda x: flat(x).sum() + x[0])(np.ones(2)), [1, 0])


# Memory: only what a rule names is kept


def kept_arrays(node):
    """The names under which a node keeps arrays (shapes and static parameters are not arrays)."""
    return {name for name, value in node.kept.items() if isinstance(value, (np.ndarray, np.generic, Tracer))}


X = np.linspace(0.5, 1.5, 4).reshape(2, 2)


@pytest.mark.parametrize(
    "f, arrays",
    [
        (ops.exp, {"y"}),
        (ops.tanh, {"y"}),
        (ops.sigmoid, {"y"}),
        (ops.sqrt, {"y"}),
        (ops.relu, {"y"}),
        (ops.softmax, {"y"}),
        (ops.log_softmax, {"y"}),
        (ops.inv, {"y"}),
        (ops.log, {"x"}),
        (ops.softplus, {"x"}),
        (ops.absolute, {"x"}),
        (ops.max, {"x", "y"}),
        (ops.logsumexp, {"x", "y"}),
        (ops.sum, set()),
        (ops.negative, set()),
        (ops.cumsum, set()),
        (ops.reshape, set()),
        (ops.transpose, set()),
        (lambda x: ops.broadcast_to(x, shape=(3, 2, 2)), set()),
        (lambda x: x[0], set()),
        (lambda x: ops.pad(x, widths=((1, 1), (0, 0))), set()),
        (lambda x: x + X, set()),
        (lambda x: x + x, set()),
        (lambda x: X - x, set()),
        (lambda x: x * X, {"b"}),
        (lambda x: X * x, {"a"}),
        (lambda x: x * x, {"a", "b"}),
        (lambda x: x / X, {"b"}),
        (lambda x: X / x, {"y", "b"}),
        (lambda x: x @ X, {"b"}),
        (lambda x: X @ x, {"a"}),
    ],
)
def test_a_node_keeps_the_arrays_that_its_rules_name(f, arrays):
    node = traced(lambda x: f(ops.reshape(x, shape=x.shape)) if f is not ops.reshape else f(x, shape=(4,)), X).node
    assert kept_arrays(node) == arrays


def test_a_shape_is_kept_without_its_array():
    node = traced(lambda x: ops.sum(x, axis=0), X).node
    assert node.kept == {"x_shape": (2, 2), "axis": 0, "keepdims": False}


@pytest.mark.parametrize(
    "consumer, survives", [(ops.exp, False), (ops.sum, False), (lambda h: h + 1.0, False), (ops.log, True)]
)
def test_an_intermediate_value_lives_until_the_pullback_only_if_it_is_named(consumer, survives):
    intermediate = []

    def f(x):
        h = x * 2.0
        intermediate.append(weakref.ref(h.value))
        return consumer(h)

    _, pullback = vjp(f, np.ones(4))
    gc.collect()
    assert (intermediate[0]() is not None) == survives
    pullback(np.ones(()) if consumer is ops.sum else np.ones(4))


def test_everything_is_freed_with_the_pullback():
    intermediate = []

    def f(x):
        h = ops.exp(x)
        intermediate.append(weakref.ref(h.value))
        return ops.log(h * h)

    _, pullback = vjp(f, np.ones(4))
    assert intermediate[0]() is not None
    del pullback
    gc.collect()
    assert intermediate[0]() is None


# Registration of rules


@pytest.mark.parametrize(
    "rules, says",
    [
        (dict(z=lambda g: g), "'z' takes \\(g\\)"),
        (dict(x=lambda h: h), "'x' takes \\(h\\)"),
        (dict(x=lambda: 0), "'x' takes \\(\\)"),
        (dict(x=lambda g, w: g), "'x' takes \\(g, w\\)"),
        (dict(x=lambda g, z_shape: g), "'x' takes \\(g, z_shape\\)"),
        (dict(x=lambda g, i: g), "'x' takes \\(g, i\\)"),
        (dict(factor=lambda g: g), "'factor' takes"),
    ],
)
def test_a_rule_that_names_what_is_not_there_is_refused_at_registration(rules, says):
    with pytest.raises(TypeError, match="^scale: the rule for .*take g first") as error:
        scaled().rule(**rules)
    error.match(says)
    error.match(r"one of \['x'\].*only names among \['factor', 'x', 'x_shape', 'y'\]")


def test_an_argument_without_a_rule_is_named_with_the_remedy():
    scale_by = Primitive(lambda x, step: x * step).rule(x=lambda g, step: g * step)
    scale_by.__name__ = "scale_by"
    assert grad(scale_by)(2.0, 3.0) == 3
    assert grad(lambda x: scale_by(x, stop_gradient(x)))(2.0) == 2
    with pytest.raises(TypeError, match=r"^scale_by has no derivative with respect to 'step'; .* pass stop_gradient\(step\)"):
        grad(lambda x: scale_by(x, x))(2.0)


# Errors of the forward


def test_shapes_that_do_not_broadcast_are_named_with_the_remedy():
    for a in (np.ones((2, 3)), np.ones((2, 3), np.float32)):
        with pytest.raises(ValueError, match=rf"^add\({a.dtype}\(2, 3\), float64\(2,\)\): .*insert one with x\[:, None\]"):
            ops.add(a, np.ones(2))
    with pytest.raises(ValueError, match=r"^multiply\(float64\(2, 3\), float64\(2,\)\): .*align the trailing axes"):
        grad(lambda x: (x * np.ones(2)).sum())(np.ones((2, 3)))


def test_errors_of_every_kind_name_the_operation_and_the_shapes():
    with pytest.raises(
        ValueError, match=r"^matmul\(float64\(2, 3\), float64\(4,\)\): .*size 4 is different from 3.*; .*transpose"
    ):
        ops.matmul(np.ones((2, 3)), np.ones(4))
    with pytest.raises(IndexError, match=r"^index\(float64\(2, 3\)\): index 5 is out of bounds"):
        grad(lambda x: x[5])(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^sum\(float64\(3,\)\): axis 1 is out of bounds"):
        ops.sum(np.ones(3), axis=1)
    with pytest.raises(np.linalg.LinAlgError, match=r"^inv\(float64\(2, 2\)\): Singular"):
        ops.inv(np.zeros((2, 2)))
    with pytest.raises(TypeError, match=r"^add\(<U1\(1,\), float64\(1,\)\): "):
        ops.add(np.array(["a"]), np.ones(1))
    with pytest.raises(TypeError, match=r"^power\(a, b\): missing a required argument: 'b'"):
        ops.power(2.0)


def test_a_message_that_names_the_operation_already_is_left_alone():
    @Primitive
    def fussy(x):
        raise ValueError("fussy: x must be blue; paint it")

    with pytest.raises(ValueError, match="^fussy: x must be blue; paint it$"):
        fussy(np.ones(2))


class FakeCuPyArray:
    """As CuPy's arrays do, it refuses to meet one of NumPy's."""

    __array_ufunc__ = None

    def __init__(self, values):
        self.values = np.asarray(values)
        self.shape, self.dtype = self.values.shape, self.values.dtype

    def _combine(self, other):
        if not isinstance(other, FakeCuPyArray):
            raise TypeError(f"Unsupported type {type(other)}")
        return FakeCuPyArray(self.values + other.values)

    __add__ = __radd__ = __matmul__ = __rmatmul__ = _combine


FakeCuPyArray.__module__ = "cupy._core.core"


@pytest.mark.parametrize("operation", [ops.add, ops.matmul])
@pytest.mark.parametrize("a, b", [(np.ones(2), FakeCuPyArray([1.0, 2.0])), (FakeCuPyArray([1.0, 2.0]), np.ones(2))])
def test_arrays_of_two_libraries_are_refused_with_the_remedy(monkeypatch, operation, a, b):
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    mixed = rf"^{operation.__name__}\(float64\(2,\), float64\(2,\)\): .*NumPy and CuPy are mixed: move them .*to_device"
    with pytest.raises(TypeError, match=mixed):
        operation(a, b)
    assert type(operation(FakeCuPyArray([1.0]), FakeCuPyArray([2.0]))) is FakeCuPyArray


def using_in_place(x):
    out = np.zeros(3)
    out[:] = x
    return out.sum()


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: np.exp(x).sum(),
        lambda x: np.sum(x),
        lambda x: np.maximum(0, x).sum(),
        lambda x: np.add(np.ones(3), x).sum(),
        lambda x: np.linalg.norm(x),
        lambda x: np.concatenate([x, x]).sum(),
        lambda x: np.where(x > 0, x, 0).sum(),
        lambda x: np.asarray(x).sum(),
        lambda x: np.float64(3) * np.stack([x]).sum(),
        using_in_place,
    ],
)
def test_a_numpy_function_on_a_tracer_is_refused_with_the_shape_and_the_remedy(misuse):
    with pytest.raises(
        TypeError,
        match=r"NumPy function .* of shape \(3,\): use the function of the same name in tinygen.ops, or stop_gradient",
    ):
        grad(misuse)(np.ones(3))


@pytest.mark.parametrize("misuse", [float, int, math.exp])
def test_a_python_number_cannot_be_made_of_a_tracer(misuse):
    with pytest.raises(TypeError, match=r"being differentiated, of shape \(\).*stop_gradient\(x\)"):
        grad(lambda x: misuse(x) * x)(1.0)


# Levels


def test_a_primitive_is_recorded_at_the_highest_level_only():
    def outer(x):
        def inner(y):
            z = x * y
            assert z.level == y.level > x.level and z.value.level == x.level
            assert type(stop_gradient(z)) is not Tracer
            return z

        return grad(inner)(1.0)

    assert grad(outer)(2.0) == 1


# Watching


def test_observe_sees_every_primitive_that_computes_forward_and_backward():
    seen = []
    x = np.array([1.0, 2.0])
    with observe(lambda primitive, args, y: seen.append((primitive.__name__, args, y))):
        grad(lambda x: ops.sum(ops.exp(x)))(x)
    assert [name for name, _, _ in seen] == ["exp", "sum", "reshape", "broadcast_to"]
    np.testing.assert_array_equal(seen[0][1][0], x)
    np.testing.assert_array_equal(seen[0][2], np.exp(x))
    assert not any(isinstance(value, Tracer) for _, args, y in seen for value in (*args, y))


def test_observe_ends_with_its_block_also_after_an_error():
    outer, inner = [], []
    with observe(lambda primitive, *_: outer.append(primitive)):
        ops.exp(1.0)
        with pytest.raises(ZeroDivisionError), observe(lambda primitive, *_: inner.append(primitive)):
            ops.log(1.0)
            raise ZeroDivisionError
        ops.sin(1.0)
    ops.cos(1.0)
    assert [p.__name__ for p in outer] == ["exp", "sin"] and [p.__name__ for p in inner] == ["log"]
