"""Loops in parts: everything is done once, errors arrive, and the number of threads changes no bit of a result."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import kernels
from tinygen.kernels import threads, watch

MUCH = 10**12


@pytest.fixture
def pool_of():
    before = threads._pool
    yield threads.use
    threads._pool = before


@given(count=st.integers(0, 50), size=st.integers(1, 5), work=st.sampled_from([0, 3 * threads.ENOUGH, MUCH]))
def test_each_turn_of_a_loop_is_run_once(count, size, work):
    before = threads._pool
    try:
        threads.use(size)
        turns = np.zeros(count, int)

        def loop(first, last):
            for i in range(first, last):
                turns[i] += 1

        threads.in_parts(loop, count, work)
    finally:
        threads._pool = before
    assert (turns == 1).all()


def test_parts_run_at_the_same_time_and_little_work_in_one_thread(pool_of):
    pool_of(3)
    together = threading.Barrier(3)
    threads.in_parts(lambda first, last: together.wait(timeout=20), 3, MUCH)
    parts = []
    threads.in_parts(lambda *part: parts.append(part), 3, threads.ENOUGH)
    assert parts == [(0, 3)]


def test_the_threads_of_a_pool_that_is_replaced_end(pool_of):
    def alive():
        return sum(thread.name.endswith("(_work)") for thread in threading.enumerate())

    pool_of(3)
    threads.in_parts(lambda *_: None, 3, MUCH)
    before = alive()
    for _ in range(5):
        pool_of(3)
        threads.in_parts(lambda *_: None, 3, MUCH)
    for _ in range(200):  # they are told, and end when they are awake
        if alive() <= before:
            break
        time.sleep(0.05)
    assert alive() == before >= 2


def test_threads_that_look_out_and_threads_that_sleep_do_the_same(pool_of, monkeypatch):
    """With the next loop at once, after the threads have fallen asleep, and where nobody ever looks out."""
    pool_of(3)
    for patience, pause in (watch.PATIENCE, 0), (watch.PATIENCE, 0.01), (0, 0), (0, 0.01):
        monkeypatch.setattr(watch, "PATIENCE", patience)
        for n in range(3, 20):
            turns = np.zeros(n, int)

            def loop(first, last, turns=turns):
                turns[first:last] += 1

            threads.in_parts(loop, n, MUCH)
            assert (turns == 1).all()
            time.sleep(pause)


def test_each_side_watches_how_far_the_other_is(pool_of, monkeypatch):
    """What is given is awaited by the thread, and what is done by who gave it: once for each loop."""
    watched = {}
    monkeypatch.setattr(watch, "changed", lambda address, old, *_: watched.setdefault(address, []).append(old))
    pool_of(2)
    for _ in range(4):
        threads.in_parts(lambda *_: None, 2, MUCH)
    (worker,) = threads._pool.workers
    for _ in range(200):  # until it is back from the last loop
        if len(watched[worker.where_given]) == 5:
            break
        time.sleep(0.05)
    assert watched == {worker.where_given: [0, 1, 2, 3, 4], worker.where_done: [0, 1, 2, 3]}
    assert worker.given[0] == worker.done[0] == 4


def test_a_number_is_watched_until_it_changes():
    number = np.array([5], np.int64)
    assert not watch.changed(number.ctypes.data, 5, min(watch.PATIENCE, 1000), 10)
    assert watch.changed(number.ctypes.data, 4, watch.PATIENCE, 10) == bool(watch.PATIENCE)  # without a compiler, nobody looks

    other = threading.Timer(0.05, lambda: number.__setitem__(0, 6))
    other.start()
    if watch.PATIENCE:
        while not watch.changed(number.ctypes.data, 5, watch.PATIENCE, 10):
            pass
    other.join()
    assert number[0] == 6


def test_threads_of_the_program_may_have_loops_in_parts_at_the_same_time(pool_of):
    pool_of(3)
    turns = np.zeros((4, 50, 7), int)

    def many(k):
        for n in range(50):

            def loop(first, last, n=n):
                turns[k, n, first:last] += 1

            threads.in_parts(loop, 7, MUCH)

    several = [threading.Thread(target=many, args=(k,)) for k in range(4)]
    for each in several:
        each.start()
    for each in several:
        each.join()
    assert (turns == 1).all()


def test_what_was_interrupted_does_not_disturb_the_next_loop(pool_of):
    pool_of(3)
    at_work = threading.Event()

    def interrupted(first, last):
        if first:
            at_work.wait(timeout=20)
        else:
            raise KeyboardInterrupt

    threading.Timer(0.05, at_work.set).start()
    with pytest.raises(KeyboardInterrupt):
        threads.in_parts(interrupted, 3, MUCH)
    parts = []
    threads.in_parts(lambda *part: parts.append(part), 3, MUCH)
    assert sorted(parts) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("size", [1, 1024, 5000, 20_001])
def test_loops_over_single_numbers_are_cut_where_no_rest_is_left(pool_of, monkeypatch, size):
    """A rest is done one by one, and may be rounded otherwise: so the parts' lengths are multiples, but for the last."""
    pool_of(3)
    monkeypatch.setattr(threads, "ENOUGH", 1)
    parts, x = [], np.arange(size)
    threads.over_rows(lambda a, b: parts.append((int(a[0]), len(a), len(b))), x, x)
    starts, lengths, others = zip(*sorted(parts))
    assert sum(lengths) == size and lengths == others and not any(start % threads.AT_ONCE for start in starts)
    assert len(parts) == min(3, -(-size // threads.AT_ONCE))
    rows = []
    threads.over_rows(lambda a, b: rows.append(len(a)), x, np.zeros((size, 2)))
    assert len(rows) == min(3, size)


@pytest.mark.parametrize("place", [0, 2])
def test_an_error_in_a_part_is_raised_and_the_threads_live_on(pool_of, place):
    pool_of(3)

    def loop(first, last):
        if first == place:
            raise ValueError(f"part {place}")

    for _ in range(3):
        with pytest.raises(ValueError, match=f"part {place}"):
            threads.in_parts(loop, 3, MUCH)


def test_a_loop_inside_a_part_is_not_divided_again(pool_of):
    pool_of(2)
    inner = []
    threads.in_parts(lambda *_: threads.in_parts(lambda *part: inner.append(part), 4, MUCH), 2, MUCH)
    assert sorted(inner)[-1] == (0, 4) and sum(last - first for first, last in inner) == 8


@pytest.mark.parametrize("size", [2, 3, 16])
@pytest.mark.parametrize("shape, channels", [((5, 28, 28, 32), 64), ((17, 14, 14, 64), 32), ((1, 28, 28, 32), 32)])
def test_the_number_of_threads_changes_no_bit(pool_of, size, shape, channels):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    w = rng.normal(size=(3, 3, shape[3], channels)).astype(np.float32)
    g = rng.normal(size=(*shape[:3], channels)).astype(np.float32)

    def run():
        return (
            kernels.conv2d.forward(x, w, (1, 1), (1, 1)),
            kernels.conv2d.input_gradient(g, w, shape[1:3], (1, 1), (1, 1)),
            kernels.conv2d.weight_gradient(x, g, (3, 3), (1, 1), (1, 1)),
        )

    pool_of(1)
    alone = run()
    pool_of(size)
    for a, b in zip(alone, run()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize(
    "run",
    [
        lambda x: kernels.activations.silu(x),
        lambda x: kernels.activations.leaky_relu_gradient(x, 1 - x, 0.2),
        lambda x: kernels.gate.backward(x[..., :16], x),
        lambda x: kernels.categorical.log_prob(np.arange(x[..., 0].size).reshape(x.shape[:-1]) % 32, x),
        lambda x: kernels.bernoulli.log_prob(x[0] > 0, x),
        lambda x: kernels.group_norm.backward(1 - x, x, x[0, :2], 4, 1e-5, "silu"),
    ],
    ids=["silu", "leaky_relu_gradient", "gate", "categorical", "bernoulli", "group_norm"],
)
def test_nor_does_it_of_loops_over_rows(pool_of, run, size):
    x = np.random.default_rng(0).normal(size=(7, 1500, 32)).astype(np.float32)
    pool_of(1)
    alone = run(x)
    pool_of(size)
    np.testing.assert_array_equal(alone, run(x))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_a_forked_process_has_threads_of_its_own():
    code = (
        "import os, threading; from tinygen.kernels import threads; threads.use(2); "
        "run = lambda: threads.in_parts(lambda a, b, wait=threading.Barrier(2).wait: wait(timeout=20), 2, 10**12); run(); "
        "child = os.fork(); run(); os._exit(0) if child == 0 else print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "0", done.stderr


FORKED = """
import multiprocessing, os
import numpy as np
from tinygen import kernels
from tinygen.kernels import threads

threads.use(2)
threads.ENOUGH = 1
rng = np.random.default_rng(0)
x, w = rng.normal(size=(4, 9, 9, 16)).astype(np.float32), rng.normal(size=(3, 3, 16, 16)).astype(np.float32)

def run(_=None):
    y = kernels.conv2d.forward(x, w, (1, 1), (1, 1))
    return y.tobytes() + kernels.activations.silu(y).tobytes() + kernels.matmul.product(x[0, 0], w[0, 0]).tobytes()

here = run()
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(run, range(6)) == [here] * 6
child = os.fork()
if child == 0:
    os._exit(0 if run() == here else 1)
assert os.waitpid(child, 0)[1] == 0 and run() == here
print("the same")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_kernels_run_in_forked_processes_and_give_the_same_bits():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "the same", done.stderr


@pytest.mark.parametrize("name", ["NUMBA_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("value, result", [("3", "3"), ("none", "is 'none'"), ("0", "is '0'")])
def test_the_environment_says_how_many_threads(name, value, result):
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")} | {name: value}
    code = "from tinygen.kernels import threads; print(threads._pool.size)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result in (done.stdout if done.returncode == 0 else done.stderr)


def test_there_must_be_a_thread():
    with pytest.raises(ValueError, match="there must be at least 1"):
        threads.use(0)
