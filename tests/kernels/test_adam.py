"""Adam's kernel: every implementation against the definition, in both precisions and for arrays of every kind."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers
from tinygen import kernels

SETTINGS = (0.01, 0.9, 0.999, 1e-8, 0.1)
TIERS = tiers("adam")


def arrays(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    p, g, m = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    return p, g, m, (rng.random(shape) + 0.01).astype(dtype)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
@for_all(
    examples=100,
    on_harness=20,
    shape=st.sampled_from([(), (0,), (1,), (3, 0, 2), (7,), (33, 5), (2, 3, 4, 5)]),
    dtype=st.sampled_from([np.float32, np.float64]),
    t=st.integers(1, 10**6),
    seed=st.integers(0, 10**6),
)
def test_agrees_with_the_definition(tier, shape, dtype, t, seed):
    old = arrays(shape, dtype, seed)
    expected = TIERS["spec"].update(*(np.asarray(a, np.float64) for a in old), t, *SETTINGS)
    for new, right in zip(TIERS[tier].update(*old, t, *SETTINGS), expected):
        assert type(new) is np.ndarray and new.shape == shape and new.dtype == dtype
        np.testing.assert_allclose(new, right, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))
def test_takes_arrays_of_any_layout_and_leaves_them_as_they_are(tier):
    old = arrays((6, 10), np.float32)
    expected = TIERS[tier].update(*old, 3, *SETTINGS)
    laid_out = np.asfortranarray(old[0]), np.repeat(old[1], 2, axis=1)[:, ::2], old[2][::-1][::-1], old[3].copy()
    before = [a.copy() for a in laid_out]
    for a in laid_out:
        a.setflags(write=False)
    for new, right in zip(TIERS[tier].update(*laid_out, 3, *SETTINGS), expected):
        np.testing.assert_array_equal(new, right)
    for a, b in zip(laid_out, before):
        np.testing.assert_array_equal(a, b)


def test_the_call_finds_the_cpu_and_repeats_to_the_last_bit():
    old = arrays((1001,), np.float32)
    for a, b in zip(kernels.adam.update(*old, 2, *SETTINGS), kernels.adam.update(*old, 2, *SETTINGS)):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("tier", every(TIERS, but=("spec", "cpu")))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_pace_may_be_found_on_the_gpu_and_gives_the_same_bits(dtype, tier):
    old, t, (learning_rate, beta1, beta2, *rest) = arrays((301,), dtype), 7, SETTINGS
    pace = np.array(kernels.adam.pace(t, learning_rate, beta1, beta2))
    found = TIERS[tier].update(*old, pace, None, beta1, beta2, *rest)
    for a, b in zip(found, TIERS[tier].update(*old, t, *SETTINGS)):
        assert a.tobytes() == b.tobytes()
    other = TIERS[tier].update(*old, pace[::-1].copy(), None, beta1, beta2, *rest)
    assert not np.array_equal(found[0], other[0]) and np.array_equal(found[1], other[1])


def test_a_gradient_in_parts_is_one_gradient():
    p, g, m, v = arrays((60,), np.float32)
    for cuts in [5, 17, 17, 40], [0, 60], []:
        parts = tuple(np.split(g, cuts))
        for tier in "spec", "cpu":
            for new, whole in zip(
                TIERS[tier].update(p, parts, m, v, 3, *SETTINGS), TIERS[tier].update(p, g, m, v, 3, *SETTINGS)
            ):
                np.testing.assert_array_equal(new, whole)
    matrices = g[:20].reshape(4, 5), g[20:].reshape(8, 5).T.copy().T
    np.testing.assert_array_equal(
        TIERS["cpu"].update(p, matrices, m, v, 3, *SETTINGS)[0], TIERS["cpu"].update(p, g, m, v, 3, *SETTINGS)[0]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tier", every(TIERS))
def test_in_place_the_same_numbers_lie_in_the_arrays_that_were_given(tier, dtype):
    layouts = {
        "in one piece": np.array,
        "in columns": np.asfortranarray,
        "every other": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    }
    for name, laid_out in layouts.items():
        p, g, m, v = map(laid_out, arrays((6, 10), dtype))
        kept = g.copy()
        expected = TIERS[tier].update(p, g, m, v, 3, *SETTINGS)
        found = TIERS[tier].update(p, g, m, v, 3, *SETTINGS, in_place=True)
        for new, old, right in zip(found, (p, m, v), expected):
            assert new is old, name
            np.testing.assert_array_equal(new, right)
        np.testing.assert_array_equal(g, kept)


def test_in_place_what_must_not_be_written_to_is_an_error_and_not_lost_silently():
    p, g, m, v = arrays((9,), np.float32)
    m.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        TIERS["cpu"].update(p, g, m, v, 3, *SETTINGS, in_place=True)
