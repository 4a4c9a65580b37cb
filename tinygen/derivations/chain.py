r"""Arguments that run. A chain is a derivation, from premise to conclusion, in steps that can each be shown to be false.

    @chain.equal("decomposition", r"\log p(x) = ...", because="multiply and divide by q inside the logarithm")
    def decomposition(m):
        return left side, right side                        # two numbers or arrays, computed in two ways

    @decomposition.wrong("the KL taken the other way round")
    def _(m):
        return left side, what somebody might have written instead

A step is a claim about every instance m of its chain, say every linear-Gaussian model, and instances are drawn by Hypothesis.
What is claimed of the two sides is the step's kind:

    equal            left = right
    at_most          left <= right
    grad_equal       the gradients of two functions at a point are equal: the step returns (f, g, point)
    in_expectation   the mean of samples is a number: the step returns (samples (n, ...), number), for the case that nothing
                     exact exists; the mean may be 6 standard errors away from it, which happens once in 5e8 draws

The residual is how far that is from being true, as a part of what rounding allows: a claim holds if its residual is at most 1.
A wrong sibling of a step is the same claim with a mistake in it. It is caught if Hypothesis finds an instance that refutes it;
a step whose siblings are all caught is one that could have failed.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample

from ..autograd import grad

ROUNDING = 1e-9  # relative to the size of what is compared; float64 has 1e-16, and sums and logarithms lose some of it
STANDARD_ERRORS = 6
DRAWS = 60  # instances for a step; fewer than Hypothesis takes by default, since there are many steps
SIDES = {"grad_equal": "the two gradients", "in_expectation": "the mean of the samples, and its value"}  # where it is not plain


@dataclass(eq=False)
class Step:
    """One claim of a chain: see this file's docstring. `siblings` has its wrong forms by what is wrong with them."""

    chain: object
    kind: str
    name: str
    latex: str
    because: str
    source: str
    instances: object
    rounding: float
    sides: object
    siblings: dict = field(default_factory=dict)
    published: list = field(default_factory=list)

    @property
    def tag(self):
        """What marks the line of a model that has this equation, as in `# [elbo.decomposition]`."""
        return f"{self.chain.name}.{self.name}"

    def __repr__(self):
        return f"<step {self.tag}>"

    def wrong(self, mistake, published=False):
        """Register a wrong form of this step, and say in words what is wrong. ValueError for the same words twice.

        published: somebody's code was released with it.
        """
        if mistake in self.siblings:
            raise ValueError(f"{self.tag}: there is a sibling already with the mistake {mistake!r}")

        def register(sides):
            self.siblings[mistake] = sides
            if published:
                self.published.append(mistake)
            return sides

        return register

    def values(self, instance, mistake=None):
        """Left side, right side, and how far apart rounding and chance may bring them, arrays of one shape."""
        left, right, *point = (self.siblings[mistake] if mistake else self.sides)(instance)
        chance = 0.0
        if self.kind == "grad_equal":
            left, right = grad(left)(*point), grad(right)(*point)
        if self.kind == "in_expectation":
            chance = STANDARD_ERRORS * np.std(left, axis=0, ddof=1) / len(left) ** 0.5
            left = np.mean(left, axis=0)
        left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
        if left.shape != right.shape:
            raise ValueError(f"{self.tag}: the left side has shape {left.shape}, the right side {right.shape}")
        return left, right, chance + self.rounding * (1 + np.maximum(np.abs(left), np.abs(right)))

    def residual(self, instance, mistake=None):
        """How far the claim is from true, as a part of what is allowed: it holds up to 1. inf where a side is not finite."""
        left, right, allowed = self.values(instance, mistake)
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return math.inf
        distance = left - right if self.kind == "at_most" else np.abs(left - right)
        return max(0.0, float(np.max(distance / allowed, initial=0)))

    def examples(self, n):
        """n instances, the same ones at each call."""
        drawn = []

        @quiet(n, Phase.generate)
        @given(self.instances)
        def draw(instance):
            drawn.append(instance)

        draw()
        return drawn[:n]

    def refutation(self, mistake=None, draws=DRAWS):
        """An instance for which the claim does not hold, as simple as Hypothesis can make it; None if none was found.

        For a mistake ten times as many instances are tried, if need be: the first that refutes it ends the search.
        """
        try:
            settings = quiet(10 * draws if mistake else draws, Phase.generate, Phase.shrink)
            return find(self.instances, lambda instance: self.residual(instance, mistake) > 1, settings=settings)
        except NoSuchExample:
            return None


def shown(values):
    """A number as text, or the first few of many."""
    flat = np.ravel(values)
    text = ", ".join(f"{x:.6g}" for x in flat[:4])
    return text if np.ndim(values) == 0 else f"({text}{', ...' if len(flat) > 4 else ''})"


def quiet(draws, *phases):
    """Settings of Hypothesis by which the same instances come at each call, and nothing is stored."""
    return settings(
        max_examples=draws, phases=phases, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


class Chain:
    """A derivation by that name: in a sentence what it is `about`, its source, and a Hypothesis strategy for its instances."""

    def __init__(self, name, about, source, instances):
        self.name, self.about, self.source, self.instances = name, about, source, instances
        self.steps = []

    def __repr__(self):
        return f"<chain {self.name}, {len(self.steps)} steps>"

    def __getitem__(self, name):
        return next(step for step in self.steps if step.name == name)

    def equal(self, name, latex, because, **settings):
        """Register a step that claims left = right. settings: another source, other instances, or another rounding."""
        return self._step("equal", name, latex, because, **settings)

    def at_most(self, name, latex, because, **settings):
        """Register a step that claims left <= right."""
        return self._step("at_most", name, latex, because, **settings)

    def grad_equal(self, name, latex, because, **settings):
        """Register a step that claims that two functions have one gradient at a point."""
        return self._step("grad_equal", name, latex, because, **settings)

    def in_expectation(self, name, latex, because, **settings):
        """Register a step that claims that the mean of samples is a number."""
        return self._step("in_expectation", name, latex, because, **settings)

    def _step(self, kind, name, latex, because, source=None, instances=None, rounding=ROUNDING):
        if any(step.name == name for step in self.steps):
            raise ValueError(f"{self.name}: there is a step {name!r} already")

        def register(sides):
            about = source or self.source, self.instances if instances is None else instances
            step = Step(self, kind, name, latex, because, *about, rounding, sides)
            self.steps.append(step)
            return step

        return register
