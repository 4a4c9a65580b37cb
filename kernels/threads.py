"""Loops in parts that run at the same time, each in a thread of its own.

Compiled loops and NumPy's give Python's lock back while they run, so ordinary threads are enough. After a loop they look out
for the next one, for less than a millisecond: in a step of training it comes soon, and to wake a thread takes as long as a
small loop (see watch.py). Then they sleep. They live on after a fork, because the child makes new ones; and a loop is compiled
once, whether it runs in one thread or in many.

Whoever divides a loop must divide it so that the sums do not depend on the number of threads: then nor do results, to the last
bit. (BLAS, which has threads of its own and rounds as it likes for each number of them, is given one: see blas.py.) Our number
is $NUMBA_NUM_THREADS, or $OMP_NUM_THREADS, or else that of the processors which this process may use.
"""

import os
import threading
from importlib import import_module
from queue import SimpleQueue

import numpy as np

ENOUGH = 2_000_000  # multiplications for a part, 20 microseconds: one that is shorter is over before another thread wakes
MEMORY = 16  # a number that is read or written takes as long as so many multiplications
# A compiled loop does so many numbers at a time, or a divisor of them, and those that are left at its end one by one: perhaps
# rounded otherwise, where a product is fused with a sum here and not there. So loops over single numbers are cut at multiples.
AT_ONCE = 1024


def use(threads):
    """From now on, divide loops among so many threads. ValueError unless there is at least one."""
    global _pool
    if threads < 1:
        raise ValueError(f"threads.use: {threads} threads; there must be at least 1")
    _pool = _Pool(threads)


def number():
    """How many threads loops are divided among."""
    return _pool.size


def in_parts(loop, count, work, once=1):
    """loop(first, last) for stretches that together are range(count), at the same time; each begins at a multiple of `once`.

    `work`: about how many multiplications the whole is. What a part raises is raised here, once all have ended.
    """
    if work < 2 * ENOUGH:
        return loop(0, count)
    pieces = -(-count // once)
    parts = max(1, min(_pool.size, pieces, int(work // ENOUGH)))
    if parts == 1 or _pool.inside():
        return loop(0, count)
    ends = [min(count, pieces * i // parts * once) for i in range(parts + 1)]
    _pool.run(loop, list(zip(ends, ends[1:])))


def over_rows(loop, *arrays):
    """loop(*arrays), in parts: a loop over the arrays' first axis, which they share, that treats each row by itself."""
    work = MEMORY * sum(a.size for a in arrays)
    if work < 2 * ENOUGH:
        loop(*arrays)
    else:
        once = AT_ONCE if all(a.ndim == 1 for a in arrays) else 1
        in_parts(lambda first, last: loop(*(a[first:last] for a in arrays)), len(arrays[0]), work, once)


class _Pool:
    def __init__(self, size):
        self.size, self.workers, self.here, self.free = size, None, threading.local(), threading.Lock()

    def inside(self):
        """Whether this thread is at work on a part: a loop in it is not divided again."""
        return getattr(self.here, "inside", False)

    def run(self, loop, parts):
        if not self.free.acquire(blocking=False):  # another thread of the program has a loop in parts
            for part in parts:
                loop(*part)
            return
        try:
            if self.workers is None:
                import_module(".blas", __package__)  # which takes no processor from ours from now on
                self.workers = [_Worker(self.here) for _ in range(self.size - 1)]
            answers, busy = SimpleQueue(), self.workers[: len(parts) - 1]
            for worker, part in zip(busy, parts[1:]):
                worker.give((loop, part, answers))
            self.here.inside = True
            first = _outcome(loop, parts[0])
            self.here.inside = False
            for worker in busy:
                worker.wait()
            outcomes = [first, *(answers.get() for _ in busy)]
        finally:
            self.free.release()
        for error in outcomes:
            if error is not None:
                raise error

    def __del__(self):
        for worker in self.workers or ():
            worker.give(None)


class _Worker:
    """A thread, and how many tasks it was given, and has done: numbers that are watched for a while, before somebody sleeps."""

    def __init__(self, here):
        self.watch, self.tasks = import_module(".watch", __package__), SimpleQueue()  # and with it Numba
        self.given, self.done = np.zeros((2, 8), np.int64)  # 64 bytes each, the unit of what processors share
        self.where_given, self.where_done = self.given.ctypes.data, self.done.ctypes.data
        threading.Thread(target=_work, args=(self, here), daemon=True).start()

    def give(self, task):
        self.before = int(self.done[0])
        self.tasks.put(task)
        self.given[0] += 1

    def wait(self):
        """Until the task is done, or for a while."""
        self.watch.changed(self.where_done, self.before, self.watch.PATIENCE, self.watch.LEAVING)


def _work(worker, here):
    """What a thread does until it is sent home. It does not hold the pool: when nobody does, the pool ends, and so do they."""
    here.inside, begun, changed = True, 0, worker.watch.changed
    while True:
        changed(worker.where_given, begun, worker.watch.PATIENCE, worker.watch.ENTERING)
        task = worker.tasks.get()  # at once, or it sleeps here
        begun += 1
        if task is None:
            return
        loop, part, answers = task
        answers.put(_outcome(loop, part))
        worker.done[0] += 1
        del task, loop, part, answers  # or the arrays that the loop knows would live until the next one


def _outcome(loop, part):
    try:
        loop(*part)
    except BaseException as error:
        return error


def _wanted():
    """The number of threads that the environment asks for, or of processors."""
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        if text := os.environ.get(name):
            if not text.isdecimal() or int(text) < 1:
                raise ValueError(f"{name} is {text!r}; set it to a whole number of at least 1, or unset it")
            return int(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


use(_wanted())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: use(_pool.size))
