"""The demos of the GAN as a user runs them, with a few steps."""

import pytest

from .run import check_a_quick_run, check_refusal

PICTURES = {
    "gan": {"samples.png", "neighbours.png", "stages.png", "losses.png", "accuracy.png"},
    "gan_2d": {"smallest_game.png", "modes.png", "chase_ring_of_8.png", "chase_grid_of_25.png", "chase.gif"},
}


@pytest.mark.parametrize("name, said", [("gan", ["told apart", "sure"]), ("gan_2d", ["ring_of_8", "of 25 modes"])])
def test_a_demo_leaves_pictures_a_log_and_a_checkpoint_and_can_be_resumed(tmp_path, name, said):
    records = check_a_quick_run(tmp_path, name, steps=3, pictures=PICTURES[name], said=said)
    assert 0 <= records[-1]["accuracy"] <= 1


@pytest.mark.parametrize("arguments, complaint", [
    (["gan", "--objective", "hinge"], "hinge"),
    (["gan", "--data", "cifar"], "cifar"),
    (["gan_2d", "--objective", "hinge"], "hinge"),
    (["gan_2d", "--data", "ring_of_9"], "ring_of_9"),
    (["gan_2d", "--momentum", "1"], "beta1"),
])  # fmt: skip
def test_a_wrong_option_is_one_sentence_and_exit_code_2(arguments, complaint):
    check_refusal(complaint, *arguments, "--quick")
