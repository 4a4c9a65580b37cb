"""Training steps as graphs: the same bits as without one, for all six families; and what cannot be a graph says why.

In CI the GPU is pretended; with `pytest -m gpu` it is the machine's own. The uncaptured run calls the same matrix product as
the graph (`cuda.as_captured`): with cuBLAS's its numbers would be rounded otherwise.
"""

import numpy as np
import pytest

from tests.cuda import harness, pretended
from tests.cuda.test_no_transfers import CASES, DEVICES, on_cpu, watched
from tinygen import Generator, ops, optim, train
from tinygen.autograd import tree
from tinygen.backend import array_module, to_device
from tinygen.kernels import cuda
from tinygen.train.graph import Count, Graphed, own_stream

SMALL, LARGE = ["VAE", "affine flow"], ["U-Net", "WGAN-GP", "R1", "multi-scale flow", "convolutional EBM", "gated PixelCNN"]
RUNS = [(case, 20 if case in SMALL else 5) for case in CASES if case not in LARGE]
LONGER_RUNS = [pytest.param(case, 5 if case == "U-Net" else 20, marks=pytest.mark.slow) for case in CASES if case not in SMALL]
X = np.random.default_rng(4).standard_normal((6, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def one_schedule(monkeypatch):
    monkeypatch.setattr(harness, "SCHEDULES", 1)  # the kernels' own tests run them in all orders


def rolled(batch):
    """Batches that differ from step to step."""
    return lambda n: train.move(tree.map(lambda x: np.roll(x, n, axis=0), batch), "gpu")


def run(step, state, batches, steps, **settings):
    """The bits of the last state and of those that on_log saw, which are looked at when all is done; and the log's metrics."""
    seen = []
    settings = {"log_every": 3, "progress": False, "on_log": lambda n, *logged: seen.append((n, *logged))} | settings
    last = train.fit(step, train.move(state, "gpu"), batches, steps, seed=3, **settings)
    states = {n: [a.tobytes() for a in on_cpu(state)] for n, state, _ in seen}
    return [a.tobytes() for a in on_cpu(last)], states, {n: metrics for n, _, metrics in seen}


def uncaptured(*args, **settings):
    with cuda.as_captured():
        return run(*args, capture=False, **settings)


def adam(learning_rate=1e-2):
    return optim.Adam(optim.warm_up(5, optim.cosine(learning_rate, 30)), eps=1e-3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case, steps", RUNS + LONGER_RUNS)
def test_a_captured_run_has_the_bits_of_an_uncaptured_one(case, steps, device):
    with watched(device):
        optimiser = adam()
        state, step, batch = CASES[case](Generator(0), optimiser)
        captured = run(step, state, rolled(batch), steps, capture=True)
        assert captured == uncaptured(step, state, rolled(batch), steps)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "optimiser",
    [
        optim.SGD(optim.cosine(0.1, 8)),
        optim.SGD(optim.exponential(0.1, 0.5), momentum=0.9, nesterov=True),
        optim.AdamW(optim.warm_up(3, 1e-2), weight_decay=0.1),
    ],
)
def test_every_optimiser_keeps_to_its_schedule(optimiser, device):
    def loss(w, x, rng):
        return ((x * w["a"] - w["b"]) ** 2).mean(), {}

    step = optim.minimise(loss, optimiser, limit=0.5, decay=0.9)
    start = {"a": np.ones(2, np.float32), "b": np.zeros((6, 2), np.float64)}
    with watched(device):
        state = optim.begin(start, optimiser, averaged=True)
        assert run(step, state, rolled(X), 9, capture=True) == uncaptured(step, state, rolled(X), 9)


def noise(state, batch, rng):
    """A step with all that changes: a counter, a schedule, random numbers, the batch; and leaves that change places."""
    a, b, n = state["a"], state["b"], state["n"]
    rate = n.numbers(lambda n: 0.5**n).astype(np.float32) if isinstance(n, Count) else 0.5 ** int(n)
    product = ops.tanh(0.01 * ops.matmul(a.T, b)).mean()
    new = a * np.float32(0.5) + product + batch + (rng.normal(a.shape) + rng.uniform(a.shape)) * rate
    following = {"a": new.astype(np.float32), "b": a, "n": n + 1 if isinstance(n, Count) else np.array(n + 1)}
    return following, {"mean": new.mean(), "a part of the old state": a[0, 0], "a part of the batch": batch[0, 0]}


START = {"a": X, "b": X + 1, "n": np.array(0)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("odd", [(), (0,), (1,), (4, 5), (2, 7)])
def test_a_batch_of_another_shape_is_an_ordinary_step(odd, device):
    def batches(n):
        return to_device(np.float32([[n]]) if n in odd else X * n, "gpu")

    with watched(device):
        assert run(noise, START, batches, 9, capture=True) == uncaptured(noise, START, batches, 9)


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_goes_on_where_it_was_with_a_graph_or_without(device, tmp_path):
    with watched(device), cuda.as_captured():
        optimiser = adam()
        state, step, batch = CASES["affine flow"](Generator(0), optimiser)
        batches, whole = rolled(batch), run(step, state, rolled(batch), 9, out=tmp_path / "whole", capture=False)
        for first, second in ((True, False), (False, True), (True, True)):
            folder = tmp_path / f"{first}{second}"
            run(step, state, batches, 4, out=folder, capture=first)
            assert run(step, state, batches, 9, resume=folder, capture=second)[0] == whole[0]
            assert (folder / "checkpoint.safetensors").read_bytes() == (tmp_path / "whole/checkpoint.safetensors").read_bytes()


def test_between_the_looks_nothing_comes_back_and_only_batches_and_numbers_go():
    with pretended.gpu() as transfers:
        there = train.move(START, "gpu")
        with own_stream("gpu"):
            step, batch, rng = Graphed(noise, required=True), to_device(X, "gpu"), Generator(0, "gpu")
            for n in range(2):
                there, metrics = step(there, batch, rng.at(n))
            transfers.forget()
            for n in range(2, 6):
                there, metrics = step(there, batch, rng.at(n))
        assert not transfers.reads and not transfers.downloads and int(there["n"]) == 6
        assert len(transfers.uploads) == 4 and all("self.there.set" in upload for upload in transfers.uploads)


@pytest.mark.parametrize("device", DEVICES)
def test_metrics_are_not_read_at_every_step_even_without_a_graph(device):
    with watched(device) as transfers:
        run(noise, START, rolled(X), 3, log_every=100, capture=False)
        few = len(transfers.reads)
        run(noise, START, rolled(X), 30, log_every=100, capture=False)
        assert len(transfers.reads) == 2 * few


# What cannot be captured


def adding(compute):
    def step(state, batch, rng):
        return {**state, "x": state["x"] + compute(state, batch, rng)}, {}

    return step


outside = {"calls": 0, "step": 0}


def impure(state, batch, rng):
    outside["calls"] += 1
    return outside["calls"]


def rolled_and_noted(n):
    outside["step"] = n
    return rolled(X)(n)


REFUSED = {
    "a number that is read": (lambda s, x, rng: float(x.sum()), "CUDARuntimeError: .*Capture.*test_graph.py, line .*float"),
    "a decision": (lambda s, x, rng: 1 if x.sum() > 0 else 2, "CUDARuntimeError: .*Capture"),
    "a mask": (lambda s, x, rng: x[x > 0].sum(), "CUDARuntimeError: .*Capture"),
    "an upload": (lambda s, x, rng: array_module(x).asarray([1.0, 2.0], np.float32), "NotCapturable: the step moves .*asarray"),
    "a long list": (lambda s, x, rng: array_module(x).stack([x.sum()] * 9).sum(), "NotCapturable: the step moves .*stack"),
    "a sort": (lambda s, x, rng: array_module(x).sort(x, axis=0), "CUDARuntimeError: .*Capture"),
    "cuBLAS": (lambda s, x, rng: (x @ x.T).sum(), "NotImplementedError: .*line .*x @ x.T"),
    "cuSOLVER": (lambda s, x, rng: array_module(x).linalg.inv(x[:2]).sum(), "NotImplementedError"),
    "a counter": (lambda s, x, rng: int(s["n"]), r"NotCapturable: the step looks at a counter.*ask for count.numbers"),
    "arithmetic of a counter": (lambda s, x, rng: float(s["n"] / 2), "TypeError: .*Count"),
    "generators": (lambda s, x, rng: rng.split(2)[0].normal(x.shape), "TypeError: Generator.split: it makes generators on"),
    "another generator": (lambda s, x, rng: rng.at(3).normal(x.shape), "TypeError: Generator.at: it makes generators on"),
    "what the step changes outside": (impure, "made again, the step gave other numbers"),
    "what changes outside": (lambda s, x, rng: outside["step"], "made again, the step gave other numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_captured_runs_without_and_says_why(case, capfd):
    compute, message = REFUSED[case]
    step, state = adding(compute), {"x": X, "n": np.array(1)}
    with pretended.gpu():
        outside["calls"] = 0
        expected = run(step, state, rolled_and_noted, 4, capture=False)[0]
        with pytest.raises(train.NotCapturable, match=f"(?s)the step cannot be captured as a graph: {message}"):
            run(step, state, rolled_and_noted, 4, capture=True)
        last = run(step, state, rolled_and_noted, 4, progress=True)[0]
    if compute is not impure:
        assert last == expected
        assert "fit: the kernels of a step are launched one by one, not as a graph: " in capfd.readouterr().err


@pytest.mark.parametrize(
    "step, message",
    [
        (lambda s, x, rng: ({**s, "rate": s["rate"] / 2}, {}), "a Python number in it"),
        (lambda s, x, rng: ({**s, "n": np.array(7)}, {}), "a counter of the new state does not follow"),
        (lambda s, x, rng: ({**s, "x": s["x"][:1]}, {}), "changes the shape or dtype"),
        (lambda s, x, rng: ({"x": s["x"]}, {}), "changes the structure"),
    ],
)
def test_a_state_that_no_graph_could_hold_is_refused(step, message):
    state = {"x": X, "n": np.array(1), "rate": 0.5}
    with pretended.gpu(), pytest.raises(train.NotCapturable, match=message):
        run(step, state, rolled(X), 4, capture=True)


def test_everything_must_be_on_the_gpu():
    with pretended.gpu():
        with pytest.raises(train.NotCapturable, match="state.y is on the CPU; move it with train.move"):
            train.fit(lambda s, x, rng: (s, {}), {"x": to_device(X, "gpu"), "y": X}, rolled(X), 4, progress=False, capture=True)
        with pytest.raises(train.NotCapturable, match="the batch is on the CPU"):
            run(lambda s, x, rng: (s, {}), {"x": X}, lambda n: X, 4, capture=True)
        step = Graphed(lambda s, x, rng: (s, {}))
        step(train.move(START, "gpu"), to_device(X, "gpu"), Generator(0, "gpu"))
        assert "the default stream cannot be captured" in step.reason


def test_on_a_cpu_there_is_no_graph():
    with pytest.raises(ValueError, match="capture=True needs a state on a GPU"):
        train.fit(noise, START, lambda n: X, 3, progress=False, capture=True)


def test_an_error_of_the_step_itself_is_no_reason():
    def step(state, batch, rng):
        raise KeyError("mistake")

    for capture in (None, True):
        with pretended.gpu(), pytest.raises(KeyError, match="mistake"):
            run(step, START, rolled(X), 2, capture=capture)


# The guard


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("lasting", [True, False])
def test_a_nan_between_two_looks_is_found_and_its_step_named(lasting, capture, device):
    def step(state, batch, rng):
        bad = ops.log(batch.min())  # 0 in one batch: -inf
        kept = state["x"] + (bad if lasting else 0)
        return {"x": kept, "n": state["n"] + 1}, {"worst": bad}

    def batches(n):
        return to_device(np.float32([1, 0 if n == 8 else 2]), "gpu")

    state = {"x": np.float32([1, 2]), "n": np.array(0)}
    with watched(device), pytest.raises(train.NonFiniteError) as caught:
        run(step, state, batches, 20, log_every=5, capture=capture)
    assert "a metric was not finite in one of the steps 5 to 9" in str(caught.value)
    assert "Step 8, run again, made NaN or infinity of finite values here first:\n  1. log(" in str(caught.value)


def test_ctrl_c_keeps_the_last_state_that_was_looked_at(tmp_path):
    def stop(n, state, metrics):
        if n == 6:
            raise KeyboardInterrupt

    with pretended.gpu():
        with pytest.raises(KeyboardInterrupt):
            run(noise, START, rolled(X), 9, out=tmp_path, on_log=stop, capture=True)
        assert train.checkpoint_info(tmp_path / "checkpoint.safetensors")["step"] == 3
        resumed = run(noise, START, rolled(X), 9, resume=tmp_path, capture=True)[0]
        assert resumed == uncaptured(noise, START, rolled(X), 9)[0]
