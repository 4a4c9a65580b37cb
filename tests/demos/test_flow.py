"""The demos of the flow as a user runs them, with a few steps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PICTURES = {
    "flow": {"samples", "temperatures", "interpolations", "curves"},
    "flow_2d": {"densities", "warp", "curves"},
}


def demo(*arguments):
    command = [sys.executable, "-W", "error", "-m", "demos", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name, said", [("flow", "bits/dim"), ("flow_2d", "pinwheel")])
def test_a_demo_leaves_pictures_a_log_and_a_checkpoint_and_can_be_resumed(tmp_path, name, said):
    first = demo(name, "--quick", "--steps", 3, "--out", tmp_path)
    assert first.returncode == 0, first.stderr
    assert said in first.stdout
    assert {path.stem for path in tmp_path.glob("*.png")} == PICTURES[name]
    assert all(path.stat().st_size > 1000 for path in tmp_path.glob("*.png"))
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["step"] == 3

    again = demo(name, "--quick", "--steps", 3, "--resume", tmp_path)  # a finished run: nothing to train, the same answer
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout


@pytest.mark.parametrize("arguments, complaint", [
    (["flow", "--width", "0"], "width"),
    (["flow_2d", "--data", "three_moons"], "three_moons"),
    (["flow_2d", "--couplings", "0"], "couplings"),
])  # fmt: skip
def test_a_wrong_option_is_one_sentence_and_exit_code_2(arguments, complaint):
    result = demo(*arguments, "--quick")
    assert result.returncode == 2
    assert complaint in result.stderr and "Traceback" not in result.stderr
