"""Layers one after another, and how what some of them need finds its way."""

import numpy as np
import pytest

from tinygen import Generator, check_grads, ops, value_and_grad
from tinygen.autograd import tree
from tinygen.autograd.core import observe
from tinygen.nn import BatchNorm, Conv2d, Dropout, Flatten, GroupNorm, Linear, MaskedConv2d, Sequential, Unflatten, init, mlp


def test_sequential_is_composition():
    rng = Generator(0)
    a, b, x = Linear.init(rng, 3, 4), Linear.init(rng, 4, 2), rng.normal((5, 3))
    np.testing.assert_array_equal(Sequential([a, ops.tanh, b, lambda y: y * 2])(x), 2 * b(ops.tanh(a(x))))
    assert Sequential([])(x) is x


def test_sequential_has_items_slices_and_a_length():
    rng = Generator(0)
    net, x = mlp(rng, (3, 4, 2), ops.tanh), rng.normal((5, 3))
    assert len(net) == 3 and net[1] is ops.tanh and net[-1] is net.layers[2]
    np.testing.assert_array_equal(net[2](net[:2](x)), net(x))
    assert isinstance(net[:2], Sequential) and [type(layer).__name__ for layer in net] == ["Linear", "Primitive", "Linear"]


def test_sequential_shows_its_layers():
    a, b = "Linear(weight=float32(3, 4), bias=float32(4,))", "Linear(weight=float32(4, 2), bias=float32(2,))"
    assert repr(mlp(Generator(0), (3, 4, 2), ops.tanh)) == f"Sequential(layers=[{a}, tanh, {b}])"


def test_sequential_is_a_tree_whose_functions_are_structure():
    net = mlp(Generator(0), (3, 4, 2), ops.tanh)
    assert tree.paths(net) == [f"layers.{i}.{name}" for i in (0, 2) for name in ("weight", "bias")]
    assert tree.map(np.zeros_like, net)[1] is ops.tanh
    assert tree.size(net) == 3 * 4 + 4 + 4 * 2 + 2


def test_sequential_has_gradients_of_second_order():
    rng = Generator(0)
    end = Linear.init(rng, 36, 2)
    net = Sequential([Conv2d.init(rng, 1, 4), ops.silu, GroupNorm.init(rng, 4, 1), lambda x: ops.flatten(x, start=1), end])
    check_grads(lambda net, x: net(x), (net, rng.normal((2, 3, 3, 1))))


def test_a_norm_and_the_activation_after_it_are_one_pass():
    rng, seen = Generator(0), []
    norm, x = GroupNorm.init(rng, 4, 2), rng.normal((2, 3, 3, 4))
    with observe(lambda primitive, args, y: seen.append(primitive.__name__)):
        y = Sequential([norm, ops.relu, lambda y: 2 * y])(x)
    np.testing.assert_allclose(y, 2 * ops.relu(norm(x)), rtol=1e-6)
    assert "_group_norm" in seen and "relu" not in seen


def test_a_relu_and_the_convolution_after_it_are_one_pass():
    rng, seen = Generator(0), []
    x = rng.normal((2, 5, 5, 3))
    for layer in Conv2d.init(rng, 3, 4), MaskedConv2d.init(rng, 3, 4, 3, "B"), Conv2d.init(rng, 3, 4, bias=False):
        with observe(lambda primitive, args, y: seen.append(primitive.__name__)):
            y = Sequential([ops.relu, layer, ops.tanh])(x)
        np.testing.assert_array_equal(y, ops.tanh(layer(ops.relu(x))))
        np.testing.assert_array_equal(layer(x, before=ops.tanh), layer(ops.tanh(x)))
    assert seen == ["conv2d_of_relu", "tanh", "masked_conv2d_of_relu", "tanh", "relu", "conv2d", "tanh"]


@pytest.mark.parametrize("layer, seen", [(Linear, "Linear"), (3, "3"), (None, "None")])
def test_sequential_refuses_what_is_no_layer(layer, seen):
    with pytest.raises(TypeError, match=f"Sequential: layer 1 is {seen}; give a function or a layer made by its init"):
        Sequential([ops.relu, layer])


def test_mlp_has_the_activation_between_its_layers_and_not_after_them():
    rng = Generator(0)
    net, x = mlp(rng, (3, 5, 4, 2), ops.relu), rng.normal((6, 3))
    a, _, b, _, c = net.layers
    np.testing.assert_array_equal(net(x), c(ops.relu(b(ops.relu(a(x))))))
    assert len(mlp(rng, (3, 2), ops.relu)) == 1
    with pytest.raises(ValueError, match=r"mlp: sizes \(3,\) must name the input and the output"):
        mlp(rng, (3,), ops.relu)


def test_mlp_can_start_as_zero_by_its_last_layer():
    net = mlp(Generator(0), (3, 5, 2), ops.tanh, initialiser=init.he_normal, last=init.zeros)
    assert (net(np.ones((4, 3), np.float32)) == 0).all() and (net[0].weight != 0).any()


# Layers that need more than x


def noisy(rng):
    inner = Sequential([Linear.init(rng, 4, 4), BatchNorm.init(rng, 4), Dropout(0.5)])
    return Sequential([Linear.init(rng, 3, 4), BatchNorm.init(rng, 4), ops.tanh, inner])


def test_in_training_each_layer_gets_the_rng_and_its_own_statistics():
    rng = Generator(0)
    net, x = noisy(rng), rng.normal((8, 3))
    y, statistics = net.on_batch(x, net.initial_statistics(), momentum=0.8, rng=Generator(1))

    first, norm, _, (second, inner_norm, dropout) = net[0], net[1], net[2], net[3].layers
    h, s = norm.on_batch(first(x), norm.initial_statistics(), momentum=0.8)
    h, t = inner_norm.on_batch(second(ops.tanh(h)), inner_norm.initial_statistics(), momentum=0.8)
    np.testing.assert_array_equal(y, dropout(h, Generator(1)))
    assert statistics[0] is None and statistics[2] is None
    np.testing.assert_array_equal(statistics[1].variance, s.variance)
    np.testing.assert_array_equal(statistics[3][1].mean, t.mean)


def test_at_evaluation_it_is_a_function_of_each_example_alone():
    rng = Generator(0)
    net, x = noisy(rng), rng.normal((8, 3))
    _, statistics = net.on_batch(x, net.initial_statistics(), rng=None)
    y = net(x, statistics=statistics, rng=None)
    np.testing.assert_allclose(y[2:3], net(x[2:3], statistics=statistics, rng=None), rtol=1e-5, atol=1e-6)


def test_what_is_needed_cannot_be_forgotten():
    net = noisy(Generator(0))
    x = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="Sequential: layer 1, BatchNorm, needs statistics"):
        net(x, rng=None)
    with pytest.raises(TypeError, match="Sequential: layer 3, Sequential, needs rng"):
        net(x, statistics=net.initial_statistics())
    with pytest.raises(TypeError, match="layer 0, Dropout, needs rng"):
        Sequential([Dropout(0.1)])(x)
    with pytest.raises(ValueError, match="Sequential: 1 entries of statistics for 4 layers"):
        net(x, statistics=(None,), rng=None)


def test_a_training_step_with_batch_norm_is_a_pure_function():
    rng = Generator(0)
    net, x = noisy(rng), rng.normal((8, 3))

    def loss(net, statistics, rng):
        y, statistics = net.on_batch(x, statistics, rng=rng)
        return (y * y).mean(), statistics

    start = net.initial_statistics()
    (a, s), g = value_and_grad(loss, has_aux=True)(net, start, Generator(1))
    (b, t), h = value_and_grad(loss, has_aux=True)(net, start, Generator(1))
    assert a == b
    for p, q in zip(tree.flatten((s, g))[0], tree.flatten((t, h))[0]):
        assert type(p) is np.ndarray
        np.testing.assert_array_equal(p, q)
    assert (start[1].mean == 0).all() and (s[1].mean != 0).any()


def test_unflatten_undoes_flatten():
    x = Generator(0).normal((5, 2, 3, 4))
    assert Flatten()(x).shape == (5, 24) and Flatten()(x)[1, 13] == x[1, 1, 0, 1]
    np.testing.assert_array_equal(Unflatten((2, 3, 4))(Flatten()(x)), x)


def test_unflatten_refuses_vectors_of_another_length():
    with pytest.raises(ValueError, match=r"\(5, 23\).*\(N, 24\)"):
        Unflatten((2, 3, 4))(np.zeros((5, 23)))
