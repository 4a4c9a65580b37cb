"""What the chains draw: numbers, vectors, matrices and distributions in float64, simple ones first, extreme ones among them."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays


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
