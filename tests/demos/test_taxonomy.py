"""The taxonomy as a user asks for it."""

import pytest

from .run import check_refusal, demo


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """What it says to some answers, by the last lines, and the folder of its pictures."""
    folder = tmp_path_factory.mktemp("taxonomy")

    def ask(*answers):
        result = demo("taxonomy", "--out", folder, *answers)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return folder, ask


def test_families_are_told_by_what_their_models_return_and_how_often_their_networks_run(answered):
    folder, ask = answered
    said = ask()
    rows = {line.split()[0]: line.split()[1:3] for line in said.splitlines()[1:7]}
    assert rows == {
        "DDPM": ["LowerBound", "50"], "EBM": ["Energy", "1001"], "Flow": ["Exact", "1"], "GAN": ["none", "1"],
        "PixelCNN": ["Exact", "144"], "VAE": ["LowerBound", "1"],
    }  # fmt: skip
    assert {path.name for path in folder.iterdir()} == {"tree.png", "timeline.png"}
    assert all(path.stat().st_size > 10_000 for path in folder.iterdir())
    assert next(line for line in said.splitlines() if "code=lossless" in line).endswith("DDPM, Flow")


def test_answers_leave_what_meets_them_all_and_say_what_stands_in_the_way(answered):
    _, ask = answered
    said = ask("--answers", "likelihood=exact,speed=one,labels=yes")
    assert "does not fit speed=one\n" in said and "nothing fits all of it" in said
    assert "without speed=one: PixelCNN\n" in said and "without labels=yes: Flow\n" in said


def test_an_unknown_answer_is_refused_with_the_known_ones():
    check_refusal(
        "'speed=fast' is no answer; there are likelihood=exact|bound|ratio|any; speed=one",
        "taxonomy",
        "--answers",
        "speed=fast",
    )
