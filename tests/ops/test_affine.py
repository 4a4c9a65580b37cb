"""Affine maps: against NumPy, against the activation after them, of every order, and what is kept for the backward pass."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, check_grads, ops, value_and_grad, vjp
from tinygen.autograd import trace
from tinygen.autograd.core import observe
from tinygen.ops.affine import BY_INPUT, BY_RESULT, FUSED, _rows_gradient, decomposed_gradient

NAMES = BY_RESULT + BY_INPUT
every = pytest.mark.parametrize("activation", [getattr(ops, name) for name in NAMES], ids=NAMES)


def arrays(batch=(4,), d_in=3, d_out=5, dtype=np.float64, seed=0):
    rng = Generator(seed)
    return rng.normal((*batch, d_in), dtype), rng.normal((d_in, d_out), dtype), rng.normal((d_out,), dtype)


@settings(deadline=None, max_examples=30)
@given(
    batch=st.lists(st.integers(0, 4), max_size=3), d_in=st.integers(1, 5), d_out=st.integers(1, 5),
    activation=st.sampled_from([None, ops.exp, lambda y: y * 2, *FUSED]), dtype=st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
def test_is_the_activation_of_the_product_and_the_bias(batch, d_in, d_out, activation, dtype):
    x, w, b = arrays(batch, d_in, d_out, dtype)
    y = ops.affine(x, w, b, activation)
    expected = x.astype(np.float64) @ w + b
    expected = expected if activation is None else activation(expected)
    assert y.shape == (*batch, d_out) and y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=200 * np.finfo(dtype).eps, atol=200 * np.finfo(dtype).eps)


@every
def test_fused_is_unfused_to_the_last_bit_but_for_the_bias_gradient(activation):
    x, w, b = arrays((50,), 20, 30, np.float32)
    g = Generator(1).normal((50, 30))
    y, pullback = vjp(lambda *a: ops.affine(*a, activation), x, w, b)
    expected, expected_pullback = vjp(lambda x, w, b: activation(x @ w + b), x, w, b)
    np.testing.assert_array_max_ulp(y, expected, 1 if activation is ops.softplus else 0)  # which the compiler may fuse
    (gx, gw, gb), (ex, ew, eb) = pullback(g), expected_pullback(g)
    assert gx.tobytes() == ex.tobytes() and gw.tobytes() == ew.tobytes()
    np.testing.assert_allclose(gb, eb, rtol=1e-5, atol=1e-5)


@every
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_derivatives_of_second_order(activation, batch):
    check_grads(lambda *a: ops.affine(*a, activation), arrays(batch), order=2)


@pytest.mark.parametrize("activation", [ops.tanh, ops.silu], ids=["tanh", "silu"])
def test_derivatives_of_third_order(activation):
    check_grads(lambda *a: ops.affine(*a, activation), arrays((2,), 2, 2), order=3)


@pytest.mark.parametrize("name", NAMES)
def test_the_fused_gradient_is_its_decomposition(name):
    rng = Generator(2)
    dy, rows = rng.normal((6, 4), np.float64), rng.normal((7, 4), np.float64)
    kept = getattr(ops, name)(rows[:-1] + rows[-1]) if name in BY_RESULT else rows
    np.testing.assert_allclose(_rows_gradient(dy, kept, activation=name), decomposed_gradient(dy, kept, name), rtol=1e-12)


@every
def test_one_pass_each_way(activation):
    """Between the products there is one primitive forward, and one backward for the cotangents of both u and b."""
    seen = []
    with observe(lambda primitive, args, y: seen.append(primitive.__name__)):
        _, pullback = vjp(lambda *a: ops.affine(*a, activation), *arrays())
        pullback(np.ones((4, 5)))
    forward = "_by_result" if activation.__name__ in BY_RESULT else "_by_input"
    assert seen[:3] == ["_product_and_bias", forward, "_rows_gradient"]
    assert set(seen[3:]) <= {"matmul", "swapaxes", "transpose"} and seen.count("matmul") == 2


def test_what_is_kept_is_the_result_where_that_is_enough():
    def shapes_kept(activation):
        x, w, b = arrays((4,), 3, 5)
        kept = []
        vjp(lambda b: kept.append(ops.affine(x, w, b, activation).node.kept), b)
        return {name: getattr(value, "shape", value) for name, value in kept[0].items()}

    assert shapes_kept(ops.tanh) == {"y": (4, 5), "activation": "tanh"}
    assert shapes_kept(ops.silu) == {"rows": (5, 5), "activation": "silu"}


@pytest.mark.parametrize("shapes", [((4, 2), (3, 5), (5,)), ((4, 3), (3, 5), (1,)), ((4, 3), (3,), (3,)), ((), (3, 5), (5,))])
def test_shapes_that_do_not_fit_are_named(shapes):
    with pytest.raises(ValueError, match=r"affine: x has shape .* they must be \(..., d_in\)"):
        ops.affine(*(np.ones(shape) for shape in shapes), ops.relu)


@pytest.mark.parametrize("activation", [ops.relu, ops.leaky_relu, ops.tanh, ops.silu], ids=["relu", "leaky", "tanh", "silu"])
@pytest.mark.parametrize("sizes", [(1, 64), (64, 64), (33, 70), (64, 2), (600, 40)])
def test_a_program_makes_product_bias_and_relu_together_to_the_last_bit(sizes, activation, monkeypatch):
    from tinygen.kernels.matmul import cpu

    x, w, b = arrays((40,), *sizes, dtype=np.float32)
    v, c = Generator(1).normal((sizes[1], 64)), Generator(2).normal((64,))
    seen, multiply = [], cpu._multiply
    monkeypatch.setattr(cpu, "_multiply", lambda a, b, y, after=0, *rest: (seen.append(after), multiply(a, b, y, after, *rest)))

    def loss(w, b, v, c):
        return ops.square(ops.affine(ops.affine(x, w, b, activation), v, c)).mean()

    arguments, function = (w, b, v, c), value_and_grad(loss, (0, 1, 2, 3))
    value, gradients = function(*arguments)
    assert set(seen) <= {cpu.NOTHING}
    replayed = trace(function, *arguments)
    seen.clear()
    for mine, theirs in zip(replayed([*arguments]), (value, *gradients)):
        assert mine.tobytes() == theirs.tobytes()
    together = activation is ops.relu and sizes[1] >= cpu.WIDE
    if cpu.FAST:
        assert (cpu.RELU in seen, cpu.BIAS in seen, cpu.RELU_GRADIENT in seen) == (together, True, together)
