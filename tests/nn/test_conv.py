"""Convolutional layers against sums over pixels, written here once more and differently."""

import numpy as np
import pytest

from tinygen import Generator, check_grads, vjp
from tinygen.autograd import tree
from tinygen.nn import Conv2d, ConvTranspose2d


def with_random_bias(layer, rng):
    return tree.map(lambda leaf: leaf.astype(np.float64), tree.replace(layer, "bias", rng.normal(layer.bias.shape)))


def correlation(x, w, b, s, p):
    """Every window of the padded image times the kernel."""
    x = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[:2], axis=(1, 2))[:, ::s, ::s]  # (N, H', W', C, kh, kw)
    return np.einsum("nijcab,abco->nijo", windows, w) + b


def painting(x, w, b, s, p, extra):
    """Every pixel adds its kernel to a canvas, from which p pixels are cut off on each side, `extra` fewer at the far ones."""
    N, H, W, _ = x.shape
    k, _, _, C = w.shape
    canvas = np.zeros((N, (H - 1) * s + k + extra, (W - 1) * s + k + extra, C))
    for i, j in np.ndindex(H, W):
        canvas[:, i * s : i * s + k, j * s : j * s + k] += np.einsum("nc,abco->nabo", x[:, i, j], w)
    return canvas[:, p : canvas.shape[1] - p, p : canvas.shape[2] - p] + b


@pytest.mark.parametrize("kernel, stride, padding", [(1, 1, 0), (3, 1, 1), (3, 2, 1), (4, 2, 1), (5, 3, 0), (2, 1, 2)])
def test_conv_is_the_sum_over_windows(kernel, stride, padding):
    rng = Generator(0)
    layer = with_random_bias(Conv2d.init(rng, 3, 4, kernel, stride, padding), rng)
    x = rng.normal((2, 7, 6, 3), np.float64)
    np.testing.assert_allclose(layer(x), correlation(x, layer.weight, layer.bias, stride, padding), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "kernel, stride, padding, extra", [(4, 2, 1, 0), (3, 1, 1, 0), (3, 2, 1, 1), (5, 3, 2, 2), (2, 2, 0, 0)]
)
def test_transposed_conv_paints_a_kernel_for_each_pixel(kernel, stride, padding, extra):
    rng = Generator(0)
    layer = with_random_bias(ConvTranspose2d.init(rng, 3, 4, kernel, stride, padding, extra), rng)
    x = rng.normal((2, 4, 3, 3), np.float64)
    expected = painting(x, layer.weight, layer.bias, stride, padding, extra)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("size", [7, 8])
def test_the_default_padding_keeps_the_size_and_stride_2_halves_it_upwards(kernel, size):
    rng = Generator(0)
    x = rng.normal((1, size, size, 1))
    assert Conv2d.init(rng, 1, 2, kernel)(x).shape == (1, size, size, 2)
    assert Conv2d.init(rng, 1, 2, kernel, stride=2)(x).shape == (1, -(-size // 2), -(-size // 2), 2)


def test_kernel_4_halves_even_sizes_and_the_transposed_layer_doubles_them_again():
    rng = Generator(0)
    small = Conv2d.init(rng, 3, 5, kernel=4, stride=2)(rng.normal((2, 28, 14, 3)))
    assert small.shape == (2, 14, 7, 5)
    assert ConvTranspose2d.init(rng, 5, 3)(small).shape == (2, 28, 14, 3)


def test_the_transposed_layer_is_the_adjoint_of_the_layer_with_channels_exchanged():
    rng = Generator(0)
    up = ConvTranspose2d.init(rng, 3, 2, bias=False)
    down = Conv2d(np.swapaxes(up.weight, 2, 3), None, stride=2, padding=1)
    g = rng.normal((2, 4, 4, 3))
    _, pullback = vjp(down, np.zeros((2, 8, 8, 2), np.float32))
    np.testing.assert_allclose(up(g), pullback(g)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layer, size", [(Conv2d, 4), (ConvTranspose2d, 2)])
def test_both_have_gradients_of_second_order(layer, size, bias):
    rng = Generator(1)
    layer = layer.init(rng, 2, 3, kernel=4, stride=2, padding=1, bias=bias)
    check_grads(lambda layer, x: layer(x), (layer, rng.normal((2, size, size, 2))))


@pytest.mark.parametrize("layer", [Conv2d, ConvTranspose2d])
def test_both_keep_float32_and_refuse_what_is_not_an_image_of_their_channels(layer):
    layer, name = layer.init(Generator(0), 3, 2), layer.__name__
    assert layer(np.ones((1, 4, 4, 3), np.float32)).dtype == np.float32
    with pytest.raises(ValueError, match=rf"{name}: x has shape \(1, 4, 4, 2\), but its last axis must have length 3"):
        layer(np.ones((1, 4, 4, 2), np.float32))
    with pytest.raises(ValueError, match=rf"{name}: x has shape \(4, 4, 3\), but images are \(N, H, W, 3\); .*x\[None\]"):
        layer(np.ones((4, 4, 3), np.float32))


@pytest.mark.parametrize("layer", [Conv2d, ConvTranspose2d])
@pytest.mark.parametrize("wrong", [{"c_in": 0}, {"c_out": 0}, {"kernel": 0}, {"stride": 0}, {"kernel": 1.5}])
def test_sizes_below_1_are_refused(layer, wrong):
    ((name, size),) = wrong.items()
    with pytest.raises(ValueError, match=f"{layer.__name__}: {name} is {size}; it must be an integer of at least 1"):
        layer.init(Generator(0), **{"c_in": 1, "c_out": 1, **wrong})
