"""Attention against its definition, on every tier that this machine has; and the definition against plain matrices."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers

TIERS = tiers("attention")
SPEC = TIERS["spec"]
FAST = every(TIERS, but=["spec"])


def problem(seed, N, heads, T, S, D, E, masked=False, dtype=np.float64, size=1.0):
    """q, k, v, cotangents g and h of o and l, and a key mask."""
    rng = np.random.default_rng(seed)
    shapes = (N, heads, T, D), (N, heads, S, D), (N, heads, S, E), (N, heads, T, E), (N, heads, T)
    arrays = [(size * rng.normal(size=shape)).astype(dtype) for shape in shapes]
    return *arrays, rng.random((N, S)) < 0.6 if masked else None


@st.composite
def problems(draw, dtype):
    N, heads, T, D, E = (draw(st.integers(1, most)) for most in (2, 3, 7, 5, 4))
    causal = draw(st.booleans())
    S = draw(st.integers(T if causal else 1, 9))
    return problem(
        draw(st.integers(0, 1000)), N, heads, T, S, D, E, draw(st.booleans()), dtype, draw(st.sampled_from([1, 4]))
    ), causal


def both(kernel, q, k, v, g, h, mask, causal):
    o, l = kernel.forward(q, k, v, causal, mask)
    return o, l, *kernel.backward(q, k, v, o, l, g, h, causal, mask)


def close(a, b, dtype):
    assert a.dtype == dtype and a.shape == b.shape
    np.testing.assert_allclose(
        a, b, rtol=0, atol=(1e-12 if dtype == np.float64 else 1e-5) * max(1, abs(b[np.isfinite(b)]).max(initial=0))
    )


@pytest.mark.parametrize("tier", FAST)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@for_all(examples=40, on_harness=10, data=st.data())
def test_agrees_with_the_definition(tier, dtype, data):
    (*arrays, mask), causal = data.draw(problems(dtype))
    expected = both(SPEC, *(x.astype(np.float64) for x in arrays), mask, causal)
    for a, b in zip(both(TIERS[tier], *arrays, mask, causal), expected):
        close(a, b, dtype)


@pytest.mark.parametrize("tier", FAST)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("T, S", [(64, 64), (65, 67), (130, 200), (2, 130)])
def test_agrees_with_plain_matrices_where_there_are_several_blocks(tier, causal, T, S, monkeypatch):
    if tier == "cpu":
        monkeypatch.setattr(TIERS[tier], "SCORES", 3 * 64 * S)  # three of the four heads, then one
    q, k, v, g, h, mask = problem(0, 2, 2, T, S, 3, 4, masked=True)
    mask[0, :3] = True  # every query sees something
    mask[1, : S - T + 1] = True
    seen = np.tri(T, S, S - T if causal else S, dtype=bool) & mask[:, None, None]
    s = np.where(seen, q @ k.swapaxes(2, 3) / np.sqrt(3), -np.inf)
    l = np.log(np.exp(s).sum(axis=3))
    p = np.exp(s - l[..., None])
    ds = p * (g @ v.swapaxes(2, 3) - (g * (p @ v)).sum(axis=3, keepdims=True) + h[..., None]) / np.sqrt(3)
    expected = p @ v, l, ds @ k, ds.swapaxes(2, 3) @ q, p.swapaxes(2, 3) @ g
    for a, b in zip(both(TIERS[tier], q, k, v, g, h, mask, causal), expected):
        close(a, b, np.float64)


@pytest.mark.parametrize("tier", FAST)
@pytest.mark.parametrize("D, E", [(17, 33), (40, 100), (70, 9)])
def test_agrees_with_the_definition_where_values_are_wide(tier, D, E):
    *arrays, mask = problem(0, 1, 2, 5, 6, D, E, masked=True)
    for a, b in zip(both(TIERS[tier], *arrays, mask, True), both(SPEC, *arrays, mask, True)):
        close(a, b, np.float64)


@pytest.mark.parametrize("tier", every(TIERS))
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_backward_pass_is_the_derivative_of_the_forward_pass(tier, causal, masked):
    kernel, step = TIERS[tier], 1e-5
    q, k, v, g, h, mask = problem(1, 2, 2, 3, 4, 2, 3, masked)
    if masked:
        mask[:, 0] = True

    def value(*qkv):
        o, l = kernel.forward(*qkv, causal, mask)
        return (g * o).sum() + (h * l).sum()

    rng = np.random.default_rng(2)
    for i, gradient in enumerate(both(kernel, q, k, v, g, h, mask, causal)[2:]):
        direction = rng.normal(size=gradient.shape)
        ahead, behind = ([x + t * direction if n == i else x for n, x in enumerate((q, k, v))] for t in (step, -step))
        slope = (value(*ahead) - value(*behind)) / (2 * step)
        assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("tier", every(TIERS))
def test_a_query_that_sees_nothing_gives_zero_and_moves_nothing(tier):
    q, k, v, g, h, _ = problem(0, 2, 2, 3, 3, 2, 2)
    mask = np.array([[False, True, True], [False, False, False]])
    for causal in (False, True):
        o, l, dq, dk, dv = both(TIERS[tier], q, k, v, g, h, mask, causal)
        blind = np.s_[0, :, 0] if causal else np.s_[1]
        assert (o[blind] == 0).all() and (l[blind] == -np.inf).all() and (dq[blind] == 0).all()
        assert (dk[0, :, 0] == 0).all() and (dv[0, :, 0] == 0).all() and (dk[1] == 0).all() and (dv[1] == 0).all()
        assert all(np.isfinite(x).all() for x in (o, dq, dk, dv)) and o[0, :, 1].all()


@pytest.mark.parametrize("tier", every(TIERS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_scores_do_not_overflow(tier, dtype):
    q, k, v, g, h, _ = problem(0, 1, 1, 3, 4, 2, 2, dtype=dtype, size=100)
    o, l, *gradients = both(TIERS[tier], q, k, v, g, h, None, False)
    assert l.max() > 710  # e^710 is infinite in both
    best = (q @ k.swapaxes(2, 3)).argmax(axis=3)[0, 0]
    np.testing.assert_allclose(o[0, 0], v[0, 0, best], rtol=1e-6)
    assert all(np.isfinite(x).all() for x in gradients)


@pytest.mark.parametrize("tier", every(TIERS))
def test_nan_in_a_value_is_not_hidden(tier):
    q, k, v, g, h, _ = problem(0, 1, 1, 3, 3, 2, 2)
    v[0, 0, 2, 1] = np.nan
    o = TIERS[tier].forward(q, k, v, True, None)[0]
    assert np.isnan(o[0, 0, 2, 1]) and np.isfinite(o[0, 0, :, 0]).all()


@pytest.mark.parametrize("tier", every(TIERS, but=("harness", "gpu")))  # where 0 times NaN is NaN
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_masked_keys_hold_is_of_no_matter(tier, causal, value):
    *arrays, mask = problem(0, 2, 2, 4, 5, 3, 2, masked=True)
    expected = both(TIERS[tier], *arrays, mask, causal)
    for x in arrays[1:3]:
        x.swapaxes(1, 2)[~mask] = value
    with np.errstate(invalid="ignore"):
        for a, b in zip(both(TIERS[tier], *arrays, mask, causal), expected):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("tier", FAST)
def test_reads_arrays_that_are_not_contiguous(tier):
    *arrays, mask = problem(0, 2, 3, 4, 4, 5, 5, masked=True)
    mask[:, 0] = True
    turned = [np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2) for x in arrays]
    for a, b in zip(both(TIERS[tier], *turned, mask, True), both(SPEC, *arrays, mask, True)):
        close(a, b, np.float64)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec", "cpu")))
def test_without_channels_there_are_no_values_or_no_scores(tier):
    *arrays, mask = problem(0, 2, 1, 3, 4, 5, 0, masked=True)
    for a, b in zip(both(TIERS[tier], *arrays, mask, True), both(SPEC, *arrays, mask, True)):
        assert a.shape == b.shape
        close(a, b, np.float64)
    q, k, v, *_ = problem(0, 1, 1, 3, 4, 0, 2)
    with pytest.raises(ValueError, match=r"attention: q has shape \(1, 1, 3, 0\): without channels there are no scores"):
        TIERS[tier].forward(q, k, v, False, None)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("T, S", [(40, 9), (100, 70), (3, 2)])
def test_of_more_queries_than_keys_the_first_see_nothing(tier, dtype, T, S):
    *arrays, _ = problem(3, 1, 2, T, S, 5, 4, dtype=dtype)
    expected = both(SPEC, *(x.astype(np.float64) for x in arrays), None, True)
    for a, b in zip(both(TIERS[tier], *arrays, None, True), expected):
        close(a, b, dtype)
