r"""What a figure is worth: what real data would get, and how it moves with the number of samples.

    floor                  the metric between two disjoint parts of real data: nothing beats it but by chance, or by copying
    against_sample_count   the metric at growing n: does it still move?

A metric here is a function (real, samples) -> a number or a tuple of numbers, as most in this package are:

    floor(frechet_distance, features, rng)
    floor(lambda real, samples: inception_style_score(judge.probabilities(samples)), images, rng)

Between real and real the Frechet distance is 0 in truth, so its floor at n is its bias at n. Of MNIST's test images, by the
features of `classifier`, and for comparison of the images with noise of standard deviation 0.15 against those without:

    n       Frechet   noise      kernel distance    noise      precision   noise      recall   noise      coverage   noise
    100       47.5     77.5        0.3 +- 1.5        4.5          0.90      0.98       0.90     0.43        0.96      0.94
    300       16.2     56.9        0.1 +- 0.4        5.0          0.90      0.97       0.89     0.35        0.97      0.78
    1000       4.4     45.9       -0.02 +- 0.09      4.4          0.89      0.96       0.89     0.27        0.98      0.70
    3000       1.6     44.5      -0.004 +- 0.009     4.4          0.89      0.96       0.89     0.24        0.97      0.64
"""

from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """The mean of repeated measurements, and their standard deviation: nan for one. Both have the metric's own type."""

    mean: object
    std: object


def floor(metric, real, rng, n=None, repeats=10):
    """The metric of n real examples against n others, drawn `repeats` times: a Spread.

    real (N, ...), by default n = N // 2. The draws share examples, so the standard deviation is that of the choice, not of
    N. ValueError for 2 n > N, and for no repeats.
    """
    n = len(real) // 2 if n is None else n
    if not 1 <= n <= len(real) // 2:
        raise ValueError(f"floor: n is {n}, but {len(real)} examples have two disjoint parts of at most {len(real) // 2}")

    def measure(order):
        return metric(real[order[:n]], real[order[n : 2 * n]])

    return _spread("floor", [measure(rng.permutation(len(real))) for _ in range(repeats)])


def against_sample_count(metric, real, samples, sizes, rng, repeats=10):
    """The metric of n of the real and n of the samples, for each n of `sizes`, drawn `repeats` times: a dict of Spreads by n.

    ValueError for an n that is larger than either set or below 1, and for no repeats.
    """
    for n in sizes:
        if not 1 <= n <= min(len(real), len(samples)):
            raise ValueError(
                f"against_sample_count: n = {n} of {len(real)} real and {len(samples)} samples cannot be drawn; give sizes "
                "from 1 to the smaller of the two"
            )

    def measure(n):
        return metric(real[rng.permutation(len(real))[:n]], samples[rng.permutation(len(samples))[:n]])

    return {n: _spread("against_sample_count", [measure(n) for _ in range(repeats)]) for n in sizes}


def _spread(where, values):
    if not values:
        raise ValueError(f"{where}: no measurements have no mean; give at least 1 repeat")
    table = np.asarray(values, np.float64)
    mean, std = table.mean(axis=0), table.std(axis=0, ddof=1) if len(values) > 1 else np.full(table.shape[1:], np.nan)
    kind = type(values[0])
    return Spread(*(kind(*map(float, x)) if hasattr(kind, "_fields") else x if x.ndim else float(x) for x in (mean, std)))
