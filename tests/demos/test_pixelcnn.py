"""The demos of the PixelCNN as a user runs them, with a few steps."""

import pytest

from .run import check_a_quick_run, check_refusal

PICTURES = {"samples.png", "completions.png", "curves.png"}


@pytest.mark.parametrize("more, unit", [([], "0.9"), (["--network", "gated", "--grey", "--classes"], "4.0")])
def test_pixelcnn_leaves_pictures_a_log_and_a_checkpoint_and_can_be_resumed(tmp_path, more, unit):
    said = ["test: log p(x) = -", "nats", f"= {unit}", "bits/dim"]  # near log2 of the grey levels
    records = check_a_quick_run(tmp_path, "pixelcnn", *more, steps=3, pictures=PICTURES, said=said)
    assert {"loss", "validation"} <= set(records[-1])


def test_pixelcnn_2d_leaves_pictures_a_log_and_a_checkpoint_and_can_be_resumed(tmp_path):
    pictures = {"most_likely.png", "receptive_fields.png", "curves.png"}
    said = ["sum of the probabilities of all 512 images: 1.0000", "16 log 2 = 11.09"]
    check_a_quick_run(tmp_path, "pixelcnn_2d", steps=3, pictures=pictures, said=said)


@pytest.mark.parametrize("arguments, complaint", [
    (["pixelcnn", "--network", "deep"], "deep"),
    (["pixelcnn_2d", "--data", "mnist"], "mnist"),
])  # fmt: skip
def test_a_wrong_option_is_one_sentence_and_exit_code_2(arguments, complaint):
    check_refusal(complaint, *arguments, "--quick")
