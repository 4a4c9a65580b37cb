"""Masks against their definition, "this pixel comes before that one", and the layer against an unmasked convolution."""

import numpy as np
import pytest

from tinygen import Generator, check_grads, grad, ops
from tinygen.autograd import tree
from tinygen.nn import MaskedConv2d, live_taps
from tinygen.optim import Adam

KERNELS = [(1, 1), (3, 3), (5, 5), (7, 7), (1, 5), (5, 1), (3, 7)]
KINDS = {  # whether an output may see a tap that lies `rows` below and `columns` to the right of it
    "A": lambda rows, columns: (rows, columns) < (0, 0),
    "B": lambda rows, columns: (rows, columns) <= (0, 0),
    "vertical A": lambda rows, columns: rows < 0,
    "vertical B": lambda rows, columns: rows <= 0,
}
every_mask = pytest.mark.parametrize("mask", KINDS)
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=str)


def random_layer(mask, kernel, c_in=2, c_out=3):
    """With weights everywhere, also at dead taps, in float64."""
    rng = Generator(0)
    return tree.map(lambda leaf: rng.normal(leaf.shape, np.float64), MaskedConv2d.init(rng, c_in, c_out, kernel, mask))


@every_mask
@every_kernel
def test_live_taps_are_those_that_come_before(mask, kernel):
    middle = np.array(kernel) // 2
    expected = [tap for tap in np.ndindex(kernel) if KINDS[mask](*(np.array(tap) - middle).tolist())]
    assert list(live_taps(mask, kernel)) == expected


@every_mask
@every_kernel
def test_the_layer_is_a_convolution_with_the_dead_weights_set_to_zero(mask, kernel):
    layer = random_layer(mask, kernel)
    x, w = Generator(1).normal((2, 6, 5, 2), np.float64), np.zeros_like(layer.weight)
    for tap in live_taps(mask, kernel):
        w[tap] = layer.weight[tap]
    expected = ops.conv2d(x, w, padding=(kernel[0] // 2, kernel[1] // 2)) + layer.bias
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12, atol=1e-12)


@every_mask
@every_kernel
def test_no_gradient_comes_from_a_pixel_that_the_mask_hides(mask, kernel):
    layer, size = random_layer(mask, kernel, 1, 1), (5, 6)
    reach = np.array(kernel) // 2
    for i, j in np.ndindex(size):
        dx = grad(lambda x: layer(x)[0, i, j, 0])(np.ones((1, *size, 1)))[0, :, :, 0]  # noqa: B023
        seen = [
            [KINDS[mask](k - i, l - j) and abs(k - i) <= reach[0] and abs(l - j) <= reach[1] for l in range(6)]
            for k in range(5)
        ]
        assert np.array_equal(dx != 0, seen)


@every_mask
def test_on_a_window_it_is_what_it_is_there_in_the_image(mask):
    layer, x = random_layer(mask, (3, 5)), Generator(1).normal((2, 7, 8, 2), np.float64)
    np.testing.assert_allclose(layer.on_window(x[:, 2:5, 1:8]), layer(x)[:, 3:4, 3:6], rtol=1e-12, atol=1e-12)


@every_mask
def test_dead_weights_begin_at_zero_and_stay_there_with_their_moments(mask):
    layer, optimiser = MaskedConv2d.init(Generator(0), 2, 3, 3, mask), Adam(0.1)
    dead = np.ones((3, 3), bool)
    dead[tuple(np.array(layer.taps).T)] = False
    state, x = optimiser.init(layer), Generator(1).normal((2, 4, 4, 2))
    for _ in range(3):
        layer, state = optimiser.update(grad(lambda layer: (layer(x) ** 2).sum())(layer), state, layer)
    for weight in (layer.weight, state.m.weight, state.v.weight):
        assert not weight[dead].any() and weight[~dead].all()


def test_fans_count_live_taps_only():
    asked = []

    def initialiser(rng, shape, fan_in, fan_out):
        asked.append((shape, fan_in, fan_out))
        return np.ones(shape, np.float32)

    layer = MaskedConv2d.init(Generator(0), 4, 6, 3, "B", initialiser)
    assert asked == [((5, 4, 6), 20, 30)]
    assert layer.weight.sum() == 5 * 4 * 6


def test_derivatives_to_the_second_order():
    layer = random_layer("B", (3, 3))
    check_grads(lambda layer, x: layer(x), (layer, Generator(1).normal((2, 3, 4, 2), np.float64)), order=2)


def test_what_is_no_mask_or_no_image_is_refused():
    with pytest.raises(ValueError, match="live_taps: the masks are 'A', 'B', 'vertical A', 'vertical B'; got 'C'"):
        live_taps("C", (3, 3))
    with pytest.raises(ValueError, match="live_taps: a 3 x 4 kernel has no tap in its middle; give odd sizes"):
        MaskedConv2d.init(Generator(0), 1, 1, (3, 4), "A")
    with pytest.raises(ValueError, match=r"MaskedConv2d: x has shape \(1, 4, 4, 1\), but its last axis must have length 2"):
        random_layer("A", (3, 3))(np.ones((1, 4, 4, 1)))
