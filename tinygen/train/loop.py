"""The training loop; see the package's docstring."""

import math
import os
from collections import deque
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np

from .. import flat
from ..backend import Generator, device_of
from .checkpoint import first_difference, load_checkpoint, named_arrays, save_checkpoint
from .graph import OnGPU, own_stream
from .guard import NonFiniteError, checked, explain, not_finite
from .interrupts import that_wait as interrupts_that_wait
from .log import as_numbers, progress_display, read_log, say, start_log

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"


def fit(
    step, state, batches, steps, *, seed=0, out=None, resume=None, log_every=100, checkpoint_every=1000, progress=True,
    on_log=None, capture=None,
):  # fmt: skip
    """The state after `steps` steps in all: state, metrics = step(state, batches.at(n), Generator(seed).at(n)) for each n.

    step: pure; metrics is a dict of numbers. On a CPU, a step that also has the form step.in_place(state, batch, rng), as those
    of optim.minimise have, makes fewer arrays: it is given a copy of the state, and writes each new state over the old.
    batches: an object with .at(n), a function of n, or a sequence. They must not be drawn from Generator(seed).at(n), or they
    would be the step's noise: see `data.Draws`. Random numbers are made on the device of the state's arrays; the batches must
    be there, too.
    out: a folder for a log (after 1 step, then every `log_every`) and for checkpoints (at the start, every `checkpoint_every`
    steps, at the end, and on Ctrl-C after the last complete step). What an earlier run left there is not lost, but gets a
    number: checkpoint.1.safetensors. Two runs at a time in one folder are refused.
    resume: True to continue the run in `out`, or a folder to continue from (and in, unless `out` is another one). `state` is
    then the template of the checkpoint's. A log goes on after the checkpoint's step. A finished run returns at once.
    on_log(n, state, metrics) is called for every line of the log; a dict that it returns, of validation say, joins the line.
    capture: on a GPU, make the steps by a CUDA graph (graph.py); None where that can be, with a line that says why if not; True
    or an error; False never. There the metrics are read, and states kept for on_log, the guard and Ctrl-C, only at the steps of
    the log and of the checkpoints. The GPU notes if a metric was not finite in between; the steps since then are made again.

    NonFiniteError when a metric is not finite or, looked at with every checkpoint even where there is no `out`, the state. Such
    a state is never written. To say where it came from, the loop keeps in memory the two states that it looked at last: those
    of the log and of the checkpoints, or, of steps that have no form in place, of every step.
    NotCapturable, a TypeError, where capture=True and the step cannot be captured.
    ValueError for bad arguments, a folder that another run writes to, a checkpoint that does not fit, and a step that changes
    the shape or dtype of an array.
    """
    _check_counts(steps=steps, log_every=log_every, checkpoint_every=checkpoint_every)
    device, batch_at = device_of(*named_arrays(state).values()), _by_number(batches, steps)
    if capture and device == "cpu":
        raise ValueError("fit: capture=True needs a state on a GPU; on a CPU optim.minimise records the step anyhow")
    random = Generator(seed, device)
    folder, fresh, state, first, records = _open(out, resume, state, seed)
    history = deque([(first, state)], maxlen=2)  # pairs of n and the state after n steps

    stepper = on_cpu(step, state) if device == "cpu" else OnGPU(step, state, capture)
    metrics, said = {}, False

    def run(n, state):
        state, metrics = stepper.again(state, batch_at(n), random.at(n))
        return state, as_numbers(metrics)

    def save(n, state):
        if folder:
            save_checkpoint(folder / CHECKPOINT, state, n, seed)

    def fail(n, symptom):
        written = folder and folder / CHECKPOINT
        raise NonFiniteError("\n".join([f"fit: {symptom}", *explain(history, run, batch_at, n, written)]))

    if path := not_finite(state):
        raise NonFiniteError(f"fit: {path} of the state is not finite, before the first step")
    errors = np.errstate(all="ignore")  # the guard says more than a warning
    showing, interrupts = progress_display(first, steps, progress), interrupts_that_wait(stepper.overwrites)
    with alone_in(folder), own_stream(device), showing as show, errors, interrupts as asked_to_stop:
        if fresh:
            _set_aside(folder)
        if folder and not (folder / CHECKPOINT).exists():
            save(first, state)
        log = start_log(folder and folder / LOG, records)
        try:
            for n in range(first + 1, steps + 1):
                stepper.make(batch_at(n - 1), random.at(n - 1))
                stopping = asked_to_stop()
                logged, saved = n == 1 or n % log_every == 0 or n == steps, n % checkpoint_every == 0 or n == steps
                looked_at = logged or saved or stopping or n == first + 1
                if not (stepper.waited_for or looked_at):
                    show(n, metrics)
                    continue
                metrics, all_finite = stepper.told()
                for name, value in metrics.items():
                    if not math.isfinite(value):
                        fail(n, f"the metric {name!r} of step {n - 1} (counted from 0) is {value}")
                if not all_finite:
                    fail(n, f"a metric was not finite in one of the steps {history[-1][0]} to {n - 1} (counted from 0)")
                if progress and stepper.reason and not said:
                    said = say(f"the kernels of a step are launched one by one, not as a graph: {stepper.reason}")
                show(n, metrics)
                if stepper.overwrites and not looked_at:
                    continue
                new_state = stepper.seen()
                if n == first + 1 and (change := first_difference(named_arrays(state), named_arrays(new_state))):
                    raise ValueError(f"fit: step must keep the shapes and dtypes of the state's arrays, but {change}")
                state = new_state
                if logged:
                    log(n, metrics, on_log and on_log(n, state, metrics))
                history.append((n, state))  # only now: a step that Ctrl-C kept out of the log is made again
                if saved:
                    if path := not_finite(state):
                        fail(n, f"{path} of the state is not finite after {n} steps")
                    save(n, state)
                if stopping:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            n, state = history[-1]
            if not not_finite(state):
                save(n, state)
            raise
    return state


def on_cpu(step, state):
    """What makes the steps on a CPU."""
    return InPlace(step, state) if hasattr(step, "in_place") else OnCPU(step, state)


class OnCPU:
    """Steps whose results are there when they are made. OnGPU is the same for a device that is not waited for."""

    waited_for, overwrites, reason = True, False, None

    def __init__(self, step, state):
        self.step, self.state = step, state

    def make(self, batch, rng):
        """The next step."""
        self.state, self.metrics = self.again(self.state, batch, rng)

    def told(self):
        """The metrics as floats, and whether those of the steps that were not asked about were finite."""
        return as_numbers(self.metrics), True

    def seen(self):
        """The state, which stays as it is."""
        return self.state

    def again(self, state, batch, rng):
        """The step from any state."""
        return checked(self.step(state, batch, rng))


class InPlace(OnCPU):
    """Steps that write each new state over the old, beginning with a copy of the first."""

    overwrites = True

    def __init__(self, step, state):
        super().__init__(step, flat.copy(state))

    def make(self, batch, rng):
        self.state, self.metrics = checked(self.step.in_place(self.state, batch, rng))

    def seen(self):
        return flat.copy(self.state)


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
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"fit: out is a folder, and {folder} is a file; give another name")
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


def _by_number(batches, steps):
    if hasattr(batches, "at"):
        return batches.at
    if callable(batches):
        return batches
    if not hasattr(batches, "__getitem__"):
        raise TypeError(f"fit: batches is a {type(batches).__name__}, where no n-th is found; give a function of n, or a list")
    if len(batches) < steps:
        raise ValueError(f"fit: there are {len(batches)} batches for {steps} steps; give one for each, or data.Batches")
    return batches.__getitem__
