"""Initialisers have the variances they promise, and these keep signals and gradients the same size."""

import numpy as np
import pytest

from tinygen import Generator, ops, vjp
from tinygen.autograd import tree
from tinygen.nn import BatchNorm, Conv2d, ConvTranspose2d, Embedding, GroupNorm, LayerNorm, Linear, init

SHAPE, FAN_IN, FAN_OUT = (300, 500), 40, 10

# The sample variance of n independent numbers has a relative standard deviation of sqrt((kurtosis - 1) / n): for n = 150,000,
# 0.0037 for normal numbers and 0.0023 for uniform ones. The bounds are 5 of them.
FIVE_SIGMA_NORMAL, FIVE_SIGMA_UNIFORM = 0.019, 0.012


@pytest.mark.parametrize(
    "initialiser, variance, bound",
    [
        (init.lecun_normal, 1 / FAN_IN, FIVE_SIGMA_NORMAL),
        (init.glorot_uniform, 2 / (FAN_IN + FAN_OUT), FIVE_SIGMA_UNIFORM),
        (init.he_normal, 2 / FAN_IN, FIVE_SIGMA_NORMAL),
        (init.normal(0.02), 0.02**2, FIVE_SIGMA_NORMAL),
    ],
)
def test_initialisers_have_mean_0_and_the_stated_variance(initialiser, variance, bound):
    w = initialiser(Generator(0), SHAPE, FAN_IN, FAN_OUT)
    assert w.dtype == np.float32 and w.shape == SHAPE
    assert abs(w.var() / variance - 1) < bound
    assert abs(w.mean()) < 5 * np.sqrt(variance / w.size)


def test_glorot_uniform_fills_its_interval_and_no_more():
    w, a = init.glorot_uniform(Generator(0), SHAPE, FAN_IN, FAN_OUT), np.sqrt(6 / (FAN_IN + FAN_OUT))
    assert 0.999 * a < np.abs(w).max() <= a


def test_zeros_and_ones_are_that():
    assert (init.zeros(Generator(0), (3, 2), 3, 2) == np.zeros((3, 2))).all()
    assert (init.ones(Generator(0), (3, 2), 3, 2) == np.ones((3, 2))).all()


def test_ten_relu_layers_with_he_weights_keep_the_second_moment():
    rng = Generator(1)
    x = rng.normal((500, 400))
    for _ in range(10):
        x = ops.relu(Linear.init(rng, 400, 400, initialiser=init.he_normal)(x))
    # relu of N(0, 2) has second moment 1 and fourth moment 6: each layer's mean over 400 units has a variance of 5 / 400. The
    # bound is 4 standard deviations, a factor of 4; variances of 1 / fan_in would give 2^-10.
    assert abs(np.log(np.mean(x**2))) < 4 * np.sqrt(10 * 5 / 400)


@pytest.mark.parametrize(
    "layer, x_shape, inner",
    [
        (lambda rng, i: Linear.init(rng, 60, 90, initialiser=i), (400, 60), (...,)),
        (lambda rng, i: Conv2d.init(rng, 12, 18, initialiser=i), (20, 12, 12, 12), np.s_[:, 2:-2, 2:-2]),
        (lambda rng, i: Conv2d.init(rng, 12, 18, 4, 2, initialiser=i), (20, 16, 16, 12), np.s_[:, 2:-2, 2:-2]),
        (lambda rng, i: ConvTranspose2d.init(rng, 12, 18, initialiser=i), (20, 8, 8, 12), np.s_[:, 2:-2, 2:-2]),
    ],
)
def test_fans_are_the_numbers_of_terms_so_signals_and_gradients_keep_their_variance(layer, x_shape, inner):
    rng = Generator(2)
    forward = layer(rng, init.lecun_normal)
    y = forward(rng.normal(x_shape))
    x_size, n_weights = np.prod(x_shape), forward.weight.size
    assert abs(y[inner].var() - 1) < 5 * np.sqrt(2 / n_weights + 2 / x_size)  # what is random: weights and inputs

    backward = layer(rng, lambda rng, shape, fan_in, fan_out: init.lecun_normal(rng, shape, fan_out, fan_in))
    y, pullback = vjp(backward, rng.normal(x_shape))
    assert abs(pullback(rng.normal(y.shape))[0][inner].var() - 1) < 5 * np.sqrt(2 / n_weights + 2 / y.size)


def test_every_layer_starts_in_float32():
    rng = Generator(0)
    layers = [
        Linear.init(rng, 2, 3), Embedding.init(rng, 5, 2), Conv2d.init(rng, 2, 3), ConvTranspose2d.init(rng, 2, 3),
        LayerNorm.init(rng, 4), GroupNorm.init(rng, 4, 2), BatchNorm.init(rng, 4), BatchNorm.init(rng, 4).initial_statistics(),
    ]  # fmt: skip
    assert {leaf.dtype for leaf in tree.flatten(layers)[0]} == {np.dtype(np.float32)}
