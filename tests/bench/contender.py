"""A contender's process: it makes one case ready, and then answers questions, a line of JSON each, until there are no more.

check    compute what is compared, and save it
burst    run for some seconds, after once to warm up: how long each run took
memory   the peak over three runs, in bytes, or None where the system does not say; the case is gone afterwards
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
    pin(job["threads"])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        ready = Ready(job)
    except Exception as error:
        ready = error
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if isinstance(ready, Exception):
                raise ready
            answer = {"answer": getattr(ready, question.pop("question"))(**question)}
        except Exception as error:
            traceback.print_exception(error)
            answer = {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
        answers.write(json.dumps(answer) + "\n")


class Ready:
    """A case made ready for a contender."""

    def __init__(self, job):
        from .cases import named
        from .contest import Contender

        contender = Contender(**job["contender"])
        if contender.library == "torch":
            import torch

            torch.set_num_threads(job["threads"])
        self.clock = time.process_time if job["busy"] else time.perf_counter
        self.run, self.compute = named(job["case"], job["quick"]).libraries[contender.library](contender)

    def check(self, path):
        np.savez(path, **self.compute())

    def burst(self, seconds):
        self.run()
        taken, start = [], self.clock()
        for n in count():
            before = self.clock()
            if n and before - start > seconds:
                return taken
            self.run()
            taken.append(self.clock() - before)

    def memory(self):
        try:
            give_back_what_is_free()
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # the peak begins anew
            for _ in range(3):
                self.run()
            peak = resident("VmHWM")
            del self.run, self.compute
            give_back_what_is_free()
            return peak - resident("VmRSS")
        except OSError:
            return None


def pin(threads):
    """Keep to the last so many of the processors that this process may use: some libraries count these, and nothing else."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


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
