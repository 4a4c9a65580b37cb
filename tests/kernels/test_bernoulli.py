"""The Bernoulli log-likelihood against its definition, on every tier that this machine has."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers

TIERS = tiers("bernoulli")
SPEC = TIERS["spec"]
LOGITS = st.floats(-200, 200) | st.sampled_from([0.0, -0.0, 1e-30, -1e-30, 88.7, -88.7, 1e4, -1e4])


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@pytest.mark.parametrize("function", ["log_prob", "residual"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@for_all(examples=60, on_harness=10, data=st.data())
def test_agrees_with_the_definition(tier, function, dtype, data):
    lead = data.draw(st.lists(st.integers(0, 3), max_size=2))
    event = data.draw(st.lists(st.integers(0, 5), max_size=2))
    repeated = (*event[:-1], 1) if event else ()  # along its last axis
    shape, x_shape = (*lead, *event), data.draw(st.sampled_from([tuple(event), (*lead, *event), (1,) * len(event), repeated]))
    values = data.draw(st.lists(LOGITS, min_size=1, max_size=20))
    logits = np.resize(np.array(values, dtype), shape)
    x = np.resize(np.array(data.draw(st.lists(st.sampled_from([0, 1, 0.25]), min_size=1, max_size=9)), dtype), x_shape)
    y = getattr(TIERS[tier], function)(x, logits)
    expected = getattr(SPEC, function)(x, logits.astype(np.float64))
    assert y.dtype == dtype and y.shape == expected.shape
    # one rounding of x l, one of the softplus, one of their difference: each relative to the larger of them
    scale = np.maximum(np.abs(logits.astype(np.float64)), 1)
    assert np.all(np.abs(y - expected) <= 4 * np.finfo(dtype).eps * scale)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
def test_reads_arrays_that_are_not_contiguous(tier):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((6, 8, 10)).astype(np.float32)
    x = (rng.random((8, 10)) < 0.5).astype(np.float32)
    for view in (np.s_[::2, ::-1, 1::3], np.s_[::-1, 2:, :]):
        expected = SPEC.residual(x[view[1:]], logits[view].astype(np.float64))
        np.testing.assert_allclose(TIERS[tier].residual(x[view[1:]], logits[view]), expected, atol=3e-7)
    swapped = SPEC.log_prob(x.T, logits.swapaxes(1, 2).astype(np.float64))
    np.testing.assert_allclose(TIERS[tier].log_prob(x.T, logits.swapaxes(1, 2)), swapped, atol=2e-6)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_passes_through(tier, dtype):
    logits = np.array([np.nan, 0.0], dtype)
    for function in ("log_prob", "residual"):
        y = getattr(TIERS[tier], function)(np.ones(2, dtype), logits)
        assert np.isnan(y[0]) and np.isfinite(y[1])


def test_the_definition_on_hand_made_numbers():
    y = SPEC.log_prob(np.array([1.0, 0.0, 0.5]), np.array([0.0, 0.0, 2.0]))
    np.testing.assert_allclose(y, [-np.log(2), -np.log(2), 1 - np.log(1 + np.e**2)], rtol=1e-15)
    np.testing.assert_allclose(SPEC.residual(np.array([1.0, 0.0]), np.array([np.log(3), np.log(3)])), [0.25, -0.75], rtol=1e-15)
