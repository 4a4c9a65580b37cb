"""The demo of the two ways to a classifier as a user runs it, with few examples."""

from .run import check_refusal, demo


def test_it_says_the_errors_and_the_densities_and_leaves_pictures(tmp_path):
    result = demo("discriminative_vs_generative", "--quick", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [line.split("  ")[0] for line in result.stdout.splitlines()]
    assert rows.count("Gaussian, per class") == 3 and rows.count("naive Bayes") == 2
    assert (
        "bits/dim, of bits" in result.stdout and "<= " in result.stdout and "(uniform dequantisation), of grey" in result.stdout
    )
    assert {path.name for path in tmp_path.iterdir()} == {"examples.png", "gaps.png", "samples.png"}
    assert all(path.stat().st_size > 10_000 for path in tmp_path.iterdir())


def test_a_wrong_option_is_one_sentence_and_exit_code_2():
    check_refusal("mnist", "discriminative_vs_generative", "--data", "mnist")
    check_refusal("invalid choice: 'gpu'", "discriminative_vs_generative", "--device", "gpu")
    check_refusal("must be a whole number", "discriminative_vs_generative", "--repeats", "none")
