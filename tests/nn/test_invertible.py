"""The smaller parts of flows: where the numbers go, and what they refuse. For their determinants see models/test_flow.py."""

import math

import numpy as np
import pytest

from tinygen import Generator
from tinygen.nn.invertible import Flatten, Logit, Permutation, Rescale, Scaling, Squeeze

close = np.testing.assert_allclose


def test_scaling_multiplies_each_number_by_its_own_factor():
    z, log_det = Scaling(np.log([2.0, 4.0])).to_latent(np.array([[1.0, 3.0], [0.5, -1.0]]))
    close(z, [[2, 12], [1, -4]])
    close(log_det, [math.log(8)] * 2)


def test_a_scale_for_another_number_of_numbers_is_refused_and_not_spread():
    for use in (Scaling(np.ones(1)).to_latent, Scaling(np.ones(1)).to_data, Scaling(np.ones((1, 3))).to_latent):
        with pytest.raises(ValueError, match=r"Scaling: examples have shape \(3,\), and s \(1"):
            use(np.zeros((2, 3)))


def test_a_permutation_takes_from_where_it_says_and_puts_back():
    x = Generator(0).normal((2, 3, 4), np.float64)
    z, _ = Permutation((2, 0, 3, 1)).to_latent(x)
    np.testing.assert_array_equal(z, x[..., [2, 0, 3, 1]])
    np.testing.assert_array_equal(Permutation((2, 0, 3, 1)).to_data(z)[0], x)
    for method in (Permutation((1, 0)).to_latent, Permutation((1, 0)).to_data):
        with pytest.raises(ValueError, match="Permutation: x has shape"):
            method(np.zeros((2, 3)))


def test_vectors_have_the_numbers_in_row_major_order():
    x = np.arange(24.0).reshape(2, 2, 3, 2)
    np.testing.assert_array_equal(Flatten((2, 3, 2)).to_latent(x)[0], x.reshape(2, 12))


def test_rescaling_takes_the_interval_to_0_1_and_its_volume_counts_for_every_number():
    z, log_det = Rescale(0.0, 256.0).to_latent(np.array([[0.0, 64.0, 256.0]]))
    close(z, [[0, 0.25, 1]])
    close(log_det, [-3 * math.log(256)])


def test_white_and_black_have_finite_latents_and_the_middle_is_zero():
    z, log_det = Logit(0.05).to_latent(np.array([[0.0], [0.5], [1.0]]))
    close(z[:, 0], [math.log(0.05 / 0.95), 0, math.log(0.95 / 0.05)], atol=1e-12)
    close(log_det, [math.log(0.9 / (0.05 * 0.95)), math.log(0.9 * 4), math.log(0.9 / (0.05 * 0.95))], rtol=1e-12)


def test_a_squeeze_makes_neighbouring_pixels_the_channels_of_one():
    x = np.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    z = Squeeze().to_latent(x)[0]
    assert z.shape == (2, 2, 3, 12)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_array_equal(z[:, i, j], x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(2, 12))


@pytest.mark.parametrize("shape", [(2, 5, 4, 1), (2, 4, 5, 1), (2, 4)])
def test_a_squeeze_needs_even_images(shape):
    with pytest.raises(ValueError, match="Squeeze: x has shape .*, not .N, H, W, C. with even H and W"):
        Squeeze().to_latent(np.zeros(shape))


def test_a_squeeze_is_undone_only_of_channels_in_fours():
    with pytest.raises(ValueError, match="Squeeze: z has shape .* with C a multiple of 4"):
        Squeeze().to_data(np.zeros((2, 4, 4, 6)))


@pytest.mark.parametrize("x", [np.array([[0, 17.0]]), np.array([[-0.5, 0.5]]), np.array([[math.nan, 0.5]])])
def test_pixels_outside_0_to_1_are_refused(x):
    with pytest.raises(ValueError, match="Logit: x lies in .*, but pixels must lie in .0, 1. .*data.prepare"):
        Logit().to_latent(x)


def test_black_is_refused_where_its_logit_is_infinite():
    with pytest.raises(ValueError, match="inside it, if alpha is 0"):
        Logit(0.0).to_latent(np.array([[0.0, 0.5]]))


@pytest.mark.parametrize("make, complaint", [
    (lambda: Permutation((0, 2)), "must contain each of 0 .. 1 once"),
    (lambda: Permutation((0, 0, 1)), "must contain each of 0 .. 2 once"),
    (lambda: Logit(0.5), "alpha is 0.5; it must be at least 0 and less than 1/2"),
    (lambda: Logit(-0.1), "alpha is -0.1"),
    (lambda: Rescale(1.0, 1.0), "low = 1.0 must be less than high = 1.0"),
])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()
