"""Normalisation against the formula, its invariances, and what may depend on the other examples of a batch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Generator, check_grads, ops, value_and_grad
from tinygen.autograd import tree
from tinygen.nn import BatchNorm, GroupNorm, LayerNorm, Statistics

EPS = 1e-5


def random_affine(layer, rng):
    """The layer in float64, with random scale and shift, so that neither can be missing or exchanged."""
    for path in ("scale", "shift"):
        layer = tree.replace(layer, path, rng.normal(layer.scale.shape, np.float64))
    return layer


def normalised(values):
    """The formula for one set of numbers."""
    return (values - values.mean()) / np.sqrt(values.var() + EPS)


def random_statistics(rng, channels):
    return Statistics(rng.normal(channels, np.float64), 0.5 + rng.uniform(channels, np.float64))


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 3, 4, 5)])
def test_layer_norm_normalises_the_last_axis(shape):
    rng = Generator(0)
    layer, x = random_affine(LayerNorm.init(rng, 5), rng), 3 + 2 * rng.normal(shape, np.float64)
    y = layer(x)
    for i in np.ndindex(shape[:-1]):
        np.testing.assert_allclose(y[i], normalised(x[i]) * layer.scale + layer.shift, rtol=1e-10, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(shift=st.floats(-50, 50), scale=st.floats(0.1, 100), seed=st.integers(0, 2**32))
def test_layer_norm_does_not_see_a_shift_or_a_scale(shift, scale, seed):
    rng = Generator(seed)
    layer, x = random_affine(LayerNorm.init(rng, 8, eps=0.0), rng), rng.normal((3, 8), np.float64)
    np.testing.assert_allclose(layer(scale * x + shift), layer(x), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("positions", [(), (4,), (2, 3)])
def test_group_norm_normalises_neighbouring_channels_over_all_positions(groups, positions):
    rng = Generator(0)
    layer, x = random_affine(GroupNorm.init(rng, 6, groups), rng), 1 + rng.normal((2, *positions, 6), np.float64)
    y, width = layer(x), 6 // groups
    for n in range(2):
        for g in range(groups):
            channels = np.s_[n, ..., g * width : (g + 1) * width]
            own = slice(g * width, (g + 1) * width)
            expected = normalised(x[channels]) * layer.scale[own] + layer.shift[own]
            np.testing.assert_allclose(y[channels], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", [ops.silu, ops.relu, ops.tanh, lambda y: y * y])
def test_an_activation_can_follow_group_norm(activation):
    rng = Generator(0)
    layer, x = random_affine(GroupNorm.init(rng, 6, 2), rng), rng.normal((2, 3, 3, 6), np.float64)
    np.testing.assert_allclose(layer(x, activation), activation(layer(x)), rtol=1e-12, atol=1e-12)
    check_grads(lambda layer, x: layer(x, activation), (layer, x))


@pytest.mark.parametrize("layer", [lambda rng: GroupNorm.init(rng, 6, 2), lambda rng: LayerNorm.init(rng, 6)])
def test_group_norm_and_layer_norm_treat_each_example_on_its_own(layer):
    rng = Generator(0)
    layer, x = random_affine(layer(rng), rng), rng.normal((4, 3, 3, 6), np.float64)
    alone = np.concatenate([layer(x[n : n + 1]) for n in range(4)])
    np.testing.assert_allclose(layer(x), alone, rtol=1e-12, atol=1e-12)
    other = x.copy()
    other[1:] = 100 * rng.normal((3, 3, 3, 6), np.float64)
    np.testing.assert_allclose(layer(other)[0], layer(x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("positions", [(), (3, 2)])
def test_batch_norm_in_training_normalises_each_channel_over_the_batch(positions):
    rng = Generator(0)
    layer, x = random_affine(BatchNorm.init(rng, 4), rng), 5 + 3 * rng.normal((6, *positions, 4), np.float64)
    y, _ = layer.on_batch(x, layer.initial_statistics())
    for c in range(4):
        np.testing.assert_allclose(y[..., c], normalised(x[..., c]) * layer.scale[c] + layer.shift[c], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99, 1.0])
def test_batch_norm_moves_its_statistics_towards_the_batch_with_the_unbiased_variance(momentum):
    rng = Generator(0)
    layer, x = random_affine(BatchNorm.init(rng, 4), rng), rng.normal((3, 2, 2, 4), np.float64)
    old = random_statistics(rng, 4)
    kept = tree.map(np.copy, old)
    _, new = layer.on_batch(x, old, momentum)
    flat = x.reshape(-1, 4)
    np.testing.assert_allclose(new.mean, momentum * old.mean + (1 - momentum) * flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(new.variance, momentum * old.variance + (1 - momentum) * flat.var(0, ddof=1), rtol=1e-12)
    assert all((a == b).all() for a, b in zip(tree.flatten(old)[0], tree.flatten(kept)[0])), "the old ones must not change"


def test_batch_norm_at_evaluation_uses_the_given_statistics_and_treats_each_example_on_its_own():
    rng = Generator(0)
    layer, x, s = random_affine(BatchNorm.init(rng, 4), rng), rng.normal((3, 2, 2, 4), np.float64), random_statistics(rng, 4)
    y = layer(x, s)
    np.testing.assert_allclose(y, (x - s.mean) / np.sqrt(s.variance + EPS) * layer.scale + layer.shift, rtol=1e-10)
    np.testing.assert_allclose(y[:1], layer(x[:1], s), rtol=1e-12)


def test_batch_norm_running_statistics_come_to_those_of_the_data():
    rng = Generator(0)
    layer = BatchNorm.init(rng, 2)
    statistics = layer.initial_statistics()
    for _ in range(400):
        _, statistics = layer.on_batch(3 + 2 * rng.normal((64, 2)), statistics, momentum=0.98)
    # An average with momentum m over batch figures has (1 - m) / (1 + m) of their variance: std 2/8 * 0.1 and 4 * 0.18 * 0.1.
    assert np.abs(statistics.mean - 3).max() < 5 * 0.025
    assert np.abs(statistics.variance - 4).max() < 5 * 0.072
    assert {leaf.dtype for leaf in tree.flatten(statistics)[0]} == {np.dtype(np.float32)}


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 4)])
def test_all_three_have_gradients_of_second_order(shape):
    rng = Generator(3)
    x = rng.normal(shape)
    batch, statistics = random_affine(BatchNorm.init(rng, 4), rng), random_statistics(rng, 4)
    check_grads(lambda layer, x: layer(x), (random_affine(LayerNorm.init(rng, 4), rng), x))
    check_grads(lambda layer, x: layer(x), (random_affine(GroupNorm.init(rng, 4, 2), rng), x))
    check_grads(lambda layer, x: layer.on_batch(x, statistics)[0], (batch, x))
    check_grads(lambda layer, x: layer(x, statistics), (batch, x))


def test_parameters_hold_no_statistics_and_no_gradient_passes_through_them():
    rng = Generator(0)
    layer, x = BatchNorm.init(rng, 4), rng.normal((8, 4))
    assert tree.paths(layer) == ["scale", "shift"]

    def loss(layer, x, weight):
        y, statistics = layer.on_batch(x, layer.initial_statistics())
        return ops.sum(y * y * y) + weight * (ops.sum(statistics.mean) + ops.sum(statistics.variance)), statistics

    both = value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (value, statistics), with_them = both(layer, x, 10.0)
    (other, _), without = both(layer, x, 0.0)
    assert value != other and type(statistics.mean) is type(statistics.variance) is np.ndarray
    for a, b in zip(tree.flatten(with_them)[0], tree.flatten(without)[0]):
        np.testing.assert_array_equal(a, b)


def test_all_three_keep_float32():
    rng = Generator(0)
    x, batch = rng.normal((2, 3, 3, 4)), BatchNorm.init(rng, 4)
    y, statistics = batch.on_batch(x, batch.initial_statistics())
    for result in (y, batch(x, statistics), LayerNorm.init(rng, 4)(x), GroupNorm.init(rng, 4, 2)(x)):
        assert result.dtype == np.float32


def test_a_constant_input_gives_the_shift_and_no_nan():
    rng = Generator(0)
    x = np.full((3, 2, 2, 4), 7.0)
    batch = random_affine(BatchNorm.init(rng, 4), rng)
    layers = [random_affine(LayerNorm.init(rng, 4), rng), random_affine(GroupNorm.init(rng, 4, 2), rng)]
    for layer, y in [(layer, layer(x)) for layer in layers] + [(batch, batch.on_batch(x, batch.initial_statistics())[0])]:
        np.testing.assert_allclose(y, np.broadcast_to(layer.shift, x.shape), atol=1e-12)


def test_errors_name_the_layer_the_shape_and_the_remedy():
    rng = Generator(0)
    wrong, batch = np.ones((2, 3), np.float32), BatchNorm.init(rng, 4)
    statistics = batch.initial_statistics()
    calls = {
        "LayerNorm": lambda: LayerNorm.init(rng, 4)(wrong),
        "GroupNorm": lambda: GroupNorm.init(rng, 4, 2)(wrong),
        "BatchNorm": lambda: batch(wrong, statistics),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=rf"{name}: x has shape \(2, 3\), but its last axis must have length 4"):
            call()
    with pytest.raises(ValueError, match="GroupNorm: 4 channels cannot be cut into 3 equal groups"):
        GroupNorm.init(rng, 4, 3)
    with pytest.raises(ValueError, match=r"GroupNorm: x has shape \(4,\).* give x\[None\]"):
        GroupNorm.init(rng, 4, 2)(np.ones(4))
    with pytest.raises(ValueError, match=r"BatchNorm: x of shape \(1, 4\) has one value in each channel"):
        batch.on_batch(np.ones((1, 4), np.float32), statistics)
    with pytest.raises(TypeError, match="BatchNorm: the statistics must be a Statistics of 4 channels"):
        batch(np.ones((2, 4), np.float32), BatchNorm.init(rng, 3).initial_statistics())
    with pytest.raises(TypeError, match="BatchNorm: the statistics must be"):
        batch.on_batch(np.ones((2, 4), np.float32), None)
