"""The demo of six families that close in on a distribution as a user runs it, with a few steps."""

import math

from .run import check_a_quick_run, check_refusal

FAMILIES = ("VAE", "GAN", "flow", "PixelCNN", "EBM", "DDPM")
PICTURES = {"js.png", "kl.png", "all.gif", *(f"{name}.gif" for name in FAMILIES)}


def test_it_leaves_pictures_and_a_log_and_a_resumed_run_says_the_same(tmp_path):
    said = [*FAMILIES, "KL, line", "JS, plane", "none", "<= ", "= ", "the truth"]
    records = check_a_quick_run(tmp_path, "learning_a_distribution", steps=2, pictures=PICTURES, said=said)
    figures = {name: value for name, value in records[-1].items() if name.endswith(": JS")}
    assert set(figures) == {f"{name}, {space}: JS" for name in FAMILIES for space in ("line", "plane")}
    assert all(0 < value < math.log(2) for value in figures.values())
    assert "flow, plane: KL" in records[-1] and not any(name.startswith("GAN") and "KL" in name for name in records[-1])


def test_a_wrong_option_is_one_sentence_and_exit_code_2():
    check_refusal("three_moons", "learning_a_distribution", "--quick", "--data", "three_moons")
    check_refusal("at least 1", "learning_a_distribution", "--quick", "--samples", "0")
