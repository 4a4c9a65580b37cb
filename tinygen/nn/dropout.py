"""Dropout: noise that keeps a network from relying on any one feature. Source: Srivastava et al. 2014."""

from ..autograd.tree import module


@module
class Dropout:
    """y = x b / (1 - rate) with b ~ Bernoulli(1 - rate) for each element, so that E[y] = x: x of any shape -> y.

    rate is the probability of dropping. ValueError unless it is in [0, 1).
    """

    rate: float
    needs = ("rng",)

    def __post_init__(self):
        if not 0 <= self.rate < 1:
            raise ValueError(f"Dropout: the rate is the probability of dropping, in [0, 1), not {self.rate}")

    def __call__(self, x, rng):
        """Training passes an rng; evaluation passes None, and gets x. There is no default, so neither can be forgotten."""
        if rng is None or self.rate == 0:
            return x
        keep = rng.uniform(tuple(x.shape)) >= self.rate
        return x * (keep.astype(x.dtype) / (1 - self.rate))
