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
STRIDES = {3: 1, 4: 2}  # of kernels of that length
# fmt: off
B_T = {
    3: np.array([
        [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
    ]),
    4: np.array([[2, -1, -2, 1, 0], [0, -2, -1, 1, 0], [0, 2, -3, 1, 0], [0, -1, 0, 1, 0], [0, 2, -1, -2, 1]]),
}
G = {
    3: np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
    4: np.array([[3, 0], [-3, -3], [-1, 1], [1, 2], [0, 6]]) / 6,
}
A_T = {
    3: np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
    4: np.array([[1, 1, 1, 1, 0], [0, 1, -1, 2, 0], [0, 1, 1, 4, 0], [0, 1, -1, 8, 1]]),
}
WAYS = {3: winograd.Three, 4: winograd.Two}
# fmt: on


def gamma(n):
    return n * U / (1 - n * U)


def tiles_of(x, padding, size, edge, stride=1):
    """Squares of `edge` pixels, 4 apart, of |x| (N, H, W, C) in its frame: (N, down, across, edge, edge, C) in float64.

    With stride 2, of its four images of every other row and column, as 4 C channels.
    """
    down, across = (-(-n // 4) for n in size)
    (py, px), (H, W) = padding, x.shape[1:3]
    least = [stride * (4 * n + edge - 4) for n in (down, across)]
    frame = np.zeros((len(x), max(H + py, least[0]), max(W + px, least[1]), x.shape[3]))
    frame[:, py : py + H, px : px + W] = abs(x)
    frame = np.concatenate(
        [frame[:, a : least[0] : stride, b : least[1] : stride] for a, b in np.ndindex(stride, stride)], axis=3
    )
    rows, columns = ((4 * np.arange(n)[:, None] + np.arange(edge)) for n in (down, across))
    return frame[:, rows[:, None, :, None], columns[None, :, None, :]]


def by_phases(w):
    """w (4, 4, C, O) as (2, 2, 4 C, O), and others as they are."""
    return w if len(w) == 3 else np.concatenate([w[a::2, b::2] for a, b in np.ndindex(2, 2)], axis=2)


def both_ways(matrix, squares, axes):
    """|M| x |M|^T over two axes of x."""
    for axis in axes:
        squares = np.moveaxis(np.tensordot(abs(matrix), squares, (1, axis)), 0, axis)
    return squares


def bound(kernel, d, w, size):
    """gamma_(C + 20) |A^T| [ sum_c (|G| |w_c| |G^T|) * (|B^T| |d_c| |B|) ] |A| for each output, of tiles d and their taps w."""
    d, n = both_ways(B_T[kernel], d, (3, 4)), 9 - kernel
    values = both_ways(G[kernel], abs(w.astype(np.float64)), (0, 1))
    m = (np.moveaxis(d, (3, 4), (0, 1)).reshape(n, n, -1, d.shape[5]) @ values).reshape(n, n, *d.shape[:3], -1)
    y = np.moveaxis(both_ways(A_T[kernel], m, (0, 1)), (0, 1), (2, 4))
    N, down, _, across, _, O = y.shape
    return gamma(d.shape[5] + 20) * y.reshape(N, 4 * down, 4 * across, O)[:, : size[0], : size[1]]


def bound_of_outputs(x, w, padding):
    kernel, stride = len(w), STRIDES[len(w)]
    size = spec.output_size(x.shape[1:3], (kernel, kernel), (stride, stride), padding)
    return bound(kernel, tiles_of(x, padding, size, 9 - kernel, stride), by_phases(w), size)


def bound_of_input_gradient(g, w, size, padding):
    """Of four images woven into one another: image (a, b) has the pixels 2 m + (a, b) - padding of dx, without empty rows."""
    rows, columns = ((n - 1 + p % 2) // 2 + 1 for n, p in zip(size, padding))
    back = np.concatenate([w[a::2, b::2][::-1, ::-1].swapaxes(2, 3) for a, b in np.ndindex(2, 2)], axis=3)
    four = bound(4, tiles_of(g, tuple(1 - p // 2 for p in padding), (rows, columns), 5), back, (rows, columns))
    woven = four.reshape(len(g), rows, columns, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5).reshape(len(g), 2 * rows, 2 * columns, -1)
    return woven[:, padding[0] % 2 :, padding[1] % 2 :][:, : size[0], : size[1]]


def bound_of_weight_gradient(x, g, kernel, padding):
    """gamma_(T + 40) |G^T| [ sum_tiles (|B^T| |d_c| |B|) * (|A| |g| |A^T|) ] |G|, for T tiles."""
    n, size = 9 - kernel, g.shape[1:3]
    d = both_ways(B_T[kernel], tiles_of(x, padding, size, n, STRIDES[kernel]), (3, 4))
    z = both_ways(A_T[kernel].T, tiles_of(g, (0, 0), size, edge=4), (3, 4))
    d, z = (np.moveaxis(a, (3, 4), (0, 1)).reshape(n, n, -1, a.shape[5]) for a in (d, z))
    dw = gamma(d.shape[2] + 40) * both_ways(G[kernel].T.astype(np.float64), d.swapaxes(2, 3) @ z, (0, 1))
    if kernel == 3:
        return dw
    return dw.reshape(2, 2, 2, 2, x.shape[3], -1).transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, x.shape[3], -1)


def draw(seed, N, size, C, O, padding, kind="normal", kernel=3):
    """x, w and g in float32; some with numbers of very different sizes side by side."""
    rng, stride = np.random.default_rng(seed), STRIDES[kernel]
    outputs = spec.output_size(size, (kernel, kernel), (stride, stride), padding)
    arrays = [rng.normal(size=shape) for shape in ((N, *size, C), (kernel, kernel, C, O), (N, *outputs, O))]
    if kind == "spiky":  # a pixel in ten is a million times larger
        arrays = [a * np.where(rng.random(a.shape) < 0.1, 1e6, 1) for a in arrays]
    elif kind == "alternating":  # what B^T adds up, where sums of taps cancel
        arrays = [np.sign(a) * np.sign(np.cos(np.pi * np.arange(a.shape[1])))[:, None, None] for a in arrays]
    elif kind == "positive":
        arrays = [abs(a) + 10 for a in arrays]
    return [a.astype(np.float32) for a in arrays]


KINDS = "normal", "spiky", "alternating", "positive"


@pytest.mark.parametrize("kernel", STRIDES)
def test_in_exact_numbers_it_is_the_sum_over_taps(kernel):
    rng, taps, way = np.random.default_rng(0), 6 - kernel, WAYS[kernel]
    fractions = np.vectorize(Fraction, otypes=[object])
    d, w = fractions(rng.integers(-9, 10, taps + 3)), fractions(rng.integers(-9, 10, taps))
    values = fractions(np.rint(24 * G[kernel]).astype(int)) @ w / 24
    direct_sums = [sum(d[i + k] * w[k] for k in range(taps)) for i in range(4)]
    assert list(way.from_points(values * way.at_points(d))) == direct_sums


@pytest.mark.parametrize("kernel", STRIDES)
def test_the_five_ways_are_the_matrices_of_the_header(kernel):
    taps, n, way = 6 - kernel, 9 - kernel, WAYS[kernel]
    assert np.array_equal(np.array(way.at_points(np.eye(n, dtype=int))), B_T[kernel])
    assert np.array_equal(np.array(way.from_points(np.eye(n, dtype=int))), A_T[kernel])
    assert np.array_equal(np.array(way.of_gradient(np.eye(4, dtype=int))), A_T[kernel].T)
    np.testing.assert_allclose(np.array(way.of_weights(np.eye(taps))), G[kernel], rtol=1e-15, atol=0)
    np.testing.assert_allclose(np.array(way.to_weights(np.eye(n))), G[kernel].T, rtol=1e-15, atol=1e-17)


@settings(deadline=None, max_examples=40)
@given(
    N=st.integers(1, 2), size=st.tuples(st.integers(1, 14), st.integers(1, 14)), kernel=st.sampled_from([3, 4]),
    C=st.sampled_from([24, 31, 32, 33, 47]), O=st.sampled_from([24, 31, 32, 40, 65]),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)), kind=st.sampled_from(KINDS), seed=st.integers(0, 999),
)  # fmt: skip
def test_errors_stay_within_the_bound(N, size, kernel, C, O, padding, kind, seed):
    padding, stride = tuple(min(p, kernel - 1) for p in padding), STRIDES[kernel]
    size = tuple(max(n, kernel - 2 * p, 1) for n, p in zip(size, padding))
    x, w, g = draw(seed, N, size, C, O, padding, kind, kernel)
    bias = np.arange(O, dtype=np.float32)
    wide, rest = [a.astype(np.float64) for a in (x, w, g)], ((stride, stride), padding)
    exact = spec.forward(*wide[:2], *rest, bias.astype(np.float64))
    error = abs(winograd.convolve(x, w, padding, bias) - exact)
    assert (error <= bound_of_outputs(x, w, padding) + gamma(stride**2 * C + 20) * bias).all()
    exact = spec.weight_gradient(wide[0], wide[2], (kernel, kernel), *rest)
    assert (
        abs(winograd.weight_gradient(x, g, kernel, padding) - exact) <= bound_of_weight_gradient(x, g, kernel, padding)
    ).all()
    if kernel == 4:
        exact = spec.input_gradient(wide[2], wide[1], size, *rest)
        assert (abs(winograd.input_gradient(g, w, size, padding) - exact) <= bound_of_input_gradient(g, w, size, padding)).all()


@pytest.mark.parametrize("kernel, size", [(3, 14), (4, 28)])
def test_on_normal_numbers_errors_are_a_fraction_of_what_a_direct_sum_may_err_by(kernel, size):
    stride = (STRIDES[kernel],) * 2
    x, w, g = draw(0, 4, (size, size), 64, 64, (1, 1), kernel=kernel)
    wide = [a.astype(np.float64) for a in (x, w, g)]
    rest = (kernel, kernel), stride, (1, 1)
    y, dw = spec.forward(*wide[:2], *rest[1:]), spec.weight_gradient(wide[0], wide[2], *rest)
    y_magnitude = spec.forward(*map(abs, wide[:2]), *rest[1:])
    dw_magnitude = spec.weight_gradient(abs(wide[0]), abs(wide[2]), *rest)
    assert (abs(winograd.convolve(x, w, (1, 1)) - y) <= gamma(kernel**2 * 64) * y_magnitude / 5).all()
    assert (abs(winograd.weight_gradient(x, g, kernel, (1, 1)) - dw) <= gamma(4 * 14 * 14) * dw_magnitude / 5).all()
    straight = direct.convolve(x, w.reshape(-1, 64, 64), tuple(np.ndindex(kernel, kernel)), stride, (1, 1), (14, 14))
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


def test_with_stride_2_too():
    x, w, g = draw(0, 2, (20, 40), 32, 32, (1, 1), kernel=4)
    y, dx = winograd.convolve(x, w, (1, 1)), winograd.input_gradient(g, w, (20, 40), (1, 1))
    x[0, 8, 13, 5] = g[0, 5, 9, 3] = np.nan
    touched = np.isnan(winograd.convolve(x, w, (1, 1))).any(axis=3)
    assert touched[0, 3:5, 6:8].all() and not touched[1].any() and not touched[0, 8:].any() and not touched[0, :, 8:].any()
    np.testing.assert_array_equal(winograd.convolve(x, w, (1, 1))[~touched], y[~touched])
    touched = np.isnan(winograd.input_gradient(g, w, (20, 40), (1, 1))).any(axis=3)
    assert touched[0, 9:13, 17:21].all() and not touched[1].any()
    assert not touched[0, : 9 - 7].any() and not touched[0, 13 + 7 :].any() and not touched[0, :, : 17 - 7].any()
    np.testing.assert_array_equal(winograd.input_gradient(g, w, (20, 40), (1, 1))[~touched], dx[~touched])


@pytest.mark.parametrize("kernel, C, O", [(3, 32, 32), (3, 48, 33), (3, 25, 31), (3, 100, 96), (4, 32, 40), (4, 65, 128)])
def test_other_images_and_other_threads_change_no_bit(kernel, C, O):
    x, w, g = draw(0, 23, (9, 9), C, O, (1, 1), kernel=kernel)

    def maps():
        yield winograd.convolve(x, w, (1, 1))
        yield winograd.weight_gradient(x, g, kernel, (1, 1))
        if kernel == 4:
            yield winograd.input_gradient(g, w, (9, 9), (1, 1))

    before = threads._pool
    try:
        threads.use(1)
        alone = [*maps()]
        for size in (2, 3, 16):
            threads.use(size)
            for here, there in zip(maps(), alone):
                np.testing.assert_array_equal(here, there)
    finally:
        threads._pool = before
    np.testing.assert_array_equal(winograd.convolve(x[5:9], w, (1, 1)), alone[0][5:9])


def test_it_serves_float32_where_it_is_faster():
    def suits(shape, C=32, O=32, padding=(1, 1), dtype=np.float32, kernel=(3, 3), stride=(1, 1)):
        x = np.zeros((*shape, C), dtype)
        return winograd.suits(x, (*kernel, C, O), stride, padding, x.dtype)

    assert suits((16, 4, 4)) and suits((1, 16, 16)) and suits((16, 3, 3)) and suits((4, 7, 7), padding=(0, 2))
    assert not suits((15, 4, 4)) and not suits((9, 1, 30)) and not suits((0, 8, 8))
    assert suits((16, 4, 4), C=24, O=24)
    assert not suits((16, 4, 4), C=23) and not suits((16, 4, 4), O=23) and not suits((16, 4, 4), dtype=np.float64)
    assert not suits((16, 4, 4), padding=(1, 3)) and not suits((16, 9, 9), stride=(2, 2))
    assert (
        not suits((16, 9, 9), kernel=(5, 5)) and not suits((16, 9, 9), kernel=(1, 3)) and not suits((16, 9, 9), kernel=(4, 4))
    )
    assert suits((4, 14, 14), kernel=(4, 4), stride=(2, 2)) and suits((16, 8, 8), kernel=(4, 4), stride=(2, 2))
    assert not suits((3, 14, 14), kernel=(4, 4), stride=(2, 2)) and not suits((16, 10, 10), kernel=(4, 4), stride=(2, 2))
    assert not suits((16, 8, 8), kernel=(4, 4), stride=(2, 1)) and not suits((16, 8, 8), kernel=(3, 3), stride=(2, 2))


def test_a_pixel_that_nobody_reads_has_gradient_0():
    g = np.ones((32, 7, 7, 32), np.float32)
    assert winograd.suits_back(g, (4, 4, 32, 32), (14, 14), (2, 2), (1, 1), g.dtype)
    assert not winograd.suits_back(g, (4, 4, 32, 32), (17, 16), (2, 2), (0, 0), g.dtype)
    dx = kernels.conv2d.input_gradient(g, np.ones((4, 4, 32, 32), np.float32), (17, 16), (2, 2), (0, 0))
    assert not dx[:, 16].any()


def test_conv2d_goes_this_way_for_two_kernels(monkeypatch):
    gone = []

    def watch(name, real):
        monkeypatch.setattr(winograd, name, lambda *args: gone.append(name) or real(*args))

    for name in ("convolve", "input_gradient", "weight_gradient"):
        watch(name, getattr(winograd, name))
    x, w, g = draw(0, 16, (8, 8), 32, 40, (1, 1))
    kernels.conv2d.forward(x, w, (1, 1), (1, 1))
    kernels.conv2d.input_gradient(g, w, (8, 8), (1, 1), (1, 1))
    kernels.conv2d.weight_gradient(x, g, (3, 3), (1, 1), (1, 1))
    assert gone == ["convolve", "convolve", "weight_gradient"]
    y = kernels.conv2d.forward(x, w, (2, 2), (1, 1))
    kernels.conv2d.input_gradient(y, w, (8, 8), (2, 2), (1, 1))
    kernels.conv2d.weight_gradient(x, y, (3, 3), (2, 2), (1, 1))
    assert len(gone) == 3
    x, w, g = draw(0, 16, (14, 14), 32, 40, (1, 1), kernel=4)
    kernels.conv2d.forward(x, w, (2, 2), (1, 1))
    kernels.conv2d.input_gradient(g, w, (14, 14), (2, 2), (1, 1))
    kernels.conv2d.weight_gradient(x, g, (4, 4), (2, 2), (1, 1))
    assert gone[3:] == ["convolve", "input_gradient", "weight_gradient"]
