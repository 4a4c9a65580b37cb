"""The judge of samples: it knows its classes, says how sure it is, and is trained once."""

from dataclasses import replace

import numpy as np
import pytest

from tinygen import Generator, check_grads, data, metrics
from tinygen.metrics import recognition


@pytest.fixture(scope="module")
def images():
    return data.load("digits")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture(scope="module")
def judge(images, cache):
    return metrics.classifier(images, steps=200, cache=cache, progress=False)


@pytest.fixture(scope="module")
def x(images):
    return data.prepare_once("grey", images.test.images, images.levels)


def test_it_tells_the_digits_apart(judge, images, x):
    assert judge.accuracy(x, images.test.labels) > 0.95


def test_the_recognised_share_counts_confident_probabilities(judge, x):
    p = judge.probabilities(x)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    assert judge.recognised(x, 0.7) == np.mean([max(row) > 0.7 for row in p])
    assert judge.recognised(x, 0.1 - 1e-6) == 1 and judge.recognised(x, 1.0) == 0


def test_noise_and_grey_fields_are_recognised_less_than_digits(judge, x):
    noise = Generator(0).uniform(x.shape)
    assert judge.recognised(noise) < judge.recognised(x) / 2
    assert judge.recognised(np.full_like(x, 0.5)) < 1


def test_features_are_the_layer_before_the_logits(judge, x):
    features = judge.features(x)
    assert features.shape == (len(x), 128) and (features >= 0).all()
    np.testing.assert_allclose(judge.last(features), judge.logits(x, None), rtol=1e-4, atol=1e-4)


def test_no_images_have_no_features(judge, x):
    assert judge.features(x[:0]).shape == (0, 128)


def test_it_is_trained_once_for_each_data_seed_and_length(judge, images, cache, x, monkeypatch):
    again = metrics.classifier(images, steps=200, cache=cache)
    np.testing.assert_array_equal(again.probabilities(x), judge.probabilities(x))
    (path,) = cache.iterdir()
    written = path.read_bytes()

    monkeypatch.setattr(recognition, "fit", lambda step, state, *arguments, **settings: state)
    metrics.classifier(images, seed=1, steps=200, cache=cache)
    metrics.classifier(images, steps=201, cache=cache)
    assert len(list(cache.iterdir())) == 3

    path.write_bytes(b"damaged")  # it is made anew, and written over
    metrics.classifier(images, steps=200, cache=cache)
    assert path.read_bytes() != b"damaged"
    path.write_bytes(written)


def test_other_images_than_its_own_are_refused(judge):
    with pytest.raises(ValueError, match=r"\(28, 28, 1\).*\(8, 8, 1\)"):
        judge.probabilities(np.zeros((2, 28, 28, 1), np.float32))


def test_grey_levels_and_nan_are_refused(judge, images, x):
    with pytest.raises(ValueError, match=r"images are uint8; give numbers in \[0, 1\]"):
        judge.recognised(images.test.images)
    diverged = x.copy()
    diverged[3, 0, 0] = np.nan
    for verdict in (judge.recognised, judge.features, lambda x: judge.accuracy(x, np.zeros(len(x)))):
        with pytest.raises(ValueError, match="Classifier: 1 of the .* images have NaN or infinity, the first is number 3"):
            verdict(diverged)


def test_its_loss_has_the_right_gradient():
    model = recognition.Classifier.init(Generator(0), (8, 8, 1))
    batch = Generator(1).uniform((2, 8, 8, 1), np.float64), np.array([3, 7])

    def loss(bias):
        return recognition._loss(replace(model, last=replace(model.last, bias=bias)), batch, Generator(2))[0]

    check_grads(loss, (np.linspace(-1, 1, 10),), 1)
