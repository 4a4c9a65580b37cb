"""Modes captured: of data whose modes are known, how many does a sampler reach? For the 2-D mixtures of data/toy.py."""

from typing import NamedTuple

import numpy as np

from .neighbours import nearest
from .points import points


class Modes(NamedTuple):
    """How many modes are captured, and the share of samples that are good, from 0 to 1."""

    captured: int
    good: float


def modes_captured(samples, modes, std, least=1):
    """How many modes are the nearest to `least` good samples or more, and the share of good samples: a Modes.

    A sample is good within 3 std of its nearest mode: of samples of a 2-D Gaussian itself, a share 1 - e^-4.5 = 98.9% is.
    Published counts take least = 1 of 2500 samples (Srivastava et al. 2017), by which a smear over everything captures all
    modes; so look at the share too. samples (n, d), modes (k, d). ValueError for NaN, other shapes, std <= 0 or least < 1.
    """
    samples, modes = points("modes_captured", samples=samples, modes=modes)
    if not 0 < std < np.inf or least < 1:
        raise ValueError(f"modes_captured: std is {std} and least {least}; give a std above 0, and at least 1 sample")
    distance, mode = nearest(samples, modes)
    good = distance < 3 * std
    counts = np.bincount(mode[good], minlength=len(modes))
    return Modes(int((counts >= least).sum()), float(good.mean()))
