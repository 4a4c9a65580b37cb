"""Normalisation of groups against its definition, on every tier that this machine has; and the definition against slopes."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers
from tinygen import kernels
from tinygen.kernels.group_norm import cpu, gpu

TIERS = tiers("group_norm")
SPEC = TIERS["spec"]
EPS = 1e-3
ACTIVATIONS = None, "relu", "silu"
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
every_fast_tier = pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))


def problem(seed, N, P, C, dtype=np.float64, mean=0.0):
    """x, a cotangent g of y, scale and shift."""
    rng = np.random.default_rng(seed)
    return [a.astype(dtype) for a in (rng.normal(mean, 2, (N, P, C)), rng.normal(size=(N, P, C)), rng.normal(size=(2, C)))]


def all_three(kernel, x, g, affine, groups, activation=None):
    """y, and the cotangents of x and of affine."""
    d = kernel.backward(g, x, affine, groups, EPS, activation)
    assert d.shape == (x.shape[0] * x.shape[1] + 2, x.shape[2]) and d.dtype == x.dtype
    return kernel.forward(x, affine, groups, EPS, activation), d[:-2].reshape(x.shape), d[-2:]


def exact(x, g, affine, groups, activation):
    return all_three(SPEC, *(a.astype(np.float64) for a in (x, g, affine)), groups, activation)


def near_no_kink(x, g, affine, groups, activation):
    """The problem without the cotangents of what lies at relu's kink, where rounding decides."""
    z = SPEC.forward(*(a.astype(np.float64) for a in (x, affine)), groups, EPS, None)
    return x, (g * (np.abs(z) > 1e-4)).astype(g.dtype), affine, groups, activation


@every_fast_tier
@every_activation
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@for_all(examples=40, on_harness=6, data=st.data())
def test_agrees_with_the_definition(tier, activation, dtype, data):
    groups, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    N, P = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 20))
    arrays = problem(data.draw(st.integers(0, 999)), N, P, groups * width, dtype)
    arrays = near_no_kink(*arrays, groups, activation)
    for seen, right in zip(all_three(TIERS[tier], *arrays), exact(*arrays)):
        assert seen.dtype == dtype and seen.shape == right.shape
        # 1 / sqrt(eps) = 32 enlarges the errors of x - m where a group is all but constant
        largest = max(1, np.abs(right).max(initial=0))
        np.testing.assert_allclose(seen, right, rtol=0, atol=300 * np.finfo(dtype).eps * largest)


@every_fast_tier
@every_activation
@pytest.mark.parametrize(
    "N, P, C, groups",
    [
        (2, 49, 32, 2),  # on a GPU: several warps to a group
        (1, 300, 6, 2),  # the most threads, and a width that does not divide their number; on a CPU: lines of many positions
        (2, 3, 600, 2),  # groups wider than a block has threads; and a line
        (5, 1, 70, 1),  # rows
    ],
)
def test_large_groups_agree_with_the_definition(tier, activation, N, P, C, groups):
    arrays = near_no_kink(*problem(5, N, P, C, np.float32), groups, activation)
    for seen, right in zip(all_three(TIERS[tier], *arrays), exact(*arrays)):
        np.testing.assert_allclose(seen, right, rtol=1e-5, atol=1e-5 * np.abs(right).max())


@every_fast_tier
@every_activation
@pytest.mark.parametrize("N, P, groups", [(10, 1, 1), (10, 2, 2), (2, 2, 2)])
def test_cotangents_of_parameters_are_sums_over_blocks_of_examples(tier, activation, N, P, groups, monkeypatch):
    monkeypatch.setattr(cpu, "BLOCK", 4)  # positions
    monkeypatch.setattr(gpu, "STRETCHES", 3)
    arrays = near_no_kink(*problem(4, N, P, 6), groups, activation)
    for seen, right in zip(all_three(TIERS[tier], *arrays), exact(*arrays)):
        np.testing.assert_allclose(seen, right, rtol=1e-11, atol=1e-11)


@every_fast_tier
@every_activation
@pytest.mark.parametrize("P, groups", [(49, 2), (1, 1), (1, 2)])
def test_a_large_mean_costs_few_digits_only(tier, activation, P, groups):
    arrays = *problem(0, 2, P, 8, np.float32, mean=1000), groups, activation
    for seen, right in zip(all_three(TIERS[tier], *arrays), exact(*arrays)):
        np.testing.assert_allclose(seen, right, rtol=0, atol=1e-3 * np.abs(right).max())  # 1000 has digits of 6e-5


@every_fast_tier
@every_activation
@pytest.mark.parametrize("P, groups", [(4, 3), (1, 1)])
def test_arrays_of_any_layout_are_taken_and_left_as_they_are(tier, activation, P, groups):
    x, g, affine = problem(0, 3, P, 6, np.float32)
    laid_out = np.asfortranarray(x), np.repeat(g, 2, axis=1)[:, ::2], affine[:, ::-1].copy()[:, ::-1]
    for a in laid_out:
        a.setflags(write=False)
    expected = all_three(TIERS[tier], x, g, affine, groups, activation)
    for seen, right in zip(all_three(TIERS[tier], *laid_out, groups, activation), expected):
        np.testing.assert_array_equal(seen, right)
    for a, before in zip(laid_out, (x, g, affine)):
        np.testing.assert_array_equal(a, before)


@pytest.mark.parametrize("tier", every(TIERS))
@every_activation
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_spoils_its_own_group_only(tier, activation, dtype):
    x, g, affine = problem(0, 2, 3, 4, dtype)
    x[1, 2, 3] = np.nan
    own = np.zeros(x.shape, bool)
    own[1, :, 2:] = True
    y, dx, d = all_three(TIERS[tier], x, g, affine, 2, activation)
    np.testing.assert_array_equal(np.isnan(y), own)
    np.testing.assert_array_equal(np.isnan(dx), own)
    assert np.isnan(d[0]).tolist() == [False, False, True, True] and not np.isnan(d[:, :2]).any()


@pytest.mark.parametrize("tier", every(TIERS))
@every_activation
@pytest.mark.parametrize("P, groups", [(3, 2), (1, 1)])
def test_the_gradients_are_the_derivatives_of_the_forward_pass(tier, activation, P, groups):
    kernel, step = TIERS[tier], 1e-5
    x, g, affine = problem(1, 2, P, 6)
    _, dx, d = all_three(kernel, x, g, affine, groups, activation)
    u, v, _ = problem(2, 2, P, 6)
    w = v[:, 0]

    def value(t, s):
        return (g * kernel.forward(x + t * u, affine + s * w, groups, EPS, activation)).sum()

    assert (dx * u).sum() == pytest.approx((value(step, 0) - value(-step, 0)) / (2 * step), rel=1e-6)
    assert (d * w).sum() == pytest.approx((value(0, step) - value(0, -step)) / (2 * step), rel=1e-6)


@every_activation
@pytest.mark.parametrize("N, P, C, groups", [(40, 300, 24, 3), (9000, 1, 60, 1)])
def test_no_bit_depends_on_the_number_of_threads(activation, N, P, C, groups):
    x, g, affine = problem(3, N, P, C, np.float32)
    found = set()
    try:
        for n in (1, 2, 3):
            kernels.threads.use(n)
            found.add(b"".join(a.tobytes() for a in all_three(cpu, x, g, affine, groups, activation)))
    finally:
        kernels.threads.use(1)
    assert len(found) == 1


@pytest.mark.parametrize("C", [1, 3, 5, 8, 24, 48, 100, 256, 300])
@pytest.mark.parametrize("P", [1, 2, 7, 33, 400])
def test_a_line_has_whole_positions_and_is_no_longer_than_an_example(C, P):
    line = cpu._line(np.empty((1, P, C)))
    positions = line // C
    assert line % C == 0 and positions & (positions - 1) == 0 and 1 <= positions <= P
    assert line % cpu.REGISTER == 0 and line >= cpu.LINE or 2 * positions > P


def test_the_definition_on_hand_made_numbers():
    x = np.array([[[1.0, 3, 10, 10], [1, 3, 10, 30]]])  # means 2 and 15, variances 1 and 75
    affine = np.array([[1.0, 1, 1, 2], [0, 5, 0, 0]])
    y = SPEC.forward(x, affine, 2, 0.0, None)
    a = 5 / np.sqrt(75)
    np.testing.assert_allclose(y, [[[-1, 6, -a, -2 * a], [-1, 6, -a, 6 * a]]])
    np.testing.assert_allclose(SPEC.forward(x, affine, 2, 0.0, "relu"), np.maximum(y, 0))
    np.testing.assert_allclose(SPEC.forward(x, affine, 2, 0.0, "silu"), y / (1 + np.exp(-y)))
