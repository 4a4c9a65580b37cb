r"""How a contest is held, so that its figures mean something.

    alone         every contender has a process of its own: in a common one, two pools of threads slow one another down, and
                  memory could not be told apart; a new one for each case, so that no case depends on those before it
                  (but the sizes of one kernel take turns in one process: they are compared with one another)
    alike         before anything is timed, both compute the same numbers from the same weights: |a - b| <= tolerance |a|
                  for the loss and for every gradient, in the Euclidean norm. The tolerance is 1e-4; in a step 1e-2, because
                  of relu: where its input is 0 but for rounding, one lets the whole gradient through and the other nothing
    in turns      bursts of one contender after another, round after round, forth and back: a clock that slows down slows all
    in place      all on the same processors, on those of which other programs leave the most
    by the clock  or, where other programs keep the processors busy, by the processor time of all threads of the process
    medians       a time is the median over rounds of the medians of bursts. A ratio is the median over rounds of the ratio
                  within a round, whose bursts saw the same machine: a machine that is half as fast from some round on leaves
                  it alone, but not the ratio of medians over all calls, as a round has more calls when they are quick
    peak memory   the most that was resident in the steps, minus what is resident once the case is dropped: parameters, state,
                  gradients and activations, but not the libraries

The processes talk in lines of JSON; arrays go through files (see contender.py).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).parents[2]
ROUNDS, SECONDS = 5, 0.25  # rounds of bursts, and how long a burst is


@dataclass(frozen=True)
class Contender:
    """Who competes: a library, and for PyTorch in which layout, with which Adam, eager or compiled."""

    library: str  # "tinygen", "torch" or "jax"
    channels_last: bool = False
    fused: bool = False  # Adam in one kernel
    compiled: bool = False

    @property
    def name(self):
        if self.library != "torch":
            return {"tinygen": "tinygen", "jax": "jax.jit"}[self.library]
        said = ["torch.compile" if self.compiled else "eager"]
        return ", ".join(said + ["channels last"] * self.channels_last + ["fused Adam"] * self.fused)


OURS = Contender("tinygen")


@dataclass(frozen=True)
class Case:
    """One row of the table. Each library has a function Contender -> (run, check), which makes everything ready.

    run() does the work once. check() returns {name: array}: what all libraries must agree on, in our layout. `bars` are bounds
    on PyTorch's time over ours: the one that must be met, and the moonshot. `products` are the multiply-adds of one run, None
    where they are not what takes the time. PyTorch's time counts `reruns` times.
    """

    name: str
    libraries: dict[str, Callable]
    bars: tuple[float, float] | None = None
    products: float | None = None
    images: bool = False  # so both layouts compete
    step: bool = False  # so fused Adam and torch.compile compete, and memory has a bar
    updates: bool = False  # nothing but Adam: so only fused Adam competes
    reruns: int = 1

    @property
    def group(self):
        return "steps" if self.step or self.reruns > 1 else "kernels"

    @property
    def tolerance(self):
        return 1e-2 if self.step else 1e-4

    def contenders(self, quick=False):
        """Ours, and everybody else who is installed."""
        found = [OURS]
        if "torch" in self.libraries and find_spec("torch"):
            layouts = [False, True] if self.images else [False]
            adams = [False, True] if self.step or self.updates else [False]
            found += [Contender("torch", layout, fused) for layout in layouts for fused in adams]
            if self.step and compiler() and not quick:
                found.append(Contender("torch", self.images, True, compiled=True))
        if "jax" in self.libraries and find_spec("jax") and not quick:
            found.append(Contender("jax"))
        return found


def compiler():
    """The C++ compiler that torch.compile would call, or None."""
    return shutil.which(os.environ.get("CXX", "g++"))


@dataclass
class Result:
    """What came of a case: of each contender by name, the seconds of a run in each round, and its peak memory in bytes."""

    case: Case
    rounds: dict = field(default_factory=dict)
    memory: dict = field(default_factory=dict)
    complaints: list = field(default_factory=list)

    def seconds(self, name):
        return median(self.rounds[name])

    @property
    def best(self):
        """The name of PyTorch's fastest eager contender, or None: bars are about it."""
        eager = [name for name in self.rounds if name.startswith("eager")]
        return min(eager, key=lambda name: self.ratio(name)[0], default=None)

    def ratio(self, name):
        """Their time over ours, and the least and the greatest over the rounds."""
        each = quotients(self.rounds[name], self.rounds[OURS.name])
        return median(each), min(each), max(each)

    def memory_ratio(self):
        ours, theirs = self.memory.get(OURS.name), self.memory.get(self.best)
        return ours / theirs if ours and theirs and min(ours, theirs) > 0 else None

    def as_json(self):
        case = {name: value for name, value in vars(self.case).items() if name != "libraries"}
        seconds = {name: self.seconds(name) for name in self.rounds}
        return {**case, "seconds": seconds, "rounds": self.rounds, "memory": self.memory, "complaints": self.complaints}


def quotients(a, b):
    return [x / y for x, y in zip(a, b)]


def hold(case, threads=1, quick=False, busy=False):
    """The `Result` of a case; `busy` where other programs keep the processors so.

    Who fails, or computes other numbers than ours, is out, and a complaint says why.
    """
    (result,) = hold_together([case], 1 if quick else ROUNDS, 0 if quick else SECONDS, threads, quick, busy)
    return result


def hold_together(cases, rounds, seconds, threads=1, quick=False, busy=False):
    """The `Result`s of cases that the same contenders run, each contender in one process, where cases take turns as well."""
    results, processors = [Result(case) for case in cases], least_busy(threads)
    with tempfile.TemporaryDirectory() as folder:
        running = {c.name: Process(c, processors, quick, busy) for c in cases[0].contenders(quick)}
        try:
            for result in results:
                result.rounds = {name: [] for name in _who_agree(running, result, Path(folder))}
            for n in range(rounds):
                for result in results if n % 2 == 0 else reversed(results):
                    _race(running, result, seconds, forth=n % 2 == 0)
            for result in results:
                _weigh(running, result)
                if OURS.name not in result.rounds:  # there is nothing to compare with
                    result.rounds.clear()
        finally:
            for process in running.values():
                process.close()
    return results


def _who_agree(running, result, folder):
    """The names of those who compute the same numbers as ours: of nobody where ours fails."""
    computed = {}
    for name, process in running.items():
        try:
            process.check(result.case.name, folder / f"{name}.npz")
        except ContenderFailed as error:
            result.complaints.append(f"{result.case.name}: {name}: {error}")
            if name == OURS.name:
                return []
        else:
            with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
                computed[name] = dict(arrays)
    for name in [*computed]:
        if difference := disagreement(computed[OURS.name], computed[name], result.case.tolerance):
            result.complaints.append(f"{result.case.name}: {name}: other numbers than ours: {difference}")
            del computed[name]
    return [*computed]


def _race(running, result, seconds, forth):
    """One round: a burst of each."""
    for name in [*result.rounds] if forth else [*reversed(result.rounds)]:
        with _out_if_it_fails(name, result):
            reruns = 1 if name == OURS.name else result.case.reruns
            result.rounds[name].append(reruns * median(running[name].burst(result.case.name, seconds)))


def _weigh(running, result):
    for name in [*result.rounds]:
        with _out_if_it_fails(name, result):
            result.memory[name] = running[name].memory(result.case.name)


@contextmanager
def _out_if_it_fails(name, result):
    try:
        yield
    except ContenderFailed as error:
        result.complaints.append(f"{result.case.name}: {name}: {error}")
        result.rounds.pop(name, None)


def disagreement(ours, theirs, tolerance):
    """Where two sets of named arrays differ, as a phrase; None where they agree."""
    if ours.keys() != theirs.keys():
        return f"one has {sorted(ours.keys() ^ theirs.keys())}, and the other has not"
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape:
            return f"{name} has shape {b.shape}, and ours {a.shape}"
        distance, size = np.linalg.norm(np.subtract(a, b, dtype=np.float64)), np.linalg.norm(a)
        if not distance <= tolerance * size:
            return f"{name} is {distance:.2g} away from ours, of norm {size:.2g}"
    return None


class ContenderFailed(Exception):
    """A contender's own words about what went wrong."""


class Process:
    """A contender at work, in a process of its own."""

    def __init__(self, contender, processors, quick, busy):
        job = {"contender": asdict(contender), "processors": processors, "quick": quick, "busy": busy}
        command = [sys.executable, "-m", "tests.bench.contender", json.dumps(job)]
        pipe = subprocess.PIPE
        environment = {**os.environ, **thread_settings(len(processors))}
        if contender != OURS:  # tinygen, whose weights and batches they use, leaves malloc as it is where a name says so
            environment["MALLOC_AS_IT_IS"] = "1"
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=environment)

    def check(self, case, path):
        self._ask("check", case=case, path=str(path))

    def burst(self, case, seconds):
        return self._ask("burst", case=case, seconds=seconds)

    def memory(self, case):
        return self._ask("memory", case=case)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def _ask(self, question, **details):
        try:
            self.process.stdin.write(json.dumps({"question": question, **details}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; what follows says so
        line = self.process.stdout.readline()
        if not line:
            raise ContenderFailed(f"its process ended with status {self.process.wait()}; its last words are above")
        answer = json.loads(line)
        if "error" in answer:
            raise ContenderFailed(answer["error"])
        return answer["answer"]


def thread_settings(threads):
    """What must be in the environment before a library is imported: how many threads there are, for all of them."""
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"
    xla = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} intra_op_parallelism_threads={threads}"
    return {**dict.fromkeys(names, str(threads)), "XLA_FLAGS": xla}


def available():
    """The processors that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


def least_busy(n, seconds=0.2):
    """The n of the available processors of which a loop that spins gets the largest part of the time; `seconds` for all."""
    processors = available()
    if n >= len(processors) or not hasattr(os, "sched_setaffinity"):
        return processors[:n]
    got = {}
    for processor in processors:
        os.sched_setaffinity(0, [processor])
        time.sleep(0)  # the move is made when this process is next given a processor
        start, used = time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds / len(processors):
            pass
        got[processor] = (time.process_time() - used) / (time.perf_counter() - start)
    os.sched_setaffinity(0, processors)
    return sorted(sorted(processors, key=got.get)[-n:])
