"""The NaN guard: a step that gave NaN or infinity is run again, as it is pure, while every operation is watched.

Two watchers see it. `observe` sees the primitives, in the forward and in the backward pass. But a rule, an optimiser or a step
may also use NumPy's operators on plain arrays, which are no primitives: these, NumPy itself reports.

Where steps overwrite their state, the steps since the last one that was kept are made again from there. On a GPU nobody waits
for the numbers of every step, either: a flag there says whether they were finite (graph.py), and where it is looked at and is
not set any more, the steps since the last look are made again, one by one and not by a graph.
"""

import math
import os
import sys
import traceback

import numpy as np

from ..autograd import tree
from ..autograd.core import Primitive, observe
from ..backend import array_module
from .checkpoint import checkpoint_info

FAULTS_TOLD = 3  # the first may be harmless: a log(0) that a mask hides


class NonFiniteError(FloatingPointError):
    """NaN or infinity in a metric or in the state; the message says which operation produced it first."""


def checked(result):
    """What a step returned. TypeError unless it is a state and a dict."""
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise TypeError(f"fit: step must return (state, metrics), a tree and a dict of numbers, not {type(result).__name__}")
    return result


def not_finite(x):
    """The path of the first array of a tree that holds NaN or infinity, or None; x may also be a plain number."""
    if isinstance(x, float):
        return None if math.isfinite(x) else "it"
    leaves, structure = tree.flatten(x)
    for i, leaf in enumerate(leaves):
        if leaf.dtype.kind in "fc" and not array_module(leaf).isfinite(leaf).all():
            return structure.paths()[i] or "the array"
    return None


def explain(history, run, batch_at, made, checkpoint):
    """Lines that say where NaN or infinity came from, and what is left.

    history: pairs of n and the state after n steps, the last that were looked at; run(n, state) -> (state, metrics) is step n,
    on batch_at(n); made: how many steps were made until it was noticed; checkpoint: the path of the last one written, or None.
    """
    finite = [(n, state) for n, state in history if not not_finite(state)]
    if finite:
        n, state = finite[-1]
        while n < made - 1 and not _fails(following := run(n, state)):
            n, state = n + 1, following[0]
        yield from _replay(run, n, state, batch_at(n))
    else:
        n, state = history[0]
        yield f"{not_finite(state)} of the state was not finite before step {n} either; it became so after the last checkpoint."
        yield "Run those steps again with checkpoint_every=1: the same happens, and each state is looked at."
    if checkpoint:
        yield f"The last good checkpoint, of the state after {checkpoint_info(checkpoint)['step']} steps, is {checkpoint}."
    else:
        yield "No state was saved, as `out` was not given."


def _fails(result):
    state, metrics = result
    return not all(map(math.isfinite, metrics.values())) or not_finite(state)


def _replay(run, n, state, batch):
    """What happens when step n is run again from a state that is finite."""
    faults, spoilt = [], not_finite(batch)
    new_state, metrics = _run_watched(run, n, state, faults)
    if spoilt:
        yield f"The batch of step {n} holds NaN or infinity, in {spoilt}: look at the data, and at what prepares them."
    if faults:
        yield f"Step {n}, run again, made NaN or infinity of finite values here first:"
        yield from (f"  {number}. {fault}" for number, fault in enumerate(faults, start=1))
    path = not_finite(new_state)
    if path:
        yield f"{path} of the state was finite before step {n}, and is not after it."
    if not path and all(map(math.isfinite, metrics.values())):
        yield f"But step {n}, run again, gave finite values: step or batches depend on more than state, n and rng."
    elif not (faults or spoilt):
        yield f"No primitive made it in step {n}, and NumPy saw none: it came from compiled code, such as an optimiser's."


def _run_watched(run, n, state, faults):
    def on_primitive(primitive, args, y):
        if len(faults) < FAULTS_TOLD and not_finite(y) and not any(map(not_finite, args)):
            faults.append(f"{primitive.__name__}({', '.join(map(_describe, args))}) gave {_describe(y)}")

    def on_numpy(kind, flag):
        frames = [frame.f_code for frame, _ in traceback.walk_stack(sys._getframe(1))]
        if len(faults) < FAULTS_TOLD and Primitive._evaluate.__code__ not in frames:  # within one, `on_primitive` will judge
            stack = reversed(traceback.extract_stack(sys._getframe(1)))
            place = next(frame for frame in stack if not frame.filename.startswith(os.path.dirname(np.__file__)))
            faults.append(f"NumPy met {kind} in line {place.lineno} of {place.filename}: {place.line}")

    with observe(on_primitive), np.errstate(call=on_numpy, divide="call", over="call", invalid="call"):
        return run(n, state)


def _describe(x):
    """float32(64, 10) within [-3, 120], or with 2 NaN and 1 infinite."""
    if isinstance(x, tuple):
        return ", ".join(map(_describe, x))
    if not tree.is_leaf(x):
        return repr(x)
    kind, xp = f"{x.dtype}{tuple(x.shape)}", array_module(x)
    if not_finite(x):
        return f"{kind} with {int(xp.isnan(x).sum())} NaN and {int(xp.isinf(x).sum())} infinite"
    return f"{kind} within [{float(x.min()):.4g}, {float(x.max()):.4g}]" if x.size else kind
