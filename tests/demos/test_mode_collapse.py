"""The demo of mode collapse as a user runs it, with a few steps."""

from .run import check_a_quick_run, check_refusal

PICTURES = {"chase_ring_of_8.png", "divergence.png", "moved.png", "samples.png"}


def test_mode_collapse_leaves_pictures_and_a_log_and_a_resumed_run_says_the_same(tmp_path):
    said = ["ring_of_8, 8 modes", "non saturating", "averaged", "together"]
    records = check_a_quick_run(tmp_path, "mode_collapse", "--data", "ring_of_8", steps=3, pictures=PICTURES, said=said)
    shares = [records[-1][f"ring_of_8, together, 0, mode {k}"] for k in range(8)]
    assert abs(sum(shares) - 1) < 0.005  # each is rounded to three digits


def test_a_wrong_option_is_one_sentence_and_exit_code_2():
    check_refusal("must be a whole number", "mode_collapse", "--quick", "--repeats", "0")
    check_refusal("pinwheel", "mode_collapse", "--quick", "--data", "pinwheel")
