r"""Calibration: of the things to which a model gives the probability p, does a share p happen?

    calibration_error        for probabilities of 1, of pixels or classes: sum over bins b of n_b / n |mean of p - share of 1s|
    likelihood_calibration   for the likelihoods of whole examples

The likeliest part of a model's samples, up to a share a of them, is a region that should hold a share a of the data. With F(a)
the share that it does hold, the error is the mean over a of |F(a) - a|. It is no prize for high likelihood: data may also be
likelier under a model than the model's own samples ever are. Only the order of likelihoods counts, so a constant (log Z) may be
unknown.

Sources: Naeini et al. 2015; Guo et al. 2017, eq. 3. Highest-density regions: Hyndman 1996.
"""

from typing import NamedTuple

import numpy as np

from .points import share_below


class LikelihoodCalibration(NamedTuple):
    """The mean over a of |F(a) - a|, from 0 to 1/2, and P(a datum is less likely than a sample): 1/2 if calibrated."""

    error: float
    data_less_likely: float


def calibration_error(probabilities, outcomes, bins=10):
    """sum over bins of n_b / n |mean of p - share of 1s|, from 0 to 1: p in [0, 1] and outcomes in {0, 1}, of one shape.

    The bins are equal parts of [0, 1]. By chance the error is above 0 also for a calibrated model: its floor is that of
    outcomes drawn from the probabilities themselves, rng.bernoulli(p). ValueError for other values or shapes.
    """
    p, happened = np.asarray(probabilities, np.float64).ravel(), np.asarray(outcomes, np.float64).ravel()
    if np.shape(probabilities) != np.shape(outcomes) or not p.size:
        raise ValueError(
            f"calibration_error: probabilities have shape {np.shape(probabilities)}, and outcomes {np.shape(outcomes)}; give "
            "one outcome for each probability, and at least one"
        )
    if not ((p >= 0) & (p <= 1)).all() or not np.isin(happened, (0, 1)).all():
        raise ValueError("calibration_error: probabilities must lie in [0, 1], and outcomes be 0 or 1; neither has NaN")
    if bins < 1:
        raise ValueError(f"calibration_error: bins is {bins}; give at least 1")
    bin_of = np.minimum((p * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(bin_of, p - happened)).sum() / len(p))


def likelihood_calibration(of_data, of_samples):
    """The mean over a of |F(a) - a|, and P(a datum is less likely than a sample): a LikelihoodCalibration.

    of_data (n,) and of_samples (m,): log p(x) of test data, and of samples of the same model; or an increasing function of
    it, say minus an energy. For a datum x, the smallest region that holds it is a = P(a sample is likelier than x).
    ValueError for other shapes, or NaN; TypeError for a density, whose `nats` are meant.
    """
    if hasattr(of_data, "nats") or hasattr(of_samples, "nats"):
        raise TypeError("likelihood_calibration: of_data and of_samples are numbers; give log_prob(x).nats")
    data, samples = np.asarray(of_data, np.float64), np.asarray(of_samples, np.float64)
    for name, values in (("of_data", data), ("of_samples", samples)):
        if values.ndim != 1 or not values.size or np.isnan(values).any():
            raise ValueError(
                f"likelihood_calibration: {name} has shape {values.shape}; give one number for each example, not NaN"
            )
    held, expected = (1 - share_below(among, samples) for among in (data, samples))
    return LikelihoodCalibration(float(np.abs(held - expected).mean()), float(share_below(data, samples).mean()))
