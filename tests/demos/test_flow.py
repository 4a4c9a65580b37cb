"""The demos of the flow as a user runs them, with a few steps."""

import pytest

from .run import check_a_quick_run, check_refusal

PICTURES = {
    "flow": {"samples.png", "temperatures.png", "interpolations.png", "curves.png"},
    "flow_2d": {"densities.png", "warp.png", "warp.gif", "curves.png"},
}


@pytest.mark.parametrize("name, said", [("flow", "bits/dim"), ("flow_2d", "rings, spline")])
def test_a_demo_leaves_pictures_a_log_and_a_checkpoint_and_can_be_resumed(tmp_path, name, said):
    check_a_quick_run(tmp_path, name, steps=3, pictures=PICTURES[name], said=[said])


@pytest.mark.parametrize("arguments, complaint", [
    (["flow", "--width", "0"], "width"),
    (["flow_2d", "--data", "three_moons"], "three_moons"),
    (["flow_2d", "--spline", "0"], "spline"),
])  # fmt: skip
def test_a_wrong_option_is_one_sentence_and_exit_code_2(arguments, complaint):
    check_refusal(complaint, *arguments, "--quick")
