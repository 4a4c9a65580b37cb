import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygen import data
from tinygen.backend import Generator
from tinygen.data import preparation

NAMES = list(preparation.PREPARATIONS)
levels_of = st.sampled_from([2, 17, 256])


@st.composite
def grey_images(draw):
    levels = draw(levels_of)
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)))
    return draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, levels - 1))), levels


@pytest.mark.parametrize("name", NAMES)
@given(data_set=grey_images(), seed=st.integers(0, 2**32))
def test_every_preparation_is_float32_in_the_unit_interval_and_follows_its_rng(name, data_set, seed):
    images, levels = data_set
    x = data.prepare(name, images, levels, Generator(seed))
    assert x.dtype == np.float32 and x.shape == images.shape
    assert x.min() >= 0 and x.max() <= 1
    np.testing.assert_array_equal(x, data.prepare(name, images, levels, Generator(seed)))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_binarised_pixel_is_bernoulli_of_its_grey_level(levels):
    u = np.arange(2**16, dtype=np.float32) / 2**16
    for g in range(levels):
        frequency = preparation.binarised(np.float32([g]), levels, u).mean(dtype=np.float64)
        assert abs(frequency - g / (levels - 1)) < 2**-16, "more than the spacing of u"


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantised_data_lie_strictly_inside_their_grey_level_for_any_noise(levels):
    u = np.concatenate([np.arange(2**15) / 2**15, [1 - 2**-24, 2**-24]]).astype(np.float32)
    for g in range(levels):
        x = preparation.dequantised(np.float32([g]), levels, u).astype(np.float64)
        assert x.min() > g / levels and x.max() < (g + 1) / levels


def test_dequantised_noise_has_the_mean_and_the_variance_of_the_uniform_law():
    u = np.arange(2**16, dtype=np.float32) / 2**16
    noise = preparation.dequantised(np.float32([255]), 256, u).astype(np.float64) * 256 - 255
    assert noise.mean() == 0.5
    assert abs(noise.var() - 1 / 12) < 2**-30


@pytest.mark.parametrize("name", ["static", "dynamic"])
def test_the_mean_of_a_binarised_data_set_is_its_mean_grey_level(name):
    digits = data.load("digits")
    p = digits.train.images / 16
    x = data.prepare(name, digits.train.images, 17, Generator(0))
    assert set(np.unique(x)) == {0, 1}
    assert abs((x - p).sum()) < 4 * np.sqrt((p * (1 - p)).sum())


def test_dynamic_and_dequantised_data_are_drawn_anew_and_static_data_are_not():
    images, rng = data.load("digits").test.images, Generator(0)
    for name, drawn_anew in ("static", False), ("dynamic", True), ("dequantised", True), ("grey", False):
        x, again = (data.prepare(name, images, 17, rng) for _ in range(2))
        assert np.any(x != again) == drawn_anew


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_once_belongs_to_the_image_whatever_its_batch(name):
    images = data.load("digits").validation.images
    x = data.prepare_once(name, images, 17)
    rows = Generator(0).permutation(len(images))[:50]
    np.testing.assert_array_equal(data.prepare_once(name, images[rows], 17), x[rows])
    np.testing.assert_array_equal(data.prepare_once(name, images[7:8], 17), x[7:8])


@given(grey_images())
def test_static_training_data_and_dynamic_evaluation_data_are_the_same_draw(data_set):
    images, levels = data_set
    static = data.prepare("static", images, levels, Generator(3))
    np.testing.assert_array_equal(static, data.prepare_once("static", images, levels))
    np.testing.assert_array_equal(static, data.prepare_once("dynamic", images, levels))


def test_an_images_own_noise_is_uniform_and_uncorrelated():
    """Four standard deviations, of n numbers: for the frequency of an interval, and for the largest of many correlations."""
    images = data.load("digits").train.images
    u = preparation.own_noise(images).reshape(len(images), -1).astype(np.float64)
    assert u.min() >= 0 and u.max() < 1
    counts, _ = np.histogram(u, 100, (0, 1))
    assert np.abs(counts - u.size / 100).max() < 4 * np.sqrt(u.size / 100)
    between_pixels = np.corrcoef(u.T) - np.eye(64)
    assert np.abs(between_pixels).max() < 5 / np.sqrt(len(images))
    between_images = np.corrcoef(u[:500]) - np.eye(500)
    assert np.abs(between_images).max() < 6 / np.sqrt(64)
    with_the_image = np.corrcoef(u.ravel(), images.ravel())[0, 1]
    assert abs(with_the_image) < 4 / np.sqrt(u.size)


def test_a_change_of_one_grey_level_gives_other_noise():
    images = np.zeros((65, 8, 8, 1), np.uint8)
    images.reshape(65, 64)[np.arange(64), np.arange(64)] = 1
    u = preparation.own_noise(images).reshape(65, 64)
    assert len(np.unique(u)) > 0.999 * u.size


def test_the_static_digits_are_what_they_have_always_been():
    """Figures on static data are comparable only as long as this digest stands."""
    digits = data.load("digits")
    x = data.prepare_once("static", digits.test.images, digits.levels)
    digest = hashlib.sha256(np.packbits(x.astype(bool)).tobytes()).hexdigest()
    assert digest == "5bbc4211807398381c6625c2960a600639bf2da0330d324b9e0ab87d80a3abb1"


@pytest.mark.parametrize("prepare", [lambda *a: data.prepare(*a, Generator(0)), data.prepare_once])
def test_errors_say_what_is_wrong(prepare):
    images = np.full((1, 2, 2, 1), 17, np.uint8)
    with pytest.raises(ValueError, match="'binary'.*static, dynamic, dequantised, grey"):
        prepare("binary", images, 256)
    with pytest.raises(ValueError, match="grey level 17 in data of 17 levels"):
        prepare("static", images, 17)
    with pytest.raises(TypeError, match="float32.*uint8"):
        prepare("grey", images.astype(np.float32), 256)
    with pytest.raises(ValueError, match="data of 1 levels has nothing to tell"):
        prepare("grey", 0 * images, 1)


def test_no_images_are_no_error():
    assert data.prepare_once("static", np.zeros((0, 2, 2, 1), np.uint8), 2).shape == (0, 2, 2, 1)
