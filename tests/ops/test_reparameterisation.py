"""The fused sample and divergence against their decomposition, with derivatives up to third order."""

from importlib import import_module

import numpy as np
import pytest

from tinygen import Generator, check_grads, grad, ops, vjp
from tinygen.distributions import Gaussian, kl

module = import_module("tinygen.ops.reparameterisation")


def arrays(shape):
    rng = Generator(0)
    return [rng.normal(shape, np.float64) for _ in range(3)]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 5), (2, 0)])
def test_agrees_with_the_decomposition_and_so_do_its_gradients(shape):
    (y, pullback), (expected, slow) = vjp(module._reparameterise, *arrays(shape)), vjp(module.decomposed, *arrays(shape))
    np.testing.assert_allclose(y, expected, rtol=1e-13)
    for a, b in zip(pullback(np.cos(y)), slow(np.cos(y))):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_derivatives_are_right_up_to_third_order():
    def product(*parameters):
        z, divergence = ops.reparameterise(*parameters)
        return (z * z * divergence).sum()

    check_grads(grad(product, argnums=(0, 1, 2)), [0.3 * a for a in arrays((2, 3))], order=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_what_a_gaussian_says_separately(dtype):
    mean, log_var, _ = (a.astype(dtype) for a in arrays((4, 3)))
    q = Gaussian(mean, log_var)
    z, divergence = q.sample_with_kl(Generator(1))
    np.testing.assert_allclose(z, q.sample(Generator(1)), rtol=10 * np.finfo(dtype).eps, atol=10 * np.finfo(dtype).eps)
    prior = Gaussian(np.zeros((), dtype), np.zeros((), dtype))
    np.testing.assert_allclose(divergence, kl(q, prior), rtol=20 * np.finfo(dtype).eps, atol=10 * np.finfo(dtype).eps)
    assert z.dtype == divergence.dtype == dtype


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="reparameterise: mean, log_var and eps have shapes .* must be the same"):
        ops.reparameterise(np.zeros((2, 3)), np.zeros(3), np.zeros((2, 3)))
