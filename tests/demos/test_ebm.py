"""The demos of the energy-based model as a user runs them, with a few steps."""

import pytest

from .run import check_a_quick_run, check_refusal

PICTURES = {
    "ebm": {"samples.png", "walk.png", "denoised.png", "curves.png"},
    "ebm_2d": {"densities.png", "landscape.png", "chains.gif", "curves.png"},
}


@pytest.mark.parametrize("name, said", [("ebm", ["AUROC", "linear"]), ("ebm_2d", ["two_moons", "grid_of_25", "entropy"])])
def test_a_demo_leaves_pictures_a_log_and_a_checkpoint_and_can_be_resumed(tmp_path, name, said):
    check_a_quick_run(tmp_path, name, steps=3, pictures=PICTURES[name], said=said)


def test_every_density_of_the_plane_can_be_chosen(tmp_path):
    check_a_quick_run(tmp_path, "ebm_2d", "--data", "ring_of_8", steps=2, pictures=PICTURES["ebm_2d"], said=["ring_of_8"])


@pytest.mark.parametrize("arguments, complaint", [
    (["ebm", "--network", "transformer"], "transformer"),
    (["ebm", "--data", "cifar"], "cifar"),
    (["ebm_2d", "--data", "three_moons"], "three_moons"),
    (["ebm_2d", "--steps", "0"], "at least 1"),
])  # fmt: skip
def test_a_wrong_option_is_one_sentence_and_exit_code_2(arguments, complaint):
    check_refusal(complaint, *arguments, "--quick")
