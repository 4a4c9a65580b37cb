"""Softmax and its logarithm against their definition, on every tier that this machine has."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers
from tinygen import kernels
from tinygen.kernels.softmax import cpu

TIERS = tiers("softmax")
SPEC = TIERS["spec"]
NUMBERS = st.floats(-200, 200, width=32) | st.sampled_from([0.0, -0.0, 1e-30, -1e-30, 88.75, -1e4, 1e4, -np.inf])
every_fast_tier = pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def all_four(kernel, g, x, p=None, l=None):
    """p, its gradient, l and its gradient; the gradients by given p and l, where there are any."""
    seen_p, seen_l = kernel.softmax(x), kernel.log_softmax(x)
    p, l = (seen_p, seen_l) if p is None else (p, l)
    return seen_p, kernel.softmax_gradient(g, p), seen_l, kernel.log_softmax_gradient(g, l)


@every_fast_tier
@every_dtype
@for_all(examples=60, on_harness=10, data=st.data())
def test_agrees_with_the_definition(tier, dtype, data):
    shape, n = tuple(data.draw(st.lists(st.integers(0, 4), max_size=2))), data.draw(st.integers(1, 70))
    x = np.resize(np.array(data.draw(st.lists(NUMBERS, min_size=1, max_size=70)), dtype), (*shape, n))
    x[..., n // 2] = np.where(np.isinf(x).all(axis=-1), 3, x[..., n // 2])  # rows of -inf alone have a test of their own
    g = np.cos(np.arange(x.size)).astype(dtype).reshape(x.shape)
    wide_g, wide_x = g.astype(np.float64), x.astype(np.float64)
    right = all_four(SPEC, wide_g, wide_x)
    p, dp, l, dl = all_four(TIERS[tier], g, x, right[0].astype(dtype), right[2].astype(dtype))
    assert all(a.dtype == dtype and a.shape == x.shape for a in (p, dp, l, dl))
    epsilon, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    spread = np.where(np.isinf(x), 0, wide_x.max(axis=-1, keepdims=True) - wide_x)
    # x - max x is rounded, to a share of it: so much e^ loses
    assert np.all(np.abs(p - right[0]) <= epsilon * (5 + np.log(n) + spread) * right[0] + tiny)
    finite = np.isfinite(right[2])
    assert np.all(l[~finite] == right[2][~finite])
    assert np.all(np.abs(l[finite] - right[2][finite]) <= (epsilon * (4 + np.log(n) + spread))[finite])
    assert np.all(np.abs(dp - right[1]) <= 8 * epsilon * right[0] * (np.abs(wide_g) + 1) + tiny)
    size = np.where(finite, np.abs(right[2]), 0)
    sums = 1 + np.abs(wide_g).sum(axis=-1, keepdims=True)
    assert np.all(np.abs(dl - right[3]) <= epsilon * (np.abs(wide_g) + np.exp(right[2]) * sums * (8 + size)) + tiny)


@every_fast_tier
@pytest.mark.parametrize("shape", [(3, 1000), (70, 10), (2, 3, 257)])
def test_long_rows_and_many_rows_agree_with_the_definition(tier, shape):
    g, x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    for seen, right in zip(all_four(TIERS[tier], g, x), all_four(SPEC, g.astype(np.float64), x.astype(np.float64))):
        np.testing.assert_allclose(seen, right, rtol=2e-5, atol=1e-7)


def test_errs_by_no_more_units_in_the_last_place_than_stated():
    """Of rows of 256 standard normal numbers: root mean square and largest, as kernels/softmax/cpu.py says."""
    x = np.random.default_rng(0).standard_normal((500, 256)).astype(np.float32)
    for name, rms, most in (("softmax", 1.3, 8), ("log_softmax", 0.5, 2)):
        right = getattr(SPEC, name)(x.astype(np.float64))
        errors = (getattr(cpu, name)(x) - right) / np.spacing(np.abs(right).astype(np.float32))
        assert np.sqrt((errors**2).mean()) <= rms and np.abs(errors).max() <= most


@every_fast_tier
def test_arrays_of_any_layout_are_taken_and_left_as_they_are(tier):
    g, x = np.random.default_rng(0).standard_normal((2, 6, 4, 9)).astype(np.float32)
    laid_out = np.broadcast_to(g[:1], g.shape), np.repeat(x, 2, axis=2)[:, :, ::2]
    for a in laid_out:
        a.setflags(write=False)
    for seen, right in zip(all_four(TIERS[tier], *laid_out), all_four(TIERS[tier], np.array(laid_out[0]), x)):
        np.testing.assert_array_equal(seen, right)
    np.testing.assert_array_equal(laid_out[1], x)


@pytest.mark.parametrize("tier", every(TIERS))
@every_dtype
@pytest.mark.parametrize("n", [2, 40])
def test_infinities_and_nan(tier, dtype, n):
    x = np.zeros((5, n), dtype)
    x[0, 1], x[1, 1], x[2, 1], x[3] = -np.inf, np.inf, np.nan, -np.inf
    with np.errstate(invalid="ignore"):
        p, dp, l, dl = all_four(TIERS[tier], np.ones_like(x), x)
    np.testing.assert_allclose(p[0], np.where(np.arange(n) == 1, 0, 1 / (n - 1)), rtol=1e-6)
    np.testing.assert_allclose(l[0], np.where(np.arange(n) == 1, -np.inf, -np.log(n - 1)), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(dp[0], 0, atol=1e-7)
    np.testing.assert_allclose(dl[0], np.where(np.arange(n) == 1, 1, 1 - n / (n - 1)), rtol=1e-5)
    for a in (p, dp, l, dl):
        np.testing.assert_array_equal(np.isnan(a).all(axis=1), [False, True, True, True, False])
        np.testing.assert_array_equal(np.isnan(a).any(axis=1), [False, True, True, True, False])


def test_no_bit_depends_on_the_number_of_threads():
    g, x = np.random.default_rng(0).standard_normal((2, 3000, 70)).astype(np.float32)
    found = set()
    try:
        for n in (1, 2, 3):
            kernels.threads.use(n)
            found.add(b"".join(a.tobytes() for a in all_four(cpu, g, x)))
    finally:
        kernels.threads.use(1)
    assert len(found) == 1


def test_the_definition_on_hand_made_numbers():
    x = np.log([[1.0, 2, 5], [4, 4, 8]])
    p, dp, l, dl = all_four(SPEC, np.array([[8.0, 0, 0], [0, 4, 4]]), x)
    right = np.array([[1, 2, 5], [2, 2, 4]]) / 8
    np.testing.assert_allclose(p, right)
    np.testing.assert_allclose(l, np.log(right))
    np.testing.assert_allclose(dp, right * [[7, -1, -1], [-3, 1, 1]])
    np.testing.assert_allclose(dl, [[7, -2, -5], [-2, 2, 0]], atol=1e-15)
