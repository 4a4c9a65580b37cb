"""Winograd's convolution: the identity in exact numbers, the bound that its header states, and who is sent to it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import kernels
from tinygen.kernels import direct, threads, tiles, winograd
from tinygen.kernels.conv2d import spec

pytestmark = pytest.mark.skipif(not tiles.FAST, reason="this processor has no fused multiply-add")

U = 2.0**-24
# fmt: off
B_T = np.array([
    [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
])
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
A_T = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
# fmt: on


def gamma(n):
    return n * U / (1 - n * U)


def tiles_of(x, padding, size, edge=6):
    """Squares of `edge` pixels, 4 apart, of |x| (N, H, W, C) in its frame: (N, down, across, edge, edge, C) in float64."""
    down, across = (-(-n // 4) for n in size)
    (py, px), (H, W) = padding, x.shape[1:3]
    frame = np.zeros((len(x), max(H + py, 4 * down + 2), max(W + px, 4 * across + 2), x.shape[3]))
    frame[:, py : py + H, px : px + W] = abs(x)
    rows, columns = ((4 * np.arange(n)[:, None] + np.arange(edge)) for n in (down, across))
    return frame[:, rows[:, None, :, None], columns[None, :, None, :]]


def both_ways(matrix, squares, axes):
    """|M| x |M|^T over two axes of x."""
    for axis in axes:
        squares = np.moveaxis(np.tensordot(abs(matrix), squares, (1, axis)), 0, axis)
    return squares


def bound_of_outputs(x, w, padding):
    """gamma_(C + 20) |A^T| [ sum_c (|G| |w_c| |G^T|) * (|B^T| |d_c| |B|) ] |A| for each output."""
    size = spec.output_size(x.shape[1:3], (3, 3), (1, 1), padding)
    d = both_ways(B_T, tiles_of(x, padding, size), (3, 4))
    values = both_ways(G, abs(w.astype(np.float64)), (0, 1))
    m = (np.moveaxis(d, (3, 4), (0, 1)).reshape(6, 6, -1, x.shape[3]) @ values).reshape(6, 6, *d.shape[:3], -1)
    y = np.moveaxis(both_ways(A_T, m, (0, 1)), (0, 1), (2, 4))
    N, down, _, across, _, O = y.shape
    return gamma(x.shape[3] + 20) * y.reshape(N, 4 * down, 4 * across, O)[:, : size[0], : size[1]]


def bound_of_weight_gradient(x, g, padding):
    """gamma_(T + 40) |G^T| [ sum_tiles (|B^T| |d_c| |B|) * (|A| |g| |A^T|) ] |G|, for T tiles."""
    d = both_ways(B_T, tiles_of(x, padding, g.shape[1:3]), (3, 4))
    z = both_ways(A_T.T, tiles_of(g, (0, 0), g.shape[1:3], edge=4), (3, 4))
    d, z = (np.moveaxis(a, (3, 4), (0, 1)).reshape(6, 6, -1, a.shape[5]) for a in (d, z))
    return gamma(d.shape[2] + 40) * both_ways(G.T.astype(np.float64), d.swapaxes(2, 3) @ z, (0, 1))


def draw(seed, N, size, C, O, padding, kind="normal"):
    """x, w and g in float32; some with numbers of very different sizes side by side."""
    rng = np.random.default_rng(seed)
    shapes = (N, *size, C), (3, 3, C, O), (N, *spec.output_size(size, (3, 3), (1, 1), padding), O)
    arrays = [rng.normal(size=shape) for shape in shapes]
    if kind == "spiky":  # a pixel in ten is a million times larger
        arrays = [a * np.where(rng.random(a.shape) < 0.1, 1e6, 1) for a in arrays]
    elif kind == "alternating":  # what B^T adds up, where sums of taps cancel
        arrays = [np.sign(a) * np.sign(np.cos(np.pi * np.arange(a.shape[1])))[:, None, None] for a in arrays]
    elif kind == "positive":
        arrays = [abs(a) + 10 for a in arrays]
    return [a.astype(np.float32) for a in arrays]


KINDS = "normal", "spiky", "alternating", "positive"


def test_in_exact_numbers_it_is_the_sum_over_taps():
    rng = np.random.default_rng(0)
    fractions = np.vectorize(Fraction, otypes=[object])
    d, w = fractions(rng.integers(-9, 10, 6)), fractions(rng.integers(-9, 10, 3))
    values = fractions(np.rint(24 * G).astype(int)) @ w / 24
    direct_sums = [sum(d[i + k] * w[k] for k in range(3)) for i in range(4)]
    assert list(winograd._from_points(values * winograd._at_points(d))) == direct_sums


def test_the_five_ways_are_the_matrices_of_the_header():
    assert np.array_equal(np.array(winograd._at_points(np.eye(6, dtype=int))), B_T)
    assert np.array_equal(np.array(winograd._from_points(np.eye(6, dtype=int))), A_T)
    assert np.array_equal(np.array(winograd._of_gradient(np.eye(4, dtype=int))), A_T.T)
    np.testing.assert_allclose(np.array(winograd._of_weights(np.eye(3))), G, rtol=1e-15, atol=0)
    np.testing.assert_allclose(np.array(winograd._to_weights(np.eye(6))), G.T, rtol=1e-15, atol=0)


@settings(deadline=None, max_examples=30)
@given(
    N=st.integers(1, 2), size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    C=st.sampled_from([24, 31, 32, 33, 47]), O=st.sampled_from([24, 31, 32, 40, 65]),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)), kind=st.sampled_from(KINDS), seed=st.integers(0, 999),
)  # fmt: skip
def test_errors_stay_within_the_bound(N, size, C, O, padding, kind, seed):
    size = tuple(max(n, 3 - 2 * p) for n, p in zip(size, padding))
    x, w, g = draw(seed, N, size, C, O, padding, kind)
    bias = np.arange(O, dtype=np.float32)
    exact = spec.forward(x.astype(np.float64), w.astype(np.float64), (1, 1), padding, bias.astype(np.float64))
    error = abs(winograd.convolve(x, w, padding, bias) - exact)
    assert (error <= bound_of_outputs(x, w, padding) + gamma(C + 20) * bias).all()
    exact = spec.weight_gradient(x.astype(np.float64), g.astype(np.float64), (3, 3), (1, 1), padding)
    assert (abs(winograd.weight_gradient(x, g, padding) - exact) <= bound_of_weight_gradient(x, g, padding)).all()


def test_on_normal_numbers_errors_are_a_fraction_of_what_a_direct_sum_may_err_by():
    x, w, g = draw(0, 4, (14, 14), 64, 64, (1, 1))
    wide = [a.astype(np.float64) for a in (x, w, g)]
    y, dw = spec.forward(*wide[:2], (1, 1), (1, 1)), spec.weight_gradient(wide[0], wide[2], (3, 3), (1, 1), (1, 1))
    y_magnitude = spec.forward(*map(abs, wide[:2]), (1, 1), (1, 1))
    dw_magnitude = spec.weight_gradient(abs(wide[0]), abs(wide[2]), (3, 3), (1, 1), (1, 1))
    assert (abs(winograd.convolve(x, w, (1, 1)) - y) <= gamma(9 * 64) * y_magnitude / 5).all()
    assert (abs(winograd.weight_gradient(x, g, (1, 1)) - dw) <= gamma(4 * 14 * 14) * dw_magnitude / 5).all()
    taps = tuple(np.ndindex(3, 3))
    straight = direct.convolve(x, w.reshape(9, 64, 64), taps, (1, 1), (1, 1), (14, 14))
    assert np.linalg.norm(winograd.convolve(x, w, (1, 1)) - y) < 8 * np.linalg.norm(straight - y)


def test_what_is_not_finite_spreads_over_tiles_and_no_further():
    x, w, _ = draw(0, 2, (20, 20), 32, 32, (1, 1))
    expected = winograd.convolve(x, w, (1, 1))
    for value in (np.nan, np.inf, 1e37):
        x[0, 8, 13, 5] = value  # in the tiles of rows 4 to 11 and columns 12 to 15
        y = winograd.convolve(x, w, (1, 1))
        seen = np.zeros((2, 20, 20), bool)
        seen[0, 7:10, 12:15] = True  # by the definition
        touched = ~(y == expected).all(axis=3)
        reached = np.zeros((2, 20, 20), bool)
        reached[0, 4:12, 12:16] = True
        assert touched[seen].all() and not touched[~reached].any()
        if value != 1e37:
            assert not np.isfinite(y[seen]).any()


@pytest.mark.parametrize("C, O", [(32, 32), (48, 33), (25, 31)])
def test_other_images_and_other_threads_change_no_bit(C, O):
    x, w, g = draw(0, 23, (9, 9), C, O, (1, 1))
    before = threads._pool
    try:
        threads.use(1)
        y, dw = winograd.convolve(x, w, (1, 1)), winograd.weight_gradient(x, g, (1, 1))
        for size in (2, 3, 16):
            threads.use(size)
            np.testing.assert_array_equal(winograd.convolve(x, w, (1, 1)), y)
            np.testing.assert_array_equal(winograd.weight_gradient(x, g, (1, 1)), dw)
    finally:
        threads._pool = before
    np.testing.assert_array_equal(winograd.convolve(x[5:9], w, (1, 1)), y[5:9])


def test_it_serves_float32_where_it_is_faster():
    def suits(shape, C=32, O=32, padding=(1, 1), dtype=np.float32, kernel=(3, 3)):
        x = np.zeros((*shape, C), dtype)
        return winograd.suits(x, (*kernel, C, O), padding, x.dtype)

    assert suits((16, 4, 4)) and suits((1, 16, 16)) and suits((16, 3, 3)) and suits((4, 7, 7), padding=(0, 2))
    assert not suits((15, 4, 4)) and not suits((9, 1, 30)) and not suits((0, 8, 8))
    assert suits((16, 4, 4), C=24, O=24)
    assert not suits((16, 4, 4), C=23) and not suits((16, 4, 4), O=23) and not suits((16, 4, 4), dtype=np.float64)
    assert not suits((16, 4, 4), padding=(1, 3))
    assert not suits((16, 9, 9), kernel=(5, 5)) and not suits((16, 9, 9), kernel=(1, 3))


def test_conv2d_goes_this_way_with_stride_1_only(monkeypatch):
    gone = []

    def watch(name, real):
        monkeypatch.setattr(winograd, name, lambda *args: gone.append(name) or real(*args))

    watch("convolve", winograd.convolve)
    watch("weight_gradient", winograd.weight_gradient)
    x, w, g = draw(0, 16, (8, 8), 32, 40, (1, 1))
    kernels.conv2d.forward(x, w, (1, 1), (1, 1))
    kernels.conv2d.input_gradient(g, w, (8, 8), (1, 1), (1, 1))
    kernels.conv2d.weight_gradient(x, g, (3, 3), (1, 1), (1, 1))
    assert gone == ["convolve", "convolve", "weight_gradient"]
    y = kernels.conv2d.forward(x, w, (2, 2), (1, 1))
    kernels.conv2d.weight_gradient(x, y, (3, 3), (2, 2), (1, 1))
    assert len(gone) == 3
