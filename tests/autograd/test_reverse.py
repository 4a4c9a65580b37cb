"""Derivatives of every order: against answers derived by hand, through trees, and where variables could be confused."""

import math
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Primitive, grad, hvp, jacobian, jvp, module, ops, stop_gradient, value_and_grad, vjp
from tinygen.autograd import tree

Pair = namedtuple("Pair", "first second")
numbers = st.floats(-2, 2)
close = np.testing.assert_allclose


@module
class Affine:
    weight: object
    bias: object
    name: str = "affine"

    def __call__(self, x):
        return x @ self.weight + self.bias


@module
class Network:
    layers: tuple
    scale: object
    activation: object = ops.tanh
    width: int = 3

    def __call__(self, x):
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.scale * x


def network(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)

    def affine(n, m):
        return Affine(rng.normal(size=(n, m)).astype(dtype), rng.normal(size=m).astype(dtype))

    return Network((affine(2, 3), affine(3, 1)), np.array(1.5, dtype))


# The six functions, by hand


@given(x=numbers, y=numbers)
@settings(max_examples=20, deadline=None)
def test_grad_of_a_function_of_two_numbers(x, y):
    def f(x, y):
        return x**2 * y + ops.sin(y)

    close(grad(f)(x, y), 2 * x * y)
    close(grad(f, argnums=1)(x, y), x**2 + math.cos(y))
    close(grad(f, argnums=-1)(x, y), x**2 + math.cos(y))
    close(grad(f, argnums=(1, 0))(x, y), (x**2 + math.cos(y), 2 * x * y))
    close(grad(f, argnums=(-1, 0))(x, y), (x**2 + math.cos(y), 2 * x * y))
    value, gradient = value_and_grad(f)(x, y)
    close((value, gradient), (x**2 * y + math.sin(y), 2 * x * y))


def test_grad_with_one_argument_number_in_a_tuple_gives_a_tuple():
    assert grad(lambda x: x * x, argnums=(0,))(3.0) == (6,)


def test_grad_passes_on_keywords_and_keeps_the_name():
    def cube(x, *, scale):
        """scale x^3"""
        return scale * x**3

    assert grad(cube)(2.0, scale=3.0) == 36
    assert grad(cube).__name__ == "cube" and grad(cube).__doc__ == "scale x^3"


def test_grad_does_not_differentiate_other_arguments():
    seen = []
    grad(lambda x, k: seen.append(type(k)) or x * k)(2.0, 3)
    assert seen == [int]


def test_vjp_of_a_matrix_is_the_product_with_the_transpose():
    A, x, u = np.arange(6.0).reshape(2, 3), np.ones(3), np.array([1.0, -2.0])
    y, pullback = vjp(lambda x: ops.matmul(A, x), x)
    close(y, A @ x)
    (g,) = pullback(u)
    close(g, A.T @ u)


def test_vjp_of_several_arguments_and_results():
    (product, total), pullback = vjp(lambda x, y: (x * y, x + y), 2.0, 3.0)
    assert (product, total) == (6, 5)
    close(pullback((np.array(1.0), np.array(10.0))), (13, 12))


def test_a_pullback_can_be_called_again_with_the_same_answer_and_with_another_cotangent():
    x = np.array([0.3, -0.7])
    _, pullback = vjp(lambda x: ops.exp(x) * ops.sin(x), x)
    slope = np.exp(x) * (np.sin(x) + np.cos(x))
    for u in (np.ones(2), np.ones(2), np.array([3.0, -1.0])):
        close(pullback(u)[0], u * slope)


def test_a_python_number_is_a_cotangent_and_a_tangent():
    assert vjp(lambda x: x * x, 3.0)[1](2.0) == (12,)
    assert jvp(lambda x: x * x, (3.0,), (2.0,)) == (9, 12)
    close(hvp(lambda x: x**3, 2.0, 5.0), 60)


def test_jvp_of_a_matrix_is_the_product():
    A, x, v = np.arange(6.0).reshape(2, 3), np.ones(3), np.array([1.0, -2.0, 0.5])
    y, tangent = jvp(lambda x: ops.matmul(A, x), (x,), (v,))
    close(y, A @ x)
    close(tangent, A @ v)


def test_jvp_sums_over_all_arguments_and_takes_trees():
    value, tangent = jvp(lambda p, z: p["x"] * p["y"] * z, ({"x": np.array(2.0), "y": np.array(3.0)}, np.array(5.0)),
                         ({"x": np.array(1.0), "y": np.array(10.0)}, np.array(100.0)))  # fmt: skip
    assert value == 30 and tangent == 3 * 5 + 10 * 2 * 5 + 100 * 6


def test_jvp_of_a_constant_is_zero():
    value, tangent = jvp(lambda x: np.array([1.0, np.inf]), (2.0,), (1.0,))
    close(value, [1, np.inf])
    close(tangent, [0, 0])


def test_jvp_agrees_with_vjp_in_a_network():
    model, x = network(), np.random.default_rng(1).normal(size=(4, 2))
    v, u = network(seed=2), np.random.default_rng(3).normal(size=(4, 1))
    _, pushed = jvp(lambda m: m(x), (model,), (v,))
    _, pullback = vjp(lambda m: m(x), model)
    close(np.sum(u * pushed), tree.dot(pullback(u)[0], v))


def test_jacobian_has_the_shape_of_the_result_then_that_of_the_argument():
    x = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    J = jacobian(lambda x: ops.sum(x * x, axis=0))(x)
    assert J.shape == (2, 3, 2)
    expected = np.zeros((2, 3, 2))
    for j in range(2):
        expected[j, :, j] = 2 * x[:, j]
    close(J, expected)


def test_jacobian_of_each_argument_of_a_scalar_and_of_a_tree():
    def f(a, b):
        return a * b

    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    close(jacobian(f)(a, b), np.diag(b))
    close(jacobian(f, argnums=1)(a, b), np.diag(a))
    close(jacobian(f, argnums=-1)(a, b), np.diag(a))
    assert jacobian(lambda x: x * x)(3.0) == 6
    J = jacobian(lambda p: p["a"] * p["b"])({"a": a, "b": np.array(2.0)})
    close(J["a"], 2 * np.eye(2))
    close(J["b"], a)


def test_jacobian_of_jacobian_is_the_tensor_of_second_derivatives():
    x = np.array([0.5, -1.0])
    H = jacobian(jacobian(lambda x: ops.stack(x[0] ** 2 * x[1], ops.sin(x[1]))))(x)
    expected = np.zeros((2, 2, 2))
    expected[0] = [[2 * x[1], 2 * x[0]], [2 * x[0], 0]]
    expected[1, 1, 1] = -math.sin(x[1])
    close(H, expected, atol=1e-15)


def test_jacobian_of_a_gradient_is_the_hessian():
    A = np.array([[2.0, 1.0], [5.0, -3.0]])
    close(jacobian(grad(lambda x: x @ (A @ x)))(np.array([0.3, 0.4])), A + A.T)


@given(x=st.lists(numbers, min_size=3, max_size=3), v=st.lists(numbers, min_size=3, max_size=3))
@settings(max_examples=20, deadline=None)
def test_hvp_of_a_cubic(x, v):
    x, v = np.array(x), np.array(v)
    close(hvp(lambda x: (x**3).sum() + x[0] * x[1], x, v), 6 * x * v + [v[1], v[0], 0], atol=1e-12)


def test_hvp_of_a_linear_function_is_zero_and_of_a_tree_is_a_tree():
    close(hvp(lambda x: x.sum(), np.ones(2), np.ones(2)), [0, 0])
    product = hvp(lambda p: p[0] ** 2 * p[1]["b"], (np.array(3.0), {"b": np.array(5.0)}), (np.array(1.0), {"b": np.array(2.0)}))
    assert product[0] == 2 * 5 * 1 + 2 * 3 * 2 and product[1]["b"] == 2 * 3 * 1


def test_stop_gradient_cuts_every_derivative_that_is_running():
    close(grad(lambda x: x * stop_gradient(x))(3.0), 3)
    close(grad(lambda x: grad(lambda y: y * stop_gradient(x * y))(2.0))(3.0), 0)
    close(grad(lambda p: p[0] * stop_gradient(p)[1]["b"])((np.array(2.0), {"b": np.array(5.0)}))[1]["b"], 0)


def test_an_argument_that_is_not_used_has_gradient_zero_whatever_it_holds():
    x, y = grad(lambda x, y: y * y, argnums=(0, 1))(np.array([np.inf, np.nan]), 3.0)
    np.testing.assert_array_equal(x, [0, 0])
    assert y == 6


def test_an_argument_that_is_returned_as_it_is_has_gradient_one():
    assert grad(lambda x: x)(3.0) == 1


def test_a_result_that_is_returned_twice_gets_both_cotangents():
    one, ten = np.array(1.0), np.array(10.0)
    assert vjp(lambda x: (x, x), 3.0)[1]((one, ten)) == (11,)
    assert vjp(lambda x: [x * x] * 2, 3.0)[1]([one, ten]) == (66,)


# Auxiliary results


def test_aux_comes_back_as_plain_arrays():
    def f(x):
        y = ops.exp(x)
        return y.sum(), {"y": y, "n": 3, "x": x}

    (loss, aux), gradient = value_and_grad(f, has_aux=True)(np.zeros(2))
    assert loss == 2 and type(aux["y"]) is np.ndarray and type(aux["x"]) is np.ndarray and aux["n"] == 3
    close(gradient, np.ones(2))
    gradient, aux = grad(f, has_aux=True)(np.zeros(2))
    close(gradient, np.ones(2))
    close(aux["y"], np.ones(2))
    _, _, aux = vjp(f, np.zeros(2), has_aux=True)
    assert type(aux["y"]) is np.ndarray


def test_aux_of_an_inner_derivative_can_be_differentiated_by_the_outer_one():
    def outer(x):
        slope, cubed = grad(lambda y: (x * y * y, y**3 * x), has_aux=True)(x)  # 2 x^2 and, as aux, x^4
        return slope + cubed

    close(grad(outer)(2.0), 4 * 2 + 4 * 8)


def test_has_aux_without_a_pair_is_refused():
    def f(x):
        return x

    with pytest.raises(TypeError, match=r"f must return a pair \(y, aux\) when has_aux=True; it returned .*: return y, {} if"):
        value_and_grad(f, has_aux=True)(1.0)


# Trees


@pytest.mark.parametrize(
    "tree_of, parts_of",
    [
        (lambda a, b: (a, b), lambda t: t),
        (lambda a, b: [a, b], lambda t: t),
        (lambda a, b: {"b": b, "a": a}, lambda t: (t["a"], t["b"])),
        (lambda a, b: Pair(a, b), lambda t: (t.first, t.second)),
        (lambda a, b: Affine(a, b), lambda t: (t.weight, t.bias)),
        (lambda a, b: (a, [None, {"x": Pair("text", b)}, 3.5]), lambda t: (t[0], t[1][1]["x"].second)),
        (lambda a, b: Network((Affine(a, None), Affine(7, b)), None), lambda t: (t.layers[0].weight, t.layers[1].bias)),
    ],
)
def test_the_gradient_of_a_tree_is_a_tree_of_the_same_shape(tree_of, parts_of):
    a, b = np.array([1.0, 2.0]), np.array([3.0, 5.0])

    def f(t):
        a, b = parts_of(t)
        return (a * a * b).sum()

    t = tree_of(a, b)
    g = grad(f)(t)
    assert type(g) is type(t)
    ga, gb = parts_of(g)
    close(ga, 2 * a * b)
    close(gb, a * a)


def test_what_is_not_an_array_comes_back_unchanged_in_the_gradient():
    g = grad(lambda t: t[0] * t[2]["k"])((np.array(2.0), None, {"k": 3, "name": "x"}))
    assert g == (3, None, {"k": 3, "name": "x"})
    model = network()
    g = grad(lambda m: m(np.ones((1, 2))).sum())(model)
    assert g.activation is model.activation and g.width == 3 and g.layers[0].name == "affine"


def test_the_gradient_of_a_network_by_hand():
    model, x = network(), np.random.default_rng(1).normal(size=(5, 2))
    g = grad(lambda m: m(x).sum())(model)
    first, second = model.layers
    h = np.tanh(x @ first.weight + first.bias)
    y = np.tanh(h @ second.weight + second.bias)
    dy = model.scale * (1 - y**2)
    dh = (dy @ second.weight.T) * (1 - h**2)
    close(g.scale, y.sum())
    close(g.layers[1].weight, h.T @ dy)
    close(g.layers[1].bias, dy.sum(axis=0))
    close(g.layers[0].weight, x.T @ dh)
    close(g.layers[0].bias, dh.sum(axis=0))


# Any order


def nth(f, n):
    for _ in range(n):
        f = grad(f)
    return f


@given(x=numbers)
@settings(max_examples=15, deadline=None)
def test_four_derivatives_of_a_polynomial(x):
    def p(x):
        return 2 * x**5 - x**4 + 3 * x * x * x - x + 7

    expected = [
        2 * x**5 - x**4 + 3 * x**3 - x + 7,
        10 * x**4 - 4 * x**3 + 9 * x**2 - 1,
        40 * x**3 - 12 * x**2 + 18 * x,
        120 * x**2 - 24 * x + 18,
        240 * x - 24,
    ]
    close([nth(p, n)(x) for n in range(5)], expected, rtol=1e-12, atol=1e-12)


@given(x=numbers)
@settings(max_examples=15, deadline=None)
def test_four_derivatives_of_tanh(x):
    t = math.tanh(x)
    s = 1 - t * t
    expected = [t, s, -2 * t * s, s * (6 * t * t - 2), s * (16 * t - 24 * t**3)]
    close([nth(ops.tanh, n)(x) for n in range(5)], expected, rtol=1e-10, atol=1e-12)


def test_mixed_derivatives_do_not_depend_on_the_order():
    def f(x, y):
        return ops.exp(x * y) * ops.sin(x)

    xxy = grad(grad(grad(f), argnums=0), argnums=1)(0.3, 0.7)
    yxx = grad(grad(grad(f, argnums=1)))(0.3, 0.7)
    close(xxy, yxx, rtol=1e-13)


def test_a_gradient_penalty_trains_through_the_gradient():
    w, x = np.array([0.5, -1.0]), np.array([1.0, 2.0])

    def penalty(w):
        g = grad(lambda x: ops.tanh(w @ x))(x)  # w (1 - t^2), t = tanh(w x)
        return (g * g).sum()

    t = math.tanh(w @ x)
    s = 1 - t * t
    close(grad(penalty)(w), 2 * w * s**2 - 4 * (w @ w) * s * s * t * x)


# Variables of one derivative are not those of another


@pytest.mark.parametrize(
    "f, x, expected",
    [
        (lambda x: x * grad(lambda y: x + y)(1.0), 1.0, 1),
        (lambda x: x * grad(lambda y: x * y)(2.0), 3.0, 6),
        (lambda x: grad(lambda y: y * x**2)(x), 3.0, 6),
        (lambda x: grad(lambda y: x**2)(x), 3.0, 0),
        (lambda x: grad(lambda y: y**2)(x), 3.0, 2),
        (lambda x: grad(lambda y: grad(lambda z: x * x * y * z * z)(y))(x), 2.0, 4 * 3 * 4),
        (lambda x: grad(lambda y: grad(lambda z: x * z)(y) * y)(x), 5.0, 1),
        (lambda x: grad(lambda y: x * grad(lambda z: y + x)(1.0))(1.0), 5.0, 0),
        (lambda x: grad(lambda y: x * y * grad(lambda z: x * y * z)(1.0))(2.0), 3.0, 4 * 2 * 3),
        (lambda x: value_and_grad(lambda y: x**2)(1.0)[0], 3.0, 6),
        (lambda x: grad(lambda y: (y * y, x**2), has_aux=True)(1.0)[1], 3.0, 6),
        (lambda x: vjp(lambda y: (y, x), 1.0)[0][1] * x, 3.0, 6),
        (lambda x: vjp(ops.sin, x)[1](x)[0], 0.7, math.cos(0.7) - 0.7 * math.sin(0.7)),
        (lambda x: vjp(lambda y: x * y, x)[1](x)[0], 3.0, 6),
        (lambda x: jvp(ops.sin, (x,), (x,))[1], 0.7, math.cos(0.7) - 0.7 * math.sin(0.7)),
        (lambda x: jvp(lambda y: x * y * y, (x,), (np.ones(()),))[1], 3.0, 12),
        (lambda x: jvp(grad(lambda y: x * y**3), (x,), (x,))[1], 2.0, 6 * 3 * 4),
        (lambda x: jacobian(lambda y: x * y)(np.ones(2)).sum(), 3.0, 2),
        (lambda x: hvp(lambda y: x * y**3, x, x), 2.0, 6 * 3 * 4),
    ],
)
def test_nested_derivatives_do_not_confuse_their_variables(f, x, expected):
    close(grad(f)(x), expected, rtol=1e-13)


def test_a_pullback_can_be_used_inside_a_derivative_that_starts_later():
    _, pullback = vjp(lambda x: ops.sin(x) * x, 0.7)
    slope = math.cos(0.7) * 0.7 + math.sin(0.7)
    close(grad(lambda u: pullback(u * u)[0])(3.0), 6 * slope)
    close(grad(grad(lambda u: pullback(u * u)[0]))(3.0), 2 * slope)
    close(grad(lambda u: grad(lambda w: pullback(u * w)[0] * u)(2.0))(3.0), 2 * 3 * slope)


def test_a_pullback_of_an_outer_variable_can_be_used_inside_an_inner_derivative():
    def f(x):
        _, pullback = vjp(lambda y: x * ops.exp(y), x)  # u -> u x e^x
        return grad(lambda u: pullback(u)[0] * u)(x)  # 2 u x e^x at u = x

    x = 0.3
    close(grad(f)(x), 2 * math.exp(x) * (2 * x + x * x))


# The order of the walk


def test_a_rule_runs_once_for_each_argument_of_each_node_of_forty_diamonds():
    calls = []
    add = Primitive(lambda a, b: a + b)
    add.rule(a=lambda g: calls.append("a") or g, b=lambda g: calls.append("b") or g)

    def f(x):
        for _ in range(40):
            x = add(x, x)
        return x

    assert grad(f)(1.0) == 2.0**40
    assert calls.count("a") == calls.count("b") == 40


def test_a_rule_for_several_arguments_is_called_once_for_all_of_them():
    calls = []

    def rule(g, a, c):
        calls.append(g)
        return g * c, None, g * a

    product = Primitive(lambda a, b, c: a * c)  # of which b has no part
    product.rule(a=rule, b=rule, c=rule)
    assert grad(lambda *x: product(*x) * product(*x), argnums=(0, 1, 2))(2.0, 3.0, 5.0) == (100, 0, 40)
    assert len(calls) == 2  # a call for each node
    calls.clear()
    assert grad(lambda c: product(2.0, 3.0, c))(5.0) == 2 and len(calls) == 1
    close(hvp(lambda x: product(x, 1.0, x * x), 2.0, 1.0), 12)  # x^3


def test_forty_diamonds_at_second_order():
    def f(x):
        for _ in range(40):
            x = 0.5 * (x * 1.0 + x * 1.0)
        return x * x

    close(grad(grad(f))(1.5), 2)


def test_a_chain_of_twenty_thousand_operations_does_not_overflow_the_stack():
    def f(x):
        for _ in range(20_000):
            x = x + 0.5
        return x * x

    assert grad(f)(1.0) == 2 * 10_001


def test_a_value_with_many_consumers_collects_all_their_cotangents():
    def f(x):
        h = x * 1.0
        return ops.concatenate(*(h * float(i) for i in range(500))).sum()

    close(grad(f)(np.ones(2)), [sum(range(500))] * 2)


def test_branches_that_do_not_lead_to_the_result_are_not_walked():
    calls = []
    dead = Primitive(lambda x: x * 1.0).rule(x=lambda g: calls.append(1) or g)
    assert grad(lambda x: (dead(x), x * 3.0)[1])(1.0) == 3
    assert not calls


def test_an_inner_derivative_does_not_walk_the_graph_of_the_outer_one():
    calls = []
    counted = Primitive(lambda x: x * 1.0).rule(x=lambda g: calls.append(1) or g)

    def f(x):
        z = counted(x)
        assert grad(lambda y: z)(1.0) == 0 and not calls
        return z

    assert grad(f)(2.0) == 1 and len(calls) == 1


# Cotangents


def test_a_shared_cotangent_is_not_changed_in_place():
    a, b = grad(lambda a, b: (a + b).sum() + (3.0 * a).sum() + (5.0 * a).sum(), argnums=(0, 1))(np.ones(2), np.ones(2))
    np.testing.assert_array_equal(a, [9, 9])
    np.testing.assert_array_equal(b, [1, 1])


def test_the_cotangent_that_is_passed_in_is_not_changed():
    u = np.ones((2, 3))
    u.flags.writeable = False  # a rule that wrote into it would raise
    x = np.random.default_rng(0).uniform(0.5, 1, (2, 3))
    _, pullback = vjp(lambda x: ops.softmax(x + x * x) + x.T.reshape(2, 3) + ops.cumsum(ops.exp(x)), x)
    np.testing.assert_array_equal(pullback(u)[0], pullback(u)[0])
    np.testing.assert_array_equal(u, 1)


@pytest.mark.parametrize("x_shape, y_shape", [((3,), (2, 3)), ((2, 1), (2, 3)), ((), (2, 3)), ((1, 1), (2, 3)), ((2, 3), (3,))])
def test_broadcasting_is_undone(x_shape, y_shape):
    x, y = np.full(x_shape, 2.0), np.full(y_shape, 3.0)
    gx, gy = grad(lambda x, y: (x * y).sum(), argnums=(0, 1))(x, y)
    assert gx.shape == x_shape and gy.shape == y_shape
    close(gx, 3.0 * 6 / x.size)
    close(gy, 2.0 * 6 / y.size)


def test_gradients_have_the_dtype_of_their_argument():
    a, b = np.ones(2, np.float32), np.ones(2, np.float64)
    ga, gb = grad(lambda a, b: (a * b).sum(), argnums=(0, 1))(a, b)
    assert ga.dtype == np.float32 and gb.dtype == np.float64
    assert vjp(lambda x: x, a)[1](b)[0].dtype == np.float32
    assert vjp(lambda x: x * 2, a)[1](b)[0].dtype == np.float32


def test_float32_networks_stay_float32_forward_and_backward():
    model, x = network(dtype=np.float32), np.ones((4, 2), np.float32)
    loss, g = value_and_grad(lambda m: m(x).mean())(model)
    assert loss.dtype == np.float32 and {leaf.dtype for leaf in tree.flatten(g)[0]} == {np.dtype(np.float32)}


# Errors


def test_a_gradient_of_what_is_not_a_scalar_is_refused():
    def f(x):
        return x * 2.0

    with pytest.raises(TypeError, match=r"^grad: f returned shape \(3,\), .*\.sum\(\) or \.mean\(\).*vjp"):
        grad(f)(np.ones(3))

    def pair(x):
        return x, 0

    with pytest.raises(TypeError, match=r"^grad: pair returned a tuple, .*has_aux=True"):
        grad(pair)(1.0)


@pytest.mark.parametrize(
    "x, says",
    [
        (np.arange(3), r"argument 0 has dtype int64.*\.astype\(float\)"),
        (3, r"argument 0 has dtype int64"),
        (True, r"argument 0 has dtype bool"),
        (np.ones(2, complex), r"argument 0 has dtype complex128"),
        ({"a": np.ones(2), "b": [np.ones(1), np.arange(2)]}, r"argument 0 at b\.1 has dtype int64"),
        (Affine(np.ones(2), np.array([True])), r"argument 0 at bias has dtype bool"),
        ("text", r"argument 0 \(str\) holds no arrays"),
        ({"rate": 0.1}, r"argument 0 \(dict\) holds no arrays"),
    ],
)
def test_arguments_without_derivatives_are_named_by_their_place(x, says):
    def f(x):
        return 0.0

    with pytest.raises(TypeError, match=f"^f: {says}"):
        grad(f)(x)


@pytest.mark.parametrize("argnums", [1, -1, (0, 1)])
def test_an_argument_is_counted_among_all_those_given(argnums):
    with pytest.raises(TypeError, match="argument 1 has dtype int64"):
        grad(lambda x, k: x, argnums=argnums)(1.0, np.arange(2))
    with pytest.raises(TypeError, match="argument 1 has dtype int64"):
        vjp(lambda x, k: x, 1.0, np.arange(2))


@pytest.mark.parametrize("argnums", [2, -3, (0, 2)])
def test_argnums_beyond_the_arguments_are_refused(argnums):
    def f(x, y):
        return x * y

    with pytest.raises(TypeError, match=r"^f: argnums=.* called with 2 positional arguments"):
        grad(f, argnums=argnums)(1.0, 2.0)


def test_a_cotangent_of_the_wrong_shape_is_refused():
    def f(x):
        return x * 2.0

    _, pullback = vjp(f, np.ones(3))
    with pytest.raises(ValueError, match=r"^pullback of f: the cotangent has shapes \[\(2,\)\], the result has \[\(3,\)\]"):
        pullback(np.ones(2))
    with pytest.raises(ValueError, match=r"^pullback of f: the cotangent has shapes \[\(3,\), \(3,\)\]"):
        pullback((np.ones(3), np.ones(3)))


@pytest.mark.parametrize("wrong_shape", [(), (2,), (3, 1), (4, 3, 2)])
def test_a_rule_that_returns_a_wrong_shape_is_named(wrong_shape):
    careless = Primitive(lambda x: x * 1.0).rule(x=lambda g: np.ones(wrong_shape))
    careless.__name__ = "careless"
    with pytest.raises(ValueError, match=r"^a rule of careless returned a cotangent of shape .* for a value of shape \(4, 3\)"):
        vjp(careless, np.ones((4, 3)))[1](np.ones((4, 3)))


def test_integers_carry_no_derivative_through_a_conversion():
    with pytest.raises(TypeError, match=r"cast: int64 numbers have no derivatives; convert stop_gradient\(x\)"):
        grad(lambda x: x.astype(int) * x)(1.5)


@pytest.mark.parametrize("call, complaint", [
    (lambda: jvp(ops.exp, np.ones(3), np.ones(3)), r"jvp: args and tangents must be tuples, .*; give \(x,\) and \(v,\)"),
    (lambda: jvp(ops.exp, (np.ones(3),), np.ones(3)), "jvp: args and tangents must be tuples"),
    (lambda: jacobian(lambda x: (x, x))(np.ones(2)), "jacobian: <lambda> returned a tuple; give a function of one result"),
])  # fmt: skip
def test_what_is_no_tuple_or_no_array_is_told_so(call, complaint):
    with pytest.raises(TypeError, match=complaint):
        call()
