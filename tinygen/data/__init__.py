"""Data: images as grey levels, the random variables made from them, 2-D toy densities, and minibatches.

    images = load("digits")                                  grey levels and labels, split in three
    batches = Batches(images.train.images, 64, seed=0)       batches.at(step): minibatch number `step`
    batches = Draws(lambda rng: toy.sample(rng, 64), seed=0) the same of new samples
    x = prepare("dynamic", batches.at(step), images.levels, rng)
    x_test = prepare_once("dynamic", images.test.images, images.levels)
    toy.load("pinwheel").log_prob(x)                         the exact density of a 2-D toy

Images stay uint8 until they are prepared: the preparation says which random variable a likelihood is of.
"""

from . import toy
from .batches import Batches, Draws
from .images import Images, Split, load
from .preparation import prepare, prepare_once

__all__ = ["Batches", "Draws", "Images", "Split", "load", "prepare", "prepare_once", "toy"]
