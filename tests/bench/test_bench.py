"""The benchmark says what it should, whatever is installed; no figure of it is judged here."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from tinygen import kernels

from . import contest, scaling
from .__main__ import highest
from .cases import cases, named
from .contest import OURS, ROOT, Case, Result, disagreement, hold
from .scaling import Sweep, cliffs, sweeps
from .tables import markdown, row


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
    assert figures["roof"] > 0
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
    told = row(result, roof=2e11, judged=True)
    assert told == {
        "case": "step: a network", "ours ms": "10", "theirs ms": "25", "which": "eager, channels last", "ratio": "2.5",
        "in rounds": "2 to 3", "must / moonshot": "2 / 3", "bar": "met", "% of roof": "50", "MiB ours / theirs": "8.0 / 10.0",
        "memory": "met", "compiled": "2", "jax": "0.5",
    }  # fmt: skip
    unjudged = row(result, roof=2e11, judged=False)
    assert unjudged.keys() == told.keys() - {"bar", "memory"}
    assert row(of_two_rounds(tinygen=[0.013, 0.013]), roof=2e11, judged=True)["bar"] == "missed"
    assert row(of_two_rounds(tinygen=[0.008, 0.008]), roof=2e11, judged=True)["bar"] == "moonshot"


def test_the_table_of_the_readme():
    kernel = of_two_rounds(Case("a kernel", {}, products=5e8), tinygen=[0.005, 0.005])
    sampling = of_two_rounds(Case("sampling: a network", {}, bars=(500, 1200), reruns=784))
    failed = Result(Case("a kernel that failed", {}))
    alone = Result(Case("a kernel alone", {}, bars=(1, 2)), {"tinygen": [0.002]})
    assert markdown([of_two_rounds(), kernel, sampling, failed, alone], roof=2e11, judged=True).splitlines() == [
        "|  | ours, ms | PyTorch's best, ms | ratio | must / moonshot |  | memory, ours / theirs | % of roof |",
        "|---|---|---|---|---|---|---|---|",
        "| **kernels** |  |  |  |  |  |  |  |",
        "| a kernel | 5 | 25 | 5 |  |  | 0.80 | 100 |",
        "| a kernel alone | 2 |  |  | 1 / 2 |  |  |  |",
        "| **steps** |  |  |  |  |  |  |  |",
        "| step: a network | 10 | 25 | 2.5 | 2 / 3 | met | 0.80 | 50 |",
        "| sampling: a network | 10 | 25 | 2.5 | 500 / 1200 | missed | 0.80 |  |",
    ]


def test_the_roof_is_the_best_round_of_those_who_make_all_products():
    product = Result(Case("a product", {}, products=5e8), {"tinygen": [0.01, 0.02], "eager": [0.04]})
    convolution = Result(Case("a convolution", {}, products=5e8), {"tinygen": [0.001], "eager": [0.05, 0.005]})
    assert highest([product]) == pytest.approx(1e11)
    assert highest([product, convolution]) == pytest.approx(2e11)  # and not our 1e12: it may be by fewer products


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
            raise contest.ContenderFailed("gone")
        call = self.CALL[self.name] * (1 if self.bursts <= 2 else 2)
        return [call] * max(1, round(seconds / call))

    def memory(self, case):
        return 1

    def close(self):
        pass


@pytest.fixture
def slowing(monkeypatch):
    monkeypatch.setattr(contest, "Process", Slowing)
    monkeypatch.setattr(contest, "least_busy", lambda n: [0])
    monkeypatch.setattr(Case, "contenders", lambda case, quick: [OURS, contest.Contender("torch")])
    monkeypatch.setattr(Slowing, "dies_after", {})
    return Slowing


def test_a_machine_that_slows_down_leaves_ratios_alone(slowing):
    result = hold(Case("a case", {}))
    assert result.complaints == [] and len(result.rounds["tinygen"]) == contest.ROUNDS
    assert result.ratio("eager") == pytest.approx((100, 100, 100))


def test_a_ratio_compares_within_rounds():
    moments = Result(STEP, {"tinygen": [0.01, 0.02, 0.04], "eager": [0.03, 0.06, 0.04]})  # in the last, the machine recovered
    assert moments.ratio("eager") == pytest.approx((3, 1, 3))


def test_whoever_fails_in_the_race_is_out(slowing):
    slowing.dies_after = {"eager": 2}
    result = hold(Case("a case", {}))
    assert [*result.rounds] == ["tinygen"] and result.complaints == ["a case: eager: gone"]
    slowing.dies_after = {"tinygen": 2}
    result = hold(Case("a case", {}))
    assert result.rounds == {} and result.complaints == ["a case: tinygen: gone"]


def test_a_contender_that_fails_is_out_and_says_why():
    result = hold(Case("a case that no process knows", {}), quick=True)
    assert result.rounds == {} and result.best is None
    (complaint,) = result.complaints
    assert complaint.startswith("a case that no process knows: tinygen: StopIteration")


def test_only_our_process_has_our_settings_of_malloc(monkeypatch):
    started = []
    monkeypatch.setattr(contest.subprocess, "Popen", lambda command, env, **more: started.append(env))
    for contender in OURS, contest.Contender("torch"):
        contest.Process(contender, [0], quick=True, busy=False)
    ours, theirs = started
    assert ours.keys() == theirs.keys() - {"MALLOC_AS_IT_IS"}
    monkeypatch.setattr("os.environ", theirs)
    assert not kernels.memory.keep_what_is_freed()


def test_the_contest_is_held_where_other_programs_leave_most(monkeypatch):
    class Machine:
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

    machine = Machine()
    monkeypatch.setattr(contest, "time", machine)
    monkeypatch.setattr(contest, "available", lambda: [0, 1, 2])
    monkeypatch.setattr(contest.os, "sched_setaffinity", lambda _, here: setattr(machine, "here", here), raising=False)
    assert [contest.least_busy(n) for n in (1, 2, 3)] == [[1], [1, 2], [0, 1, 2]]
    assert machine.here == [0, 1, 2]


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
    assert [*cliffs(sweep, results)] == ["a kernel, image size 33: 1.31 times as long per pixel as at 32 (PyTorch: 1.50)"]
    sweep, results = swept(tinygen=[1.31, 1.0, 2.0, 2.5])
    assert [*cliffs(sweep, results)] == ["a kernel, image size 27: 1.31 times as long per pixel as at 28"]
    results[27].rounds.clear()  # where ours failed there is no cliff, but a complaint
    assert [*cliffs(sweep, results)] == []


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
    assert named("silu, size 1,024", quick=True).libraries.keys() == {"tinygen", "torch"}


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
        names = [case.name for case in cases(quick)]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", [case.name for case in cases(quick=True)])
def test_ours_runs_and_is_finite(name):
    case = next(case for case in cases(quick=True) if case.name == name)
    run, check = case.libraries["tinygen"](OURS)
    numbers = check()
    run()
    assert numbers and all(np.isfinite(x).all() for x in numbers.values())
    assert all(np.any(x) for key, x in numbers.items() if "amount" not in key), "what is 0 agrees with anything"
