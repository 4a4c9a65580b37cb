r"""Markov chain Monte Carlo: samples of a density that is known up to a constant factor, by many chains side by side.

    kernel             proposes x' =                                 and accepts it with probability min(1, r), log r =
    Langevin           x + h s(x) + sqrt(2 h) eps                    0: always
    AdjustedLangevin   x + h s(x) + sqrt(2 h) eps                    log p(x') + log q(x | x') - log p(x) - log q(x' | x)
    RandomWalk         x + sigma eps                                 log p(x') - log p(x)
    Hamiltonian        L leapfrog steps from (x, v), v ~ N(0, I)     H(x, v) - H(x', v'),  H = |v|^2 / 2 - log p(x)

with eps ~ N(0, I), the score s = grad log p, and q the density of the proposal. Only differences of log p count, so the
constant may be unknown. The last three are in detailed balance with p, p(x) K(x, x') = p(x') K(x', x), since the r of the way
back is 1 / r. So p is their stationary distribution, whatever the step, which decides only how fast they get there: too long a
step is rejected, too short a one goes nowhere. Rules for a smooth p in many dimensions: accept about 0.23 of the proposals of
the random walk, 0.57 of Langevin's, 0.65 of Hamiltonian trajectories.

The Langevin kernel that accepts everything discretises dx = s(x) dt + sqrt(2) dW, whose stationary distribution is p, with
steps dt = h; its own is only near p. For N(0, sigma^2) it has the variance sigma^2 / (1 - h / (2 sigma^2)), and from
h = 2 sigma^2 on it flies apart. (In the literature the step is often epsilon, with h = epsilon^2 / 2: a leapfrog step.)

A density is a function log_density(x) -> (N,) of N states x (N, ...), one for each chain; it need not be normalised, and is
made of differentiable operations, but for RandomWalk. It may be -inf where p is 0. A kernel has two methods, and so has one of
your own:

    kernel.start(log_density, x) -> Point                          what it will ask for at x
    kernel.propose(log_density, point, rng) -> (Point, log r)      where the chains would go, and log r (N,)

Sources: Metropolis et al. 1953; Hastings 1970; Duane et al. 1987; Roberts & Tweedie 1996; Neal 2011, *MCMC using Hamiltonian
dynamics*. The rules: Roberts et al. 1997, Roberts & Rosenthal 1998, Neal 2011 section 5.4.
"""

import math
from itertools import islice

import numpy as np

from .autograd import tree, vjp
from .autograd.tree import Array, module
from .backend import array_module


@module
class Point:
    """Where the chains are, x (N, ...), and what the kernel knows there: log p (N,), and the score, of x's shape."""

    x: Array
    log_p: Array = None
    score: Array = None


@module
class Chains:
    """Where the chains are after a run, x (N, ...), and the fraction of proposals that each accepted, (N,)."""

    x: Array
    acceptance: Array


@module
class Langevin:
    """x' = x + h s(x) + sqrt(2 h) eps, never rejected: cheap, and biased by its step h > 0."""

    step: float

    def __post_init__(self):
        _require_positive("Langevin", "step", self.step)

    def start(self, log_density, x):
        return Point(x)

    def propose(self, log_density, point, rng):
        x = _drift(evaluate(log_density, point.x), self.step) + math.sqrt(2 * self.step) * _noise(point.x, rng)
        return Point(x), array_module(x).zeros(len(x), x.dtype)  # [mcmc.langevin_step]


@module
class AdjustedLangevin:
    """Langevin's proposal, accepted or rejected so that no bias is left (MALA); h > 0."""

    step: float

    def __post_init__(self):
        _require_positive("AdjustedLangevin", "step", self.step)

    def start(self, log_density, x):
        return evaluate(log_density, x)

    def propose(self, log_density, point, rng):
        new = evaluate(log_density, _drift(point, self.step) + math.sqrt(2 * self.step) * _noise(point.x, rng))
        return new, new.log_p + self.log_q(point, new) - point.log_p - self.log_q(new, point)  # [mcmc.adjusted_langevin]

    def log_q(self, to, origin):
        """log of the proposal's density N(to; origin + h s(origin), 2 h I), up to the normaliser, which cancels; (N,)."""
        return -_squared_length(to.x - _drift(origin, self.step)) / (4 * self.step)


@module
class RandomWalk:
    """x' = x + sigma eps: symmetric, so it needs no gradient, and p may have jumps; sigma = step > 0.

    Or sigma is drawn anew for each move, log-uniformly from [step, longest]: a proposal that is a mixture of symmetric ones is
    symmetric too. Short moves stay in a mode, long ones find others, and the widths of the modes need not be known.
    """

    step: float
    longest: float = None

    def __post_init__(self):
        _require_positive("RandomWalk", "step", self.step)
        if self.longest is not None:
            _require_positive("RandomWalk", "longest", self.longest)
            if self.longest < self.step:
                raise ValueError(f"RandomWalk: longest is {self.longest}, shorter than the step {self.step}; swap them")

    def start(self, log_density, x):
        return Point(x, _checked(log_density(x), x))

    def propose(self, log_density, point, rng):
        new = self.start(log_density, point.x + self.sigma(point.x, rng) * _noise(point.x, rng))
        return new, new.log_p - point.log_p  # [mcmc.random_walk]

    def sigma(self, x, rng):
        """A number, or one for each chain, (N, 1, ...)."""
        if self.longest is None:
            return self.step
        return self.step * (self.longest / self.step) ** rng.uniform((len(x), *[1] * (x.ndim - 1)), x.dtype)  # [mcmc.widths]


@module
class Hamiltonian:
    """A ball, pushed at random, rolls over -log p for L leapfrog steps of length epsilon > 0: far, and still often accepted."""

    step: float
    leapfrogs: int

    def __post_init__(self):
        _require_positive("Hamiltonian", "step", self.step)
        _require_count("Hamiltonian", "leapfrogs", self.leapfrogs)

    def start(self, log_density, x):
        return evaluate(log_density, x)

    def propose(self, log_density, point, rng):
        velocity = _noise(point.x, rng)
        new, new_velocity = self.roll(log_density, point, velocity)  # [hamiltonian.balance]
        return new, new.log_p - point.log_p + (_squared_length(velocity) - _squared_length(new_velocity)) / 2

    def roll(self, log_density, point, velocity):
        """(x', v') after L leapfrog steps: half a push, a move, half a push (Neal 2011, section 5.2.3).

        It keeps volumes, and from (x', -v') it leads back to (x, -v): the two properties that make r as simple as it is.
        """
        for _ in range(self.leapfrogs):
            velocity = velocity + self.step / 2 * point.score
            point = evaluate(log_density, point.x + self.step * velocity)  # [hamiltonian.reversible]
            velocity = velocity + self.step / 2 * point.score
        return point, velocity


def run(kernel, log_density, x, rng, steps):
    """The `Chains` after `steps` transitions of the kernel from x (N, ...), which stays as it is. ValueError as in `walk`."""
    _require_count("mcmc.run", "steps", steps)
    accepted = 0
    for point, accepts in islice(walk(kernel, log_density, x, rng), steps):
        x, accepted = point.x, accepted + accepts
    return Chains(x, accepted / steps)


def walk(kernel, log_density, x, rng):
    """Yield (point, accepts) after each transition, without end: a `Point`, and for each chain whether it moved, bool (N,).

    A proposal whose r is not a number, as of a trajectory that flew away, is rejected. TypeError unless x is floating,
    ValueError unless log_density(x) is (N,), and where p(x) is 0 or no number at the start, which no chain could leave; on a
    GPU nobody looks at that.
    """
    if getattr(getattr(x, "dtype", None), "kind", None) != "f" or x.ndim < 1:
        raise TypeError(f"mcmc: the states must be a floating array (N, ...), not {getattr(x, 'dtype', type(x).__name__)}")
    point = kernel.start(log_density, x)
    xp = array_module(x)
    if xp is np and point.log_p is not None and not np.isfinite(point.log_p).all():
        raise ValueError(
            f"mcmc: log p is {point.log_p[~xp.isfinite(point.log_p)][0]} at the start of a chain; start where p(x) > 0"
        )
    while True:
        with np.errstate(over="ignore", invalid="ignore"):
            proposal, log_r = kernel.propose(log_density, point, rng)
            accepts = rng.uniform(len(x), log_r.dtype) < xp.exp(xp.minimum(log_r, 0))  # False for NaN
        point = _choose(accepts, proposal, point)  # [mcmc.metropolis_hastings]
        yield point, accepts


def evaluate(log_density, x):
    """The `Point` with log p(x) and the score at x."""
    log_p, pullback = vjp(log_density, x)
    _checked(log_p, x)
    return Point(x, log_p, pullback(array_module(log_p).ones(log_p.shape, log_p.dtype))[0])


def _choose(accepts, new, old):
    if array_module(accepts) is np and accepts.all():  # a GPU would have to be waited for, to save it little
        return new
    return tree.map(lambda a, b: array_module(a).where(accepts.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old)


def _drift(point, step):
    return point.x + step * point.score


def _noise(x, rng):
    return rng.normal(x.shape, x.dtype)


def _squared_length(v):
    """|v|^2 of each chain, (N,)."""
    return (v * v).reshape(len(v), math.prod(v.shape[1:])).sum(axis=1)


def _checked(log_p, x):
    if tuple(getattr(log_p, "shape", ())) != (len(x),):
        raise ValueError(
            f"mcmc: the log-density of states of shape {tuple(x.shape)} has shape {tuple(getattr(log_p, 'shape', ()))}, not "
            f"({len(x)},); sum over the axes of a state, and keep the axis of the chains"
        )
    return log_p


def _require_positive(kernel, name, value):
    if isinstance(value, np.generic) or not (isinstance(value, (int, float)) and 0 < value < math.inf):
        raise ValueError(f"{kernel}: {name} is {value!r}; it must be a positive Python number (NumPy's would promote float32)")


def _require_count(operation, name, value):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{operation}: {name} is {value!r}; it must be an integer of at least 1")
