"""The gate against its definition, on every tier that this machine has; and the definition against differences."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers

TIERS = tiers("gate")
SPEC = TIERS["spec"]
NUMBERS = st.floats(-100, 100, width=32) | st.sampled_from([0.0, -0.0, 1e-30, -1e-30, 1e4, -1e4, -np.inf, np.inf])


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@for_all(examples=40, on_harness=10, data=st.data())
def test_agrees_with_the_definition(tier, dtype, data):
    shape = *data.draw(st.lists(st.integers(0, 4), max_size=2)), 2 * data.draw(st.integers(0, 19))
    x = np.resize(np.array(data.draw(st.lists(NUMBERS, min_size=1, max_size=40)), dtype), shape)
    g = np.cos(np.arange(x.size // 2)).reshape(*shape[:-1], -1 if x.size else shape[-1] // 2).astype(dtype)
    y, dx = TIERS[tier].forward(x), TIERS[tier].backward(g, x)
    assert y.dtype == dx.dtype == dtype and y.shape == g.shape and dx.shape == x.shape
    tolerance = {"rtol": 10 * np.finfo(dtype).eps, "atol": 4 * np.finfo(dtype).eps}  # 1 - tanh^2 loses digits of 1
    np.testing.assert_allclose(y, SPEC.forward(x.astype(np.float64)), rtol=10 * np.finfo(dtype).eps, atol=1e-36)
    np.testing.assert_allclose(dx, SPEC.backward(g.astype(np.float64), x.astype(np.float64)), **tolerance)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
def test_arrays_of_any_layout_are_taken_and_left_as_they_are(tier):
    x = np.random.default_rng(0).standard_normal((6, 4, 10)).astype(np.float32)
    g = np.random.default_rng(1).standard_normal((6, 4, 5)).astype(np.float32)
    laid_out = np.asfortranarray(x), np.repeat(g, 2, axis=1)[:, ::2]
    for a in laid_out:
        a.setflags(write=False)
    np.testing.assert_array_equal(TIERS[tier].forward(laid_out[0]), TIERS[tier].forward(x))
    np.testing.assert_array_equal(TIERS[tier].backward(*laid_out[::-1]), TIERS[tier].backward(g, x))


@pytest.mark.parametrize("tier", every(TIERS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_spoils_its_own_pair_only(tier, dtype):
    x, g = np.zeros((2, 4), dtype), np.ones((2, 2), dtype)
    x[0, 1] = x[1, 2] = np.nan
    np.testing.assert_array_equal(np.isnan(TIERS[tier].forward(x)), [[False, True], [True, False]])
    np.testing.assert_array_equal(np.isnan(TIERS[tier].backward(g, x)), [[False, True] * 2, [True, False] * 2])


def test_the_definition_on_hand_made_numbers_and_its_slope():
    x = np.array([np.log(2), np.log(3)])
    np.testing.assert_allclose(SPEC.forward(x), [0.6 * 0.75])
    step, slopes = 1e-6, []
    for direction in np.eye(2):
        slopes.append((SPEC.forward(x + step * direction) - SPEC.forward(x - step * direction))[0] / (2 * step))
    np.testing.assert_allclose(SPEC.backward(np.array([2.0]), x), 2 * np.array(slopes), rtol=1e-8)
