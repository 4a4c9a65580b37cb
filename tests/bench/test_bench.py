"""The benchmark says what it should, whatever is installed; no figure of it is judged here."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, replace
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from tests.cuda import pretended
from tests.cuda.tiers import no_gpu
from tests.demos.on_pretended_gpu import CPUKernels
from tinygen import kernels
from tinygen.autograd.replay import Capture
from tinygen.kernels import dispatch

from . import case, contest, devices, machine, scaling
from .__main__ import ceilings, main
from .case import Case, Conditions, Contender, Result
from .cases import cases, named
from .contender import Desk
from .contest import ROOT, ContenderFailed, disagreement, hold
from .scaling import Sweep, cliffs, sweeps
from .tables import ABOVE_THE_ROOF, markdown, notes, quietness, row

QUICK, ROOFS = Conditions(quick=True), {"FLOP/s": 2e11, "B/s": 1e10}


def bench(*arguments):
    command = [sys.executable, "-m", "tests.bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_the_table_has_what_ran(tmp_path):
    files = "--json", str(tmp_path / "figures.json"), "--markdown", str(tmp_path / "table.md")
    finished = bench("--quick", "--only", "toy VAE|Adam, 12,288", *files)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "The figures mean nothing" in finished.stdout
    assert find_spec("torch") or "PyTorch is not installed: ours runs alone" in finished.stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in finished.stdout.splitlines() if line[:1] == "|"]
    names = [cells[0] for cells in rows]
    assert names[2:] == ["step: toy VAE 2-64-2", "Adam, 12,288 numbers in 3 arrays"][::-1]
    assert all(float(cells[1]) > 0 for cells in rows[2:])

    _, _, *narrow = (line.split(" | ")[0] for line in (tmp_path / "table.md").read_text().splitlines())
    assert narrow == ["| **kernels**", "| Adam, 12,288 numbers in 3 arrays", "| **steps**", "| step: toy VAE 2-64-2"]

    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["roof"]["FLOP/s"] > 0 and figures["roof"]["B/s"] > 0 and figures["device"] == "cpu"
    for result in figures["results"]:
        assert result["complaints"] == []
        assert result["seconds"]["tinygen"] > 0
        assert ("eager" in result["seconds"]) == bool(find_spec("torch"))


def test_what_cannot_be_done_is_refused_in_a_sentence():
    unknown = bench("--only", "no such case")
    assert unknown.returncode == 1 and "no case has 'no such case' in its name" in unknown.stderr
    many = bench("--threads", "100000")
    assert many.returncode == 2 and "this process may use" in many.stderr


def test_numbers_agree_within_the_tolerance_and_not_beyond():
    ours = {"loss": np.float32(3), "weight": np.arange(12, dtype=np.float32).reshape(3, 4)}
    near, far = (dict(ours, weight=ours["weight"] * (1 + error)) for error in (0.9e-4, 1.1e-4))
    assert disagreement(ours, near, 1e-4) is None
    assert disagreement(ours, far, 1e-4).startswith("weight is")
    assert "shape" in disagreement(ours, dict(ours, weight=ours["weight"].T), 1e-4)
    assert "weight" in disagreement(ours, {"loss": ours["loss"]}, 1e-4)
    assert disagreement(ours, dict(ours, loss=np.float32(np.nan)), 1e-4).startswith("loss is nan")


STEP = Case("step: a network", {}, bars=(2, 3), products=5e8, step=True)
SECONDS = {"tinygen": 0.01, "eager": 0.03, "eager, channels last": 0.025, "torch.compile": 0.02, "jax.jit": 0.005}
MEMORY = {"tinygen": 8 << 20, "eager": 1 << 20, "eager, channels last": 10 << 20}


def of_two_rounds(case=STEP, **changed):
    rounds = {name: [value, value] for name, value in SECONDS.items()}
    return Result(case, {**rounds, **changed}, MEMORY)


def test_a_row_compares_with_the_fastest_eager_contender():
    result = of_two_rounds(**{"eager, channels last": [0.02, 0.03]})
    told = row(result, ROOFS, judged=True)
    assert told == {
        "case": "step: a network", "ours ms": "10", "theirs ms": "25", "which": "eager, channels last", "ratio": "2.5",
        "in rounds": "2 to 3", "must / moonshot": "2 / 3", "bar": "met", "achieved": "100 GFLOP/s", "% of roof": "50",
        "MiB ours / theirs": "8.0 / 10.0", "memory": "met", "compiled": "2", "jax": "0.5",
    }  # fmt: skip
    unjudged = row(result, ROOFS, judged=False)
    assert unjudged.keys() == told.keys() - {"bar", "memory"}
    assert row(of_two_rounds(tinygen=[0.013, 0.013]), ROOFS, judged=True)["bar"] == "missed"
    assert row(of_two_rounds(tinygen=[0.008, 0.008]), ROOFS, judged=True)["bar"] == "moonshot"


def test_the_table_of_the_readme():
    kernel = of_two_rounds(Case("a kernel", {}, products=5e8), tinygen=[0.005, 0.005])
    sampling = of_two_rounds(Case("sampling: a network", {}, bars=(500, 1200), reruns=784))
    failed = Result(Case("a kernel that failed", {}))
    alone = Result(Case("a kernel alone", {}, bars=(1, 2)), {"tinygen": [0.002]})
    assert markdown([of_two_rounds(), kernel, sampling, failed, alone], ROOFS, judged=True).splitlines() == [
        "|  | ours, ms | PyTorch's best, ms | ratio | must / moonshot |  | memory, ours / theirs | % of roof |",
        "|---|---|---|---|---|---|---|---|",
        "| **kernels** |  |  |  |  |  |  |  |",
        "| a kernel | 5 | 25 | 5 |  |  | 0.80 | 100 |",
        "| a kernel alone | 2 |  |  | 1 / 2 |  |  |  |",
        "| **steps** |  |  |  |  |  |  |  |",
        "| step: a network | 10 | 25 | 2.5 | 2 / 3 | met | 0.80 | 50 |",
        "| sampling: a network | 10 | 25 | 2.5 | 500 / 1200 | missed | 0.80 |  |",
    ]


def test_what_memory_limits_is_held_against_the_rate_of_a_copy():
    told = row(Result(Case("a pass", {}, bytes=4e7), {"tinygen": [0.01]}), ROOFS, judged=True)
    assert (told["achieved"], told["% of roof"]) == ("4 GB/s", "40")
    assert "achieved" not in row(Result(Case("neither", {}), {"tinygen": [0.01]}), ROOFS, judged=True)


def test_more_than_the_roof_is_explained():
    below, above = of_two_rounds(), of_two_rounds(tinygen=[0.004, 0.004])
    assert notes([below, Result(Case("neither", {}), {"tinygen": [0.01]}), Result(STEP)], ROOFS) == []
    assert notes([below, above], ROOFS) == ["", ABOVE_THE_ROOF]
    assert markdown([above], ROOFS, judged=True).endswith(f" 125 |\n\n{ABOVE_THE_ROOF}\n")


def test_the_roof_is_the_best_round_of_those_who_do_all_the_work():
    product = Result(Case("a product", {}, products=5e8), {"tinygen": [0.01, 0.02], "eager": [0.04]})
    convolution = Result(Case("a conv", {}, products=5e8), {"tinygen": [0.001], "eager": [0.05, 0.005]})
    copy = Result(Case("a copy", {}, bytes=3e8), {"tinygen": [0.02], "eager": [0.03, 0.01]})
    assert ceilings([product, copy]) == pytest.approx({"FLOP/s": 1e11, "B/s": 3e10})
    assert ceilings([product, convolution])["FLOP/s"] == pytest.approx(2e11)  # and not our 1e12: it may be by fewer products


class Slowing:
    """A contender on a machine that is half as fast from its third burst on. One whose calls are short makes more of them."""

    CALL = {"tinygen": 0.001, "eager": 0.1}
    dies_after = {}

    def __init__(self, contender, *settings):
        self.name, self.bursts = contender.name, 0

    def check(self, case, path):
        np.savez(path, y=np.ones(3))

    def burst(self, case, seconds):
        self.bursts += 1
        if self.bursts > self.dies_after.get(self.name, 99):
            raise ContenderFailed("gone")
        call = self.CALL[self.name] * (1 if self.bursts <= 2 else 2)
        return [call] * max(1, round(seconds / call))

    def memory(self, case):
        return 1

    def used(self):
        return self.bursts * 0.5  # seconds of its processor's time

    def tell_to_end(self):
        pass

    close = tell_to_end


@pytest.fixture
def slowing(monkeypatch):
    monkeypatch.setattr(contest, "Process", Slowing)
    monkeypatch.setattr(contest, "least_busy", lambda n: [0])
    monkeypatch.setattr(Case, "contenders", lambda case, conditions: [Contender("tinygen"), Contender("torch")])
    monkeypatch.setattr(Slowing, "dies_after", {})
    return Slowing


def test_a_machine_that_slows_down_leaves_ratios_alone(slowing):
    result = hold(Case("a case", {}), Conditions())
    assert result.complaints == [] and len(result.rounds["tinygen"]) == contest.ROUNDS
    assert result.ratio("eager") == pytest.approx((100, 100, 100))


def test_a_ratio_compares_within_rounds():
    moments = Result(STEP, {"tinygen": [0.01, 0.02, 0.04], "eager": [0.03, 0.06, 0.04]})  # in the last, the machine recovered
    assert moments.ratio("eager") == pytest.approx((3, 1, 3))


def test_what_other_programs_had_of_the_processors_is_told(slowing, monkeypatch):
    clock, at_work = iter([100.0, 120.0]), iter([40.0, 58.0])
    monkeypatch.setattr(contest, "time", SimpleNamespace(perf_counter=lambda: next(clock), process_time=lambda: 7.0))
    monkeypatch.setattr(contest, "at_work", lambda processors: next(at_work))
    disturbed = hold(Case("a case", {}), Conditions())  # 20 s, 18 of them at work: 5 bursts of each of two, of half a second
    assert disturbed.others == pytest.approx((18 - 2 * 5 * 0.5) / 20)
    assert disturbed.as_json()["others"] == disturbed.others
    quiet, unknown = Result(STEP, others=0.01), Result(STEP)
    assert quietness([quiet, disturbed, unknown]) == "Other programs had 33% of the processors' time, and 65% during a case."
    assert quietness([unknown]) == ""


@pytest.mark.skipif(machine.at_work([0]) is None, reason="this system does not say how long processors were at work")
def test_a_program_that_spins_is_at_work():
    processors = machine.available()
    at_work, used = machine.at_work(processors), machine.used_by(os.getpid())
    until = time.process_time() + 0.2
    while time.process_time() < until:
        sum(range(100_000))
    assert machine.used_by(os.getpid()) - used == pytest.approx(0.2, abs=0.05)
    assert machine.at_work(processors) - at_work > 0.15
    assert machine.used_by(2**30) is None


def test_a_processor_that_is_idle_or_waits_is_not_at_work(monkeypatch):
    lines = "cpu  9 9 9 9 9\ncpu0 100 20 30 5000 700 1 2 47 50 0\ncpu1 1 1 1 1 1 1 1 1 0 0\ncpu10 0 0 0 0 0 0 0 3 0 0\n"
    monkeypatch.setattr(machine, "Path", lambda path: SimpleNamespace(read_text=lambda: lines))
    ticks = os.sysconf("SC_CLK_TCK")  # a guest's time is in the user's already
    assert machine.at_work([0]) == pytest.approx(200 / ticks) and machine.at_work([1, 10]) == pytest.approx((6 + 3) / ticks)
    assert machine.at_work([2]) is None


def test_whoever_fails_in_the_race_is_out(slowing):
    slowing.dies_after = {"eager": 2}
    result = hold(Case("a case", {}), Conditions())
    assert [*result.rounds] == ["tinygen"] and result.complaints == ["a case: eager: gone"]
    slowing.dies_after = {"tinygen": 2}
    result = hold(Case("a case", {}), Conditions())
    assert result.rounds == {} and result.complaints == ["a case: tinygen: gone"]


def test_a_contender_that_fails_is_out_and_says_why():
    result = hold(Case("a case that no process knows", {}), QUICK)
    assert result.rounds == {} and result.best is None
    (complaint,) = result.complaints
    assert complaint.startswith("a case that no process knows: tinygen: StopIteration")


def test_only_our_process_has_our_settings_of_malloc(monkeypatch):
    started = []
    monkeypatch.setattr(contest.subprocess, "Popen", lambda command, env, **more: started.append(env))
    for library in "tinygen", "torch":
        contest.Process(Contender(library), [0], QUICK)
    ours, theirs = started
    assert ours.keys() == theirs.keys() - {"MALLOC_AS_IT_IS"}
    monkeypatch.setattr("os.environ", theirs)
    assert not kernels.memory.keep_what_is_freed()


def test_the_contest_is_held_where_other_programs_leave_most(monkeypatch):
    class Clocks:
        """Processor 0 is left to us for a tenth of the time, 1 for the whole, 2 for a half."""

        clock, used, here = 0.0, 0.0, [0, 1, 2]

        def perf_counter(self):
            self.clock += 0.001
            self.used += 0.001 * (0.1, 1, 0.5)[self.here[0]]
            return self.clock

        def process_time(self):
            return self.used

        def sleep(self, seconds):
            pass

    clocks = Clocks()
    monkeypatch.setattr(machine, "time", clocks)
    monkeypatch.setattr(machine, "available", lambda: [0, 1, 2])
    monkeypatch.setattr(machine.os, "sched_setaffinity", lambda _, here: setattr(clocks, "here", here), raising=False)
    assert [machine.least_busy(n) for n in (1, 2, 3)] == [[1], [1, 2], [0, 1, 2]]
    assert clocks.here == [0, 1, 2]


# Scaling


def swept(sizes=(27, 28, 32, 33), tile=4, **seconds):
    """A sweep over images, and its results for seconds per pixel of each contender at each size."""
    sweep = Sweep("a kernel", "image size", "pixel", tile, sizes, lambda n: Case("", {}, products=1e6 * n * n))
    rounds = [
        {name: [each * n * n, 2 * each * n * n] for name, each in zip(seconds, at_n)}
        for n, *at_n in zip(sizes, *seconds.values())
    ]
    return sweep, {n: Result(sweep.cases[n], each) for n, each in zip(sizes, rounds)}


def test_a_cliff_is_a_size_off_the_tile_that_is_slower_per_item_than_its_neighbour():
    sweep, results = swept(tinygen=[1.29, 1.0, 2.0, 2.62], eager=[1.0, 1.0, 1.0, 1.5])
    assert sweep.neighbours() == {27: 28, 33: 32}
    assert [*cliffs(sweep, results)] == ["a kernel, image size 33: 1.31 times as long per operation as at 32 (PyTorch: 1.50)"]
    sweep, results = swept(tinygen=[1.31, 1.0, 2.0, 2.5])
    assert [*cliffs(sweep, results)] == ["a kernel, image size 27: 1.31 times as long per operation as at 28"]
    results[27].rounds.clear()  # where ours failed there is no cliff, but a complaint
    assert [*cliffs(sweep, results)] == []


def test_operations_count_where_they_do_not_grow_like_items():
    """A convolution of stride 2 makes 4 x 4 pixels of 7 x 7, and of 8 x 8: 1.31 times as many operations for each."""
    sizes, times = (7, 8), {7: 1.2 * 16, 8: 1.0 * 16}
    counted = Sweep("a kernel", "image size", "pixel", 4, sizes, lambda n: Case("", {}, products=9 * 16))
    uncounted = Sweep("a kernel", "image size", "pixel", 4, sizes, lambda n: Case("", {}, bytes=4 * n * n))
    of = {sweep: {n: Result(sweep.cases[n], {"tinygen": [times[n]]}) for n in sizes} for sweep in (counted, uncounted)}
    assert [*cliffs(counted, of[counted])] == []
    assert [*cliffs(uncounted, of[uncounted])] == ["a kernel, image size 7: 1.57 times as long per pixel as at 8"]


def test_what_is_much_smaller_than_a_tile_has_no_neighbour():
    assert Sweep("a kernel", "rows", "row", 4, (1, 2, 3, 4, 5, 15, 16), None).neighbours() == {3: 4, 5: 4, 15: 16}


def test_a_sweep_is_told_per_item(tmp_path):
    sweep, results = swept(tinygen=[2e-9, 1e-9, 1e-9, 3e-9], eager=[2e-9, 1e-9, 1e-9, 1.5e-9])
    results[28].rounds.clear()
    first, sizes, ours, rate, theirs, _ = (line.split() for line in scaling.table(sweep, results).splitlines() if line)
    assert " ".join(first) == "a kernel, image size: ns per pixel" and sizes == ["27", "28", "32", "33"]
    assert ours == ["ours", "3", "1.5", "4.5"] and theirs == ["PyTorch", "3", "1.5", "2.25"]  # medians of two rounds
    assert rate == ["ours,", "GFLOP/s", "666667", "1333333", "444444"]
    scaling.draw([(sweep, results)], 1e15, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_bytes().startswith(b"<?xml")


def test_every_sweep_has_sizes_on_its_tile_and_off_it():
    for quick in (False, True):
        names = [case.name for sweep in sweeps(quick) for case in sweep.cases.values()]
        assert len(set(names)) == len(names)
        assert all(0 < len(sweep.neighbours()) < len(sweep.sizes) for sweep in sweeps(quick))
    assert named("silu, size 1,024", QUICK).libraries.keys() == {"tinygen", "torch"}


def test_scaling_runs_and_is_drawn(tmp_path):
    figure = tmp_path / "scaling.png"
    finished = bench("--quick", "--scaling", "--only", "^silu|softmax", "--figure", str(figure))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "softmax cross-entropy, classes: " in finished.stdout and "silu, size: " in finished.stdout
    assert figure.read_bytes()[1:4] == b"PNG"
    unasked = bench("--figure", "x.png")
    assert unasked.returncode == 2 and "give both" in unasked.stderr


@pytest.mark.slow
def test_every_sweep_runs():
    finished = bench("--quick", "--scaling")
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_every_case_has_a_name_of_its_own():
    for quick in (False, True):
        for device in ("cpu", "gpu"):
            names = [case.name for case in cases(Conditions(device, quick=quick))]
            assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", [case.name for case in cases(QUICK)])
def test_ours_runs_and_is_finite(name):
    runs_and_is_finite(named(name, QUICK).libraries["tinygen"](Contender("tinygen")))


@pytest.mark.parametrize("name", ["step: toy VAE 2-64-2", "step: DCGAN"])
def test_a_step_that_is_warm_is_replayed_and_not_compared(name, monkeypatch):
    unlike = []

    def noted(method):
        return lambda *arguments: unlike.append(method) or method(*arguments)

    for method in "_record", "_compared":
        monkeypatch.setattr(Capture, method, noted(getattr(Capture, method)))
    run, _ = named(name, QUICK).libraries["tinygen"](Contender("tinygen"))
    for _ in range(6):
        before = len(unlike)
        devices.warm_up(run)
        seen = len(unlike)
        for _ in range(3):
            run()
        assert len(unlike) == seen, f"the steps up to {run.made} are not all alike"
    assert before > 4, "steps are recorded and compared elsewhere"


def test_a_burst_and_what_is_weighed_come_after_the_warming_up(monkeypatch):
    made = []

    class Run:
        def __call__(self):
            made.append("run")

        def warm_up(self):
            made.append("warm")

    assert len(devices.Processor(busy=False).times(Run(), 0)) == 1 and made == ["warm", "run"]
    made.clear()
    devices.Processor(busy=False).peak({"a case": (Run(), None)}, "a case")
    assert made in (["warm", "run", "run", "run"], ["warm"])  # the second where nobody says what is resident


def runs_and_is_finite(ready):
    run, check = ready
    numbers = check()
    run()
    assert numbers and all(np.isfinite(x).all() for x in numbers.values())
    constant = re.compile("amount|^mean$|^std$|^network.5.bias$")  # the last is an energy's, of which only differences count
    assert not [key for key, x in numbers.items() if not np.any(x) and not constant.search(key)], "0 agrees with anything"
    return numbers


# A GPU


class Queue(devices.Card):
    """A card that takes a second for a run, and holds memory in GiB; only waiting for it takes time."""

    def __init__(self):
        self.asked, self.now, self.kept, self.needed, self.waits = 0, 0.0, 50, 0, 0  # 50: of earlier cases

    def run(self):
        self.asked, self.kept = self.asked + 1, max(self.kept, 7 + self.needed)
        assert self.asked < 100, "nobody waits"

    def wait(self):
        self.now, self.asked, self.waits = self.now + self.asked, 0, self.waits + 1

    def release(self):
        self.kept = 5 + self.needed

    def free_and_total(self):
        return 80 - self.kept, 80


def test_a_burst_on_a_card_is_waited_for_once_and_long_enough(monkeypatch):
    card = Queue()
    monkeypatch.setattr(devices.time, "perf_counter", lambda: card.now)
    assert card.times(card.run, 5) == [1.0]
    assert card.now == 1 + 1 + 2 + 4 + 8 and card.waits == 5


def test_the_memory_of_a_card_is_what_was_held_before_the_case_was_dropped(monkeypatch):
    card, ready = Queue(), {}
    ready["a case"] = card.run, None
    monkeypatch.setattr(card, "needed", 3)
    monkeypatch.setattr(card, "free_and_total", lambda: (80 - card.kept + (0 if ready else card.needed), 80))
    assert card.peak(ready, "a case") == (7 + 3) - 5 and ready == {}


class Here(contest.Process):
    """A contender in this process."""

    def used(self):
        return 0

    def __init__(self, contender, processors, conditions):
        self.desk = Desk(asdict(contender), processors, asdict(conditions))

    def _ask(self, question, **details):
        answer = self.desk.answer(question, **details)
        if "error" in answer:
            raise ContenderFailed(answer["error"])
        return answer["answer"]

    def tell_to_end(self):
        pass

    close = tell_to_end


@pytest.fixture
def gpu(monkeypatch):
    """A pretended GPU for ours, with the processor's kernels. PyTorch, where it is installed, has the processor instead."""
    load = dispatch._load

    def load_the_processors(package, tier):
        return CPUKernels(load(package, "cpu")) if tier == "gpu" else load(package, tier)

    def forget():
        for implementations in dispatch._found.values():
            implementations.pop("gpu", None)

    forget()
    monkeypatch.setattr(dispatch, "_load", load_the_processors)
    monkeypatch.setattr(contest, "Process", Here)
    monkeypatch.setattr(case, "torch_has", lambda device: find_spec("torch"))
    monkeypatch.setitem(case.DEVICES["torch"], "gpu", "cpu")
    with pretended.gpu():
        cupy = sys.modules["cupy"]
        cupy.__version__ = "0.0"
        cupy.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=lambda: None)
        cupy.cuda.Device = lambda: SimpleNamespace(id=0, compute_capability="80", synchronize=lambda: None)
        properties = {"name": b"Pretended A100", "totalGlobalMem": 80 << 30, "multiProcessorCount": 108}
        cupy.cuda.runtime.getDeviceProperties = [properties].__getitem__
        cupy.cuda.runtime.driverGetVersion = cupy.cuda.runtime.runtimeGetVersion = lambda: 12040
        cupy.cuda.runtime.memGetInfo = lambda: (79 << 30, 80 << 30)
        yield
    forget()


def test_a_table_of_a_gpu_says_of_which(gpu, tmp_path, capsys):
    path = tmp_path / "figures.json"
    only = "copy|product|exp|toy VAE.*128"
    code = main(["--device", "gpu", "--quick", "--only", only, "--json", str(path)])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "card: Pretended A100; compute capability: 8.0; memory, GiB: 80.0; multiprocessors: 108" in said
    assert "CUDA of the driver: 12.4" in said and "step: toy VAE 2-64-2, batch 128" in said
    figures = json.loads(path.read_text())
    assert figures["device"] == "gpu" and figures["card"]["card"] == "Pretended A100"
    ran = {result["name"]: result for result in figures["results"]}
    assert len(ran) == 4 and all(result["seconds"]["tinygen"] > 0 for result in ran.values())
    assert ran["step: toy VAE 2-64-2, batch 128"]["bars"] == [1.0, 2.0] and ran["exp, 2 numbers"]["bars"] is None


ON_A_GPU = cases(Conditions("gpu", quick=True))
THOROUGH = re.compile("1024|conv|attention|tanh|sigmoid|PixelCNN|U-Net|DCGAN")  # of these, some are left to the slow tests


@pytest.mark.parametrize("name", [
    pytest.param(case.name, marks=[pytest.mark.slow] * bool(THOROUGH.search(case.name))) for case in ON_A_GPU
])  # fmt: skip
def test_ours_runs_on_a_gpu_and_has_pytorchs_numbers(name, gpu):
    """And where PyTorch is not installed, it runs."""
    case = next(case for case in ON_A_GPU if case.name == name)
    ours = runs_and_is_finite(case.libraries["tinygen"](Contender("tinygen", "gpu")))
    for their in case.contenders(Conditions("gpu", quick=True))[1:]:
        run, check = case.libraries["torch"](replace(their, fused=False))
        assert disagreement(ours, check(), case.tolerance) is None
        run()


def test_every_step_is_measured_at_two_batches_on_a_gpu():
    names = [case.name for case in cases(Conditions("gpu")) if case.step]
    families = "VAE", "RealNVP", "PixelCNN", "DCGAN", "EBM", "DDPM"
    assert all(any(family in name for name in names) for family in families)
    assert [name[:-3] for name in names if name.endswith(" 128")] == [name[:-4] for name in names if name.endswith(" 1024")]
    assert len(names) == 2 * len([name for name in names if name.endswith(" 128")])


@pytest.mark.skipif(no_gpu() is None, reason="there is a GPU")
def test_without_a_gpu_there_is_one_sentence():
    refused = bench("--device", "gpu")
    assert refused.returncode == 2 and refused.stderr.startswith("tests.bench: no GPU") and refused.stderr.count("\n") == 1


@pytest.mark.parametrize("flag", ["--scaling", "--busy"])
def test_what_a_gpu_has_not_is_refused(flag, gpu, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--device", "gpu", flag])
    assert stopped.value.code == 2 and f"{flag} is not for --device gpu" in capsys.readouterr().err
