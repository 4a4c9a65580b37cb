"""Where a contender's cases run: how long a run takes there, and the memory that it needs.

A processor has done its work when the function returns. A GPU was only given it, in a queue, and waiting for it costs some
microseconds of its own: so runs are put in the queue one after another, twice as many each time, until they take long enough,
and are waited for once.
"""

import ctypes
import gc
import sys
import time
from itertools import count


def of(contender, busy):
    return {"cpu": lambda: Processor(busy), "gpu": CuPyCard, "cuda": TorchCard}[contender.device]()


class Processor:
    def __init__(self, busy):
        self.clock = time.process_time if busy else time.perf_counter

    def times(self, run, seconds):
        """How long each run took, of as many as fit into some seconds, after what it takes to warm up."""
        warm_up(run)
        taken, start = [], self.clock()
        for n in count():
            before = self.clock()
            if n and before - start > seconds:
                return taken
            run()
            taken.append(self.clock() - before)

    def peak(self, ready, case):
        """The most bytes that were held in three runs, minus those held once the case is dropped; None if nobody knows."""
        run, _ = ready[case]
        warm_up(run)
        try:
            give_back_what_is_free()
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # the peak begins anew
            for _ in range(3):
                run()
            peak = resident("VmHWM")
            del run, _, ready[case]
            give_back_what_is_free()
            return peak - resident("VmRSS")
        except OSError:
            return None


class Card:
    """A GPU. A library adds wait(), release(), which gives back what it keeps without need, and free_and_total(), bytes.

    The card's memory is the same yardstick for all: it also counts what belongs to no pool, or to one of a graph's own. Nobody
    else uses the card meanwhile, since contenders take turns.
    """

    def times(self, run, seconds):
        run()
        self.wait()
        for doublings in count():
            start = time.perf_counter()
            for _ in range(2**doublings):
                run()
            self.wait()
            if (taken := time.perf_counter() - start) > seconds:
                return [taken / 2**doublings]

    def peak(self, ready, case):
        run, _ = ready[case]
        gc.collect()
        self.wait()
        self.release()
        for _ in range(3):
            run()
        self.wait()
        most = self.held()  # between two releases it only grows
        del run, _, ready[case]
        gc.collect()
        self.release()
        return most - self.held()

    def held(self):
        free, total = self.free_and_total()
        return total - free


class CuPyCard(Card):
    def __init__(self):
        import cupy

        self.wait, self.release = cupy.cuda.Device().synchronize, cupy.get_default_memory_pool().free_all_blocks
        self.free_and_total = cupy.cuda.runtime.memGetInfo


class TorchCard(Card):
    def __init__(self):
        import torch

        self.wait, self.release = torch.cuda.synchronize, torch.cuda.empty_cache
        self.free_and_total = torch.cuda.mem_get_info


def warm_up(run):
    """Run once, or as often as the case itself says that it must be (see steps.py)."""
    getattr(run, "warm_up", run)()


def give_back_what_is_free():
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def resident(name):
    """VmRSS, the memory that is resident now, or VmHWM, the most that ever was; bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))
