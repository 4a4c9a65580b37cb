"""What results say about log p(x), and what they refuse to say."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, check_grads, grad, ops, value_and_grad
from tinygen.density import (
    BitsPerDim,
    Bounded,
    Energy,
    Exact,
    LowerBound,
    Sampler,
    Tractable,
    Unnormalised,
    bits_per_dim,
)

NATS = np.array([-80.0, -84.0, -88.0, -84.0])


@settings(max_examples=50, deadline=None)
@given(levels=st.integers(2, 256), dimensions=st.integers(1, 1000))
def test_uniform_grey_levels_cost_log2_of_their_number(levels, dimensions):
    exact = Exact(np.zeros(3))  # the uniform density on [0, 1)^D is 1
    np.testing.assert_allclose(bits_per_dim(exact, dimensions, levels).bits, math.log2(levels), rtol=1e-12)
    np.testing.assert_array_equal(bits_per_dim(exact, dimensions).bits, 0)


def test_bits_per_dim_is_minus_log2_p_over_the_dimensions():
    p = np.array([0.5, 0.25, 2.0**-12])
    np.testing.assert_allclose(bits_per_dim(Exact(np.log(p)), 4).bits, [0.25, 0.5, 3])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 8))
def test_dequantised_bits_are_a_bound_and_tight_only_for_densities_that_are_flat_on_cells(seed, levels):
    r"""On one grey level, by exact integration: P(g) = \int_cell p, against E_u[log p] - log L, with p(x) = exp(a x) / Z."""
    a = float(Generator(seed).uniform((), np.float64) * 8 - 4) or 1.0
    log_z = math.log(math.expm1(a) / a)
    for g in range(levels):
        left, right = g / levels, (g + 1) / levels
        probability = (math.exp(a * right) - math.exp(a * left)) / a / math.exp(log_z)
        mean_log_p = a * (left + right) / 2 - log_z  # the mean of a linear function over the cell
        bound = bits_per_dim(Exact(np.array([mean_log_p])), 1, levels).bits[0]
        assert bound >= -math.log2(probability) - 1e-12
        # log E[e^t] - E[t] for t uniform on an interval of length h is h^2 / 24 - h^4 / 2880 + ...
        h = a / levels
        assert abs(bound + math.log2(probability) - h * h / 24 / math.log(2)) < h**4 / 2880 / math.log(2) + 1e-12


def test_an_equals_sign_is_for_exact_values_only():
    nats = np.full(2, -1.08 * 10 * math.log(2))
    assert str(bits_per_dim(Exact(nats), 10)) == "= 1.08 bits/dim"
    assert str(bits_per_dim(LowerBound(nats), 10)) == "<= 1.08 bits/dim"
    assert str(bits_per_dim(LowerBound(nats, "ELBO"), 10)) == "<= 1.08 bits/dim (ELBO)"
    assert str(bits_per_dim(Exact(nats), 10, levels=256)) == "<= 9.08 bits/dim (uniform dequantisation)"
    assert str(bits_per_dim(LowerBound(nats, "ELBO"), 10, levels=2)) == "<= 2.08 bits/dim (ELBO, uniform dequantisation)"


@pytest.mark.parametrize("what, seen", [(NATS, "ndarray"), (-84.0, "float"), (BitsPerDim(NATS, "="), "BitsPerDim")])
def test_bits_per_dim_refuses_what_does_not_say_what_it_is(what, seen):
    with pytest.raises(TypeError, match=f"bits_per_dim: a {seen} does not say whether it is log p"):
        bits_per_dim(what, 10)


def test_bits_per_dim_refuses_energies_whose_log_z_is_unknown():
    with pytest.raises(TypeError, match="only up to the unknown log Z"):
        bits_per_dim(Energy(-NATS), 10)
    assert not hasattr(Energy(-NATS), "nats")


@pytest.mark.parametrize("dimensions, levels", [(0, None), (-1, 256), (10, 1), (10, 0)])
def test_bits_per_dim_refuses_impossible_counts(dimensions, levels):
    with pytest.raises(ValueError, match="bits_per_dim: dimensions"):
        bits_per_dim(Exact(NATS), dimensions, levels)


def test_results_print_their_relation_mean_and_standard_error():
    # the sample variance of (-80, -84, -88, -84) is 32 / 3, so the standard error is sqrt(32 / 12) = 1.633
    assert str(Exact(NATS)) == "log p(x) = -84.00 +- 1.6 nats"
    assert str(LowerBound(NATS, "IWAE, k = 50")) == "log p(x) >= -84.00 +- 1.6 nats (IWAE, k = 50)"
    assert str(Energy(-NATS)) == "E(x) = 84.00 +- 1.6 nats, up to a constant"
    assert len(Exact(NATS)) == 4


def test_summaries_are_python_floats_and_sum_in_float64():
    mean, error = Exact(np.full(100_000, -84.1, np.float32)).summary()
    assert type(mean) is float and mean == pytest.approx(float(np.float32(-84.1)), rel=1e-12)
    assert error < 1e-9
    assert math.isnan(Exact(NATS[:1]).summary().standard_error)
    assert Exact(NATS).summary().standard_error == pytest.approx(math.sqrt(32 / 12), rel=1e-12)


@pytest.mark.parametrize("kind", [Exact, LowerBound, Energy])
@pytest.mark.parametrize(
    "values, seen", [(np.ones((3, 784)), "shape (3, 784)"), (np.float32(1), "shape ()"), (1.0, "a float"), ([1.0], "a list")]
)
def test_results_are_one_number_for_each_example(kind, values, seen):
    with pytest.raises(
        ValueError, match=f"{kind.__name__}: expected an array of one number for each example.*{re.escape(seen)}"
    ):
        kind(values)


def test_no_examples_have_no_mean():
    for result in (Exact(np.zeros(0)), Energy(np.zeros(0)), bits_per_dim(LowerBound(np.zeros(0)), 2)):
        with pytest.raises(ValueError, match=f"{type(result).__name__}.summary: there are no examples"):
            str(result)


def test_results_pass_through_grad_to_any_order():
    x = Generator(0).normal((3, 2), np.float64)

    def bound(w):
        return LowerBound(-ops.sum(ops.exp(w * x), axis=1), "ELBO")

    def loss(w):
        b = bound(w)
        return -b.nats.mean(), b

    w = np.array([0.3, -0.2])
    (value, b), g = value_and_grad(loss, has_aux=True)(w)
    assert type(b) is LowerBound and b.how == "ELBO" and type(b.nats) is np.ndarray
    np.testing.assert_allclose(g, (x * np.exp(w * x)).sum(0) / 3)
    assert value == pytest.approx(-b.summary().mean)
    check_grads(lambda w: bits_per_dim(bound(w), 2, levels=4).bits, (w,))
    np.testing.assert_allclose(grad(lambda w: bits_per_dim(bound(w), 2).bits.mean())(w), g / (2 * math.log(2)))


def test_reports_can_be_made_inside_grad():
    def loss(w):
        assert str(Exact(w * 2)) == "log p(x) = 3.00 +- 1 nats"
        assert str(bits_per_dim(Exact(w * -math.log(2)), 1)) == "= 1.5 bits/dim"
        return w.sum()

    grad(loss)(np.array([1.0, 2.0]))


def test_float32_stays_float32():
    assert bits_per_dim(Exact(NATS.astype(np.float32)), 784, 256).bits.dtype == np.float32


def test_protocols_say_what_a_model_can():
    class Flow:
        def log_prob(self, x): ...

        def sample(self, rng, n): ...

    class GAN:
        def sample(self, rng, n): ...

    class EBM:
        def energy(self, x): ...

    class VAE:
        def bound(self, x, rng): ...

    kinds = (Tractable, Bounded, Unnormalised, Sampler)
    can = {model: [isinstance(model(), kind) for kind in kinds] for model in (Flow, VAE, EBM, GAN)}
    assert can == {
        Flow: [True, False, False, True],
        VAE: [False, True, False, False],
        EBM: [False, False, True, False],
        GAN: [False, False, False, True],
    }
