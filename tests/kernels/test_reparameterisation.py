"""Samples of Gaussians and their divergences against the definition, on every tier; and the definition against differences."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers

TIERS = tiers("reparameterisation")
SPEC = TIERS["spec"]
LOG_VARS = st.floats(-30, 30, width=32) | st.sampled_from([0.0, 1e-6, -1e-6, -80.0, 80.0])


def arrays(shape, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype(dtype) for s in ((2, *shape), shape, shape, shape)]


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@for_all(
    examples=40,
    on_harness=10,
    shape=st.lists(st.integers(0, 5), max_size=3),
    log_vars=st.lists(LOG_VARS, min_size=1, max_size=20),
    seed=st.integers(0, 10**6),
)
def test_agrees_with_the_definition(tier, dtype, shape, log_vars, seed):
    g, mean, _, eps = arrays(shape, dtype, seed)
    log_var = np.resize(np.array(log_vars, dtype), shape)
    y, d = TIERS[tier].forward(mean, log_var, eps), TIERS[tier].backward(g, mean, log_var, eps)
    assert y.dtype == d.dtype == dtype and y.shape == d.shape == (2, *shape)
    exact = [a.astype(np.float64) for a in (g, mean, log_var, eps)]
    z, tiny = np.exp(exact[2] / 2) * np.abs(exact[3]), 20 * np.finfo(dtype).eps
    parts = [np.abs(exact[1]) + z, np.expm1(exact[2]) + np.abs(exact[2]) + exact[1] ** 2]  # what is added, and may cancel
    assert (np.abs(y - SPEC.forward(*exact[1:])) <= tiny * np.abs(parts) + 1e-36).all()
    parts = [
        np.abs(exact[0][0]) + np.abs(exact[0][1] * exact[1]),
        np.abs(exact[0][0]) * z + np.abs(exact[0][1] * np.expm1(exact[2])),
    ]
    assert (np.abs(d - SPEC.backward(*exact)) <= tiny * np.array(parts) + 1e-36).all()


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
def test_near_the_prior_the_divergence_loses_no_digits(tier):
    log_var, zero = np.array([1e-3, -1e-3, 3e-6, 0.0], np.float32), np.zeros(4, np.float32)
    l, ones = log_var.astype(np.float64), np.ones((2, 4), np.float32)
    np.testing.assert_allclose(TIERS[tier].backward(ones, zero, log_var, zero)[1], np.expm1(l) / 2, rtol=1e-6)
    assert (TIERS[tier].forward(zero, log_var, zero)[1] >= -1e-10).all()


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
def test_arrays_of_any_layout_are_taken_and_left_as_they_are(tier):
    g, mean, log_var, eps = arrays((6, 10))
    laid_out = g[:, ::-1].copy()[:, ::-1], *np.split(np.hstack([mean, log_var]), 2, axis=1), np.asfortranarray(eps)
    for a in laid_out:
        a.setflags(write=False)
    np.testing.assert_array_equal(TIERS[tier].forward(*laid_out[1:]), TIERS[tier].forward(mean, log_var, eps))
    np.testing.assert_array_equal(TIERS[tier].backward(*laid_out), TIERS[tier].backward(g, mean, log_var, eps))


@pytest.mark.parametrize("tier", every(TIERS))
def test_nan_spoils_its_own_number_only(tier):
    g, mean, log_var, eps = arrays((3, 7))
    log_var[1, 2] = np.nan
    for y in TIERS[tier].forward(mean, log_var, eps), TIERS[tier].backward(g, mean, log_var, eps)[1:]:
        assert (np.isnan(y) == np.isnan(log_var)).all()


@pytest.mark.parametrize("tier", every(TIERS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_of_an_infinite_log_variance_the_divergence_is_infinite(tier, dtype):
    log_var, zero = np.array([np.inf, -np.inf] * 9, dtype), np.zeros(18, dtype)
    np.testing.assert_array_equal(TIERS[tier].forward(zero, log_var, zero + 1)[1], np.full(18, np.inf))


def test_the_definition_on_hand_made_numbers_and_its_slopes():
    y = SPEC.forward(np.array(3.0), np.array(np.log(4)), np.array(0.5))
    np.testing.assert_allclose(y, [3 + 2 * 0.5, 0.5 * (9 + 4 - 1 - np.log(4))])
    g, *old = arrays((2, 3), np.float64)
    step = 1e-6
    for i in range(2):
        change = [step if i == j else 0 for j in range(3)]
        up, down = (SPEC.forward(*(a + sign * c for a, c in zip(old, change))) for sign in (1, -1))
        slopes = (g * (up - down)).sum(axis=0) / (2 * step)
        np.testing.assert_allclose(SPEC.backward(g, *old)[i], slopes, rtol=1e-6, atol=1e-8)
