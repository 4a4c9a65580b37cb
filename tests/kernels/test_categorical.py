"""The log-likelihood of choices against its definition, on every tier that this machine has."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers

TIERS = tiers("categorical")
SPEC = TIERS["spec"]
LOGITS = st.floats(-200, 200, width=32) | st.sampled_from([0.0, -0.0, 1e-30, -1e-30, 88.75, -1e4, 1e4])


def both(kernel, g, x, logits):
    return kernel.log_prob(x, logits), kernel.log_prob_gradient(g, x, logits)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@for_all(examples=60, on_harness=10, data=st.data())
def test_agrees_with_the_definition(tier, dtype, data):
    shape, n = tuple(data.draw(st.lists(st.integers(0, 4), max_size=2))), data.draw(st.integers(1, 40))
    logits = np.resize(np.array(data.draw(st.lists(LOGITS, min_size=1, max_size=40)), dtype), (*shape, n))
    x = np.array(np.arange(7, 7 + np.prod(shape, dtype=int)) % n, data.draw(st.sampled_from([np.uint8, np.int64]))).reshape(
        shape
    )
    g = np.array(np.cos(np.arange(x.size)), dtype).reshape(shape)
    y, d = both(TIERS[tier], g, x, logits)
    assert y.dtype == d.dtype == dtype and y.shape == shape and d.shape == logits.shape
    expected_y, expected_d = both(SPEC, g.astype(np.float64), x, logits.astype(np.float64))
    scale = np.abs(logits.astype(np.float64)).max(axis=-1) + np.log(n) + 1
    assert np.all(np.abs(y - expected_y) <= 6 * np.finfo(dtype).eps * scale)
    # l - max l is rounded, to a share of l - max l: what the largest of them does to e^l is lost
    assert np.all(np.abs(d - expected_d) <= 8 * np.finfo(dtype).eps * (1 + np.abs(expected_d) * 2 * scale[..., None]))


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
def test_arrays_of_any_layout_are_taken_and_left_as_they_are(tier):
    rng = np.random.default_rng(0)
    logits, x = rng.standard_normal((6, 4, 9)).astype(np.float32), rng.integers(0, 9, (6, 4))
    g = rng.standard_normal((6, 4)).astype(np.float32)
    laid_out = np.broadcast_to(g[:1], g.shape), np.asfortranarray(x), np.repeat(logits, 2, axis=2)[..., ::2]
    for a in laid_out:
        a.setflags(write=False)
    for seen, expected in zip(both(TIERS[tier], *laid_out), both(TIERS[tier], np.array(laid_out[0]), x, logits)):
        np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("tier", every(TIERS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_minus_infinity_has_probability_zero_and_nan_spoils_its_own_row_only(tier, dtype):
    logits = np.zeros((3, 4), dtype)
    logits[0, 1] = -np.inf
    logits[1, 3] = np.nan
    y, d = both(TIERS[tier], np.ones(3, dtype), np.array([0, 0, 0]), logits)
    np.testing.assert_allclose(y, [-np.log(3), np.nan, -np.log(4)], rtol=1e-6)
    np.testing.assert_allclose(d[0], [2 / 3, 0, -1 / 3, -1 / 3], rtol=1e-6)
    assert np.isnan(d[1]).all() and np.isfinite(d[2]).all()
    assert TIERS[tier].log_prob(np.array([1]), logits[:1])[0] == -np.inf


@pytest.mark.parametrize("tier", every(TIERS, but=("spec", "cpu")))
@pytest.mark.parametrize("unknown", [-1, 4, 2**40])
def test_on_a_gpu_an_unknown_choice_is_nan_and_reads_nothing_else(tier, unknown):
    logits = np.zeros((2, 4), np.float32)
    y, d = both(TIERS[tier], np.ones(2, np.float32), np.array([unknown, 1]), logits)
    assert np.isnan(y).tolist() == [True, False] and np.isnan(d).all(axis=1).tolist() == [True, False]


def test_the_definition_on_hand_made_numbers():
    logits = np.log([[1.0, 2, 5], [4, 4, 8]])
    np.testing.assert_allclose(SPEC.log_prob(np.array([1, 2]), logits), np.log([2 / 8, 1 / 2]))
    d = SPEC.log_prob_gradient(np.array([8.0, -4]), np.array([1, 2]), logits)
    np.testing.assert_allclose(d, [[-1, 6, -5], [1, 1, -2]], atol=1e-15)
