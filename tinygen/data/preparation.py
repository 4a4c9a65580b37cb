r"""Which random variable a model is a model of: grey levels made into bits, or into real numbers.

A likelihood means something only together with the preparation of its data. For a grey level g in 0 .. L - 1,

    static        x ~ Bernoulli(g / (L - 1)), drawn once and kept     nats, a probability      Salakhutdinov & Murray 2008
    dynamic       x ~ Bernoulli(g / (L - 1)), drawn anew each time    nats, a probability      Burda et al. 2016
    dequantised   x = (g + u) / L,  u ~ U[0, 1)                       a density on [0, 1)      Uria et al. 2013
    grey          x = g / (L - 1)                                     no randomness, in [0, 1]

A density p of dequantised data bounds the probability of the D grey levels g: log P(g) >= E_u[log p(x)] - D log L (Jensen;
Theis et al. 2016, section 3.1). So the honest figure is -log2 p(x) / D + log2 L bits per dimension; with 256 levels this is
what is called 8-bit data. `grey` is a finite set of points, which has no density: it is for GANs, and for looking.

What is drawn once is drawn from noise that belongs to the image itself: u is a hash of the image's grey levels. So a static
image is the same on every machine, in whatever batch, order or subset it comes, and so is a test figure. (Static MNIST as
Larochelle & Murray 2011 published it is another draw of the same variable.)
"""

import math

import numpy as np

from .. import ops
from ..backend import array_module

SEED = 28  # of the noise that belongs to an image; another would make another static data set, as good as this one


def prepare(name, images, levels, rng):
    """x of the named preparation, for training: `static` gives each image its one draw, the others draw from rng.

    images uint8 (N, H, W, C) of grey levels below `levels` -> float32 of the same shape.
    ValueError for an unknown name, fewer than 2 levels, and grey levels out of range; TypeError for images that are not uint8.
    """
    preparation, g = _preparation(name), _grey_levels(images, levels)
    return preparation(g, levels, own_noise(images) if name == "static" else rng.uniform(images.shape, np.float32))


def prepare_once(name, images, levels):
    """x of the named preparation, for evaluation: every image has one draw, the same at every call and for everybody.

    For `dynamic` it is the draw of `static`: the two differ in what a model is trained on, not in what it is tested on.
    (Drawing the test set anew at every pass, as published code does, makes a figure that nobody can reproduce, and invites
    the best of several.) Arguments, result and errors are those of `prepare`.
    """
    return _preparation(name)(_grey_levels(images, levels), levels, own_noise(images))


def binarised(g, levels, u):
    """x = 1 where u < g / (levels - 1), otherwise 0: Bernoulli(g / (levels - 1)) for u uniform on [0, 1)."""
    return (u < g / (levels - 1)).astype(np.float32)


def dequantised(g, levels, u):
    """x = (g + u) / levels, in (0, 1), where u is first moved to the middle of its interval among 2^15 of them.

    A float32 has 24 bits: 8 for the grey level leave 16 for the noise. With more, g + u would be rounded up to the next grey
    level now and then, and x to 1. The middle keeps the mean at 1/2, and x off 0, where a logit is infinite.
    """
    return (g + (ops.floor(u * 2**15) + 0.5) / 2**15) / levels


def grey(g, levels, u):
    """x = g / (levels - 1), in [0, 1]; u is not used."""
    return g / (levels - 1)


PREPARATIONS = {"static": binarised, "dynamic": binarised, "dequantised": dequantised, "grey": grey}


def own_noise(images):
    """u in [0, 1), of the images' shape, float32: uniform, independent between pixels and between different images.

    A function of the image: a stretch of the SplitMix64 sequence (Steele et al. 2014) that begins at a hash of the image.
    """
    xp = array_module(images)
    flat = images.reshape(len(images), math.prod(images.shape[1:])).astype(np.uint64)
    pixel = xp.arange(1, flat.shape[1] + 1, dtype=np.uint64)
    start = _splitmix((flat * _splitmix(pixel + np.uint64(SEED << 32))).sum(axis=1, dtype=np.uint64))
    bits = _splitmix(start[:, None] + pixel) >> np.uint64(40)  # the upper 24: what a float32 can hold
    return (bits.astype(np.float32) / 2**24).reshape(images.shape)


def _splitmix(n):
    """The n-th number of the SplitMix64 sequence, uint64, for an array n of uint64."""
    n = n * np.uint64(0x9E3779B97F4A7C15)
    n = (n ^ (n >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    n = (n ^ (n >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return n ^ (n >> np.uint64(31))


def _preparation(name):
    if name not in PREPARATIONS:
        raise ValueError(f"prepare: no preparation is called {name!r}; the known names are {', '.join(PREPARATIONS)}")
    return PREPARATIONS[name]


def _grey_levels(images, levels):
    if images.dtype != np.uint8:
        raise TypeError(f"prepare: images hold {images.dtype}, but grey levels are uint8; give the images as `load` does")
    if levels < 2:
        raise ValueError(f"prepare: data of {levels} levels has nothing to tell; there are at least 2, black and white")
    _require_below(images, levels)
    return images.astype(np.float32)


@ops.opaque
def _require_below(images, levels):
    if array_module(images) is np and images.size and images.max() >= levels:  # on a GPU nobody looks, and waits
        raise ValueError(f"prepare: grey level {images.max()} in data of {levels} levels; give the levels of its `Images`")
