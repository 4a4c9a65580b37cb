"""The taxonomy as a user asks for it."""

import pytest

from tinygen import train

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


def test_what_compare_has_measured_is_asked_about_and_a_quick_comparison_is_not(answered, tmp_path):
    _, ask = answered

    def compare(folder, judged, **distances):
        for run, distance in distances.items():
            measured = {"diverged": "nan"} if distance is None else {"frechet": distance}
            about = {"settings": {"judged images": judged}, "measured": measured}
            train.save_checkpoint(tmp_path / folder / "runs" / f"{run.replace('_', '-')}.safetensors", {}, 0, 0, about)

    distances = {"VAE_0": 21.0, "VAE_1": 19.5, "GAN_0": 10.0, "GAN_1": None, "flow_0": 20.0, "PixelCNN_0": 10.0, "EBM_0": 12.0}
    compare("whole", 500, **distances, DDPM_0=11.0)
    said = ask("--compared", tmp_path / "whole")
    assert next(line for line in said.splitlines() if "quality=near" in line).endswith("  DDPM, EBM, Flow, PixelCNN")
    assert "20.2" in said and "inf" in said  # of the VAE, and of the GAN that has diverged once

    compare("part", 500, **distances)
    compare("part", 100, DDPM_0=11.0)  # as --quick does
    said = ask("--compared", tmp_path / "part")
    assert "`python -m demos compare` measures" in said and "quality=" not in said


def test_an_unknown_answer_is_refused_with_the_known_ones():
    check_refusal(
        "'speed=fast' is no answer; there are likelihood=exact|bound|ratio|any; speed=one",
        "taxonomy",
        "--answers",
        "speed=fast",
    )
