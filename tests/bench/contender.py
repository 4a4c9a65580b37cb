"""A contender's process: it answers questions about cases, a line of JSON each, until there are no more.

check    compute what is compared, and save it
burst    run for some seconds, after once to warm up: how long a run took, one figure or several
memory   the peak over three runs, in bytes, or None where the system does not say; the case is gone afterwards

A case is made ready when it is first asked about.
"""

import json
import os
import sys
import traceback

import numpy as np


def main(job):
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    desk = Desk(**job)
    keep_to(job["processors"])  # only now: all import their libraries at the same time, and nobody is timed yet
    for line in sys.stdin:
        answers.write(json.dumps(desk.answer(**json.loads(line))) + "\n")


class Desk:
    """Where a contender's cases lie ready: {name: (run, check)}."""

    def __init__(self, contender, processors, conditions):
        from . import cases, devices
        from .case import Conditions, Contender

        self.contender, self.conditions = Contender(**contender), Conditions(**conditions)
        self.named, self.ready = cases.named, {}
        if self.contender.library == "torch":
            from . import pytorch

            pytorch.set_up(len(processors))
        self.place = devices.of(self.contender, self.conditions.busy)

    def answer(self, question, **details):
        try:
            return {"answer": getattr(self, question)(**details)}
        except Exception as error:
            traceback.print_exception(error)
            return {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}

    def check(self, case, path):
        _, compute = self._made_ready(case)
        np.savez(path, **compute())

    def burst(self, case, seconds):
        return self.place.times(self._made_ready(case)[0], seconds)

    def memory(self, case):
        self._made_ready(case)
        return self.place.peak(self.ready, case)

    def _made_ready(self, case):
        if case not in self.ready:
            self.ready[case] = self.named(case, self.conditions).libraries[self.contender.library](self.contender)
        return self.ready[case]


def keep_to(processors):
    """Run on these and on no others: some libraries count those that they may use, and nothing else."""
    if hasattr(os, "sched_setaffinity"):
        for thread in os.listdir("/proc/self/task"):  # BLAS may have started some
            os.sched_setaffinity(int(thread), processors)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
