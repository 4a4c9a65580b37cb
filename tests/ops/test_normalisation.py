"""The fused normalisation of groups against its decomposition, with derivatives up to third order."""

import numpy as np
import pytest

from tinygen import Generator, check_grads, grad, ops, vjp
from tinygen.ops.normalisation import decomposed


def problem(N, P, C):
    rng = Generator(0)
    return rng.normal((N, P, C), np.float64), rng.normal((2, C), np.float64)


@pytest.mark.parametrize("N, P, C, groups", [(2, 3, 4, 1), (2, 3, 4, 2), (1, 5, 6, 3), (3, 1, 5, 1), (2, 2, 3, 3)])
def test_agrees_with_the_decomposition_and_so_do_its_gradients(N, P, C, groups):
    x, affine = problem(N, P, C)
    settings = {"groups": groups, "eps": 0.01}
    y, pullback = vjp(lambda x, a: ops.group_norm(x, a, **settings), x, affine)
    expected, slow_pullback = vjp(lambda x, a: decomposed(x, a, **settings), x, affine)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    for seen, right in zip(pullback(np.cos(x)), slow_pullback(np.cos(x))):
        np.testing.assert_allclose(seen, right, rtol=1e-10, atol=1e-10)


def test_derivatives_are_right_up_to_third_order():
    x, affine = problem(2, 2, 4)
    third = grad(lambda x: (ops.group_norm(x, affine, groups=2, eps=0.1) ** 3).sum())
    check_grads(third, (x,), order=2)


def test_arrays_of_two_precisions_give_the_higher_one():
    x, affine = problem(2, 3, 4)
    y, pullback = vjp(lambda x, a: ops.group_norm(x, a, groups=2), x.astype(np.float32), affine)
    dx, d = pullback(y)
    assert (y.dtype, dx.dtype, d.dtype) == (np.float64, np.float32, np.float64)


@pytest.mark.parametrize("x_shape, affine_shape, groups", [((2, 4), (2, 4), 1), ((2, 3, 4), (2, 3), 1), ((2, 3, 4), (2, 4), 3)])
def test_shapes_that_do_not_fit_are_refused(x_shape, affine_shape, groups):
    with pytest.raises(ValueError, match="group_norm: x has shape .* affine .* groups; give x"):
        ops.group_norm(np.zeros(x_shape), np.zeros(affine_shape), groups=groups)
