"""The fused affine coupling against its decomposition, with derivatives up to third order."""

from importlib import import_module

import numpy as np
import pytest

from tinygen import Generator, check_grads, grad, ops, vjp

module = import_module("tinygen.ops.coupling")


def arrays(shape):
    rng, C = Generator(0), shape[-1]
    return [2 * rng.normal(s, np.float64) for s in (shape, (*shape[:-1], 2 * C), (C,))]


@pytest.mark.parametrize("shape", [(2,), (3, 4), (2, 3, 10), (2, 0, 4), (2, 3, 0)])
def test_agrees_with_the_decomposition_and_so_do_its_gradients(shape):
    (y, pullback), (expected, slow) = vjp(module._affine_coupling, *arrays(shape)), vjp(module.decomposed, *arrays(shape))
    np.testing.assert_allclose(y, expected, rtol=1e-13)
    np.testing.assert_array_equal(ops.affine_coupling(*arrays(shape)), y)
    for a, b in zip(pullback(np.cos(y)), slow(np.cos(y))):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_one_of_the_two_results_may_be_used_alone():
    for i in range(2):
        fused = grad(lambda *a: ops.sin(ops.affine_coupling(*a)[i]).sum(), argnums=(0, 1, 2))(*arrays((3, 4)))  # noqa: B023
        slow = grad(lambda *a: ops.sin(module.decomposed(*a)[i]).sum(), argnums=(0, 1, 2))(*arrays((3, 4)))  # noqa: B023
        for a, b in zip(fused, slow):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_derivatives_are_right_up_to_third_order():
    def square(x, parameters, scale):
        z, s = ops.affine_coupling(x, parameters, scale)
        return (z * z * s).sum()

    check_grads(grad(square, argnums=(0, 1, 2)), [0.3 * a for a in arrays((2, 3))], order=2)


@pytest.mark.parametrize("shapes", [[(), (2,), ()], [(3, 2), (3, 2), (2,)], [(3, 2), (2, 4), (2,)], [(3, 2), (3, 4), (1,)]])
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="affine_coupling: x has shape .* they must be"):
        ops.affine_coupling(*map(np.zeros, shapes))
