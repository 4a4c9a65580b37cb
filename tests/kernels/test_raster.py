"""Drawing in raster order: every implementation against the definition, on networks of every kind of instruction."""

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.cuda.tiers import every, for_all, tiers
from tinygen import kernels
from tinygen.kernels.raster import Program, gpu

TIERS = tiers("raster")
SPEC = TIERS["spec"]
every_tier = pytest.mark.parametrize("tier", every(TIERS, but=() if kernels.raster.fast() else ("cpu",)))
every_fast_tier = pytest.mark.parametrize("tier", every(TIERS, but=("spec",) if kernels.raster.fast() else ("spec", "cpu")))
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


@every_fast_tier
@for_all(
    examples=40, on_harness=8,
    seed=st.integers(0, 10**6), N=st.sampled_from([0, 1, 2, 5, 33]), H=st.integers(1, 4), W=st.integers(1, 5),
    levels=st.sampled_from([2, 3, 20, 40]), C=st.sampled_from([1, 6, 18, 33]), stacked=st.booleans(), label=st.booleans(),
    share=st.floats(0, 1),
)  # fmt: skip
def test_agrees_with_the_definition(tier, seed, N, H, W, levels, C, stacked, label, share):
    given = case(seed, N, H, W, levels, round(share * H * W), C=C, stacked=stacked, label=label)
    before = given[0].copy()
    drawn = TIERS[tier].sample(*given)
    assert drawn.shape == (N, H, W) and drawn.dtype == before.dtype
    np.testing.assert_array_equal(drawn, SPEC.sample(*given))
    np.testing.assert_array_equal(given[0], before)


@every_fast_tier
def test_no_image_depends_on_the_others(tier):
    x, program, known, uniforms, colours = case(0, 12 if tier == "harness" else 100, 3, 4, 7, 3, C=40)
    drawn = TIERS[tier].sample(x, program, known, uniforms, colours)
    for part in (slice(0, 1), slice(4, 9)):
        some = program._replace(constants={9: program.constants[9][part]})
        np.testing.assert_array_equal(TIERS[tier].sample(x[part], some, known, uniforms[:, part], colours), drawn[part])


@pytest.mark.skipif(not kernels.raster.fast(), reason="this processor has no fast version")
def test_no_image_depends_on_the_number_of_threads():
    given = case(0, 100, 5, 5, 7, 3, C=40)
    drawn, most = TIERS["cpu"].sample(*given), kernels.threads.ENOUGH
    try:
        kernels.threads.ENOUGH = 1
        for n in (2, 3):
            kernels.threads.use(n)
            np.testing.assert_array_equal(TIERS["cpu"].sample(*given), drawn)
    finally:
        kernels.threads.use(1)
        kernels.threads.ENOUGH = most


@pytest.mark.parametrize("tier", every(TIERS, but=("spec", "cpu")))
def test_on_a_gpu_images_may_share_a_block_and_the_memory_be_short(tier, monkeypatch):
    given = case(2, 11, 3, 4, 5, 2, C=6)
    expected = SPEC.sample(*given)
    monkeypatch.setattr(gpu, "MANY", 1)  # four images to a block, the last block not full
    np.testing.assert_array_equal(TIERS[tier].sample(*given), expected)
    monkeypatch.setattr(gpu, "MOST", 1500)  # numbers: a few images at a time
    np.testing.assert_array_equal(TIERS[tier].sample(*given), expected)


@every_tier
@pytest.mark.parametrize("ahead", [(0, 0), (0, 1), (1, -1)])
def test_a_network_that_looks_ahead_draws_nothing_but_the_first_level(tier, ahead):
    """What is not known yet is NaN, and so are the logits made of it."""
    x, program, known, uniforms, colours = case(1, 4, 3, 3, 5, 0)
    w, b = np.ones((1, 1, 5), np.float32), np.arange(5, dtype=np.float32)
    cheat = Program([], [("affine", 1, 0, ((0, -1),), w[:, :, :1], b[:1])], [("affine", 2, 0, (ahead,), w, b)], {})
    drawn = TIERS[tier].sample(x, cheat, known, uniforms, colours)
    assert not drawn[:, :2, 1].any()  # at the border it may see the zeros around the image
    honest = cheat._replace(head=[("affine", 2, 0, ((0, -1),), w, b)])
    assert TIERS[tier].sample(x, honest, known, uniforms, colours)[:, :2, 1].any()


@every_tier
def test_nan_passes_through_every_instruction(tier):
    """So that what a network has seen too early shows, wherever it was."""
    x, program, known, uniforms, colours = case(1, 4, 3, 3, 5, 0)
    w, b = np.ones((1, 1, 4), np.float32), np.arange(4, dtype=np.float32)
    for between in ([("relu", 3, 2)], [("gate", 3, 2)], [("add", 3, 2, 2)]):
        C = 2 if between[0][0] == "gate" else 4
        head = [("affine", 2, 0, ((0, 0),), w, b), *between]
        head += [("affine", 4, 3, ((0, 0),), np.ones((1, C, 5), np.float32), np.arange(5, dtype=np.float32))]
        first = [("affine", 1, 0, ((0, -1),), w[:, :, :1], b[:1])]
        assert not TIERS[tier].sample(x, Program([], first, head, {}), known, uniforms, colours).any(), between


@every_tier
def test_a_level_of_no_probability_is_never_drawn(tier):
    w, b = np.zeros((1, 1, 3), np.float32), np.array([-np.inf, 0, -np.inf], np.float32)
    program = Program(
        [], [("affine", 1, 0, ((0, -1),), w[:, :, :1], np.zeros(1, np.float32))], [("affine", 2, 1, ((0, 0),), w, b)], {}
    )
    u = np.array([[0, 0.5, 1 - 2**-53]])
    drawn = TIERS[tier].sample(np.zeros((3, 1, 1), int), program, 0, u, np.arange(3, dtype=np.float32))
    assert drawn.ravel().tolist() == [1, 1, 1]


@every_tier
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
    drawn = TIERS[tier].sample(np.zeros((2000, 1, 1), int), program, 0, u, np.arange(levels, dtype=np.float32))[:, 0, 0]
    assert abs(np.bincount(drawn, minlength=levels) / 2000 - p).max() < 0.04
    assert drawn[0] == (1 if levels == 2 else 0) and drawn[1] == (0 if levels == 2 else 3)
    assert levels == 2 or not (drawn == 1).any()
