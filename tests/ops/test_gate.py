"""The fused gate against its decomposition, with derivatives up to third order."""

from importlib import import_module

import numpy as np
import pytest

from tinygen import Generator, check_grads, grad, ops, vjp

decomposed = import_module("tinygen.ops.gate").decomposed  # ops.gate is the function


@pytest.mark.parametrize("shape", [(2,), (3, 4), (2, 3, 10), (2, 0, 4)])
def test_agrees_with_the_decomposition_and_so_does_its_gradient(shape):
    x = 3 * Generator(0).normal(shape, np.float64)
    (y, pullback), (expected, slow_pullback) = vjp(ops.gate, x), vjp(decomposed, x)
    np.testing.assert_allclose(y, expected, rtol=1e-13)
    np.testing.assert_allclose(pullback(np.cos(y))[0], slow_pullback(np.cos(y))[0], rtol=1e-12, atol=1e-15)


def test_derivatives_are_right_up_to_third_order():
    check_grads(grad(lambda x: (ops.gate(x) ** 2).sum()), (Generator(0).normal((2, 6), np.float64),), order=2)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_an_odd_number_of_channels_is_refused(shape):
    with pytest.raises(ValueError, match="gate: x has shape .* must have two equal halves"):
        ops.gate(np.zeros(shape))
