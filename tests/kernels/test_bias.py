"""Bias and activation: every implementation against the definition, and against the kernels of the activations alone."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers
from tinygen import kernels
from tinygen.kernels.bias import cpu
from tinygen.kernels.bias.spec import BY_INPUT, BY_RESULT

TIERS = tiers("bias")
SPEC = TIERS["spec"]
NAMES = BY_RESULT + BY_INPUT
every_name = pytest.mark.parametrize("name", NAMES)
every_fast_tier = pytest.mark.parametrize("tier", every(TIERS, but=("spec",)))


def arrays(N, C, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return (3 * rng.standard_normal((N + 1, C))).astype(dtype), rng.standard_normal((N, C)).astype(dtype)


def kept(name, rows):
    return SPEC.forward(rows, name) if name in BY_RESULT else rows


@every_name
@every_fast_tier
@for_all(
    examples=25,
    on_harness=12,
    N=st.sampled_from([3, 20, 1, 0, 200]),
    C=st.sampled_from([5, 33, 1, 0]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 10**6),
)
def test_agrees_with_the_definition(tier, name, N, C, dtype, seed):
    rows, g = arrays(N, C, dtype, seed)
    wide, tolerance = rows.astype(np.float64), 30 * np.finfo(dtype).eps
    y = TIERS[tier].forward(rows, name)
    d = TIERS[tier].backward(g, kept(name, rows), name)
    assert y.shape == (N, C) and d.shape == (N + 1, C) and y.dtype == d.dtype == dtype
    np.testing.assert_allclose(y, SPEC.forward(wide, name), rtol=tolerance, atol=4 * tolerance)
    expected = SPEC.backward(g.astype(np.float64), kept(name, rows).astype(np.float64), name)
    np.testing.assert_allclose(d, expected, rtol=tolerance, atol=10 * tolerance)


@every_fast_tier
@pytest.mark.parametrize("N", [64, 256, 600])  # on a GPU: of less than a stretch, of one, of several
def test_the_cotangent_of_the_bias_is_a_sum_over_all_rows(tier, N):
    rows, g = arrays(N, 40, np.float64)
    for name in ("tanh", "softplus"):
        expected = SPEC.backward(g, kept(name, rows), name)
        np.testing.assert_allclose(TIERS[tier].backward(g, kept(name, rows), name), expected, rtol=1e-12, atol=1e-12)


@every_fast_tier
def test_of_many_rows_on_a_gpu_stretches_grow_longer(tier):
    rows, g = arrays(66_000, 2, np.float64)
    np.testing.assert_allclose(TIERS[tier].forward(rows, "tanh"), np.tanh(rows[:-1] + rows[-1]), rtol=1e-12, atol=1e-15)
    du = g * (1 - np.tanh(rows[:-1]) ** 2)
    d = TIERS[tier].backward(g, np.tanh(rows[:-1]), "tanh")
    np.testing.assert_allclose(d, np.vstack([du, du.sum(axis=0)]), rtol=1e-9, atol=1e-9)


@every_name
@pytest.mark.parametrize("N", [7, 2500])
def test_the_numbers_are_those_of_the_activation_alone_to_the_last_bit(name, N):
    rows, g = arrays(N, 37, np.float32)
    u, slope = rows[:-1] + rows[-1], (0.2,) if name == "leaky_relu" else ()
    y = np.maximum(u, 0) if name == "relu" else np.tanh(u) if name == "tanh" else getattr(kernels.activations, name)(u, *slope)
    np.testing.assert_array_max_ulp(cpu.forward(rows, name), y, 1 if name == "softplus" else 0)  # which the compiler may fuse
    x = y if name in BY_RESULT else u
    alone = getattr(kernels.activations, f"{name}_gradient")(g, x, *slope)
    d = cpu.backward(g, y if name in BY_RESULT else rows, name)
    assert d[:-1].tobytes() == alone.tobytes()
    np.testing.assert_allclose(d[-1], alone.sum(axis=0, dtype=np.float64), rtol=1e-4, atol=1e-3)


@every_name
def test_no_bit_depends_on_the_number_of_threads(name):
    rows, g = arrays(5000, 90, np.float32)
    found = set()
    try:
        for n in (1, 2, 3):
            kernels.threads.use(n)
            found.add(cpu.forward(rows, name).tobytes() + cpu.backward(g, kept(name, rows[:5001]), name).tobytes())
    finally:
        kernels.threads.use(1)
    assert len(found) == 1


@every_name
@every_fast_tier
def test_nan_stays_nan_and_infinity_has_its_limits(tier, name):
    rows = np.zeros((4, 20), np.float32)
    rows[:3] = np.array([np.nan, np.inf, -np.inf], np.float32)[:, None]
    y = TIERS[tier].forward(rows, name)
    low = {"leaky_relu": -np.inf, "tanh": -1}.get(name, 0)
    high = 1 if name in ("tanh", "sigmoid") else np.inf
    np.testing.assert_array_equal(y, np.repeat([[np.nan], [high], [low]], 20, axis=1))
    if name in BY_INPUT:
        d = TIERS[tier].backward(np.ones((3, 20), np.float32), rows, name)
        np.testing.assert_array_equal(d[:3], np.repeat([[np.nan], [1], [0]], 20, axis=1))


@every_fast_tier
def test_arrays_of_any_layout_are_taken_and_left_as_they_are(tier):
    rows, g = arrays(6, 10, np.float32)
    odd_rows, odd_g = np.asfortranarray(rows), np.repeat(g, 2, axis=1)[:, ::2]
    for a in (odd_rows, odd_g):
        a.setflags(write=False)
    kernel = TIERS[tier]
    np.testing.assert_array_equal(kernel.forward(odd_rows, "relu"), kernel.forward(rows, "relu"))
    np.testing.assert_array_equal(kernel.backward(odd_g, odd_rows, "silu"), kernel.backward(g, rows, "silu"))
    np.testing.assert_array_equal(odd_rows, rows)
    np.testing.assert_array_equal(odd_g, g)
