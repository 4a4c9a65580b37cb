"""--device gpu: the lessons of all six families, as they are, with their steps on a GPU."""

import subprocess
import sys

import pytest

from .run import ROOT

LESSONS = ["vae", "gan", "flow", "pixelcnn", "ebm", "ddpm"]
OTHERS = ["learning_a_distribution", "mode_collapse"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LESSONS, *(f"{name}_2d" for name in LESSONS if name != "vae"), *OTHERS])
def test_a_lesson_trains_on_a_pretended_gpu(name, tmp_path):
    command = [sys.executable, "-m", "tests.demos.on_pretended_gpu", name, "--quick", "--steps", "4", "--out", tmp_path / "run"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "this was a quick run" in run.stdout and (tmp_path / "run" / "checkpoint.safetensors").exists()
