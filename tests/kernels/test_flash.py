"""Attention by tiles, on shapes that fill several of them: against plain matrices in float64, and what each may touch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import kernels
from tinygen.kernels import flash, threads, tiles

pytestmark = pytest.mark.skipif(not tiles.FAST, reason="this processor has no fused multiply-add")


def problem(seed, N, heads, T, S, D, E, size=1.0):
    """q, k, v, and cotangents g and h of o and l."""
    rng = np.random.default_rng(seed)
    shapes = (N, heads, T, D), (N, heads, S, D), (N, heads, S, E), (N, heads, T, E), (N, heads, T)
    return [(size * rng.normal(size=shape)).astype(np.float32) for shape in shapes]


def mask_of(seed, N, S):
    """Each example its own part of the keys: of the first, at times none, and of the last, all."""
    rng = np.random.default_rng(seed)
    mask = rng.random((N, S)) < rng.choice([0.05, 0.6, 0.95])
    mask[-1] = True
    return mask


def both(arrays, causal, mask):
    q, k, v, g, h = arrays
    assert flash.suits(q, k, v)
    o, l = kernels.attention.forward(q, k, v, causal, mask)
    return o, l, *kernels.attention.backward(q, k, v, o, l, g, h, causal, mask)


def by_matrices(arrays, causal, mask):
    """What `both` makes, in float64, and beside each by how much that may differ: errors are relative to the terms of a sum."""
    q, k, v, g, h = (x.astype(np.float64) for x in arrays)
    T, S = q.shape[2], k.shape[2]
    seen = np.tri(T, S, S - T if causal else S, dtype=bool) & (True if mask is None else mask[:, None, None])
    s = np.where(seen, q @ k.swapaxes(2, 3) / np.sqrt(q.shape[3]), -np.inf)
    m = np.maximum(s.max(axis=3, keepdims=True), -1e300)
    total = np.exp(s - m).sum(axis=3, keepdims=True)
    p = np.exp(s - m) / np.where(total == 0, 1, total)
    with np.errstate(divide="ignore"):
        l = np.where(total == 0, -np.inf, m + np.log(total))[..., 0]
    o, dv = p @ v, p.swapaxes(2, 3) @ g
    p /= np.sqrt(q.shape[3])
    ds = p * (g @ v.swapaxes(2, 3) - (g * o).sum(axis=3, keepdims=True) + h[..., None])
    terms = p * (abs(g) @ abs(v).swapaxes(2, 3) + abs(g * o).sum(axis=3, keepdims=True) + abs(h[..., None]))
    results = o, l, ds @ k, ds.swapaxes(2, 3) @ q, dv
    sizes = 1e-5 * o, 1e-5 * l, 2e-6 * (terms @ abs(k)), 2e-6 * (terms.swapaxes(2, 3) @ abs(q)), 1e-5 * dv
    return [(x, max(1e-5, abs(size[np.isfinite(size)]).max(initial=0))) for x, size in zip(results, sizes)]


def close(results, expected):
    for a, (b, tolerance) in zip(results, expected, strict=True):
        finite = np.isfinite(b)
        assert a.dtype == np.float32 and a.shape == b.shape and (np.isfinite(a) == finite).all()
        np.testing.assert_allclose(a[finite], b[finite], rtol=0, atol=tolerance)


@settings(deadline=None, max_examples=80)
@given(
    T=st.integers(flash.FEW + 1, 70), more=st.integers(0, 70), D=st.integers(1, 40), E=st.integers(1, 70),
    causal=st.booleans(), masked=st.booleans(), size=st.sampled_from([1, 4]), seed=st.integers(0, 1000),
)  # fmt: skip
def test_agrees_with_plain_matrices(T, more, D, E, causal, masked, size, seed):
    S = T + more if causal else 1 + more
    arrays, mask = problem(seed, 2, 2, T, S, D, E, size), mask_of(seed, 2, S) if masked else None
    close(both(arrays, causal, mask), by_matrices(arrays, causal, mask))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("T, S", [(300, 300), (57, 2 * flash.KEYS + 5), (257, flash.KEYS), (130, flash.KEYS + 1)])
def test_agrees_where_there_are_several_blocks_of_queries_and_of_keys(T, S, causal, masked):
    T = min(T, S)
    arrays, mask = problem(0, 2, 2, T, S, 24, 33), mask_of(1, 2, S) if masked else None
    close(both(arrays, causal, mask), by_matrices(arrays, causal, mask))


@pytest.mark.parametrize("causal", [False, True])
def test_what_masked_keys_hold_is_never_looked_at(causal):
    arrays, mask = problem(0, 3, 2, 30, 40, 5, 6), mask_of(2, 3, 40)
    mask[0] = False
    expected = both(arrays, causal, mask)
    for x in arrays[1:3]:
        x.swapaxes(1, 2)[~mask] = np.nan
    for a, b in zip(both(arrays, causal, mask), expected):
        np.testing.assert_array_equal(a, b)
    assert not any(x[0].any() for x in (expected[0], *expected[2:])) and (expected[1][0] == -np.inf).all()


def test_what_the_future_holds_is_not_looked_at_by_tiles_that_end_before():
    arrays = problem(0, 1, 2, 100, 100, 5, 6)
    expected = both(arrays, True, None)
    for x in arrays[:4]:
        x[:, :, 60:] = np.nan
    results, before = both(arrays, True, None), 60 - max(tiles.PIXELS)
    for a, b in zip(results[:3], expected[:3]):
        np.testing.assert_array_equal(a[:, :, :before], b[:, :, :before])
    assert all(np.isnan(x[:, :, 60:]).all() for x in results)


def test_nan_reaches_whatever_depends_on_it():
    arrays = problem(0, 1, 1, 20, 20, 3, 3)
    arrays[0][0, 0, 12, 1] = np.nan
    o, l, dq, dk, dv = both(arrays, True, None)
    assert np.isnan(o[0, 0, 12]).all() and np.isnan(l[0, 0, 12]) and np.isnan(dq[0, 0, 12]).all()
    assert np.isnan(dk[0, 0, :13]).all() and np.isnan(dv[0, 0, :13]).all()
    assert np.isfinite(o[0, 0, :12]).all() and np.isfinite(o[0, 0, 13:]).all()


def test_rows_that_sum_to_one_in_any_range_of_scores():
    q, k, v, g, h = problem(0, 1, 2, 33, 65, 4, 7, size=30)
    v[:] = 1
    o, l = kernels.attention.forward(q, k, v, False, None)
    np.testing.assert_allclose(o, 1, rtol=1e-6)
    assert l.max() > 710


@pytest.mark.parametrize("size", [2, 3, 16])
def test_the_number_of_threads_changes_no_bit(size):
    before, arrays = threads._pool, problem(0, 2, 3, 90, 90, 32, 32)
    try:
        threads.use(1)
        alone = both(arrays, True, None)
        threads.use(size)
        together = both(arrays, True, None)
    finally:
        threads._pool = before
    for a, b in zip(alone, together):
        np.testing.assert_array_equal(a, b)


def test_it_serves_float32_with_more_than_a_few_queries():
    q, k, v, *_ = problem(0, 1, 1, flash.FEW + 1, 20, 3, 4)
    assert flash.suits(q, k, v) and not flash.suits(q[:, :, 1:], k, v)
    assert not flash.suits(*(x.astype(np.float64) for x in (q, k, v)))
