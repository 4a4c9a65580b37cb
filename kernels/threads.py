"""Loops in parts that run at the same time, each in a thread of its own.

Compiled loops and NumPy's give Python's lock back while they run, so ordinary threads are enough. They sleep between two loops,
where the pools of OpenMP spin, which takes the processor from BLAS; they live on after a fork, because the child makes new
ones; and a loop is compiled once, whether it runs in one thread or in many.

Whoever divides a loop must divide it so that the sums do not depend on the number of threads: then nor do results, to the last
bit. The number is $NUMBA_NUM_THREADS, or $OMP_NUM_THREADS, or else that of the processors which this process may use.
"""

import os
import threading
from queue import SimpleQueue

ENOUGH = 2_000_000  # multiplications for a part, 20 microseconds: one that is shorter is over before another thread wakes
MEMORY = 16  # a number that is read or written takes as long as so many multiplications


def use(threads):
    """From now on, divide loops among so many threads. ValueError unless there is at least one."""
    global _pool
    if threads < 1:
        raise ValueError(f"threads.use: {threads} threads; there must be at least 1")
    _pool = _Pool(threads)


def in_parts(loop, count, work):
    """loop(first, last) for stretches that together are range(count), at the same time.

    `work`: about how many multiplications the whole is. What a part raises is raised here, once all have ended.
    """
    parts = max(1, min(_pool.size, count, int(work // ENOUGH)))
    if parts == 1 or _pool.inside():
        return loop(0, count)
    ends = [count * i // parts for i in range(parts + 1)]
    _pool.run(loop, list(zip(ends, ends[1:])))


def over_rows(loop, *arrays):
    """loop(*arrays), in parts: a loop over the arrays' first axis, which they share, that treats each row by itself."""
    work = MEMORY * sum(a.size for a in arrays)
    if work < 2 * ENOUGH:
        loop(*arrays)
    else:
        in_parts(lambda first, last: loop(*(a[first:last] for a in arrays)), len(arrays[0]), work)


class _Pool:
    def __init__(self, size):
        self.size, self.waiting, self.here = size, None, threading.local()

    def inside(self):
        """Whether this thread is at work on a part: a loop in it is not divided again."""
        return getattr(self.here, "inside", False)

    def run(self, loop, parts):
        if self.waiting is None:
            self.waiting = SimpleQueue()
            for _ in range(self.size - 1):
                threading.Thread(target=_work, args=(self.waiting, self.here), daemon=True).start()
        results = SimpleQueue()
        for part in parts[1:]:
            self.waiting.put((loop, part, results))
        self.here.inside = True
        first = _outcome(loop, parts[0])
        self.here.inside = False
        for error in [first, *(results.get() for _ in parts[1:])]:
            if error is not None:
                raise error

    def __del__(self):
        if self.waiting is not None:
            for _ in range(self.size - 1):
                self.waiting.put(None)


def _work(waiting, here):
    """What a thread does until it is sent home. It does not hold the pool: when nobody does, the pool ends, and so do they."""
    here.inside = True
    while (task := waiting.get()) is not None:
        loop, part, results = task
        results.put(_outcome(loop, part))
        del task, loop, part, results  # or the arrays that the loop knows would live until the next one


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
