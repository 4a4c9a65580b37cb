r"""How weights begin: with variances that keep signals the same size through many layers.

Let y = \sum_{i=1}^{fan_in} w_i x_i with independent terms: Var(y) = fan_in Var(w) E[x^2]. And a gradient comes back as a sum
of fan_out such terms. So Var(w) decides whether signals, and gradients, grow or fade from layer to layer:

    lecun_normal      Var = 1 / fan_in                 signals keep their size           LeCun et al. 1998, section 4.6
    glorot_uniform    Var = 2 / (fan_in + fan_out)     a compromise with gradients       Glorot & Bengio 2010, eq. 16
    he_normal         Var = 2 / fan_in                 relu halves E[x^2]: twice LeCun   He et al. 2015, eq. 10
    normal(std)       Var = std^2                      whatever the fans
    zeros, ones       Var = 0                          zeros as a last layer: a block that begins as nothing

An initialiser is a function (rng, shape, fan_in, fan_out) -> float32 array. fan_in and fan_out are what was said above: the
number of terms in an output, and in the gradient of an input.
"""

import math

import numpy as np

from .doors import require_generator


def lecun_normal(rng, shape, fan_in, fan_out):
    """N(0, 1 / fan_in)."""
    require_generator("lecun_normal", rng)
    return rng.normal(shape) * math.sqrt(1 / fan_in)


def glorot_uniform(rng, shape, fan_in, fan_out):
    """U[-a, a) with a = sqrt(6 / (fan_in + fan_out)); the variance of U[-a, a) is a^2 / 3."""
    require_generator("glorot_uniform", rng)
    a = math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(shape) * (2 * a) - a


def he_normal(rng, shape, fan_in, fan_out):
    """N(0, 2 / fan_in)."""
    require_generator("he_normal", rng)
    return rng.normal(shape) * math.sqrt(2 / fan_in)


def normal(std):
    """The initialiser N(0, std^2); DCGAN takes std = 0.02 everywhere (Radford et al. 2016, section 4)."""

    def initialise(rng, shape, fan_in=None, fan_out=None):
        require_generator("normal", rng)
        return rng.normal(shape) * std

    return initialise


def zeros(rng, shape, fan_in=None, fan_out=None):
    """0 everywhere."""
    return np.zeros(shape, np.float32)


def ones(rng, shape, fan_in=None, fan_out=None):
    """1 everywhere."""
    return np.ones(shape, np.float32)
