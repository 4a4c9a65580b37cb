r"""A classifier of the data set at hand, to judge samples by: do they look like one of its classes, and like all of them?

    recognised    the share of images to which some class is given a probability above 0.9
    features      the last hidden layer: where distances between images mean more than between pixels

It is a small convolutional network, trained here, on the training images of the same data set. So its verdicts are no
Inception scores, and comparable only with others by the same classifier: set the same figure on test images beside each.
"""

import hashlib
from pathlib import Path

import numpy as np

from .. import ops
from ..autograd.tree import module
from ..backend import Generator
from ..data import Batches, prepare_once
from ..nn import Conv2d, Dropout, Flatten, Linear, Sequential, init
from ..optim import Adam, begin, cosine, minimise
from ..train import fit, load_checkpoint, save_checkpoint
from .points import check_finite

BATCH = 128


@module
class Classifier:
    """p(class | x) = softmax(last(body(x))): x (N, H, W, C) in [0, 1] -> 10 classes.

    ValueError for images of another shape, of NaN, or of whole grey levels.
    """

    body: Sequential
    last: Linear
    shape: tuple

    @staticmethod
    def init(rng, shape, classes=10):
        """Two convolutions that halve height and width, the first of them only where there are more than 8 rows."""
        height, width, colours = shape
        layers, sizes, large = [], (colours, 32, 64), height > 8
        for c_in, c_out, stride in zip(sizes, sizes[1:], (1 + large, 2)):
            layers += [Conv2d.init(rng, c_in, c_out, 3 + 2 * large, stride, initialiser=init.he_normal), ops.relu]
            height, width = -(-height // stride), -(-width // stride)
        hidden = Linear.init(rng, height * width * c_out, 128, initialiser=init.he_normal)
        body = Sequential([*layers, Flatten(), Dropout(0.25), hidden, ops.relu])
        return Classifier(body, Linear.init(rng, 128, classes), tuple(shape))

    def logits(self, x, rng):
        """Of the classes, (N, classes). rng is the dropout's: None but in training."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"Classifier: images have shape {tuple(x.shape[1:])}, but this one was made for {self.shape}")
        return self.last(Dropout(0.5)(self.body(x, rng=rng), rng))

    def features(self, x):
        """The last hidden layer, (N, 128)."""
        return _in_parts(lambda part: self.body(part, rng=None), x)

    def probabilities(self, x):
        """p(class | x), (N, classes)."""
        return _in_parts(lambda part: ops.softmax(self.logits(part, None)), x)

    def accuracy(self, x, labels):
        """The share of images whose likeliest class is the label's."""
        return float((self.probabilities(x).argmax(axis=1) == labels).mean())

    def recognised(self, x, threshold=0.9):
        """The share of images to which some class is given a probability above the threshold."""
        return float((self.probabilities(x).max(axis=1) > threshold).mean())


def classifier(images, seed=0, steps=None, cache=None, progress=True):
    """The classifier of a data set, an `Images`: trained once, then read from the cache.

    steps: if not given, 1500 for the digits, which take 20 seconds, and 2000 for MNIST, which take two minutes. cache: a
    folder, by default the user's. A file there is named by a hash of the training images, labels, seed and steps.
    """
    steps = (1500 if images.name == "digits" else 2000) if steps is None else steps
    model = Classifier.init(Generator(seed), images.train.images.shape[1:])
    path = _cache_folder(cache) / f"{images.name}-{_digest(images, seed, steps)}.safetensors"
    try:
        return load_checkpoint(path, model)[0]
    except (FileNotFoundError, ValueError):  # not there, damaged, or of another version of this file: train it
        pass
    optimiser = Adam(cosine(2e-3, steps))
    x = prepare_once("grey", images.train.images, images.levels)
    batches = Batches((x, images.train.labels), BATCH, seed)
    model = fit(minimise(_loss, optimiser), begin(model, optimiser), batches, steps, seed=seed, progress=progress).params
    save_checkpoint(path, model, steps, seed)
    return model


def _loss(model, batch, rng):
    """The mean of -log p(label | x), the images moved by up to a pixel in each direction."""
    x, labels = batch
    return -ops.categorical_log_prob(labels, model.logits(_moved(x, rng), rng)).mean(), {}


def _moved(x, rng):
    _, height, width, _ = x.shape
    down, right = rng.integers(0, 3, 2)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return padded[:, down : down + height, right : right + width]


def _in_parts(f, x):
    if x.dtype.kind != "f":
        raise ValueError(
            f"Classifier: images are {x.dtype}; give numbers in [0, 1], as data.prepare_once('grey', ...) makes them"
        )
    check_finite("Classifier", "images", x)
    return np.concatenate([f(x[i : i + 500]) for i in range(0, max(1, len(x)), 500)])


def _cache_folder(cache):
    import pooch

    return Path(cache) if cache else pooch.os_cache("tinygen") / "classifiers"


def _digest(images, seed, steps):
    arrays = images.train.images, images.train.labels, np.array([seed, steps])
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()[:16]
