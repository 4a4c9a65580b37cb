"""The demos of diffusion as a user runs them, with a few steps."""

import pytest

from .run import check_a_quick_run, check_refusal

PICTURES = {
    "ddpm": {"samples.png", "denoising.png", "denoising.gif", "guidance.png", "ddim.png", "curves.png"},
    "ddpm_2d": {"processes.png", "denoising.gif", "warp.png", "curves.png"},
}
SAID = {"ddpm": ["bits/dim", "samples with guidance 3"], "ddpm_2d": ["KL", "two moons", "pinwheel", "DDIM"]}


@pytest.mark.parametrize("name", PICTURES)
def test_a_demo_leaves_pictures_a_log_and_a_checkpoint_and_can_be_resumed(tmp_path, name):
    check_a_quick_run(tmp_path, name, steps=3, pictures=PICTURES[name], said=SAID[name])


@pytest.mark.parametrize("arguments, complaint", [
    (["ddpm", "--predicts", "noise"], "noise"),
    (["ddpm", "--times", "0"], "at least 1"),
    (["ddpm_2d", "--data", "three_moons"], "three_moons"),
    (["ddpm_2d", "--times", "0"], "at least 1"),
])  # fmt: skip
def test_a_wrong_option_is_one_sentence_and_exit_code_2(arguments, complaint):
    check_refusal(complaint, *arguments, "--quick")
