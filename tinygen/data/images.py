"""Images as they come: whole grey levels and labels, in three fixed parts.

    name      levels   image    train   validation   test
    digits        17    8 x 8    1297          200    300    in the package, see DIGITS.md
    mnist        256   28 x 28  55000         5000  10000    see mnist.py

MNIST is published in two parts. The last 5,000 images of its training file are set apart for validation, so that choices
need not be made on the 10,000 of its test file. The digits come in one part; the order in which they are cut is in the file.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import mnist


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: images uint8 (N, H, W, 1), grey levels from 0; labels int64 (N,)."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Images:
    """A data set: its name, the number of grey levels (a pixel is one of 0 .. levels - 1), and its three parts."""

    name: str
    levels: int
    train: Split
    validation: Split
    test: Split


def load(name):
    """The data set of that name, an `Images`. ValueError for an unknown name; see mnist.py for a missing file."""
    if name not in DATA_SETS:
        raise ValueError(f"load: no images are called {name!r}; the known names are {', '.join(DATA_SETS)}")
    return DATA_SETS[name]()


def _digits():
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        images, labels = file["images"][file["order"]], file["labels"][file["order"]]
    return Images("digits", 17, *_parts(images, labels, 1297, 200, 300))


def _mnist():
    images, labels, test_images, test_labels = mnist.load()
    return Images("mnist", 256, *_parts(images, labels, 55000, 5000), *_parts(test_images, test_labels, 10000))


DATA_SETS = {"digits": _digits, "mnist": _mnist}


def _parts(images, labels, *sizes):
    ends = np.cumsum(sizes)
    return [
        Split(images[end - size : end, :, :, None], labels[end - size : end].astype(np.int64))
        for size, end in zip(sizes, ends, strict=True)
    ]
