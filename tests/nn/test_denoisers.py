"""The networks of diffusion, part by part: what begins as nothing, and what hears of time and label."""

import numpy as np
import pytest

from tinygen import Generator, ops
from tinygen.autograd import tree
from tinygen.nn.denoisers import MLP, AttentionBlock, Condition, ResidualBlock, UNet
from tinygen.nn.linear import Linear

close = np.testing.assert_allclose


def rows(rng, *shape):
    return rng.normal(shape, np.float64)


def test_a_new_block_of_the_unet_lets_images_pass_unchanged():
    rng = Generator(0)
    x, e = rows(rng, 2, 4, 6, 8), rows(rng, 2, 16)
    np.testing.assert_array_equal(ResidualBlock.init(rng, 8, 8, 16)(x, e), x)
    unet = UNet.init(rng, 1, (8, 16), 2, 0)
    attention = next(block for block in unet.middle if isinstance(block, AttentionBlock))
    x = rows(rng, 2, 4, 6, 16)
    np.testing.assert_array_equal(attention(x, e), x)


def test_where_the_channels_change_a_block_begins_as_a_linear_map_of_each_pixel():
    rng = Generator(0)
    block, e = ResidualBlock.init(rng, 8, 12, 16), rows(rng, 2, 16)
    x = rows(rng, 2, 4, 6, 8)
    close(block(x, e), x @ block.shortcut.weight[0, 0] + block.shortcut.bias, atol=1e-6)


def test_a_residual_block_is_x_plus_what_its_convolutions_say_of_x_and_of_the_time():
    rng = Generator(0)
    block = ResidualBlock.init(rng, 8, 8, 16)
    block = tree.map(lambda leaf: (leaf + 0.3 * rng.normal(leaf.shape)).astype(np.float64), block)
    x, e = rows(rng, 2, 4, 6, 8), rows(rng, 2, 16)
    told = (e @ block.condition.weight + block.condition.bias)[:, None, None]
    h = block.convolutions[0](ops.silu(block.norms[0](x))) + told
    close(block(x, e), x + block.convolutions[1](ops.silu(block.norms[1](h))), rtol=1e-10)


@pytest.mark.parametrize("channels", [4, 6, 8, 12, 32, 48, 64])
def test_the_time_survives_the_norm_that_follows_it(channels):
    """What is added to a whole channel is gone after a norm of that channel alone."""
    rng = Generator(0)
    norm = ResidualBlock.init(rng, channels, channels, 16).norms[1]
    h, told = rows(rng, 1, 4, 4, channels), rows(rng, 1, 1, 1, channels)
    assert abs(norm(h + told) - norm(h)).mean() > 0.1
    assert channels % norm.groups == 0


@pytest.mark.parametrize("frequencies", [None, (0.5, 4.0)])
def test_the_mlp_is_a_chain_of_residual_blocks(frequencies):
    rng = Generator(0)
    mlp = MLP.init(rng, 2, 8, 2, 3, frequencies)
    mlp = tree.map(lambda leaf: (leaf + 0.3 * rng.normal(leaf.shape)).astype(np.float64), mlp)
    x, t, labels = rows(rng, 5, 2), np.arange(1.0, 6), np.arange(5) % 4
    e, h = mlp.condition(t, labels), mlp.first(x)
    for inner, condition, outer in mlp.blocks:
        h = h + outer(ops.silu(inner(ops.silu(h)) + condition(e)))
    close(mlp(x, t, labels), mlp.last(ops.silu(h)), rtol=1e-12)


def test_the_first_units_of_the_mlp_bend_in_places_all_over_the_data():
    """The line w.x + b = 0, at which a unit bends, lies |b| / |w| from the origin."""
    first = MLP.init(Generator(0), 2, 400, 1, 0).first
    distance = abs(first.bias) / np.linalg.norm(first.weight, axis=0)
    assert (distance < 0.3).mean() > 0.1 and (distance > 1).mean() > 0.1


def test_with_frequencies_the_first_layer_of_the_mlp_sees_the_points_as_waves():
    mlp, x = MLP.init(Generator(0), 2, 6, 1, 0, (0.5, 4.0)), rows(Generator(1), 5, 2)
    waves, linear = mlp.first.layers
    angle = x @ waves.weight
    close(mlp.first(x), linear(np.concatenate([np.sin(angle), np.cos(angle)], axis=1)), rtol=1e-12)


def test_a_condition_tells_times_and_labels_apart():
    rng = Generator(0)
    condition = Condition.init(rng, 16, 3)
    each = [condition(np.array([t]), np.array([label]))[0] for t in (1.0, 2.0, 500.0, 1000.0) for label in range(4)]
    distance = np.linalg.norm(np.array(each)[:, None] - np.array(each), axis=-1) + 10 * np.eye(16)
    assert distance.min() > 0.05
    assert Condition.init(rng, 16, 0).labels is None


@pytest.mark.parametrize("shape, channels, patch", [
    ((4, 8, 1), (8, 16), 1), ((8, 4, 3), (8, 8, 16), 1), ((8, 16, 1), (8, 16), 2), ((9, 3, 1), (8,), 3), ((8, 8, 2), (8,), 4),
])  # fmt: skip
def test_images_of_every_size_that_can_be_halved_keep_it(shape, channels, patch):
    rng = Generator(0)
    unet = UNet.init(rng, shape[2], channels, 2, 0, patch)
    filled = tree.map(lambda leaf: leaf + 0.1 * rng.normal(leaf.shape), unet)
    x = rng.normal((2, *shape))
    y = filled(x, np.array([1.0, 700.0]), None)
    assert y.shape == x.shape and y.dtype == np.float32
    assert (abs(y) > 0).all()  # every pixel is painted


def test_the_widest_layers_of_a_unet_are_those_of_the_smallest_image():
    unet = UNet.init(Generator(0), 1, (8, 16, 24), 2, 5)
    assert [block.convolutions[1].weight.shape[3] for block, _ in unet.down] == [8, 16, 24]
    assert [block.convolutions[1].weight.shape[3] for block, _ in unet.up] == [24, 16, 8]
    assert [halve is None for _, halve in unet.down] == [doubled is None for _, doubled in unet.up] == [False, False, True]
    assert unet.condition.labels.weight.shape == (6, 32)  # one more than the classes, for "none"
    assert isinstance(unet.condition.first, Linear)
