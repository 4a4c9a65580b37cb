"""The demos as a user runs them: in a process of their own, from the root of a checkout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PICTURES = {"samples", "reconstructions", "interpolations", "curves", "latent_map", "latent_plane"}


def demo(*arguments):
    command = [sys.executable, "-W", "error", "-m", "demos", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_the_list_names_every_demo_with_its_time():
    result = demo()
    assert result.returncode == 0
    names = {path.stem for path in (ROOT / "demos").glob("[!_]*.py")} - {"options"}
    for name in names:
        line = next(line for line in result.stdout.splitlines() if line.split()[:1] == [name])
        assert "minute" in line or "second" in line, f"{name} does not say how long it takes"


def test_an_unknown_demo_is_answered_with_the_known_ones():
    result = demo("vea")
    assert result.returncode == 2
    assert "'vea'" in result.stderr and "vae" in result.stderr


def test_vae_leaves_pictures_a_log_and_a_checkpoint_and_can_be_resumed(tmp_path):
    first = demo("vae", "--quick", "--steps", 6, "--out", tmp_path)
    assert first.returncode == 0, first.stderr
    assert "nats" in first.stdout and "bits/dim" in first.stdout
    assert {path.stem for path in tmp_path.glob("*.png")} == PICTURES
    assert all(path.stat().st_size > 1000 for path in tmp_path.glob("*.png"))
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 6 and {"loss", "validation"} <= set(records[-1])

    again = demo("vae", "--quick", "--steps", 6, "--resume", tmp_path)  # a finished run: nothing to train, the same answer
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout


@pytest.mark.parametrize("arguments, complaint", [
    (["--device", "gpu"], "GPU"),
    (["--data", "cifar"], "cifar"),
    (["--steps", "0"], "at least 1"),
    (["--steps", "many"], "many"),
    (["--seed", "-1"], "at least 0"),
    (["--resume", "nowhere"], "nowhere"),
    (["--samples", "0"], "at least 1"),
    (["--beta", "-1"], "at least 0"),
])  # fmt: skip
def test_a_wrong_option_is_one_sentence_and_exit_code_2(arguments, complaint):
    result = demo("vae", "--quick", *arguments)
    assert result.returncode == 2
    assert complaint in result.stderr and "Traceback" not in result.stderr
