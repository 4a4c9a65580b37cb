"""A PixelCNN draws the same images on a GPU as on the CPU, from the same random numbers, by one kernel."""

import numpy as np
import pytest

from tests.cuda.test_no_transfers import DEVICES, SameEverywhere, watched
from tinygen import Generator, kernels, train
from tinygen.backend import to_device
from tinygen.models.pixelcnn import PixelCNN

MODELS = {
    "plain, black and white": lambda rng: PixelCNN.plain(rng, (5, 6, 1), 2, channels=8, blocks=2, first_kernel=5),
    "gated, grey, with classes": lambda rng: PixelCNN.gated(rng, (4, 5, 1), 5, channels=4, layers=2, first_kernel=3, classes=3),
}


def random_weights(model):
    """As initialised, the last layer is zero, and all pixels are a toss."""
    last = model.head[-1]
    last.weight[...] = np.random.default_rng(0).normal(size=last.weight.shape)
    return model


@pytest.mark.skipif(not kernels.raster.fast(), reason="this processor draws with the same numbers in another order")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", MODELS)
def test_the_same_numbers_draw_the_same_images(case, device, monkeypatch):
    monkeypatch.setattr(PixelCNN, "_draw", None)  # the slow way, without the kernel
    model = random_weights(MODELS[case](Generator(0)))
    labels = None if model.classes is None else np.array([0, 2, 1])
    begun = model.sample(SameEverywhere(1), 3, labels)
    expected = [begun, model.complete(SameEverywhere(2), begun, 7, labels)]
    with watched(device) as transfers:
        there, begun = train.move(model, "gpu"), to_device(begun, "gpu")
        labels = None if labels is None else to_device(labels, "gpu")
        there.sample(SameEverywhere(0, "gpu"), 3, labels)  # once, what the kernel is to do goes there
        transfers.forget() if device == "pretended" else None
        seen = [there.sample(SameEverywhere(1, "gpu"), 3, labels), there.complete(SameEverywhere(2, "gpu"), begun, 7, labels)]
        assert not transfers.uploads + transfers.downloads + transfers.reads
        seen = [to_device(x, "cpu") for x in seen]
    for a, b in zip(seen, expected):
        assert a.dtype == b.dtype and len(np.unique(a)) > 1
        np.testing.assert_array_equal(a, b)
