r"""How a contest is held, so that its figures mean something.

    alone         every contender has a process of its own: in a common one, two pools of threads slow one another down, and
                  memory could not be told apart; a new one for each case, so that no case depends on those before it
                  (but the sizes of one kernel take turns in one process: they are compared with one another)
    alike         before anything is timed, both compute the same numbers from the same weights: |a - b| <= tolerance |a|
                  for the loss and for every gradient, in the Euclidean norm. The tolerance is 1e-4; in a step 1e-2, because
                  of relu: where its input is 0 but for rounding, one lets the whole gradient through and the other nothing.
                  And both in float32, not in the shorter numbers that PyTorch would take for a convolution on a GPU
    in turns      bursts of one contender after another, round after round, forth and back: a clock that slows down slows all
    warm          a burst begins with a run that nobody times; of a step of ours with several, if one of the next three would be
                  a replay that is compared with an ordinary call: that takes twice as long, and is rare (see steps.py)
    in place      all on the same processors, on those of which other programs leave the most
    in quiet      nothing else should run; which part of the processors' time other programs had is measured and said
    by the clock  or, where other programs keep the processors busy, by the processor time of all threads of the process; a GPU
                  is given its work in a queue, and waited for at the end of a burst (see devices.py)
    medians       a time is the median over rounds of the medians of bursts. A ratio is the median over rounds of the ratio
                  within a round, whose bursts saw the same machine: a machine that is half as fast from some round on leaves
                  it alone, but not the ratio of medians over all calls, as a round has more calls when they are quick
    peak memory   the most that was resident in the steps, or held of the card's memory, minus what still is once the case is
                  dropped: parameters, state, gradients and activations, but not the libraries

The processes talk in lines of JSON; arrays go through files (see contender.py).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median

import numpy as np

from .case import OURS, Result
from .machine import at_work, least_busy, thread_settings, used_by

ROOT = Path(__file__).parents[2]
ROUNDS, SECONDS = 5, 0.2  # rounds of bursts, and how long a burst is


def hold(case, conditions):
    """The `Result` of a case. Who fails, or computes other numbers than ours, is out, and a complaint says why."""
    (result,) = hold_together([case], ROUNDS, SECONDS, conditions)
    return result


def hold_together(cases, rounds, seconds, conditions, weigh=True):
    """The `Result`s of cases that the same contenders run, each contender in one process, where cases take turns as well.

    Without `weigh`, nobody's memory is measured.
    """
    results, processors = [Result(case) for case in cases], least_busy(conditions.threads)
    if conditions.quick:
        rounds, seconds = 1, 0
    with tempfile.TemporaryDirectory() as folder:
        running = {c.name: Process(c, processors, conditions) for c in cases[0].contenders(conditions)}
        try:
            for result in results:
                result.rounds = {name: [] for name in _who_agree(running, result, Path(folder))}
            with _watched(results, running, processors):
                for n in range(rounds):
                    for result in results if n % 2 == 0 else reversed(results):
                        _race(running, result, seconds, forth=n % 2 == 0)
            for result in results:
                if weigh:
                    _weigh(running, result)
                if OURS not in result.rounds:  # there is nothing to compare with
                    result.rounds.clear()
        finally:
            for process in running.values():
                process.tell_to_end()
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
            if name == OURS:
                return []
        else:
            with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
                computed[name] = dict(arrays)
    for name in [*computed]:
        if difference := disagreement(computed[OURS], computed[name], result.case.tolerance):
            result.complaints.append(f"{result.case.name}: {name}: other numbers than ours: {difference}")
            del computed[name]
    return [*computed]


@contextmanager
def _watched(results, running, processors):
    """Note in the results for which part of the meantime other programs were at work on our processors."""

    def by_others():
        known = at_work(processors), time.process_time(), *(process.used() for process in running.values())
        return None if None in known else known[0] - sum(known[1:])

    start, before = time.perf_counter(), by_others()
    yield
    after, seconds = by_others(), (time.perf_counter() - start) * len(processors)
    for result in results:
        result.others = None if None in (before, after) else min(max(0.0, (after - before) / seconds), 1.0)


def _race(running, result, seconds, forth):
    """One round: a burst of each."""
    for name in [*result.rounds] if forth else [*reversed(result.rounds)]:
        with _out_if_it_fails(name, result):
            reruns = 1 if name == OURS else result.case.reruns
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

    def __init__(self, contender, processors, conditions):
        job = {"contender": asdict(contender), "processors": processors, "conditions": asdict(conditions)}
        command = [sys.executable, "-m", "tests.bench.contender", json.dumps(job)]
        pipe = subprocess.PIPE
        environment = {**os.environ, **thread_settings(len(processors))}
        if contender.library != "tinygen":  # their weights and batches are its, and it leaves malloc alone where a name says so
            environment["MALLOC_AS_IT_IS"] = "1"
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=environment)

    def check(self, case, path):
        self._ask("check", case=case, path=str(path))

    def burst(self, case, seconds):
        return self._ask("burst", case=case, seconds=seconds)

    def memory(self, case):
        return self._ask("memory", case=case)

    def used(self):
        """The seconds of processor time that it has used, or None."""
        return used_by(self.process.pid)

    def tell_to_end(self):
        self.process.stdin.close()

    def close(self):
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
