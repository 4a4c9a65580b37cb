"""The training loop: resuming is exact, nothing on disk is ever half written or lost, and a NaN is traced to its origin."""

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tinygen import Generator, files, ops, stop_gradient, value_and_grad
from tinygen.autograd import module, tree
from tinygen.optim import SGD, Adam, begin, ema, minimise
from tinygen.train import (
    NonFiniteError,
    checkpoint_info,
    fit,
    load_checkpoint,
    log,
    loop,
    read_log,
    save_checkpoint,
)

OPTIMISER = Adam(0.01)
DATA = Generator(7).normal((64, 5))


@module
class State:
    params: object
    optimiser: object
    average: object


class Minibatches:
    """Rows of DATA by step number, as tinygen.data.Batches gives them."""

    def at(self, n):
        return DATA[Generator(1).at(n).permutation(64)[:16]]


def loss(params, x, rng):
    z = ops.tanh((x + 0.1 * rng.normal(x.shape)) @ params["w"]) @ params["v"]
    return ((z - x) ** 2).mean()


def step(state, x, rng):
    """A denoising autoencoder: it needs a batch, noise, optimiser moments and an average."""
    value, gradients = value_and_grad(loss)(state.params, x, rng)
    params, optimiser = OPTIMISER.update(gradients, state.optimiser, state.params)
    return State(params, optimiser, ema(state.average, params, 0.99)), {"loss": value}


def start(scale=0.5):
    rng = Generator(0)
    params = {"w": scale * rng.normal((5, 3)), "v": scale * rng.normal((3, 5))}
    return State(params, OPTIMISER.init(params), params)


def train(steps, out=None, **settings):
    return fit(step, start(), Minibatches(), steps, **{"out": out, "seed": 5, "progress": False} | settings)


def bits(t):
    return [(str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()) for leaf in tree.flatten(t)[0]]


def without_time(records):
    return [{name: value for name, value in record.items() if name != "time"} for record in records]


# Running and resuming


def test_a_run_is_the_loop_written_out():
    state = start()
    for n in range(7):
        state, _ = step(state, Minibatches().at(n), Generator(5).at(n))
    assert bits(train(7)) == bits(state)


@pytest.mark.parametrize("kind", ["object with at", "function", "sequence"])
def test_batches_come_by_number(kind):
    def count(state, batch, rng):
        return [state[0] * 10 + batch], {"loss": 0}

    batches = {"object with at": Numbers(), "function": lambda n: n + 1, "sequence": [1, 2, 3]}[kind]
    assert fit(count, [np.array(0)], batches, 3, progress=False)[0] == 123


class Numbers:
    def at(self, n):
        return n + 1


@settings(max_examples=8, deadline=None)
@given(first=st.integers(1, 9), checkpoint_every=st.integers(1, 10))
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(tmp_path_factory, first, checkpoint_every):
    out = tmp_path_factory.mktemp("run")
    train(first, out, checkpoint_every=checkpoint_every, log_every=3)
    resumed = train(10, out, resume=True, checkpoint_every=checkpoint_every, log_every=3)
    whole = tmp_path_factory.mktemp("run")
    assert bits(resumed) == bits(train(10, whole, log_every=3))
    assert bits(load_checkpoint(out / "checkpoint.safetensors", start())[0]) == bits(resumed)
    logged = [record for record in without_time(read_log(out / "log.jsonl")) if record["step"] != first or first % 3 == 0]
    assert logged == [r for r in without_time(read_log(whole / "log.jsonl")) if r["step"] != first or first % 3 == 0]


def test_a_finished_run_returns_at_once(tmp_path):
    done = train(4, tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes(), (tmp_path / "log.jsonl").read_text()

    def never(*_):
        raise AssertionError("no step is left to run")

    for steps in (4, 3):
        assert bits(fit(never, start(), never, steps, seed=5, out=tmp_path, resume=True)) == bits(done)
    assert ((tmp_path / "checkpoint.safetensors").read_bytes(), (tmp_path / "log.jsonl").read_text()) == before


def test_a_run_can_be_continued_in_another_folder(tmp_path):
    train(4, tmp_path / "a", log_every=2)
    before = (tmp_path / "a" / "checkpoint.safetensors").read_bytes(), (tmp_path / "a" / "log.jsonl").read_text()
    resumed = train(8, tmp_path / "b", resume=tmp_path / "a", log_every=2)
    assert bits(resumed) == bits(train(8))
    assert [record["step"] for record in read_log(tmp_path / "b" / "log.jsonl")] == [1, 2, 4, 6, 8]
    assert ((tmp_path / "a" / "checkpoint.safetensors").read_bytes(), (tmp_path / "a" / "log.jsonl").read_text()) == before


def test_a_run_continues_where_it_lies_if_no_other_folder_is_given(tmp_path):
    train(4, tmp_path)
    train(8, resume=tmp_path)
    assert checkpoint_info(tmp_path / "checkpoint.safetensors")["step"] == 8


def test_starting_afresh_in_a_used_folder_loses_nothing(tmp_path):
    for steps in (2, 3, 4):
        train(steps, tmp_path)
    names = {"checkpoint.1.safetensors": 2, "checkpoint.2.safetensors": 3, "checkpoint.safetensors": 4}
    assert {name: checkpoint_info(tmp_path / name)["step"] for name in names} == names
    assert [read_log(tmp_path / name)[-1]["step"] for name in ("log.1.jsonl", "log.2.jsonl", "log.jsonl")] == [2, 3, 4]
    assert len(list(tmp_path.iterdir())) == 6


SCRIPT = """
import sys, time
import numpy as np
from tinygen.train import fit

def step(state, batch, rng):
    time.sleep(float(sys.argv[2]) if __name__ == "__main__" else 0)
    return {"x": 0.9 * state["x"] + batch * rng.normal((1000,))}, {"size": np.abs(state["x"]).mean()}

def train(out, **settings):
    state = {"x": np.zeros(1000, np.float32)}
    return fit(step, state, lambda n: 1.0 / (n + 1), 60, seed=3, out=out, checkpoint_every=7, log_every=2, **settings)

if __name__ == "__main__":
    train(sys.argv[1])
"""


def test_a_killed_run_loses_only_the_steps_since_its_last_checkpoint(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    spec = importlib.util.spec_from_file_location("script", tmp_path / "script.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    run = subprocess.Popen([sys.executable, tmp_path / "script.py", tmp_path / "run", "0.02"], env=environment)
    try:
        deadline = time.monotonic() + 60
        while not ((tmp_path / "run" / "log.jsonl").exists() and len(read_log(tmp_path / "run" / "log.jsonl")) > 9):
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    finally:
        run.kill()
        run.wait()
    assert 14 <= checkpoint_info(tmp_path / "run" / "checkpoint.safetensors")["step"] < 60
    resumed = script.train(tmp_path / "run", resume=True, progress=False)
    assert bits(resumed) == bits(script.train(None, progress=False))
    assert [record["step"] for record in read_log(tmp_path / "run" / "log.jsonl")] == [1, *range(2, 61, 2)]


def test_an_interrupt_keeps_the_last_complete_step(tmp_path):
    def interrupted(state, x, rng):
        if state.optimiser.step == 5:
            raise KeyboardInterrupt
        return step(state, x, rng)

    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, start(), Minibatches(), 10, seed=5, out=tmp_path, progress=False)
    assert bits(load_checkpoint(tmp_path / "checkpoint.safetensors", start())[0]) == bits(train(5))
    assert bits(train(10, tmp_path, resume=True)) == bits(train(10))


def test_an_interrupt_while_a_line_is_made_keeps_that_line_for_the_resumed_run(tmp_path):
    def validate(n, state, metrics):
        if n == 6:
            raise KeyboardInterrupt
        return {"validation": n}

    with pytest.raises(KeyboardInterrupt):
        train(10, tmp_path, log_every=2, on_log=validate)
    train(10, tmp_path, resume=True, log_every=2, on_log=lambda n, state, metrics: {"validation": n})
    assert [(r["step"], r["validation"]) for r in read_log(tmp_path / "log.jsonl")] == [(n, n) for n in (1, 2, 4, 6, 8, 10)]


# Steps that write the new state over the old one


in_place = minimise(lambda params, x, rng: (loss(params, x, rng), {}), OPTIMISER, limit=1.0, decay=0.99)


def train_in_place(steps, out=None, step=in_place, batches=None, **settings):
    state = begin(start().params, OPTIMISER, averaged=True)
    return fit(step, state, batches or Minibatches(), steps, **{"out": out, "seed": 5, "progress": False} | settings)


def without_in_place(*args):
    return in_place(*args)


def test_steps_in_place_leave_the_same_files_and_what_on_log_was_given(tmp_path):
    seen = {True: [], False: []}
    for step in in_place, without_in_place:
        mine = seen[step is in_place]
        out = tmp_path / str(step is in_place)
        last = train_in_place(9, out, step, log_every=4, checkpoint_every=3, on_log=lambda *at: mine.append(at))  # noqa: B023
        mine.append((9, last, {}))
    assert [(n, bits(state), metrics) for n, state, metrics in seen[True]] == [
        (n, bits(state), metrics) for n, state, metrics in seen[False]
    ]
    one, other = (tmp_path / name / "checkpoint.safetensors" for name in ("True", "False"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("at", [0, 4, 5, 8])
def test_ctrl_c_waits_for_the_end_of_a_step_in_place(tmp_path, at, capsys):
    def batches(n):
        if n == at:
            os.kill(os.getpid(), signal.SIGINT)
        return Minibatches().at(n)

    with pytest.raises(KeyboardInterrupt):
        train_in_place(9, tmp_path, batches=batches, log_every=4)
    assert "stopping at the end of this step; Ctrl-C again stops at once" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    kept, n, _ = load_checkpoint(tmp_path / "checkpoint.safetensors", begin(start().params, OPTIMISER, averaged=True))
    assert n == at + 1 and bits(kept) == bits(train_in_place(at + 1, step=without_in_place))
    assert bits(train_in_place(9, tmp_path, resume=True)) == bits(train_in_place(9))


def test_a_second_ctrl_c_stops_at_once_with_the_state_that_was_looked_at_last(tmp_path):
    def batches(n):
        if n == 6:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return Minibatches().at(n)

    with pytest.raises(KeyboardInterrupt):
        train_in_place(9, tmp_path, batches=batches, log_every=4)
    assert checkpoint_info(tmp_path / "checkpoint.safetensors")["step"] == 4
    assert bits(train_in_place(9, tmp_path, resume=True)) == bits(train_in_place(9))


def test_ctrl_c_is_left_alone_where_somebody_else_handles_it():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(True))
    try:
        train_in_place(2, batches=lambda n: os.kill(os.getpid(), signal.SIGINT) or Minibatches().at(n))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(heard) == 2


def test_a_nan_that_was_overwritten_is_found_by_making_the_steps_again(tmp_path):
    def spoilt(params, n, rng):
        return (ops.log(params["x"] - (2 if n == 7 else 0))).sum(), {}

    step = minimise(spoilt, Adam(1e-3))
    with pytest.raises(NonFiniteError) as caught:
        fit(step, begin({"x": np.ones(2)}, Adam(1e-3)), lambda n: n, 20, out=tmp_path, progress=False, log_every=5)
    message = str(caught.value)
    assert "the metric 'loss' of step 7 (counted from 0) is nan" in message and "Step 7, run again" in message
    assert first_fault(message).startswith("  1. log(float64(2,) within [-")


def test_an_interrupt_before_the_first_step_leaves_the_earlier_run_alone(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    train(3, tmp_path)
    monkeypatch.setattr(loop, "_set_aside", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(5, tmp_path)
    assert checkpoint_info(tmp_path / "checkpoint.safetensors")["step"] == 3


@pytest.mark.skipif(loop.fcntl is None, reason="needs file locks, which Windows has not")
def test_two_runs_at_a_time_in_one_folder_are_refused(tmp_path):
    def meanwhile(n, state, metrics):
        for resume in (False, True):
            with pytest.raises(ValueError, match=f"another run is writing to {tmp_path}; wait for it, or give another folder"):
                train(4, tmp_path, resume=resume)

    whole = train(4, tmp_path, on_log=meanwhile)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.safetensors", "log.jsonl"}
    assert bits(train(4, tmp_path)) == bits(whole)  # now that it has ended, another may begin


# Checkpoints


def everything():
    return {
        "strided": np.arange(12, dtype=np.float32).reshape(3, 4).T[::2, ::-1],
        "scalars": (np.float32(1.5), np.array(2.5), np.array(7, np.int64)),
        "empty": [np.zeros((0, 3), np.float32), None, "text"],
        "flags": np.array([True, False]),
        "bytes": np.arange(3, dtype=np.uint8),
    }


def test_a_checkpoint_gives_back_every_bit_and_says_what_it_is(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, everything(), 12, 34, extra={"command": ["vae", "--quick"]})
    like = tree.map(np.zeros_like, everything())
    state, n, seed = load_checkpoint(path, like)
    assert bits(state) == bits(everything()) and (n, seed) == (12, 34) and state["empty"][2] == "text"
    assert checkpoint_info(path) == {"format": 1, "step": 12, "seed": 34, "extra": {"command": ["vae", "--quick"]}}
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_state_may_be_a_bare_array(tmp_path):
    save_checkpoint(tmp_path / "c", np.arange(3.0), 1, 0)
    assert load_checkpoint(tmp_path / "c", np.zeros(3))[0].tolist() == [0, 1, 2]


def test_arrays_are_named_by_their_paths(tmp_path):
    from safetensors import safe_open

    train(1, tmp_path)
    with safe_open(tmp_path / "checkpoint.safetensors", "numpy") as file:
        assert set(file.keys()) == set(tree.paths(start())) >= {"params.w", "optimiser.m.w", "optimiser.step", "average.v"}


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"a": np.zeros((2, 3)), "b": np.zeros(2), "c": np.zeros(1)}, "c is missing"),
        ({"a": np.zeros((2, 3))}, "b is not expected"),
        ({"a": np.zeros((3, 2)), "b": np.zeros(2)}, r"a is float64\(2, 3\) where float64\(3, 2\) is expected"),
        ({"a": np.zeros((2, 3)), "b": np.zeros(2, np.float32)}, r"b is float64\(2,\) where float32\(2,\) is expected"),
    ],
)
def test_a_checkpoint_that_does_not_fit_says_where(tmp_path, like, message):
    save_checkpoint(tmp_path / "c", {"a": np.zeros((2, 3)), "b": np.zeros(2)}, 1, 0)
    with pytest.raises(ValueError, match=f"c does not fit the state .*: {message}; build that state"):
        load_checkpoint(tmp_path / "c", like)


@pytest.mark.parametrize("keep", [0, 7, 40, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path, keep):
    path = tmp_path / "c"
    save_checkpoint(path, start(), 1, 0)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(ValueError, match="c is truncated or damaged"):
        load_checkpoint(path, start())


def test_other_files_and_no_file_are_told_apart(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match="other has format None, not 1"):
        load_checkpoint(tmp_path / "other", {"a": np.zeros(2)})
    with pytest.raises(FileNotFoundError, match="there is no checkpoint .*nowhere"):
        train(2, resume=tmp_path / "nowhere")


def test_an_interrupted_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "c"
    save_checkpoint(path, {"a": np.zeros(2)}, 1, 0)
    before = path.read_bytes()

    def crash(*_):
        raise OSError("the machine stopped here")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(files.os, name, crash)
            with pytest.raises(OSError, match="stopped here"):
                save_checkpoint(path, {"a": np.ones(2)}, 2, 0)
        assert path.read_bytes() == before
    save_checkpoint(path, {"a": np.ones(2)}, 2, 0)
    assert checkpoint_info(path)["step"] == 2


def test_dots_that_make_two_paths_equal_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"two arrays of the state have the path a.b"):
        save_checkpoint(tmp_path / "c", {"a": {"b": np.zeros(1)}, "a.b": np.ones(1)}, 0, 0)


# The log and the progress


def test_the_log_holds_the_metrics_now_and_then(tmp_path):
    def double(state, batch, rng):
        return state, {"loss": np.float32(0.5), "count": np.array(2), "plain": 3, "index": float(batch)}

    fit(double, [np.zeros(1)], lambda n: n, 7, out=tmp_path, log_every=3, progress=False)
    records = read_log(tmp_path / "log.jsonl")
    expected = [{"step": n, "loss": 0.5, "count": 2, "plain": 3, "index": n - 1} for n in (1, 3, 6, 7)]
    assert without_time(records) == expected
    assert [list(record)[:2] for record in records] == [["step", "time"]] * 4
    assert all(a["time"] <= b["time"] for a, b in zip(records, records[1:]))


def test_resuming_cuts_the_log_at_the_checkpoint_and_a_torn_line_off_it(tmp_path):
    train(6, tmp_path, log_every=2)
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write(json.dumps({"step": 8, "time": 99.0, "loss": -1}) + "\n" + '{"step": 10, "ti')
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl")] == [1, 2, 4, 6, 8]
    train(10, tmp_path, resume=True, log_every=2)
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl")] == [1, 2, 4, 6, 8, 10]
    assert all(record["loss"] > 0 for record in read_log(tmp_path / "log.jsonl"))
    assert (tmp_path / "log.jsonl").read_text().endswith("}\n")


def test_a_damaged_line_within_the_log_is_named(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match="line 2 of .*log.jsonl is not a record"):
        read_log(tmp_path / "log.jsonl")


@pytest.mark.parametrize("odd", ["[1]", '{"loss": 1.0}', "7", '"step"'])
def test_a_line_that_is_no_record_of_a_step_is_named(tmp_path, odd):
    train(4, tmp_path)
    (tmp_path / "log.jsonl").write_text('{"step": 1, "time": 0.1}\n' + odd + "\n")
    with pytest.raises(ValueError, match="line 2 of .*log.jsonl is not a record: .*; remove it"):
        train(6, tmp_path, resume=True)


def test_what_on_log_returns_joins_the_line(tmp_path):
    seen = []

    def validate(n, state, metrics):
        seen.append((n, int(state.optimiser.step), sorted(metrics)))
        return {"validation": 2.0 * n, "bound": np.inf} if n > 1 else None

    train(4, tmp_path, log_every=2, on_log=validate)
    assert seen == [(1, 1, ["loss"]), (2, 2, ["loss"]), (4, 4, ["loss"])]
    records = read_log(tmp_path / "log.jsonl")
    assert [record.get("validation") for record in records] == [None, 4, 8]
    assert "bound" in records[1] and records[1]["bound"] is None


def test_progress_is_lines_where_there_is_no_terminal(capsys, monkeypatch):
    train(4, progress=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("step 4/4, ") and " steps/s, loss " in line
    monkeypatch.setattr(log, "SECONDS_BETWEEN_LINES", 0)
    train(4, progress=True)
    assert len(capsys.readouterr().err.splitlines()) == 4
    train(4, progress=False)
    assert capsys.readouterr().err == ""


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    train(4, progress=True)
    assert "4/4" in terminal.getvalue() and "loss" in terminal.getvalue()


# The NaN guard


def descend(function, start=(1.0, 2.0), rate=0.1):
    """A step of gradient descent on function(x, batch), and its first state."""
    optimiser, x = SGD(rate), np.array(start, np.float32)

    def step(state, batch, rng):
        value, g = value_and_grad(function)(state["x"], batch)
        x, s = optimiser.update(g, state["optimiser"], state["x"])
        return {"x": x, "optimiser": s}, {"loss": value}

    return step, {"x": x, "optimiser": optimiser.init(x)}


def failure(step, state, batches=lambda n: n, steps=20, **settings):
    with pytest.raises(NonFiniteError) as caught:
        fit(step, state, batches, steps, **{"progress": False, "log_every": 1} | settings)
    return str(caught.value)


def first_fault(message):
    return next(line for line in message.splitlines() if line.startswith("  1. "))


def test_a_nan_in_the_forward_pass_is_traced_to_its_primitive():
    message = failure(*descend(lambda x, n: ops.log(x - n / 2).sum(), rate=0))
    assert "the metric 'loss' of step 2 (counted from 0) is -inf" in message
    assert first_fault(message).startswith("  1. log(float32(2,) within [0, 1]) gave float32(2,) with 0 NaN and 1 infinite")


def test_an_overflow_is_traced_to_its_primitive():
    message = failure(*descend(lambda x, n: ops.exp(x * (1000 if n == 3 else 1)).mean(), rate=1e-3))
    assert "of step 3 " in message and first_fault(message).startswith("  1. exp(float32(2,) within [9")


def test_a_nan_in_the_backward_pass_is_traced_to_the_step_before_and_the_rule():
    """At step 4 the loss is finite, but the derivative of sqrt at 0 is not: the loss shows it only at step 5."""
    message = failure(*descend(lambda x, n: ops.sqrt(x * (n != 4)).sum(), rate=1e-3))
    assert "the metric 'loss' of step 5 (counted from 0) is nan" in message and "Step 4, run again" in message
    assert "sqrt.rule(x=" in first_fault(message) and "elementwise.py" in first_fault(message)
    assert "x of the state was finite before step 4, and is not after it" in message


def test_a_primitive_called_by_a_rule_is_seen_too():
    """The derivative of erf is e^(-x^2), and x^2 overflows inside the rule."""

    def function(x, n):
        return (ops.logsumexp(x * 1e20) * (1e30 if n == 2 else 1.0)).sum()

    message = failure(*descend(function, rate=0))
    assert "Step 2, run again" in message and "multiply" in first_fault(message)


def test_numpy_code_outside_the_primitives_is_found_by_its_line():
    def step(state, batch, rng):
        with_zero = np.arange(3.0) - (batch == 2)
        return {"params": {"w": state["params"]["w"] / with_zero}}, {"loss": 1.0}  # here

    message = failure(step, {"params": {"w": np.ones(3)}}, lambda n: n + 1, steps=5, checkpoint_every=1)
    assert "params.w of the state is not finite after 1 steps" in message
    assert "divide by zero" in first_fault(message) and first_fault(message).endswith("# here")


def test_an_infinity_that_is_given_to_a_primitive_is_not_its_fault():
    """Masks hold -inf on purpose: where() passes it on, and the fault is the exponential that comes later."""

    def function(x, n):
        masked = ops.where(np.array([True, False]), x, -np.inf)
        return (ops.exp(masked) + (ops.exp(x * 1e4) if n == 1 else 0)).sum()

    message = failure(*descend(function, rate=0))
    assert first_fault(message).startswith("  1. exp(float32(2,) within [1e+04, 2e+04])")


def test_several_faults_are_told_in_order():
    def function(x, n):
        hidden = ops.where(x > 1.5, ops.log(stop_gradient(x) - 1), 0)  # log(0) = -inf, which the choice hides
        return (hidden + ops.exp(x * (1000 if n == 1 else 1))).sum()

    message = failure(*descend(function, rate=0))
    lines = [line.split("(")[0] for line in message.splitlines() if line.startswith("  ")]
    assert lines[:2] == ["  1. log", "  2. exp"]


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("batch, place", [(lambda x: x, "the array"), (lambda x: (np.ones(2), {"x": x}), "1.x")])
def test_a_batch_that_is_not_finite_is_named(number, batch, place):
    at = lambda n: batch(np.array([1.0, number if n == 2 else 0.0], np.float32))  # noqa: E731
    message = failure(*descend(lambda x, batch: (x * tree.flatten(batch)[0][-1]).sum(), rate=1e-3), at)
    assert f"The batch of step 2 holds NaN or infinity, in {place}: look at the data" in message
    assert "compiled code" not in message


def test_what_only_compiled_code_can_have_done_is_said_so():
    """Adam squares a gradient of 1e30 in its kernel: infinite in float32, without any operation that NumPy could see."""
    optimiser, x = Adam(1e-3), np.ones(2, np.float32)

    def step(state, batch, rng):
        return {"optimiser": optimiser.update(np.full(2, 1e30, np.float32), state["optimiser"], x)[1]}, {"loss": 0.0}

    message = failure(step, {"optimiser": optimiser.init(x)}, steps=1)
    assert "optimiser.v of the state is not finite after 1 steps" in message
    assert "optimiser.v of the state was finite before step 0, and is not after it" in message
    assert "came from compiled code, such as an optimiser's" in message


def spoiled_at(step_number):
    def step(state, n, rng):
        return {"unused": np.log(state["unused"] + (0 if n == step_number else 1))}, {"loss": 0.0}

    return step, {"unused": np.zeros(2)}


def test_a_state_that_went_bad_long_ago_is_found_at_the_next_checkpoint(tmp_path):
    message = failure(*spoiled_at(3), out=tmp_path, checkpoint_every=10)
    assert "unused of the state is not finite after 10 steps" in message
    assert "was not finite before step 9 either" in message and "checkpoint_every=1" in message
    message = failure(*spoiled_at(3), out=tmp_path, resume=True, checkpoint_every=1)
    assert "is not finite after 4 steps" in message and "divide by zero" in first_fault(message)


def test_the_last_good_checkpoint_is_kept_and_named(tmp_path):
    spoil = descend(lambda x, n: (x * np.float32(np.inf if n == 7 else 1)).sum(), rate=1e-3)
    message = failure(*spoil, out=tmp_path, checkpoint_every=3)
    path = tmp_path / "checkpoint.safetensors"
    assert f"The last good checkpoint, of the state after 6 steps, is {path}." in message
    assert np.isfinite(load_checkpoint(path, spoil[1])[0]["x"]).all()
    assert "No state was saved" in failure(*spoil)


def test_an_interrupt_does_not_save_a_state_that_is_not_finite(tmp_path):
    step, state = spoiled_at(1)

    def interrupted(state, n, rng):
        if n == 4:
            raise KeyboardInterrupt
        return step(state, n, rng)

    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, state, lambda n: n, 9, out=tmp_path, progress=False)
    assert checkpoint_info(tmp_path / "checkpoint.safetensors")["step"] == 0


def test_a_step_that_is_not_pure_is_found_out():
    calls = []

    def step(state, batch, rng):
        calls.append(batch)
        return state, {"loss": np.nan if len(calls) == 3 else 0.0}

    message = failure(step, [np.zeros(1)])
    assert "But step 2, run again, gave finite values: step or batches depend on more" in message


def test_a_first_state_that_is_not_finite_is_named():
    step, _ = descend(lambda x, n: x.sum())
    assert "x of the state is not finite, before the first step" in failure(step, {"x": np.array([np.nan])})


# Arguments


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be an integer of at least 1"),
        ({"steps": -3}, "steps is -3"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"steps": True}, "steps is True"),
        ({"log_every": 0}, "log_every is 0"),
        ({"checkpoint_every": -1}, "checkpoint_every is -1"),
        ({"seed": -1}, "seed must be a non-negative integer"),
        ({"resume": True}, "resume=True continues the run in `out`; give out"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        train(**{"steps": 3} | settings)


@pytest.mark.parametrize("batches, error, message", [
    (iter([DATA]), TypeError, "batches is a list_iterator, where no n-th is found; give a function of n, or a list"),
    (7, TypeError, "batches is a int"),
    ([DATA, DATA], ValueError, "there are 2 batches for 3 steps; give one for each, or data.Batches"),
])  # fmt: skip
def test_batches_that_cannot_be_found_by_number_or_are_too_few_are_refused(batches, error, message):
    with pytest.raises(error, match=message):
        fit(lambda state, batch, rng: (state, {}), np.zeros(2), batches, 3, progress=False)


def test_as_many_batches_as_steps_are_enough():
    seen = []
    fit(lambda state, batch, rng: (seen.append(batch) or state, {}), np.zeros(2), [5, 6, 7], 3, progress=False)
    assert seen == [5, 6, 7]


def test_a_file_is_no_folder_to_write_to(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="fit: out is a folder, and .*file is a file; give another name"):
        train(2, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("metadata", ['{"format"; 1}', "[1, 2]", "3", '{"format": 1}', '{"format": 1, "step": "x", "seed": 0}'])
def test_a_checkpoint_whose_metadata_is_damaged_is_refused(tmp_path, metadata):
    save_file({"state": np.zeros(2)}, tmp_path / "a.safetensors", {"tinygen": metadata})
    with pytest.raises(ValueError, match="load_checkpoint: .*a.safetensors .*damaged.*; take an earlier checkpoint"):
        load_checkpoint(tmp_path / "a.safetensors", np.zeros(2))


def test_another_seed_than_the_checkpoints_is_refused(tmp_path):
    train(2, tmp_path)
    with pytest.raises(ValueError, match="has seed 5; resume it with seed=5, not 6"):
        train(4, tmp_path, resume=True, seed=6)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda x: x, TypeError, r"step must return \(state, metrics\)"),
        (lambda x: (x, 0.5), TypeError, r"step must return \(state, metrics\)"),
        (lambda x: (x, {"loss": np.ones(3)}), ValueError, r"the metric 'loss' has shape \(3,\); reduce it"),
        (lambda x: (x, {"step": 1}), ValueError, "a column 'step' of its own"),
        (lambda x: (x.astype(np.float64), {}), ValueError, r"state is float64\(2,\) where float32\(2,\) is expected"),
        (lambda x: ((x, x), {}), ValueError, "state is missing"),
    ],
)
def test_a_step_that_returns_something_else_is_told_so(result, error, message):
    with pytest.raises(error, match=message):
        fit(lambda state, batch, rng: result(state), np.zeros(2, np.float32), lambda n: n, 3, progress=False)
