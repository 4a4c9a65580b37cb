"""Affine couplings against their definition, on every tier that this machine has; and the definition against differences."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers

TIERS = tiers("coupling")
SPEC = TIERS["spec"]


def arrays(shape, dtype, seed=0):
    """g, x, parameters, scale: for rows of x of that shape."""
    *rows, C = shape
    rng = np.random.default_rng(seed)
    shapes = (2, *shape), shape, (*rows, 2 * C), (C,)
    return [(2 * rng.standard_normal(s)).astype(dtype) for s in shapes]


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@for_all(
    examples=40,
    on_harness=10,
    rows=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    C=st.integers(0, 20),
    seed=st.integers(0, 10**6),
)
def test_agrees_with_the_definition(tier, dtype, rows, C, seed):
    g, x, parameters, scale = arrays((*rows, C), dtype, seed)
    y, d = TIERS[tier].forward(x, parameters, scale), TIERS[tier].backward(g, x, parameters, scale)
    assert y.dtype == d.dtype == dtype and y.shape == (2, *x.shape) and d.shape == (3 * x.size + C,)
    exact = [a.astype(np.float64) for a in (g, x, parameters, scale)]
    tolerance = {"rtol": 20 * np.finfo(dtype).eps, "atol": 40 * np.finfo(dtype).eps}
    np.testing.assert_allclose(y, SPEC.forward(*exact[1:]), **tolerance)
    right = SPEC.backward(*exact)
    size = np.abs(right).max(initial=1)  # in the sum for a scale, large numbers of both signs meet
    np.testing.assert_allclose(d / size, right / size, **tolerance)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@pytest.mark.parametrize("shape", [(1, 1), (2500, 1), (1025, 3), (2049, 9), (600, 40)])
def test_many_rows(tier, shape):
    old = arrays(shape, np.float32)
    exact = [a.astype(np.float64) for a in old]
    t, e = np.tanh(exact[2][:, : shape[1]]), np.exp(exact[3] * np.tanh(exact[2][:, : shape[1]]))
    h = exact[0][0] * exact[1] * e + exact[0][1]
    right = [exact[0][0] * e, np.hstack([h * exact[3] * (1 - t * t), exact[0][0]]), (h * t).sum(axis=0)]
    y, d = TIERS[tier].forward(*old[1:]), TIERS[tier].backward(*old)
    np.testing.assert_allclose(y, [exact[1] * e + exact[2][:, shape[1] :], exact[3] * t], rtol=1e-5, atol=1e-5)
    for part, expected in zip(np.split(d, np.cumsum([a.size for a in right])[:-1]), right):
        np.testing.assert_allclose(part.reshape(expected.shape), expected, rtol=2e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
def test_arrays_of_any_layout_are_taken_and_left_as_they_are(tier):
    g, x, parameters, scale = arrays((6, 4, 10), np.float32)
    laid_out = np.asfortranarray(g), np.repeat(x, 2, axis=1)[:, ::2], parameters[::-1].copy()[::-1], scale[::-1].copy()[::-1]
    for a in laid_out:
        a.setflags(write=False)
    np.testing.assert_array_equal(TIERS[tier].forward(*laid_out[1:]), TIERS[tier].forward(x, parameters, scale))
    np.testing.assert_array_equal(TIERS[tier].backward(*laid_out), TIERS[tier].backward(g, x, parameters, scale))


@pytest.mark.parametrize("tier", every(TIERS))
@pytest.mark.parametrize("C", [2, 12])
def test_nan_spoils_its_own_number_only(tier, C):
    g, x, parameters, scale = arrays((3, C), np.float32)
    parameters[1, 1] = np.nan
    spoilt = np.isnan(TIERS[tier].forward(x, parameters, scale))
    assert spoilt.sum() == 2 and spoilt[:, 1, 1].all()
    dx, dp, dscale = np.split(TIERS[tier].backward(g, x, parameters, scale), np.cumsum([3 * C, 6 * C]))
    assert np.flatnonzero(np.isnan(dx)).tolist() == [C + 1] and np.flatnonzero(np.isnan(dp)).tolist() == [2 * C + 1]
    assert np.flatnonzero(np.isnan(dscale)).tolist() == [1]


def test_the_definition_on_hand_made_numbers_and_its_slopes():
    x, parameters, scale = np.array([[3.0]]), np.array([[np.arctanh(0.5), 7.0]]), np.array([2 * np.log(2)])
    np.testing.assert_allclose(SPEC.forward(x, parameters, scale), [[[3 * 2 + 7]], [[np.log(2)]]])
    g, *old = arrays((3, 2), np.float64)
    slopes, step = [], 1e-6
    for i, a in enumerate(old):
        for j in np.ndindex(a.shape):
            up, down = ([b.copy() for b in old] for _ in range(2))
            up[i][j] += step
            down[i][j] -= step
            slopes.append((g * (SPEC.forward(*up) - SPEC.forward(*down))).sum() / (2 * step))
    np.testing.assert_allclose(SPEC.backward(g, *old), slopes, rtol=1e-6, atol=1e-6)
