r"""Distributions of single numbers and choices, the building blocks of models: densities, samples, entropies, divergences.

    Gaussian(mean, log_var)    Var = exp(log_var), so the standard deviation is exp(log_var / 2)
    Bernoulli(logits)          p(x = 1) = sigmoid(logits)
    Categorical(logits)        p(x = i) = softmax(logits)_i, along the last axis

    kl(q, p)                   KL(q || p) = E_q[log q - log p] >= 0, and 0 only if q = p

A distribution is a tree of its parameters, arrays of any shape, whose elements are independent. Everything is elementwise: one
result for each element, in nats; what belongs to one example is for the caller to sum. Parameters that need gradients get
them. (So `log_prob` here returns arrays; a model's returns a `density.Exact`.)

Networks put out log_var and logits because these may be any number. exp(log_var) is the variance in every method here:
published code has used it as the standard deviation of its samples and as the variance in its divergence.
"""

import math

import numpy as np

from . import ops
from .autograd.tree import Array, module
from .backend import array_module

LOG_2PI = math.log(2 * math.pi)


@module
class Gaussian:
    """N(mean, exp(log_var)), elementwise; the two broadcast against one another, and one of them may be a Python number."""

    mean: Array
    log_var: Array

    def __post_init__(self):
        for name, other in (("mean", self.log_var), ("log_var", self.mean)):
            if isinstance(getattr(self, name), (int, float)):
                object.__setattr__(self, name, _number_like(getattr(self, name), other, name))

    @property
    def shape(self):
        return np.broadcast_shapes(self.mean.shape, self.log_var.shape)

    @property
    def std(self):
        """exp(log_var / 2)."""
        return ops.exp(0.5 * self.log_var)  # [reparameterisation.variance]

    def log_prob(self, x):
        """-1/2 (log 2 pi + log_var + (x - mean)^2 / exp(log_var)), elementwise, nats: a density."""
        deviation = x - self.mean
        return -0.5 * (self.log_var + deviation * deviation * ops.exp(-self.log_var) + LOG_2PI)

    def sample(self, rng):
        """mean + std eps with eps ~ N(0, 1): a smooth function of the parameters, so gradients pass through the sample.

        Source: Kingma & Welling 2014, section 2.4.
        """
        return self.mean + self.std * rng.normal(self.shape, self.mean.dtype)  # [reparameterisation.pathwise]

    def sample_with_kl(self, rng):
        """(z, KL(q || N(0, 1))), elementwise, in one pass: z as `sample` draws it, and the divergence as `kl` has it."""
        return ops.reparameterise(self.mean, self.log_var, rng.normal(self.shape, self.mean.dtype))

    def entropy(self):
        """1/2 (1 + log 2 pi + log_var), elementwise, nats; a density's entropy can be negative."""
        return ops.broadcast_to(0.5 * (1 + LOG_2PI + self.log_var), shape=self.shape)


@module
class Bernoulli:
    """p(x = 1) = sigmoid(logits), elementwise."""

    logits: Array

    @property
    def mean(self):
        """sigmoid(logits), the probability of 1."""
        return ops.sigmoid(self.logits)

    def log_prob(self, x):
        """x l - softplus(l), elementwise, nats, for x in {0, 1}; x and the logits l broadcast.

        It is also computed for grey x in [0, 1], and is then minus a cross-entropy: the expectation of log p(b) over bits b
        that are 1 with probability x. It is not the log of a density on [0, 1], which it does not normalise
        (Loaiza-Ganem & Cunningham 2019). ValueError for x outside [0, 1], where it is nothing at all.
        """
        values = ops.stop_gradient(x)
        if isinstance(values, np.ndarray) and values.size and not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(  # on a GPU nobody looks: the answer would have to be waited for
                f"Bernoulli.log_prob: x lies in [{values.min():g}, {values.max():g}], but its values are 0 and 1, or "
                "probabilities of 1; prepare the data so, or take a Gaussian"
            )
        return ops.bernoulli_log_prob(x, self.logits)  # [reparameterisation.choices]

    def sample(self, rng):
        """0 or 1, of the logits' shape and dtype, as a constant: gradients do not pass through a choice."""
        logits = ops.stop_gradient(self.logits)
        return rng.bernoulli(ops.sigmoid(logits), logits.dtype)

    def entropy(self):
        """-p log p - (1 - p) log(1 - p), elementwise, nats; written with softplus, which loses nothing where p rounds to 1."""
        return self.mean * ops.softplus(-self.logits) + ops.sigmoid(-self.logits) * ops.softplus(self.logits)


@module
class Categorical:
    """p(x = i) = softmax(logits)_i: logits (..., n) for a choice among 0 .. n - 1. Only differences of logits matter."""

    logits: Array

    @property
    def mean(self):
        """softmax(logits): the mean of the one-hot vector of x, which is the probabilities."""
        return ops.softmax(self.logits)

    def log_prob(self, x):
        """logits_x - log sum_i e^logits_i, nats, for integers x of the logits' shape without the last axis; of x's shape.

        ValueError for another shape, TypeError for x that are not integers, IndexError for x outside 0 .. n - 1.
        """
        *shape, n = self.logits.shape
        if x.dtype.kind not in "iu":
            raise TypeError(f"Categorical.log_prob: x must be integers, not {x.dtype}; convert it with .astype(int)")
        if tuple(x.shape) != tuple(shape):
            raise ValueError(
                f"Categorical.log_prob: x has shape {tuple(x.shape)} and the logits {tuple(self.logits.shape)}; x must have "
                "the logits' shape without its last axis, which holds the classes"
            )
        _require_choices(x, n)
        return ops.categorical_log_prob(x, self.logits)

    def sample(self, rng):
        """Integers, of the logits' shape without the last axis: gradients do not pass through a choice."""
        return rng.categorical(ops.softmax(ops.stop_gradient(self.logits)))

    def entropy(self):
        """-sum_i p_i log p_i, nats, of the logits' shape without the last axis."""
        return -ops.sum(self.mean * ops.log_softmax(self.logits), axis=-1)


def kl(q, p):
    """KL(q || p) = E_q[log q(x) - log p(x)], nats, in closed form, for two distributions of one type; of their entropy's shape.

    Computed values can fall below 0 by rounding where q and p almost agree. TypeError where there is no closed form here.
    """
    if type(q) is not type(p) or type(q) not in _CLOSED_FORMS:
        raise TypeError(
            f"kl: there is no closed form for KL({type(q).__name__} || {type(p).__name__}), only for two of the same among "
            f"{', '.join(kind.__name__ for kind in _CLOSED_FORMS)}; estimate it as the mean of q.log_prob(x) - p.log_prob(x) "
            "over x = q.sample(rng)"
        )
    return _CLOSED_FORMS[type(q)](q, p)


def _kl_gaussian(q, p):
    """1/2 (v_q / v_p - 1 - log(v_q / v_p) + (m_q - m_p)^2 / v_p); for p = N(0, 1), Kingma & Welling 2014, appendix B."""
    log_ratio, deviation = q.log_var - p.log_var, q.mean - p.mean
    return 0.5 * (ops.expm1(log_ratio) - log_ratio + deviation * deviation * ops.exp(-p.log_var))  # [gaussian_kl.diagonal]


def _kl_bernoulli(q, p):
    """a (log a - log b) + (1 - a) (log(1 - a) - log(1 - b)), where log a = -softplus(-l) and log(1 - a) = -softplus(l)."""
    ones = q.mean * (ops.softplus(-p.logits) - ops.softplus(-q.logits))
    return ones + ops.sigmoid(-q.logits) * (ops.softplus(p.logits) - ops.softplus(q.logits))


def _kl_categorical(q, p):
    r"""\sum_i a_i (log a_i - log b_i)."""
    return ops.sum(q.mean * (ops.log_softmax(q.logits) - ops.log_softmax(p.logits)), axis=-1)


@ops.opaque
def _require_choices(x, n):
    if array_module(x) is np and x.size and (x.min() < 0 or x.max() >= n):
        raise IndexError(
            f"Categorical.log_prob: x lies in {x.min()} .. {x.max()}, but there are {n} classes, 0 .. {n - 1}; give the logits "
            "as many classes as the data has"
        )


_CLOSED_FORMS = {Gaussian: _kl_gaussian, Bernoulli: _kl_bernoulli, Categorical: _kl_categorical}


def _number_like(number, other, name):
    """A Python number as an array like the other parameter: as a float64 it would make all results float64."""
    if not hasattr(other, "dtype"):
        raise TypeError(f"Gaussian: both parameters are Python numbers; give {name} as an array, whose dtype decides")
    return array_module(ops.stop_gradient(other)).asarray(number, dtype=other.dtype)
