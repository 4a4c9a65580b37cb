r"""Optimisers, learning-rate schedules, gradient clipping and averages of parameters.

An optimiser is a value, and pure: it holds only its settings, and what it remembers is a tree of arrays that you carry,

    optimiser = Adam(warm_up(100, cosine(1e-3, 10_000)))
    state = optimiser.init(params)
    params, state = optimiser.update(gradients, state, params)

By contract `update` may reuse the buffers of the gradients, so do not read them afterwards; params and state stay as they
are. A parameter keeps its dtype. What Adam and `ema` return is flat (flat.py): all numbers side by side, and so one call for
all leaves together. A learning rate is a number or a schedule, a function of the number of updates made before: 0 for the
first one. Steps are minus the gradient's way: `update` minimises.

To write a million new parameters beside the old takes twice as long as to write them over those, and more memory. Whoever will
not look at the old ones again, as a loop of training, may say so:

    params, state = optimiser.update_in_place(gradients, state, params)     Adam and AdamW
    state, metrics = step.in_place(state, batch, rng)                       the steps that `minimise` makes

give the same numbers, and leave the params and the state that were passed undefined.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from . import flat
from .autograd import capture, tree, value_and_grad
from .autograd.tree import Array, module
from .backend import array_module


@module
class SGD:
    """Gradient descent with momentum: u' = momentum u + g, p' = p - learning_rate u'.

    Nesterov's variant steps along g + momentum u', the gradient as if it had been taken further along u.
    Source: Sutskever et al. 2013, eq. 1-4, with the learning rate outside of u.
    """

    learning_rate: float | Callable
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self):
        _check_settings(self, momentum=self.momentum)
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: nesterov=True without momentum is plain SGD; give a momentum such as 0.9")

    def init(self, params):
        return SGDState(_count(0), tree.map(_zeros, params) if self.momentum else None)

    def update(self, gradients, state, params):
        _parallel_leaves("SGD.update", params, gradients=gradients, **({"velocity": state.velocity} if self.momentum else {}))
        rate, momentum = _at(state.step, lambda n: _rate(self.learning_rate, n)), self.momentum
        velocity, along = None, gradients
        if momentum:
            velocity = along = tree.map(lambda u, g: momentum * u + g, state.velocity, gradients)
        if self.nesterov:
            along = tree.map(lambda u, g: g + momentum * u, velocity, gradients)
        return tree.map(lambda p, u: p - _beside(rate, p) * u, params, along), SGDState(_after(state.step), velocity)


@module
class SGDState:
    step: Array  # how many updates were made
    velocity: object  # u, a tree like the parameters; None without momentum


@module
class Adam:
    """p' = p - learning_rate m_hat / (sqrt(v_hat) + eps), m and v running means of the gradient and its square.

    The first step has the size of the learning rate, whatever the gradient's. Equations: kernels/adam/spec.py.
    Source: Kingma & Ba 2015, algorithm 1.
    """

    learning_rate: float | Callable
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    weight_decay = 0.0  # not a setting here, but in AdamW

    def __post_init__(self):
        _check_settings(self, beta1=self.beta1, beta2=self.beta2)
        if self.eps < 0 or self.weight_decay < 0:
            raise ValueError(f"{self}: eps and weight_decay must be at least 0")

    def init(self, params):
        return AdamState(_count(0), tree.map(_zeros, params), tree.map(_zeros, params))

    def update(self, gradients, state, params):
        return self._updated(gradients, state, params, in_place=False)

    def update_in_place(self, gradients, state, params):
        return self._updated(gradients, state, params, in_place=True)

    def _updated(self, gradients, state, params, in_place):
        from . import kernels  # Numba comes with the first kernel that is used, not with the import

        own = flat.own_vectors(params)
        layout, p = own or flat.vectors(params)
        trees = {"gradients": gradients} if state.is_flat_as(layout) else {"gradients": gradients, "m": state.m, "v": state.v}
        columns = [layout.gather(other, in_parts=other is gradients) for other in trees.values()]
        if None in columns:
            _parallel_leaves(f"{type(self).__name__}.update", params, **trees)
        g, m, v = columns if len(columns) == 3 else [*columns, *state.vectors]
        if in_place:
            g = [_apart(gradient, old) for gradient, *old in zip(g, p, m, v)]
        t, rate, after = self._now(state.step)
        settings = t, rate, self.beta1, self.beta2, self.eps, self.weight_decay, in_place
        new = [kernels.adam.update(*vectors, *settings) for vectors in zip(p, g, m, v)]
        new_p, m, v = ([triple[i] for triple in new] for i in range(3))
        return params if own and in_place else layout.tree(new_p), AdamState.of_vectors(after, layout, m, v)

    def _now(self, step):
        """(t, learning rate, state.step after the update); in a graph the first is what kernels.adam takes for these two."""
        if not _in_graph(step):
            n = int(step)
            return n + 1, _rate(self.learning_rate, n), _count(n + 1)
        from . import kernels

        betas = self.beta1, self.beta2
        return step.numbers(lambda n: kernels.adam.pace(n + 1, _rate(self.learning_rate, n), *betas)), None, step + 1


@module
class AdamW(Adam):
    """Adam that also shrinks every parameter by learning_rate * weight_decay * p, decoupled from the gradient's scale.

    An L2 penalty instead would add weight_decay * p to the gradient, and Adam would divide it by sqrt(v_hat).
    Source: Loshchilov & Hutter 2019, algorithm 2.
    """

    weight_decay: float = 0.01


@module
class AdamState:
    step: Array  # how many updates were made
    m: object  # running mean of the gradients, a tree like the parameters
    v: object  # running mean of their squares

    @classmethod
    def of_vectors(cls, step, layout, m, v):
        """The state whose m and v are these vectors, as `update` leaves it: their trees are made if somebody asks for them."""
        state = object.__new__(cls)
        state.__dict__.update(step=step, layout=layout, vectors=(m, v))
        return state

    def is_flat_as(self, layout):
        own = self.__dict__
        return "vectors" in own and "m" not in own and "v" not in own and own["layout"].same_as(layout)

    def __getattr__(self, name):
        if name not in ("m", "v") or "vectors" not in self.__dict__:
            raise AttributeError(f"AdamState has no attribute {name!r}")
        return self.layout.tree(self.vectors["mv".index(name)])


# Schedules: functions of the number of updates made before


def constant(learning_rate):
    """The same learning rate at every step."""
    return lambda step: learning_rate


def cosine(learning_rate, steps, final=0.0):
    """final + (learning_rate - final) (1 + cos(pi step / steps)) / 2, and final from `steps` on (Loshchilov & Hutter 2017)."""
    _check_at_least_one("cosine", steps=steps)
    return lambda step: final + (learning_rate - final) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2


def exponential(learning_rate, decay, every=1):
    """learning_rate decay^(step / every). ValueError for a decay that is not positive."""
    _check_at_least_one("exponential", every=every)
    if not 0 < decay < math.inf:
        raise ValueError(f"exponential: decay is {decay}; it must be positive, such as 0.9")
    return lambda step: learning_rate * decay ** (step / every)


def warm_up(steps, then):
    """A straight line up to then(0) over the first `steps` steps, and then(step - steps) after them; then may be a number.

    The line starts at then(0) / (steps + 1): a rate of 0 would waste the first step.
    """
    _check_at_least_one("warm_up", steps=steps)
    return lambda step: _rate(then, max(step - steps, 0)) * min((step + 1) / (steps + 1), 1)


# Gradients and averages


def clip_by_global_norm(gradients, limit):
    """(g min(1, limit / |g|), |g|), with |g| the Euclidean norm of all leaves together (Pascanu et al. 2013).

    The direction stays. A norm that is not finite makes the result NaN, rather than a step that looks harmless. |g| is a float;
    or on a GPU an array without axes there, for which nobody waits.
    """
    _check_positive("clip_by_global_norm", limit)
    leaves = tree.flatten(gradients)[0]
    xp = array_module(*leaves)
    norm = xp.sqrt(sum(xp.square(g, dtype=np.float64).sum() for g in leaves))  # float32 would overflow
    if xp is not np:
        scale = xp.where(xp.isfinite(norm), xp.minimum(limit / norm, 1.0), math.nan)
        return tree.map(lambda g: g * scale.astype(g.dtype), gradients), norm
    norm = float(norm)
    if norm <= limit:
        return gradients, norm
    scale = limit / norm if math.isfinite(norm) else math.nan
    return tree.map(lambda g: g * scale, gradients), norm


def clip_by_value(gradients, limit):
    """Each number of the gradients limited to [-limit, limit]; the direction may change."""
    _check_positive("clip_by_value", limit)
    return tree.map(lambda g: array_module(g).clip(g, -limit, limit), gradients)


def ema(average, params, decay, step=None, in_place=False):
    """d average + (1 - d) params, an exponential moving average: of parameters only, so give it no state of anything else.

    d = decay; or, given the step (0 at first), d = min(decay, (1 + step) / (10 + step)), which forgets the random start
    sooner. Start from average = params. After n steps with constant d the start has weight d^n. In place, the average that is
    passed is undefined afterwards.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"ema: decay is {decay}; it must be between 0 and 1, such as 0.999")
    rest = 1.0 - decay if step is None else _at(step, lambda n: 1.0 - min(decay, (1 + n) / (10 + n)))
    own = flat.own_vectors(average) if in_place else None
    layout, averages = own or flat.vectors(average)
    new = layout.gather(params)
    if new is None:
        _parallel_leaves("ema", params, average=average)
    between = [_between(a, p, rest, in_place=own is not None) for a, p in zip(averages, new)]
    return average if own else layout.tree(between)


def _between(a, p, part, in_place):
    """a + part (p - a), with one new array: the parameters may be many."""
    towards = p - a
    towards *= _beside(part, p)
    if in_place:
        a += towards
        return a
    towards += a
    return towards


# One step of training


@module
class Training:
    """What a run carries from step to step: the parameters, what the optimiser remembers, and their moving average or None."""

    params: object
    optimiser: object
    average: object

    @property
    def best(self):
        """The parameters to evaluate: the average if there is one."""
        return self.params if self.average is None else self.average


def begin(params, optimiser, averaged=False):
    """The `Training` state before the first step; `averaged` where the steps will be made with a decay."""
    return Training(params, optimiser.init(params), params if averaged else None)


def minimise(loss, optimiser, limit=None, decay=None):
    """The step (state, batch, rng) -> (state, metrics) that moves state.params along minus the gradient of a loss.

    loss(params, batch, rng) returns (scalar, metrics), metrics a dictionary of numbers to report. `limit` clips the gradient's
    global norm, and reports it; `decay` keeps a moving average of the parameters. The state is a `Training`.

    The loss must be pure: what it computes is recorded in the first step, and replayed in the others (autograd/replay.py). If
    it looks at numbers, as no program can, it is called anew each time, and `step.gradient.reason` says why;
    `print(step.gradient.program)` shows one that can be replayed.

    step.in_place(state, batch, rng) is the same step, and may write the new state over the old one (train.fit makes these).
    """
    gradient = capture(value_and_grad(loss, has_aux=True), required=False)
    update_in_place = getattr(optimiser, "update_in_place", optimiser.update)

    def step(state, batch, rng, in_place=False):
        if not isinstance(state, Training):
            raise TypeError(f"minimise: the state is a {type(state).__name__}; begin with begin(params, optimiser)")
        if decay is not None and state.average is None:
            raise ValueError("minimise: with a decay there must be an average; begin(params, optimiser, averaged=True)")
        (value, metrics), gradients = gradient(state.params, batch, rng)
        metrics = {"loss": value, **metrics}
        if limit is not None:
            gradients, metrics["gradient_norm"] = clip_by_global_norm(gradients, limit)
        if in_place:
            metrics = {name: value.copy() if hasattr(value, "copy") else value for name, value in metrics.items()}
        in_place = in_place and state.average is not state.params  # as they are before the first step
        update = update_in_place if in_place else optimiser.update
        params, remembered = update(gradients, state.optimiser, state.params)
        average = state.average
        if decay is not None:
            average = ema(average, params, decay, state.optimiser.step, in_place)
        return Training(params, remembered, average), metrics

    step.gradient = gradient
    return with_in_place(step)


def with_in_place(step):
    """A step(state, batch, rng, in_place=False), with step.in_place(state, batch, rng), which may overwrite the state."""
    step.in_place = partial(step, in_place=True)
    return step


def _apart(gradient, old):
    """The gradient, copied as far as it may lie in an array that is to be overwritten: one may be a parameter, as of p q."""
    if type(gradient) is tuple:
        return tuple(_apart(part, old) for part in gradient)
    may_share = array_module(gradient).may_share_memory
    return gradient.copy() if any(may_share(gradient, a) for a in old) else gradient


def _rate(learning_rate, step):
    """A Python float: NumPy's scalars would promote float32 parameters to float64."""
    return float(learning_rate(step) if callable(learning_rate) else learning_rate)


def _in_graph(step):
    """Whether this is a step that a graph is captured of: its number is known only when that is launched (train/graph.py)."""
    return hasattr(step, "numbers")


def _at(step, function):
    """function(n), a Python float, of the number n of the step; in a graph an array of float64 that holds it when launched."""
    return step.numbers(function) if _in_graph(step) else function(int(step))


def _beside(number, x):
    """What `_at` gave, so that it does not promote x."""
    return number if isinstance(number, float) else number.astype(x.dtype)


def _after(step):
    return step + 1 if _in_graph(step) else _count(int(step) + 1)


def _zeros(leaf):
    return array_module(leaf).zeros(leaf.shape, leaf.dtype)


def _count(step):
    return np.array(step, np.int64)  # on the CPU always: the schedule reads it at every step


def _parallel_leaves(operation, params, **others):
    """The leaves of params and of the other trees, as lists, and their structure. ValueError where one does not fit params."""
    leaves, structure = tree.flatten(params)
    columns = [leaves]
    for name, other in others.items():
        its_leaves, its_structure = tree.flatten(other)
        difference = structure.difference(its_structure)
        if difference is None:
            for i, (p, x) in enumerate(zip(leaves, its_leaves)):
                if p.shape != x.shape:
                    difference = f"{structure.paths()[i] or 'the root'}, of shape {tuple(x.shape)} and {tuple(p.shape)}"
                    break
        if difference is not None:
            raise ValueError(
                f"{operation}: {name} and params differ at {difference}; take the gradients or the average of these params, "
                "and the state from init(params)"
            )
        columns.append(its_leaves)
    return columns, structure


def _check_settings(optimiser, **fractions):
    rate = optimiser.learning_rate
    if not callable(rate) and not (_is_number(rate) and 0 <= rate < math.inf):
        raise ValueError(f"{optimiser}: learning_rate must be a finite number of at least 0, or a function step -> number")
    for name, value in fractions.items():
        if not (_is_number(value) and 0 <= value < 1):
            raise ValueError(f"{optimiser}: {name} must be a number of at least 0 and less than 1")


def _is_number(x):
    return isinstance(x, (int, float)) and not isinstance(x, np.generic)  # NumPy's would promote float32 parameters


def _check_at_least_one(operation, **numbers):
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{operation}: {name} is {value}; it must be at least 1")


def _check_positive(operation, limit):
    if not limit > 0:
        raise ValueError(f"{operation}: limit is {limit}; it must be positive")
