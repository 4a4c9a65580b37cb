"""The benchmark says what it should, whatever is installed; no figure of it is judged here."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from .__main__ import row
from .cases import cases
from .contest import OURS, ROOT, Case, Result, disagreement, hold


def bench(*arguments):
    command = [sys.executable, "-m", "tests.bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_the_table_has_what_ran(tmp_path):
    finished = bench("--quick", "--only", "toy VAE|Adam, 12,288", "--json", str(tmp_path / "figures.json"))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "The figures mean nothing" in finished.stdout
    assert find_spec("torch") or "PyTorch is not installed: ours runs alone" in finished.stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in finished.stdout.splitlines() if line[:1] == "|"]
    names = [cells[0] for cells in rows]
    assert names[2:] == ["step: toy VAE 2-64-2", "Adam, 12,288 numbers in 3 arrays"][::-1]
    assert all(float(cells[1]) > 0 for cells in rows[2:])

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


def test_a_row_compares_with_the_fastest_eager_contender():
    case = Case("a step", {}, bars=(2, 3), products=5e8, step=True)
    seconds = {"tinygen": 0.01, "eager": 0.03, "eager, channels last": 0.025, "torch.compile": 0.02, "jax.jit": 0.005}
    memory = {"tinygen": 8 << 20, "eager": 1 << 20, "eager, channels last": 10 << 20}
    rounds = {name: [value, 1.1 * value] for name, value in seconds.items()}
    rounds["eager, channels last"] = [0.02, 0.033]
    told = row(Result(case, seconds, rounds, memory), roof=2e11, judged=True)
    assert told == {
        "case": "a step", "ours ms": "10", "theirs ms": "25", "which": "eager, channels last", "ratio": "2.5",
        "in rounds": "2 to 3", "must / moonshot": "2 / 3", "bar": "met", "% of roof": "50", "MiB ours / theirs": "8.0 / 10.0",
        "memory": "met", "compiled": "2", "jax": "0.5",
    }  # fmt: skip
    unjudged = row(Result(case, seconds, rounds, memory), roof=2e11, judged=False)
    assert unjudged.keys() == told.keys() - {"bar", "memory"}
    seconds["tinygen"] = rounds["tinygen"][0] = 0.013
    assert row(Result(case, seconds, rounds, memory), roof=2e11, judged=True)["bar"] == "missed"


def test_a_contender_that_fails_is_out_and_says_why():
    result = hold(Case("a case that no process knows", {}), quick=True)
    assert result.seconds == {} and result.best is None
    (complaint,) = result.complaints
    assert complaint.startswith("a case that no process knows: tinygen: StopIteration")


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
