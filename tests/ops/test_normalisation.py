"""The fused normalisation of groups against its decomposition, with derivatives up to third order."""

import numpy as np
import pytest

from tinygen import Generator, check_grads, grad, ops, vjp
from tinygen.autograd.core import observe
from tinygen.ops.normalisation import FUSED, decomposed

every_activation = pytest.mark.parametrize("activation", [None, *FUSED], ids=lambda f: getattr(f, "__name__", "none"))


def problem(N, P, C, dtype=np.float64):
    rng = Generator(0)
    return rng.normal((N, P, C), dtype), rng.normal((2, C), dtype)


@every_activation
@pytest.mark.parametrize(
    "N, P, C, groups", [(2, 3, 4, 1), (2, 3, 4, 2), (1, 5, 6, 3), (3, 1, 5, 1), (2, 2, 3, 3), (0, 2, 4, 2)]
)
def test_agrees_with_the_decomposition_and_so_do_its_gradients(activation, N, P, C, groups):
    x, affine = problem(N, P, C)
    settings = {"groups": groups, "eps": 0.01}
    y, pullback = vjp(lambda x, a: ops.group_norm(x, a, activation=activation, **settings), x, affine)
    name = FUSED.get(activation)
    expected, slow_pullback = vjp(lambda x, a: decomposed(x, a, activation=name, **settings), x, affine)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    for seen, right in zip(pullback(np.cos(x)), slow_pullback(np.cos(x))):
        np.testing.assert_allclose(seen, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", [None, ops.silu])
def test_derivatives_are_right_up_to_third_order(activation):
    x, affine = problem(2, 2, 4)
    third = grad(lambda x: (ops.group_norm(x, affine, 2, 0.1, activation) ** 3).sum())
    check_grads(third, (x,), order=2)


@pytest.mark.parametrize("activation", [ops.tanh, lambda y: y * y])
def test_any_function_can_follow(activation):
    x, affine = problem(2, 3, 4)
    np.testing.assert_array_equal(ops.group_norm(x, affine, 2, 0.1, activation), activation(ops.group_norm(x, affine, 2, 0.1)))


@every_activation
@pytest.mark.parametrize("chosen", [(0,), (1,), (0, 1)])
def test_one_pass_each_way_whatever_is_differentiated(activation, chosen):
    arrays, seen = problem(2, 3, 4, np.float32), []

    def f(*free):
        full = list(arrays)
        for i, a in zip(chosen, free):
            full[i] = a
        return ops.group_norm(*full, groups=2, activation=activation)

    with observe(lambda primitive, args, y: seen.append(primitive.__name__)):
        y, pullback = vjp(f, *(arrays[i] for i in chosen))
        pullback(y)
    assert [name for name in seen if name not in ("index", "reshape")] == ["_group_norm", "_rows_gradient"]


def test_the_layer_norm_of_a_row_is_that_of_the_row_alone():
    x, affine = problem(3, 4, 5)
    y = ops.layer_norm(x, affine, eps=0.1)
    for i in np.ndindex(3, 4):
        right = (x[i] - x[i].mean()) / np.sqrt(x[i].var() + 0.1) * affine[0] + affine[1]
        np.testing.assert_allclose(y[i], right, rtol=1e-12)
    check_grads(lambda x, a: ops.layer_norm(x, a, eps=0.1), (x[:2, :2], affine), order=2)


def test_arrays_of_two_precisions_give_the_higher_one():
    x, affine = problem(2, 3, 4)
    y, pullback = vjp(lambda x, a: ops.group_norm(x, a, groups=2), x.astype(np.float32), affine)
    dx, d = pullback(y)
    assert (y.dtype, dx.dtype, d.dtype) == (np.float64, np.float32, np.float64)


@pytest.mark.parametrize("x_shape, affine_shape, groups", [((2, 4), (2, 4), 1), ((2, 3, 4), (2, 3), 1), ((2, 3, 4), (2, 4), 3)])
def test_shapes_that_do_not_fit_are_refused(x_shape, affine_shape, groups):
    with pytest.raises(ValueError, match="group_norm: x has shape .* affine .* groups; give x"):
        ops.group_norm(np.zeros(x_shape), np.zeros(affine_shape), groups=groups)


@pytest.mark.parametrize("x_shape, affine_shape", [((), (2, 4)), ((3, 4), (2, 3)), ((3, 4), (4,))])
def test_rows_and_parameters_that_do_not_fit_are_refused(x_shape, affine_shape):
    with pytest.raises(ValueError, match=r"layer_norm: x has shape .* they must be \(..., d\) and \(2, d\)"):
        ops.layer_norm(np.zeros(x_shape), np.zeros(affine_shape))
