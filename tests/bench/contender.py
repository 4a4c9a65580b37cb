"""A contender's process: it answers questions about cases, a line of JSON each, until there are no more.

check    compute what is compared, and save it
burst    run for some seconds, after once to warm up: how long each run took
memory   the peak over three runs, in bytes, or None where the system does not say; the case is gone afterwards

A case is made ready when it is first asked about.
"""

import ctypes
import gc
import json
import os
import sys
import time
import traceback
from itertools import count

import numpy as np


def main(job):
    keep_to(job["processors"])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    desk = Desk(job)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = {"answer": getattr(desk, question.pop("question"))(**question)}
        except Exception as error:
            traceback.print_exception(error)
            answer = {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
        answers.write(json.dumps(answer) + "\n")


class Desk:
    """Where a contender's cases lie ready: {name: (run, check)}."""

    def __init__(self, job):
        self.job, self.ready = job, {}
        self.clock = time.process_time if job["busy"] else time.perf_counter

    def check(self, case, path):
        _, compute = self._made_ready(case)
        np.savez(path, **compute())

    def burst(self, case, seconds):
        run, _ = self._made_ready(case)
        run()
        taken, start = [], self.clock()
        for n in count():
            before = self.clock()
            if n and before - start > seconds:
                return taken
            run()
            taken.append(self.clock() - before)

    def memory(self, case):
        run, check = self._made_ready(case)
        try:
            give_back_what_is_free()
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # the peak begins anew
            for _ in range(3):
                run()
            peak = resident("VmHWM")
            del run, check, self.ready[case]
            give_back_what_is_free()
            return peak - resident("VmRSS")
        except OSError:
            return None

    def _made_ready(self, case):
        if case not in self.ready:
            from .cases import named
            from .contest import Contender

            contender = Contender(**self.job["contender"])
            if contender.library == "torch":
                import torch

                torch.set_num_threads(len(self.job["processors"]))
            self.ready[case] = named(case, self.job["quick"]).libraries[contender.library](contender)
        return self.ready[case]


def keep_to(processors):
    """Run on these and on no others: some libraries count those that they may use, and nothing else."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)


def give_back_what_is_free():
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def resident(name):
    """VmRSS, the memory that is resident now, or VmHWM, the most that ever was; bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
