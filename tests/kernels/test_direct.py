"""What conv2d and masked_conv2d cannot show of the direct kernel: that it writes where it should, and nowhere else.

Its results are tested in test_conv2d.py and test_masked_conv2d.py, where float32 goes through it.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen.kernels import direct, threads, tiles
from tinygen.kernels.conv2d import spec

ROOT = Path(__file__).parents[2]
GUARD = np.float32(7.25)


@settings(deadline=None, max_examples=80)
@given(
    rows=st.integers(1, 6), columns=st.integers(1, 40), C=st.sampled_from([1, 3, 16]),
    O=st.sampled_from([8, 9, 16, 20, 24, 31, 32, 33, 40]), every=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_nothing_is_written_but_the_pixels_asked_for(rows, columns, C, O, every, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(2, rows, columns, C)).astype(np.float32), rng.normal(size=(9, C, O)).astype(np.float32)
    first = tuple(int(rng.integers(0, e)) for e in every)
    guarded = np.full((4, rows * every[0], columns * every[1], O), GUARD)
    y = guarded[1:3]
    direct.convolve_into(y, first, every, x, w, tuple(np.ndindex(3, 3)), (1, 1), (1, 1))
    expected = np.full_like(guarded, GUARD)
    expected[1:3, first[0] :: every[0], first[1] :: every[1]] = spec.forward(x, w.reshape(3, 3, C, O), (1, 1), (1, 1))
    np.testing.assert_allclose(guarded, expected, rtol=1e-4, atol=1e-4)


def test_tiles_of_several_pixels_waste_few_of_them():
    for width in (4, 7, 8, 14, 16, 28, 32, 56, 64) if tiles.WIDTH == 16 else ():
        assert width % tiles.tile_for(width) == 0
    for width in range(4, 200):
        tile = tiles.tile_for(width)
        assert 3 <= tile <= width and -(-width // tile) * tile <= width + 3


@given(st.integers(tiles.HALF, 300), st.sampled_from([(tiles.WIDE, tiles.NARROW, tiles.HALF), (tiles.NARROW, tiles.HALF)]))
def test_tiles_cover_all_channels_and_waste_less_than_the_narrowest_is_wide(O, widths):
    starts, wide = tiles.cover(O, widths)
    assert set(wide) <= set(widths) and starts[0] == 0 and starts[-1] + wide[-1] == O
    assert (starts[1:] <= (starts + wide)[:-1]).all()
    assert wide.sum() < O + tiles.HALF


@pytest.mark.parametrize("O", [9, 24, 31, 33, 65])
def test_weights_come_back_from_their_tiles(O):
    w = np.random.default_rng(0).normal(size=(4, 3, O)).astype(np.float32)
    np.testing.assert_array_equal(direct.unpack(direct.pack(w, tiles.cover(O)), tiles.cover(O), w.shape), w)


@pytest.mark.skipif(not tiles.FAST, reason="this processor has no fused multiply-add")
@pytest.mark.parametrize("N, O", [(1, 100), (3, 72), (40, 40)])
def test_parts_of_a_weight_gradient_are_groups_of_images_and_channels(N, O):
    rng, before = np.random.default_rng(0), threads._pool
    x, g = (rng.normal(size=(N, 30, 30, C)).astype(np.float32) for C in (20, O))
    taps, found = tuple(np.ndindex(3, 3)), {}
    try:
        for size in (1, 2, 3, 5):
            threads.use(size)
            found[size] = direct.weight_gradient(x, g, taps, (1, 1), (1, 1))
    finally:
        threads._pool = before
    for size in (2, 3, 5):
        np.testing.assert_array_equal(found[size], found[1])
    wide = (a.astype(np.float64) for a in (x, g))
    np.testing.assert_allclose(found[1].reshape(3, 3, 20, O), spec.weight_gradient(*wide, (3, 3), (1, 1), (1, 1)), atol=1e-2)


@pytest.mark.skipif(not tiles.FAST, reason="this processor has no fused multiply-add")
def test_it_serves_float32_with_enough_channels_and_leaves_the_rest():
    x, w = np.zeros((1, 4, 4, 3), np.float32), np.zeros((9, 3, 8), np.float32)
    assert direct.suits(x, w, tiles.WIDTH // 2)
    assert not direct.suits(x, w, tiles.WIDTH // 2 - 1)
    assert not direct.suits(x.astype(np.float64), w, 16)
    assert not direct.suits(x[:0], w, 16)


OLDER = """
import sys
import numpy as np
from llvmlite import binding
features = binding.get_host_cpu_features()
features.update({name: False for name in features if name.startswith("avx512")})
binding.get_host_cpu_features = lambda: features
from tinygen.kernels import direct, tiles
from tinygen.kernels.conv2d import cpu, spec
assert tiles.WIDTH == 8 and max(tiles.PIXELS) == 6
rng = np.random.default_rng(0)
for H, W, C, O in [(5, 9, 3, 4), (6, 13, 8, 24), (3, 2, 5, 17), (4, 7, 1, 11)]:
    x, w = rng.normal(size=(2, H, W, C)).astype(np.float32), rng.normal(size=(3, 3, C, O)).astype(np.float32)
    g = rng.normal(size=(2, H, W, O)).astype(np.float32)
    assert direct.suits(x, w, O)
    for name, arrays, rest in (("forward", (x, w), ()), ("weight_gradient", (x, g), ((3, 3),))):
        pair = [getattr(tier, name)(*arrays, *rest, (1, 1), (1, 1)) for tier in (cpu, spec)]
        np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-4)
if "thorough" in sys.argv:
    from tests.kernels import test_flash, test_winograd
    from tinygen.kernels import winograd
    for shape in [(2, 2, 23, 40, 5, 9), (1, 2, 300, 300, 24, 33)]:
        arrays, mask = test_flash.problem(0, *shape), test_flash.mask_of(0, shape[0], shape[3])
        test_flash.close(test_flash.both(arrays, True, mask), test_flash.by_matrices(arrays, True, mask))
    x, w, g = test_winograd.draw(0, 3, (9, 6), 33, 40, (1, 0))
    for pair in (
        (winograd.convolve(x, w, (1, 0)), spec.forward(x, w, (1, 1), (1, 0))),
        (winograd.weight_gradient(x, g, 3, (1, 0)), spec.weight_gradient(x, g, (3, 3), (1, 1), (1, 0))),
    ):
        np.testing.assert_allclose(*pair, atol=1e-3)
"""


def on_an_older_processor(cache, *arguments):
    own_cache = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}  # or machine code for 16 would be found
    result = subprocess.run([sys.executable, "-c", OLDER, *arguments], cwd=ROOT, env=own_cache, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not tiles.FAST, reason="this processor has no fused multiply-add")
def test_registers_of_eight_numbers_give_the_same(tmp_path):
    on_an_older_processor(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not tiles.FAST, reason="this processor has no fused multiply-add")
def test_so_do_attention_and_fewer_multiplications(tmp_path):
    on_an_older_processor(tmp_path, "thorough")
