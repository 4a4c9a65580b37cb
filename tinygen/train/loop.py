"""The training loop; see the package's docstring."""

import math
import os
from collections import deque
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np

from ..backend import Generator, device_of
from .checkpoint import first_difference, load_checkpoint, named_arrays, save_checkpoint
from .guard import NonFiniteError, explain, not_finite
from .log import as_numbers, progress_display, read_log, start_log

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"


def fit(
    step, state, batches, steps, *, seed=0, out=None, resume=None, log_every=100, checkpoint_every=1000, progress=True,
    on_log=None,
):  # fmt: skip
    """The state after `steps` steps in all: state, metrics = step(state, batches.at(n), Generator(seed).at(n)) for each n.

    step: pure; metrics is a dict of numbers. batches: an object with .at(n), a function of n, or a sequence. They must not be
    drawn from Generator(seed).at(n), or they would be the step's noise: see `data.Draws`. Random numbers are made on the device
    of the state's arrays; the batches must be there, too.
    out: a folder for a log (after 1 step, then every `log_every`) and for checkpoints (at the start, every `checkpoint_every`
    steps, at the end, and on Ctrl-C after the last complete step). What an earlier run left there is not lost, but gets a
    number: checkpoint.1.safetensors. Two runs at a time in one folder are refused.
    resume: True to continue the run in `out`, or a folder to continue from (and in, unless `out` is another one). `state` is
    then the template of the checkpoint's. A log goes on after the checkpoint's step. A finished run returns at once.
    on_log(n, state, metrics) is called for every line of the log; a dict that it returns, of validation say, joins the line.

    NonFiniteError when a metric is not finite or, looked at with every checkpoint even where there is no `out`, the state. Such
    a state is never written. To say where it came from, the loop keeps the two last states in memory while it makes the next.
    ValueError for bad arguments, a folder that another run writes to, a checkpoint that does not fit, and a step that changes
    the shape or dtype of an array.
    """
    _check_counts(steps=steps, log_every=log_every, checkpoint_every=checkpoint_every)
    random, batch_at = Generator(seed, device_of(*named_arrays(state).values())), _by_number(batches)
    folder, fresh, state, first, records = _open(out, resume, state, seed)
    history = deque([(first, state)], maxlen=2)  # pairs of n and the state after n steps

    def run(n, state):
        return _checked(step(state, batch_at(n), random.at(n)))

    def save(n, state):
        if folder:
            save_checkpoint(folder / CHECKPOINT, state, n, seed)

    def fail(symptom):
        written = folder and folder / CHECKPOINT
        raise NonFiniteError("\n".join([f"fit: {symptom}", *explain(history, run, written)]))

    if path := not_finite(state):
        raise NonFiniteError(f"fit: {path} of the state is not finite, before the first step")
    errors = np.errstate(all="ignore")  # the guard says more than a warning
    with alone_in(folder), progress_display(first, steps, progress) as show, errors:
        if fresh:
            _set_aside(folder)
        if folder and not (folder / CHECKPOINT).exists():
            save(first, state)
        log = start_log(folder and folder / LOG, records)
        try:
            for n in range(first, steps):
                new_state, metrics = run(n, state)
                if n == first and (change := first_difference(named_arrays(state), named_arrays(new_state))):
                    raise ValueError(f"fit: step must keep the shapes and dtypes of the state's arrays, but {change}")
                for name, value in metrics.items():
                    if not math.isfinite(value):
                        fail(f"the metric {name!r} of step {n} (counted from 0) is {value}")
                n, state = n + 1, new_state
                show(n, metrics)
                if n == 1 or n % log_every == 0 or n == steps:
                    log(n, metrics, on_log and on_log(n, state, metrics))
                history.append((n, state))  # only now: a step that Ctrl-C kept out of the log is made again
                if n % checkpoint_every == 0 or n == steps:
                    if path := not_finite(state):
                        fail(f"{path} of the state is not finite after {n} steps")
                    save(n, state)
        except KeyboardInterrupt:
            n, state = history[-1]
            if not not_finite(state):
                save(n, state)
            raise
    return state


@contextmanager
def alone_in(folder):
    """Hold a folder, or None, which only one run at a time can: ValueError if another one does. (Windows cannot tell.)"""
    if folder is None or fcntl is None:
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
        except BlockingIOError:
            raise ValueError(f"fit: another run is writing to {folder}; wait for it, or give another folder") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(held)


def _open(out, resume, state, seed):
    """(folder or None, whether a new run begins in it, state, its number of steps, the records of the log up to there)."""
    if resume is True and out is None:
        raise ValueError("fit: resume=True continues the run in `out`; give out, or resume=folder")
    source = Path(out if resume is True else resume) if resume else None
    folder = Path(out) if out is not None else source
    first, records, fresh = 0, [], False
    if source:
        state, first, its_seed = load_checkpoint(source / CHECKPOINT, state)
        if its_seed != seed:
            raise ValueError(f"fit: the run in {source} has seed {its_seed}; resume it with seed={its_seed}, not {seed}")
        if (source / LOG).exists():
            records = [record for record in read_log(source / LOG) if record["step"] <= first]
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = not source or source.resolve() != folder.resolve()
    return folder, fresh, state, first, records


def _set_aside(folder):
    """Number the files of an earlier run: checkpoint.1.safetensors, log.1.jsonl."""
    old = [folder / name for name in (CHECKPOINT, LOG) if (folder / name).exists()]
    numbered = ([path.with_suffix(f".{k}{path.suffix}") for path in old] for k in count(1))
    free = next(paths for paths in numbered if not any(path.exists() for path in paths))
    for path, new in zip(old, free):
        os.rename(path, new)


def _check_counts(**counts):
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"fit: {name} is {value!r}; it must be an integer of at least 1")


def _by_number(batches):
    if hasattr(batches, "at"):
        return batches.at
    return batches if callable(batches) else batches.__getitem__


def _checked(result):
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise TypeError(f"fit: step must return (state, metrics), a tree and a dict of numbers, not {type(result).__name__}")
    return result[0], as_numbers(result[1])
