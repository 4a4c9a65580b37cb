r"""How a contest is held, so that its figures mean something.

    alone         every contender has a process of its own: in a common one, two pools of threads slow one another down, and
                  memory could not be told apart; a new one for each case, so that no case depends on those before it
    alike         before anything is timed, both compute the same numbers from the same weights: |a - b| <= tolerance |a|
                  for the loss and for every gradient, in the Euclidean norm. The tolerance is 1e-4; in a step 1e-2, because
                  of relu: where its input is 0 but for rounding, one lets the whole gradient through and the other nothing
    in turns      bursts of one contender after another, round after round: a clock that slows down slows all of them
    by the clock  or, where other programs keep the processors busy, by the processor time of all threads of the process
    medians       over all the calls; and of each round, so that one sees how much the ratio varies
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
from collections.abc import Callable
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
    """What came of a case: of each contender by name, the medians of its rounds, of all calls, and its peak memory in bytes."""

    case: Case
    seconds: dict = field(default_factory=dict)
    rounds: dict = field(default_factory=dict)
    memory: dict = field(default_factory=dict)
    complaints: list = field(default_factory=list)

    @property
    def best(self):
        """The name of PyTorch's fastest eager contender, or None: bars are about it."""
        eager = [name for name in self.seconds if name.startswith("eager")]
        return min(eager, key=self.seconds.get, default=None)

    def ratio(self, name):
        """Their time over ours, and the least and the greatest over the rounds."""
        each = [theirs / ours for theirs, ours in zip(self.rounds[name], self.rounds[OURS.name])]
        return self.seconds[name] / self.seconds[OURS.name], min(each), max(each)

    def memory_ratio(self):
        ours, theirs = self.memory.get(OURS.name), self.memory.get(self.best)
        return ours / theirs if ours and theirs and min(ours, theirs) > 0 else None

    def as_json(self):
        case = {name: value for name, value in vars(self.case).items() if name != "libraries"}
        return {**case, "seconds": self.seconds, "rounds": self.rounds, "memory": self.memory, "complaints": self.complaints}


def hold(case, threads=1, quick=False, busy=False):
    """The `Result` of a case; `busy` where other programs keep the processors so.

    Who fails, or computes other numbers than ours, is out, and a complaint says why.
    """
    result, running = Result(case), {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for contender in case.contenders(quick):
                running[contender.name] = Process(case.name, contender, threads, quick, busy)
                complaint = _complaint(running, case.tolerance, Path(folder))
                if complaint:
                    result.complaints.append(f"{case.name}: {contender.name}: {complaint}")
                    running.pop(contender.name).close()
                    if contender == OURS:
                        return result
            _race(running, result, quick)
        finally:
            for process in running.values():
                process.close()
    return result


def _complaint(running, tolerance, folder):
    """What is wrong with the numbers of the contender who came last, or None."""
    name, process = [*running.items()][-1]
    try:
        process.compute(folder / f"{name}.npz")
    except ContenderFailed as error:
        return error
    ours, theirs = (_saved(folder / f"{who}.npz") for who in (OURS.name, name))
    difference = disagreement(ours, theirs, tolerance)
    return difference and f"other numbers than ours: {difference}"


def _saved(path):
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _race(running, result, quick):
    bursts = {name: [] for name in running}
    for _ in range(1 if quick else ROUNDS):
        for name, process in running.items():
            bursts[name].append(process.burst(0 if quick else SECONDS))
    for name, process in running.items():
        reruns = 1 if name == OURS.name else result.case.reruns
        result.rounds[name] = [reruns * median(burst) for burst in bursts[name]]
        result.seconds[name] = reruns * median(sum(bursts[name], []))
        result.memory[name] = process.memory()


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
    """A contender at work on a case, in a process of its own."""

    def __init__(self, case, contender, threads, quick, busy):
        job = {"case": case, "contender": asdict(contender), "threads": threads, "quick": quick, "busy": busy}
        command = [sys.executable, "-m", "tests.bench.contender", json.dumps(job)]
        pipe = subprocess.PIPE
        environment = {**os.environ, **thread_settings(threads)}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=environment)

    def compute(self, path):
        self._ask("check", path=str(path))

    def burst(self, seconds):
        return self._ask("burst", seconds=seconds)

    def memory(self):
        return self._ask("memory")

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
