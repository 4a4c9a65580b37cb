r"""What a number says about log p(x): the value itself, a lower bound, or an energy, which says nothing absolute.

    Exact         log p(x)                                      autoregressive models, flows        protocol Tractable
    LowerBound    L(x) <= log p(x)                              VAEs, diffusion                     protocol Bounded
    Energy        E(x) = -log p(x) - log Z, with Z unknown      energy-based models                 protocol Unnormalised

A model has the methods that its mathematics allows, and a GAN, which can only sample (protocol Sampler), has none of these.
The results are trees, so they pass through `grad`; train on `bound.nats.mean()`, and print `bound`.

Numbers are natural logarithms, nats, one for each example. Bits per dimension are -log2 p(x) / D: a smaller number is better,
so a lower bound on log p(x) becomes an upper bound, printed with "<=".
"""

import math
from dataclasses import fields
from typing import NamedTuple, Protocol, runtime_checkable

from .autograd.tree import Array, module
from .ops import stop_gradient


class Summary(NamedTuple):
    """The mean over N examples, and the standard error of that mean, s / sqrt(N): not known (nan) for one example."""

    mean: float
    standard_error: float

    def __str__(self):
        return f"{self.mean:.2f} +- {self.standard_error:.2g}"


class _PerExample:
    """What results have in common: one number for each example, as the first field."""

    def __post_init__(self):
        values = self._values()
        if getattr(values, "ndim", None) != 1:
            seen = f"an array of shape {tuple(values.shape)}" if hasattr(values, "shape") else f"a {type(values).__name__}"
            raise ValueError(
                f"{type(self).__name__}: expected an array of one number for each example, (N,), got {seen}; sum over the axes "
                "of an example, and keep the batch axis"
            )

    def _values(self):
        return getattr(self, fields(self)[0].name)

    def __len__(self):
        return self._values().shape[0]

    def summary(self):
        """The mean over the examples and its standard error, as Python floats, for reports: no gradient passes.

        ValueError where there are no examples.
        """
        values = stop_gradient(self._values()).astype(float)
        n = len(values)
        if not n:
            raise ValueError(f"{type(self).__name__}.summary: there are no examples, and so no mean; is the batch empty?")
        return Summary(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan)


@module
class Exact(_PerExample):
    """log p(x) of each example, in nats, (N,). ValueError for another shape."""

    nats: Array

    def __str__(self):
        return f"log p(x) = {self.summary()} nats"


@module
class LowerBound(_PerExample):
    """A number that log p(x) is at least, for each example, in nats, (N,); `how` says which bound: "ELBO".

    A Monte Carlo estimate of a bound counts as one: it is below log p(x) on average. ValueError for another shape.
    """

    nats: Array
    how: str = ""

    def __str__(self):
        return f"log p(x) >= {self.summary()} nats{_in_brackets(self.how)}"


@module
class Energy(_PerExample):
    """E(x) = -log p(x) - log Z of each example, in nats, (N,): differences mean something, the values do not.

    It is no log-likelihood, so it has no `nats`. ValueError for another shape.
    """

    energy: Array

    def __str__(self):
        return f"E(x) = {self.summary()} nats, up to a constant"


@module
class BitsPerDim(_PerExample):
    """-log2 p(x) / D of each example, (N,), if the relation is "="; at most these numbers, if it is "<="."""

    bits: Array
    relation: str
    how: str = ""

    def __str__(self):
        return f"{self.relation} {self.summary().mean:.4g} bits/dim{_in_brackets(self.how)}"


def bits_per_dim(density, dimensions, levels=None):
    r"""-log2 p(x) / D for examples of D dimensions: "=" for Exact, "<=" for LowerBound. With levels = L, of the discrete data.

    A density of L grey levels g scaled to x = (g + u) / L in [0, 1)^D, with u uniform on [0, 1)^D, is a density p(x) L^-D of
    g + u; and the model's probability of g is its integral over the cell of g,

        P(g) = \int p((g + u) / L) L^-D du = L^-D E_u[p((g + u) / L)].

    By Jensen's inequality log P(g) >= E_u[log p(x)] - D log L, so bits/dim of g are at most E_u[-log2 p(x)] / D + log2 L: a
    bound, also where p itself is exact, and the result says "<=" (Theis et al. 2016, section 3.1).

    TypeError for anything but an Exact or a LowerBound, ValueError unless D >= 1 and L >= 2.
    """
    if isinstance(density, Energy):
        raise TypeError(
            "bits_per_dim: an Energy is -log p(x) only up to the unknown log Z, so it has no bits; estimate log Z first"
        )
    if not isinstance(density, (Exact, LowerBound)):
        raise TypeError(
            f"bits_per_dim: a {type(density).__name__} does not say whether it is log p(x) or a bound on it; give an Exact or "
            "a LowerBound, in nats"
        )
    if dimensions < 1 or (levels is not None and levels < 2):
        raise ValueError(f"bits_per_dim: dimensions = {dimensions} must be at least 1, and levels = {levels} at least 2")
    bits = density.nats * (-1 / (dimensions * math.log(2)))
    how = [density.how] if isinstance(density, LowerBound) and density.how else []
    if levels is not None:
        bits = bits + math.log2(levels)  # [change_of_variables.bits]
        how.append("uniform dequantisation")
    return BitsPerDim(bits, "=" if isinstance(density, Exact) and levels is None else "<=", ", ".join(how))


def _in_brackets(how):
    return f" ({how})" if how else ""


@runtime_checkable
class Tractable(Protocol):
    """A model whose density can be evaluated. (isinstance looks for the method's name only, here and below.)"""

    def log_prob(self, x) -> Exact: ...


@runtime_checkable
class Bounded(Protocol):
    """A model whose density can be bounded from below, with random numbers from rng."""

    def bound(self, x, rng) -> LowerBound: ...


@runtime_checkable
class Unnormalised(Protocol):
    """A model whose density is known up to a constant factor."""

    def energy(self, x) -> Energy: ...


@runtime_checkable
class Sampler(Protocol):
    """A model that can be drawn from: n examples."""

    def sample(self, rng, n): ...
