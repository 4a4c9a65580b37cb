r"""Figures of likelihood that say what they are: equal to the truth, or a bound on it, and by which method.

    nats         -log p(x)                      = if exact, <= from a LowerBound: "ELBO", "IWAE, k = 50"
    perplexity   exp(-log p(x) / symbols)       the same: the number of equally likely choices for each symbol
    annealed     E(x) + log Z                   >= : annealed importance sampling bounds log Z from below

Bits per dimension are in density.py. All are means over examples, of -log p, so that less is better.
"""

import math
from typing import NamedTuple

import numpy as np

from ..density import Energy, Exact, LowerBound


class Figure(NamedTuple):
    """A mean with what it says of the truth: "=" it, "<=" (the truth is at most this) or ">="."""

    relation: str
    value: float
    standard_error: float
    unit: str
    how: str = ""

    def __str__(self):
        how = f" ({self.how})" if self.how else ""
        return f"{self.relation} {self.value:.4g} +- {self.standard_error:.2g} {self.unit}{how}"


def nats(density):
    """-log p(x), the mean over examples: "=" for an Exact, "<=" for a LowerBound. TypeError for anything else."""
    if not isinstance(density, (Exact, LowerBound)):
        raise TypeError(
            f"nats: a {type(density).__name__} does not say what log p(x) is; give an Exact or a LowerBound, or `annealed` the "
            "Energy"
        )
    summary = density.summary()
    relation, how = ("=", "") if isinstance(density, Exact) else ("<=", density.how)
    return Figure(relation, -summary.mean, summary.standard_error, "nats", how)


def perplexity(density, symbols):
    """exp(-log p(x) / symbols), of the mean of log p: from 1, for examples of so many symbols each (pixels, letters).

    A model that finds K values equally likely for each symbol has perplexity K. Errors as `nats`; ValueError for symbols < 1.
    """
    if symbols < 1:
        raise ValueError(f"perplexity: symbols is {symbols}; give how many there are in an example, at least 1")
    of_example = nats(density)
    with np.errstate(over="ignore"):  # as large as infinity, then
        value = float(np.exp(of_example.value / symbols))
    return Figure(of_example.relation, value, value * of_example.standard_error / symbols, "perplexity", of_example.how)


def annealed(energy, log_weights):
    r"""E(x) + log Z, the mean over examples, with Z estimated by the mean of annealed importance weights: a Figure with ">=".

    The weights' mean is Z on average, and the logarithm is concave, so on average log Z_hat <= log Z: an optimist's figure. Its
    standard error has the chance in both means, and is too small where few chains have most of the weight: for 200 chains with
    normal log weights of standard deviation 0.3, 1 and 2, intervals of two of them hold the truth in 0.95, 0.92 and 0.79 of
    500 draws. energy an Energy, log_weights (chains,), one for each annealed chain.
    TypeError for another density, ValueError for other shapes or NaN. Source: Neal 2001.
    """
    if not isinstance(energy, Energy):
        raise TypeError(f"annealed: expected an Energy, not a {type(energy).__name__}, which needs no log Z: call `nats`")
    log_weights = np.asarray(log_weights, np.float64)
    if log_weights.ndim != 1 or not log_weights.size or not np.isfinite(log_weights.max()):
        raise ValueError(f"annealed: log_weights have shape {log_weights.shape}; give a finite number for each chain")
    largest = log_weights.max()
    weights = np.exp(log_weights - largest)
    n = len(weights)
    of_log_z = weights.std(ddof=1) / weights.mean() / math.sqrt(n) if n > 1 else math.nan
    summary = energy.summary()
    value = summary.mean + largest + math.log(weights.mean())
    return Figure(">=", float(value), math.hypot(summary.standard_error, of_log_z), "nats", f"annealed, {n} chains")
