"""Activations against their definition, on every tier that this machine has."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers
from tinygen.kernels import elementwise

TIERS = tiers("activations")
SPEC = TIERS["spec"]
FUNCTIONS = [
    "gelu", "gelu_gradient", "leaky_relu", "leaky_relu_gradient", "relu_gradient", "sigmoid", "sigmoid_gradient", "silu",
    "silu_gradient", "softplus", "softplus_gradient", "tanh_gradient",
]  # fmt: skip
NUMBERS = st.floats(-100, 100, width=32) | st.sampled_from([0.0, -0.0, 1e-30, -1e-30, 1e4, -1e4])
CANCELLING = "gelu_gradient", "sigmoid_gradient", "tanh_gradient"  # sums that can be smaller than their terms


def call(tier, function, g, x):
    arguments = (g, x) if function.endswith("gradient") else (x,)
    slope = (0.2,) if function.startswith("leaky") else ()
    return getattr(TIERS[tier], function)(*arguments, *slope)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@for_all(examples=60, on_harness=10, values=st.lists(st.tuples(NUMBERS, NUMBERS), max_size=40), rank=st.integers(0, 2))
def test_agrees_with_the_definition(tier, function, dtype, values, rank):
    pairs = np.array(values, dtype).reshape(-1, 2)
    pairs = pairs[:1].reshape(-1, 2) if rank == 0 else pairs
    g, x = (column.reshape((-1,) + (1,) * (rank - 1)) for column in pairs.T)
    y, expected = call(tier, function, g, x), call("spec", function, g.astype(np.float64), x.astype(np.float64))
    assert y.dtype == dtype and y.shape == x.shape
    epsilon = np.finfo(dtype).eps
    tiny = np.finfo(np.float32).tiny if dtype == np.float32 else 0  # below the smallest normal number, digits are lost
    lost = 2 * epsilon * np.abs(g * np.maximum(1, x * x)) if function in CANCELLING else 0
    # e^(-x^2 / 2) multiplies a rounding of its argument by x^2, in the definition, too
    rounded = np.maximum(1, x * x) if "gelu" in function and dtype == np.float64 else 1
    assert np.all(np.abs(y - expected) <= 12 * epsilon * rounded * np.abs(expected) + lost + 1e4 * 1e4 * tiny)


@pytest.mark.parametrize("tier", every(TIERS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinities_have_their_limits_and_nan_stays(tier, dtype):
    x, ones = np.array([-np.inf, np.inf, np.nan], dtype), np.ones(3, dtype)
    np.testing.assert_allclose(call(tier, "sigmoid", None, x), [0, 1, np.nan], atol=1e-36)
    np.testing.assert_allclose(call(tier, "silu", None, x), [0, np.inf, np.nan], atol=1e-36)
    np.testing.assert_allclose(call(tier, "silu_gradient", ones, x), [0, 1, np.nan], atol=1e-34)
    np.testing.assert_array_equal(call(tier, "softplus", None, x), [0, np.inf, np.nan])
    np.testing.assert_array_equal(call(tier, "softplus_gradient", ones, x), [0, 1, np.nan])
    np.testing.assert_array_equal(call(tier, "gelu", None, x), [0, np.inf, np.nan])
    np.testing.assert_array_equal(call(tier, "gelu_gradient", ones, x), [0, 1, np.nan])
    np.testing.assert_array_equal(call(tier, "leaky_relu", None, x), [-np.inf, np.inf, np.nan])
    for function in ("tanh_gradient", "sigmoid_gradient"):
        np.testing.assert_array_equal(call(tier, function, ones, np.array([np.nan, 1, 0.5], dtype))[:2], [np.nan, 0])


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@pytest.mark.parametrize("function", FUNCTIONS)
def test_arrays_of_any_layout_and_scalars_are_taken_and_left_as_they_are(tier, function):
    g, x = np.random.default_rng(0).standard_normal((2, 6, 10)).astype(np.float32)
    expected = call(tier, function, g, x)
    laid_out = np.asfortranarray(g), np.repeat(x, 2, axis=1)[:, ::2]
    for a in laid_out:
        a.setflags(write=False)
    np.testing.assert_array_equal(call(tier, function, *laid_out), expected)
    np.testing.assert_allclose(call(tier, function, g[0, 0], x[0, 0]), expected[0, 0], rtol=1e-6)
    broadcast = np.broadcast_to(g[:1, :1], g.shape)
    np.testing.assert_allclose(call(tier, function, broadcast, x), call("spec", function, broadcast, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function, most", [("sigmoid", 2.9), ("softplus", 3.7), ("silu", 3.7), ("gelu", 7)])
def test_errs_by_no_more_units_in_the_last_place_than_stated(function, most):
    """In kernels/activations/cpu.py: for numbers of every exponent, and those for which each of the four errs most."""
    m, worst = 1 + np.random.default_rng(0).random(60), (1.9542445, 2.0209563, 5.955036, 0.05936537)
    x = np.concatenate([np.outer(2.0 ** np.arange(-149, 128), m).ravel(), np.linspace(0, 110, 10_000), worst])
    x = np.append(x, -x).astype(np.float32)
    y, exact = call("cpu", function, None, x), call("spec", function, None, x.astype(np.float64))
    error, digits = np.abs(y - exact), np.abs(exact) >= 1e-36
    assert np.all(error[~digits] <= 3e-43)
    assert np.all(error[digits] <= most * np.spacing(np.abs(exact[digits]).astype(np.float32)))


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
def test_gelu_keeps_its_digits_in_the_tail(tier):
    x = np.linspace(-12, -2, 2000, dtype=np.float32)  # at -12, the rounding of x^2 is worth 32 eps in e^(-x^2 / 2)
    ones = np.ones_like(x)
    for y, exact in (
        (call(tier, "gelu", None, x), call("spec", "gelu", None, x.astype(np.float64))),
        (call(tier, "gelu_gradient", ones, x), call("spec", "gelu_gradient", ones.astype(np.float64), x.astype(np.float64))),
    ):
        np.testing.assert_allclose(y, exact, rtol=12 * np.finfo(np.float32).eps, atol=0)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec", "cpu")))
def test_there_may_be_more_elements_than_threads(tier, monkeypatch):
    x = np.linspace(-3, 3, 2000, dtype=np.float32)
    at_once = call(tier, "silu", None, x)
    monkeypatch.setattr(elementwise, "BLOCKS", 2)  # of 256 threads: each has three or four elements
    np.testing.assert_array_equal(call(tier, "silu", None, x), at_once)


def test_the_definition_on_hand_made_numbers():
    x = np.array([0.0, np.log(3)])
    np.testing.assert_allclose(SPEC.silu(x), [0, 0.75 * np.log(3)])
    np.testing.assert_allclose(SPEC.silu_gradient(np.array([2.0, 1]), x), [1, 0.75 * (1 + 0.25 * np.log(3))])
    np.testing.assert_array_equal(SPEC.relu_gradient(np.array([5.0, 6, 7]), np.array([-1.0, 0, 1])), [0, 0, 7])
    np.testing.assert_array_equal(SPEC.leaky_relu(np.array([-2.0, 0, 3]), 0.5), [-1, 0, 3])
    np.testing.assert_array_equal(SPEC.leaky_relu_gradient(np.array([5.0, 6, 7]), np.array([-1.0, 0, 1]), 0.5), [2.5, 3, 7])
    np.testing.assert_allclose(SPEC.softplus(x), [np.log(2), np.log(4)])
    np.testing.assert_allclose(SPEC.gelu(np.array([0.0, 1, -1])), [0, 0.8413447461, -0.1586552539])  # Phi(1)


@pytest.mark.parametrize(
    "gradient, function, of_value",
    [
        ("leaky_relu_gradient", SPEC.leaky_relu, False),
        ("tanh_gradient", np.tanh, True),
        ("sigmoid_gradient", SPEC.sigmoid, True),
        ("softplus_gradient", SPEC.softplus, False),
        ("silu_gradient", SPEC.silu, False),
        ("gelu_gradient", SPEC.gelu, False),
    ],
)
def test_the_definition_of_a_gradient_is_the_slope_of_the_function(gradient, function, of_value):
    rest = (0.2,) if gradient.startswith("leaky") else ()
    x, step = np.array([-3.0, -0.7, 0.4, 2.5]), 1e-5
    slope = (function(x + step, *rest) - function(x - step, *rest)) / (2 * step)
    seen = getattr(SPEC, gradient)(np.full(4, 3.0), function(x, *rest) if of_value else x, *rest)
    np.testing.assert_allclose(seen, 3 * slope, rtol=1e-8)
