"""The list of demos, and the demo of the VAE as a user runs it, with a few steps."""

import pytest

from demos.__main__ import HELPERS

from .run import ROOT, check_a_quick_run, check_refusal, demo

PICTURES = {"samples.png", "reconstructions.png", "interpolations.png", "curves.png", "latent_map.png", "latent_plane.png"}


def test_the_list_names_every_demo_with_its_time():
    result = demo()
    assert result.returncode == 0
    names = {path.stem for path in (ROOT / "demos").glob("*.py")} - HELPERS
    for name in names:
        line = next(line for line in result.stdout.splitlines() if line.split()[:1] == [name])
        assert "minute" in line or "second" in line, f"{name} does not say how long it takes"


def test_an_unknown_demo_is_answered_with_the_known_ones():
    result = demo("vea")
    assert result.returncode == 2
    assert "'vea'" in result.stderr and "vae" in result.stderr


def test_vae_leaves_pictures_a_log_and_a_checkpoint_and_can_be_resumed(tmp_path):
    records = check_a_quick_run(tmp_path, "vae", steps=6, pictures=PICTURES, said=["nats", "bits/dim"])
    assert {"loss", "validation"} <= set(records[-1])


@pytest.mark.parametrize("arguments, complaint", [
    (["--device", "gpu"], "GPU"),
    (["--data", "cifar"], "cifar"),
    (["--steps", "0"], "at least 1"),
    (["--steps", "many"], "many"),
    (["--seed", "-1"], "at least 0"),
    (["--resume", "nowhere"], "nowhere"),
    (["--samples", "0"], "at least 1"),
    (["--beta", "-1"], "at least 0"),
    (["--samples", "5", "--beta", "2"], "no KL to scale"),
])  # fmt: skip
def test_a_wrong_option_is_one_sentence_and_exit_code_2(arguments, complaint):
    check_refusal(complaint, "vae", "--quick", *arguments)
