"""Figures say what they know: = for an exact density, <= for a bound, >= where log Z was annealed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator
from tinygen.density import BitsPerDim, Energy, Exact, LowerBound, bits_per_dim
from tinygen.metrics import annealed, nats, perplexity

few = settings(max_examples=30, deadline=None)


def test_figures_carry_relation_unit_and_method():
    log_p = np.array([-80.0, -84.0, -88.0, -84.0])
    assert str(nats(Exact(log_p))) == "= 84 +- 1.6 nats"
    assert str(nats(LowerBound(log_p, "IWAE, k = 50"))) == "<= 84 +- 1.6 nats (IWAE, k = 50)"
    assert perplexity(LowerBound(log_p, "ELBO"), 84).relation == "<="
    assert math.isnan(nats(Exact(log_p[:1])).standard_error)


@few
@given(st.integers(2, 300), st.integers(1, 50))
def test_a_uniform_choice_among_K_has_perplexity_K(K, symbols):
    assert perplexity(Exact(np.full(3, -symbols * math.log(K))), symbols).value == pytest.approx(K, rel=1e-9)


@few
@given(st.integers(0, 2**32), st.integers(1, 100))
def test_perplexity_is_2_to_the_bits_per_symbol(seed, symbols):
    density = Exact(-100 * Generator(seed).uniform(6, np.float64))
    bits = bits_per_dim(density, symbols).summary().mean
    assert perplexity(density, symbols).value == pytest.approx(2**bits, rel=1e-9)


def test_the_standard_error_of_a_perplexity_is_that_of_the_exponential_of_a_mean():
    rng = Generator(0)
    figures = [perplexity(Exact(-20 + rng.normal(100, np.float64)), 10) for _ in range(1000)]
    assert np.mean([f.standard_error for f in figures]) == pytest.approx(np.std([f.value for f in figures]), rel=0.1)


def test_annealing_is_on_average_an_optimist_and_right_for_equal_weights():
    """E = x^2 / 2, whose log Z is log(2 pi) / 2; weights exp(s g - s^2 / 2) Z are Z on average."""
    x, log_z = np.linspace(-2, 2, 41), math.log(2 * math.pi) / 2
    truth = (x * x / 2).mean() + log_z
    figure = annealed(Energy(x * x / 2), np.full(7, log_z))
    assert figure.value == pytest.approx(truth) and str(figure).startswith(">= ") and "annealed, 7 chains" in str(figure)

    rng = Generator(0)
    values = [annealed(Energy(x * x / 2), log_z + rng.normal(8, np.float64) - 0.5).value for _ in range(1000)]
    assert truth - 0.3 < np.mean(values) < truth - 3 * np.std(values) / math.sqrt(1000)


def test_the_chance_in_log_z_is_part_of_the_standard_error():
    rng = Generator(0)
    figures = [annealed(Energy(np.zeros(5)), 0.3 * rng.normal(50, np.float64)) for _ in range(1000)]
    assert np.mean([f.standard_error for f in figures]) == pytest.approx(np.std([f.value for f in figures]), rel=0.1)
    assert math.isnan(annealed(Energy(np.zeros(5)), np.zeros(1)).standard_error)


@few
@given(st.floats(-1e3, 1e3))
def test_a_constant_moves_energy_and_weights_and_not_the_figure(c):
    energy, weights = np.arange(4.0), np.array([0.1, -0.4, 0.2])
    assert annealed(Energy(energy - c), weights + c).value == pytest.approx(annealed(Energy(energy), weights).value, abs=1e-9)


def test_what_says_nothing_of_log_p_is_refused():
    for other in (Energy(np.zeros(2)), BitsPerDim(np.zeros(2), "="), np.zeros(2)):
        with pytest.raises(TypeError, match=rf"nats: a {type(other).__name__} does not say what log p\(x\) is"):
            nats(other)
    with pytest.raises(TypeError, match="annealed: expected an Energy, not a Exact"):
        annealed(Exact(np.zeros(2)), np.zeros(2))
    for bad in (np.zeros((2, 2)), np.zeros(0), np.array([0, np.nan]), np.full(2, -np.inf)):
        with pytest.raises(ValueError, match=r"annealed: log_weights have shape .*; give a finite number for each chain"):
            annealed(Energy(np.zeros(2)), bad)
    with pytest.raises(ValueError, match="perplexity: symbols is 0"):
        perplexity(Exact(np.zeros(2)), 0)


def test_a_perplexity_beyond_all_numbers_is_infinite():
    assert perplexity(Exact(np.array([-5000.0, -5001.0])), 1).value == math.inf
