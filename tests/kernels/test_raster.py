"""Drawing in raster order: every implementation against the definition, on networks of every kind of instruction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import kernels
from tinygen.kernels.raster import Program

FAST = [tier for name, tier in kernels.tiers("raster").items() if name == "cpu" and kernels.raster.fast()]
SPEC = kernels.tiers("raster")["spec"]
LEFT = tuple((a, b) for a in (-2, -1) for b in (-1, 0, 1)), ((0, -1),), ((0, 0),)  # above; the pixel before; the pixel


def network(rng, N, levels, C=6, stacked=True, label=True):
    """Two features of the rows above and of the pixel before, a gate, a sum, a label, a relu, and logits."""

    def affine(y, x, taps, c_in, c_out):
        w, b = rng.standard_normal((len(taps), c_in, c_out)), rng.standard_normal(c_out)
        return "affine", y, x, taps, w.astype(np.float32), b.astype(np.float32)

    above, before, here = LEFT
    rows = [affine(1, 0, above, 1, 2 * C), ("gate", 2, 1), affine(3, 2, (*above, (0, -1), (0, 0), (0, 1)), C, C)]
    pixels = [affine(4, 0, before, 1, C), ("add", 5, 4, 3 if stacked else 9), ("add", 6, 5, 9 if label else 4), ("relu", 7, 6)]
    pixels += [affine(8, 7, (*above[3:], *before, *here), C, C)]
    head = [("relu", 10, 8), affine(11, 10, here, C, 1 if levels == 2 else levels)]
    constants = {9: rng.standard_normal((N, C)).astype(np.float32)}
    return Program(rows if stacked else [], pixels, head, constants)


def case(seed, N, H, W, levels, known, **kind):
    rng = np.random.default_rng(seed)
    colours = (np.arange(levels) * (2 / (levels - 1)) - 1).astype(np.float32)
    x, uniforms = rng.integers(0, levels, (N, H, W)), rng.random((H * W - known, N))
    return x, network(rng, N, levels, **kind), known, uniforms, colours


@pytest.mark.parametrize("tier", FAST)
@settings(deadline=None, max_examples=40)  # the first call compiles
@given(
    seed=st.integers(0, 10**6), N=st.sampled_from([0, 1, 2, 5, 33]), H=st.integers(1, 4), W=st.integers(1, 5),
    levels=st.sampled_from([2, 3, 20, 40]), C=st.sampled_from([1, 6, 18, 33]), stacked=st.booleans(), label=st.booleans(),
    share=st.floats(0, 1),
)  # fmt: skip
def test_agrees_with_the_definition(tier, seed, N, H, W, levels, C, stacked, label, share):
    given = case(seed, N, H, W, levels, round(share * H * W), C=C, stacked=stacked, label=label)
    before = given[0].copy()
    drawn = tier.sample(*given)
    assert drawn.shape == (N, H, W) and drawn.dtype == before.dtype
    np.testing.assert_array_equal(drawn, SPEC.sample(*given))
    np.testing.assert_array_equal(given[0], before)


@pytest.mark.parametrize("tier", FAST)
def test_no_image_depends_on_the_others_nor_on_the_number_of_threads(tier):
    x, program, known, uniforms, colours = case(0, 100, 5, 5, 7, 3, C=40)
    drawn, most = tier.sample(x, program, known, uniforms, colours), kernels.threads.ENOUGH
    try:
        kernels.threads.ENOUGH = 1
        for n in (2, 3):
            kernels.threads.use(n)
            np.testing.assert_array_equal(tier.sample(x, program, known, uniforms, colours), drawn)
    finally:
        kernels.threads.use(1)
        kernels.threads.ENOUGH = most
    for part in (slice(0, 1), slice(40, 57)):
        some = program._replace(constants={9: program.constants[9][part]})
        np.testing.assert_array_equal(tier.sample(x[part], some, known, uniforms[:, part], colours), drawn[part])


@pytest.mark.parametrize("tier", [SPEC, *FAST])
@pytest.mark.parametrize("ahead", [(0, 0), (0, 1), (1, -1)])
def test_a_network_that_looks_ahead_draws_nothing_but_the_first_level(tier, ahead):
    """What is not known yet is NaN, and so are the logits made of it."""
    x, program, known, uniforms, colours = case(1, 4, 3, 3, 5, 0)
    w, b = np.ones((1, 1, 5), np.float32), np.arange(5, dtype=np.float32)
    cheat = Program([], [("affine", 1, 0, ((0, -1),), w[:, :, :1], b[:1])], [("affine", 2, 0, (ahead,), w, b)], {})
    drawn = tier.sample(x, cheat, known, uniforms, colours)
    assert not drawn[:, :2, 1].any()  # at the border it may see the zeros around the image
    honest = cheat._replace(head=[("affine", 2, 0, ((0, -1),), w, b)])
    assert tier.sample(x, honest, known, uniforms, colours)[:, :2, 1].any()


@pytest.mark.parametrize("tier", [SPEC, *FAST])
@pytest.mark.parametrize("levels", [2, 4])
def test_levels_come_as_often_as_their_probability_says(tier, levels):
    p = np.array([0.2, 0.8]) if levels == 2 else np.array([0.1, 0.0, 0.6, 0.3])
    with np.errstate(divide="ignore"):
        b = np.log(p[1:] / p[0]) if levels == 2 else np.log(p)
    w = np.zeros((1, 1, len(b)), np.float32)
    first = [("affine", 1, 0, ((0, -1),), w[:, :, :1], np.zeros(1, np.float32))]
    program = Program([], first, [("affine", 2, 1, ((0, 0),), w, b.astype(np.float32))], {})
    u = np.random.default_rng(0).random((1, 2000))
    u[0, :2] = 0, 1 - 2**-53
    drawn = tier.sample(np.zeros((2000, 1, 1), int), program, 0, u, np.arange(levels, dtype=np.float32))[:, 0, 0]
    assert abs(np.bincount(drawn, minlength=levels) / 2000 - p).max() < 0.04
    assert drawn[0] == (1 if levels == 2 else 0) and drawn[1] == (0 if levels == 2 else 3)
    assert levels == 2 or not (drawn == 1).any()
