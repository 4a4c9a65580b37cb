"""What the chains draw: numbers, vectors, matrices and distributions in float64, simple ones first, extreme ones among them."""

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from .. import ops
from ..autograd import tree
from ..backend import Generator


def numbers(low=-3.0, high=3.0):
    """A number from an interval; its ends, and 0 if it is within, come often."""
    return st.floats(low, high, allow_subnormal=False).map(lambda x: 0.0 if abs(x) < 1e-6 else x)


def vectors(n, low=-3.0, high=3.0):
    """(n,) or, where n is a shape, an array."""
    return arrays(np.float64, n, elements=numbers(low, high), fill=st.nothing())


def covariances(n):
    """Positive definite (n, n), with eigenvalues from about 1/20 to 30: A A^T + I / 20."""
    return vectors((n, n), -2, 2).map(lambda a: a @ a.T + np.eye(n) / 20)


def probabilities(shape, smallest=1e-3):
    """Rows that sum to 1, with entries of at least `smallest` before they are normalised."""
    return vectors(shape, smallest, 1.0).map(lambda p: p / p.sum(axis=-1, keepdims=True))


@st.composite
def disturbed(draw, made, largest=1.0):
    """The model in float64 with random numbers of a drawn size, 0 among them, for all of its parameters."""
    rng, size = Generator(draw(st.integers(0, 999))), draw(numbers(0, largest))
    return tree.map(lambda leaf: size * rng.normal(leaf.shape, np.float64), made)


@dataclass
class Mixture:
    """sum_j weights_j N(means_j, variances_j I): (J,), (J, D), (J,). The weights may sum to less than 1: a part of a whole.

    Its log-density can be differentiated, also by the level of noise. Points are x (..., D).
    """

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    @property
    def D(self):
        return self.means.shape[1]

    def at(self, abar):
        """Its x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps."""
        return Mixture(self.weights, abar**0.5 * self.means, abar * self.variances + 1 - abar)

    def part(self, chosen):
        return Mixture(self.weights[chosen], self.means[chosen], self.variances[chosen])

    def log_terms(self, x):
        """log of weights_j N(x; ...), (..., J)."""
        away = ((x[..., None, :] - self.means) ** 2).sum(axis=-1)
        return -0.5 * away / self.variances + np.log(self.weights) - 0.5 * self.D * ops.log(2 * math.pi * self.variances)

    def log_density(self, x):
        return ops.logsumexp(self.log_terms(x), axis=-1)

    def shares(self, x):
        """p(j | x), (..., J)."""
        terms = self.log_terms(x)
        joint = np.exp(terms - terms.max(axis=-1, keepdims=True))
        return joint / joint.sum(axis=-1, keepdims=True)

    def score(self, x):
        """In closed form: each component's score, by its share."""
        return self._by_shares(x, (self.means - x[..., None, :]) / self.variances[:, None])

    def denoised(self, x, abar):
        """E[x_0 | x_t = x]: each component's regression line, by its share."""
        noised = self.at(abar)
        slopes = (math.sqrt(abar) * self.variances / noised.variances)[:, None]
        return noised._by_shares(x, self.means + slopes * (x[..., None, :] - noised.means))

    def _by_shares(self, x, of_each):
        return (self.shares(x)[..., None] * of_each).sum(axis=-2)


@st.composite
def mixtures(draw, J=None, D=None):
    """Of J components, or of one to three; in D dimensions, or in one to three."""
    J, D = J or draw(st.integers(1, 3)), D or draw(st.integers(1, 3))
    return Mixture(draw(probabilities(J, 0.05)), draw(vectors((J, D))), np.exp(draw(vectors(J, -1.4, 1))))
