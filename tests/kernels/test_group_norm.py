"""Normalisation of groups against its definition, on every tier that this machine has; and the definition against slopes."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers

TIERS = tiers("group_norm")
SPEC = TIERS["spec"]
EPS = 1e-3


def problem(seed, N, P, C, dtype=np.float64, mean=0.0):
    """x, a cotangent g of y, scale and shift."""
    rng = np.random.default_rng(seed)
    return [a.astype(dtype) for a in (rng.normal(mean, 2, (N, P, C)), rng.normal(size=(N, P, C)), rng.normal(size=(2, C)))]


def all_three(kernel, x, g, affine, groups):
    forward, dx = kernel.forward(x, affine, groups, EPS), kernel.input_gradient(g, x, affine, groups, EPS)
    return forward, dx, kernel.parameter_gradient(g, x, groups, EPS)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@for_all(examples=40, on_harness=10, data=st.data())
def test_agrees_with_the_definition(tier, dtype, data):
    groups, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    N, P = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 20))
    arrays = problem(data.draw(st.integers(0, 999)), N, P, groups * width, dtype)
    expected = all_three(SPEC, *(a.astype(np.float64) for a in arrays), groups) if N * P else None
    for i, seen in enumerate(all_three(TIERS[tier], *arrays, groups)):
        assert seen.dtype == dtype and seen.shape == (arrays[0].shape if i < 2 else arrays[2].shape)
        if N * P:  # 1 / sqrt(eps) = 32 enlarges the errors of x - m where a group is all but constant
            largest = max(1, np.abs(expected[i]).max())
            np.testing.assert_allclose(seen, expected[i], rtol=0, atol=300 * np.finfo(dtype).eps * largest)
        else:
            assert not seen.any()


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@pytest.mark.parametrize(
    "N, P, C, groups",
    [
        (2, 49, 32, 2),  # on a GPU: several warps to a group
        (1, 300, 6, 2),  # the most threads, and a width that does not divide their number
        (2, 3, 600, 2),  # groups wider than a block has threads
        (300, 2, 4, 2),  # several examples to a stretch
    ],
)
def test_large_groups_agree_with_the_definition(tier, N, P, C, groups):
    arrays = problem(5, N, P, C, np.float32)
    expected = all_three(SPEC, *(a.astype(np.float64) for a in arrays), groups)
    for seen, right in zip(all_three(TIERS[tier], *arrays, groups), expected):
        np.testing.assert_allclose(seen, right, rtol=1e-5, atol=1e-5 * np.abs(right).max())


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
def test_a_large_mean_costs_few_digits_only(tier):
    x, g, affine = problem(0, 2, 49, 8, np.float32, mean=1000)
    for seen, right in zip(
        all_three(TIERS[tier], x, g, affine, 2), all_three(SPEC, *(a.astype(float) for a in (x, g, affine)), 2)
    ):
        np.testing.assert_allclose(seen, right, rtol=0, atol=1e-3 * np.abs(right).max())  # 1000 has digits of 6e-5


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
def test_arrays_of_any_layout_are_taken_and_left_as_they_are(tier):
    x, g, affine = problem(0, 3, 4, 6, np.float32)
    laid_out = np.asfortranarray(x), np.repeat(g, 2, axis=1)[:, ::2], affine[:, ::-1][:, ::-1]
    for a in laid_out:
        a.setflags(write=False)
    for seen, expected in zip(all_three(TIERS[tier], *laid_out, 3), all_three(TIERS[tier], x, g, affine, 3)):
        np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("tier", every(TIERS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_spoils_its_own_group_only(tier, dtype):
    x, g, affine = problem(0, 2, 3, 4, dtype)
    x[1, 2, 3] = np.nan
    own = np.zeros(x.shape, bool)
    own[1, :, 2:] = True
    y, dx, d = all_three(TIERS[tier], x, g, affine, 2)
    np.testing.assert_array_equal(np.isnan(y), own)
    np.testing.assert_array_equal(np.isnan(dx), own)
    np.testing.assert_array_equal(np.isnan(d), [[False, False, True, True], [False] * 4])


@pytest.mark.parametrize("tier", every(TIERS))
def test_the_gradients_are_the_derivatives_of_the_forward_pass(tier):
    kernel, step = TIERS[tier], 1e-5
    x, g, affine = problem(1, 2, 3, 6)
    _, dx, d = all_three(kernel, x, g, affine, 2)
    u, v, _ = problem(2, 2, 3, 6)
    w = v[0, :2]

    def value(t, s):
        return (g * kernel.forward(x + t * u, affine + s * w, 2, EPS)).sum()

    assert (dx * u).sum() == pytest.approx((value(step, 0) - value(-step, 0)) / (2 * step), rel=1e-7)
    assert (d * w).sum() == pytest.approx((value(0, step) - value(0, -step)) / (2 * step), rel=1e-7)


def test_the_definition_on_hand_made_numbers():
    x = np.array([[[1.0, 3, 10, 10], [1, 3, 10, 30]]])  # means 2 and 15, variances 1 and 75
    y = SPEC.forward(x, np.array([[1.0, 1, 1, 2], [0, 5, 0, 0]]), 2, 0.0)
    a = 5 / np.sqrt(75)
    np.testing.assert_allclose(y, [[[-1, 6, -a, -2 * a], [-1, 6, -a, 6 * a]]])
