"""The comparison of the families as a user runs it, with a few steps; and what it does when something goes wrong."""

import gc
import re
import runpy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from demos import claims, families, report
from demos.claims import Results
from tinygen import Generator, data, train
from tinygen.autograd import tree
from tinygen.train.loop import CHECKPOINT, alone_in

from .run import ROOT, check_refusal, demo

CLOCKS = {"memory", "training seconds", "ms", "ms alone"}  # what another run of the same command may find otherwise


def figures(folder):
    """What was measured in each run that is kept, without what depends on the clock."""
    runs = {path.stem: train.checkpoint_info(path)["extra"]["measured"] for path in (folder / "runs").glob("*.safetensors")}
    return {name: {key: value for key, value in run.items() if key not in CLOCKS} for name, run in runs.items()}


def table(folder):
    """The rows of the table of claims, without the milliseconds."""
    section = (folder / "report.md").read_text().split("\n## Claimed and measured\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")]
    clock = rows[0].index("ms for a sample")
    return [row[:clock] + row[clock + 1 :] for row in rows]


@pytest.fixture
def compare(monkeypatch, capsys):
    """compare(arguments, **families) runs the demo here, with these families only: (exit code, stdout, stderr)."""

    def run(*arguments, **chosen):
        monkeypatch.setattr(families, "FAMILIES", chosen)
        command = ["compare", "--quick", "--seeds", 1, "--budget", 0.03, *arguments]
        monkeypatch.setattr(sys, "argv", [*map(str, command)])
        monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".pytest_cache" / "demos"))
        code = 0
        try:
            runpy.run_module("demos.compare", run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        except KeyboardInterrupt:
            code = "interrupted"  # demos/__main__.py says the rest
        gc.collect()  # a process that ends would let go of the folder
        return code, *capsys.readouterr()

    return run


def in_training(family, happens):
    """The family, but with its third step something happens."""

    class Unlucky(family):
        def training(self, rng):
            state, step, batches = super().training(rng)
            return state, lambda state, batch, rng: happens(step(state, batch, rng), int(state.optimiser.step)), batches

    return Unlucky


def test_a_quick_comparison_measures_six_families_and_resumes(tmp_path):
    command = ["compare", "--quick", "--seeds", "1", "--budget", "0.03"]
    first = demo(*command, "--out", tmp_path)
    assert first.returncode == 0, first.stderr
    assert "this was a quick run" in first.stdout
    assert set(figures(tmp_path)) == {f"{name}-0" for name in families.FAMILIES}
    rows = table(tmp_path)
    assert [row[0].strip("*") for row in rows[2:]] == [*families.FAMILIES, "training images"]
    assert all(cell for row in rows[2:-1] for cell in row)  # measured, or said to be impossible
    shown = {row[0].strip("*"): dict(zip(rows[0][1:], row[1:])) for row in rows[2:]}
    assert {name: shown[name]["bits/dim"].split()[0] for name in families.FAMILIES} == {
        "VAE": "<=", "GAN": "none", "flow": "<=", "PixelCNN": "=", "EBM": "none", "DDPM": "<=",
    }  # fmt: skip
    assert shown["GAN"]["likelihood"].startswith("none<br>")
    assert "samples in one pass" in (tmp_path / "report.md").read_text()
    for name in (*families.FAMILIES, "training_images"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000

    page = (tmp_path / "report.html").read_text()
    assert all(f"<th scope=row>{name}</th>" in page for name in families.FAMILIES)
    assert (
        page.count('src="data:image/') == page.count("src=") == 8
    )  # pictures are in the page, and nothing comes from a network
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<link|<script", re.sub(r"base64,[\w+/=]*", "", page))

    again = demo(*command, "--resume", tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert (tmp_path / "report.html").read_text() == page


def test_the_same_command_gives_the_same_table_and_keeps_the_earlier_one(tmp_path, compare):
    tables = []
    for _ in range(2):
        code, out, _ = compare("--out", tmp_path / "it", GAN=families.GAN, VAE=families.VAE)
        assert code == 0
        tables.append((figures(tmp_path / "it"), table(tmp_path / "it")))
    assert tables[0] == tables[1] == (figures(tmp_path / "it.1"), table(tmp_path / "it.1"))
    assert len(tables[0][0]) == 2 and (tmp_path / "it.1" / "report.html").exists()


def test_a_family_that_fails_is_a_row_and_the_others_go_on(tmp_path, compare):
    def fail(result, step):
        if step == 2:
            raise ValueError("the third step went wrong")
        return result

    code, _, said = compare("--out", tmp_path, VAE=in_training(families.VAE, fail), GAN=families.GAN)
    assert code == 0
    assert "VAE, seed 0, failed: ValueError: the third step went wrong" in said
    rows = {row[0].strip("*"): row[1:] for row in table(tmp_path)}
    assert all(cell.startswith("failed") for cell in rows["VAE"]) and "failed" not in "".join(rows["GAN"])
    assert "- VAE failed: ValueError: the third step went wrong" in (tmp_path / "report.md").read_text()
    kept = {path.name for path in (tmp_path / "runs").iterdir()}
    assert kept == {"GAN-0.safetensors"}  # a failure is not kept: when it is mended, --resume tries again


def test_a_run_that_diverges_is_counted_and_kept(tmp_path, compare):
    def diverge(result, step):
        state, metrics = result
        return state, {**metrics, "loss": np.nan if step == 2 else metrics["loss"]}

    code, out, _ = compare("--out", tmp_path, VAE=in_training(families.VAE, diverge), GAN=families.GAN)
    assert code == 0
    rows = {row[0].strip("*"): row[1:] for row in table(tmp_path)}
    assert "1 of 1 diverged<br>*stable*: disagrees" in " ".join(rows["VAE"])
    assert rows["VAE"][0].startswith("diverged") and "0 of 1 diverged<br>*unstable*: not measured" in " ".join(rows["GAN"])
    assert "is nan" in figures(tmp_path)["VAE-0"]["diverged"]


def interrupt(result, step=2):
    if step == 2:
        raise KeyboardInterrupt
    return result


class InterruptedWhileMeasured(families.VAE):
    def sample(self, model, rng, labels):
        raise KeyboardInterrupt


def test_a_comparison_that_is_interrupted_three_times_resumes_to_the_same_table(tmp_path, compare, monkeypatch):
    chosen, budget = {"GAN": families.GAN, "VAE": families.VAE}, ("--budget", 0.06)  # 8 steps of the VAE
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    compare("--out", whole, *budget, **chosen)

    code, _, said = compare("--out", parts, *budget, **chosen | {"VAE": in_training(families.VAE, interrupt)})
    assert code == 130 and f"--resume {parts}" in said
    assert set(figures(parts)) == {"GAN-0"} and not (parts / "report.md").exists()
    assert train.checkpoint_info(parts / "runs" / "VAE-0, 8 steps on digits" / CHECKPOINT)["step"] == 2

    code, _, said = compare("--resume", parts, *budget, **chosen | {"VAE": InterruptedWhileMeasured})
    assert code == 130 and "step 8/8" in said and "step 4/4" not in said  # the GAN's

    with monkeypatch.context() as patched:
        patched.setattr(report, "html", lambda blocks: interrupt(blocks))
        code, _, said = compare("--resume", parts, *budget, **chosen)
        assert code == "interrupted" and "step " not in said  # the VAE was trained
    code, _, said = compare("--resume", parts, *budget, **chosen)
    assert code == 0 and "step " not in said
    assert figures(parts) == figures(whole) and table(parts) == table(whole)
    assert {path.name for path in (parts / "runs").iterdir()} == {"GAN-0.safetensors", "VAE-0.safetensors"}

    code, _, said = compare("--resume", parts, "--budget", 0.05, **chosen)
    assert code == 2 and "give these, or another --out" in said


def test_two_comparisons_in_one_folder_are_refused(tmp_path, compare):
    (tmp_path / "runs").mkdir()
    for arguments in ("--out", tmp_path), ("--resume", tmp_path):
        with alone_in(tmp_path):
            code, _, said = compare(*arguments, GAN=families.GAN)
        assert code == 2 and "another run is writing to" in said and said.count("\n") == 1


def test_memory_is_that_of_a_step_that_is_compiled_and_recorded(tmp_path, compare):
    class WithABeginning(families.GAN):
        def training(self, rng):
            state, step, batches = super().training(rng)
            calls = iter(range(1000))

            def once(state, batch, rng):
                large = np.ones(10_000_000 if next(calls) < 3 else 1)
                return step(state, batch, rng) if large.all() else None

            return state, once, batches

    code, _, _ = compare("--out", tmp_path, GAN=WithABeginning)
    (run,) = (train.checkpoint_info(path)["extra"]["measured"] for path in (tmp_path / "runs").glob("*.safetensors"))
    assert code == 0 and 1 < run["memory"] < 20


@pytest.mark.slow
def test_a_comparison_on_a_pretended_gpu(tmp_path):
    command = [sys.executable, "-m", "tests.demos.on_pretended_gpu", "compare", "--quick", "--seeds", "1", "--budget", "0.03"]
    run = subprocess.run([*command, "--out", tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and "failed" not in run.stderr, run.stderr
    assert set(figures(tmp_path)) == {f"{name}-0" for name in families.FAMILIES}


@pytest.mark.parametrize("arguments, complaint", [
    (["--seeds", "0"], "at least 1"),
    (["--budget", "0"], "above 0"),
    (["--budget", "nan"], "above 0"),
    (["--data", "cifar"], "cifar"),
    (["--resume", "nowhere"], "nowhere"),
    (["--steps", "3"], "--steps"),
])  # fmt: skip
def test_a_wrong_option_is_one_sentence_and_exit_code_2(arguments, complaint):
    check_refusal(complaint, "compare", "--quick", *arguments)


# The families


class Counting:
    """A network that counts how often it is evaluated."""

    def __init__(self, network):
        self.network, self.calls = network, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.network(*arguments)


@pytest.mark.parametrize("name", ["EBM", "DDPM"])
def test_a_sample_takes_as_many_evaluations_of_the_network_as_its_family_says(name):
    family = families.FAMILIES[name](data.load("digits"), 0.03, 0)
    model = family.best(family.training(Generator(0))[0])
    counting = Counting(model.network)
    family.sample(replace(model, network=counting), Generator(0), np.arange(2))
    assert counting.calls == family.evaluations == family.in_a_row


@pytest.mark.parametrize("name", ["VAE", "flow"])
def test_grey_levels_come_back_from_dequantised_ones(name):
    images = data.load("digits")
    family, g = families.FAMILIES[name](images, 0.03, 0), images.test.images
    np.testing.assert_array_equal(family.cell(family.dequantised(g)), g)


@pytest.mark.parametrize("name, convert", [("GAN", "nearest"), ("VAE", "cell")])
def test_samples_that_are_not_finite_are_no_grey_levels(name, convert):
    family = families.FAMILIES[name](data.load("digits"), 0.03, 0)
    with pytest.raises(train.NonFiniteError, match="1 of 4 samples"):
        getattr(family, convert)(np.array([0.5, np.nan, 0.1, 0.2])[:, None, None, None])


def test_the_likelihood_of_the_pixelcnn_is_the_mean_over_labels():
    images = data.load("digits")
    family = families.PixelCNN(images, 0.03, 0)
    state, step, batches = family.training(Generator(0))
    for i in range(3):  # at first, labels make no difference
        state, _ = step(state, batches.at(i), Generator(0))
    model, g = state.params, images.test.images[:3]
    probabilities = [np.exp(model.log_prob(g, np.full(3, y)).nats.astype(np.float64)) for y in range(10)]
    expected = -np.log2(np.mean(probabilities, axis=0)) / 64
    assert np.ptp(probabilities, axis=0).min() > 0
    np.testing.assert_allclose(family.bits(model, g, None).bits, expected, rtol=1e-5)


@pytest.mark.parametrize("data_set, budget", [("digits", 65_000), ("mnist", 200_000)])
def test_all_families_train_about_as_many_parameters(data_set, budget):
    size, levels = {"digits": (8, 17), "mnist": (28, 256)}[data_set]
    part = data.Split(Generator(0).integers(0, levels, (128, size, size, 1)).astype(np.uint8), np.arange(128) % 10)
    for name, make in families.FAMILIES.items():
        family = make(data.Images(data_set, levels, part, part, part), 10, 0)
        state, step, batches = family.training(Generator(0))
        new = tree.flatten(family.trained(state))[0]
        for i in range(3):  # what ends in a layer of zeros does not move in the first
            state, _ = step(state, batches.at(i), Generator(i))
        moved = sum((a != b).sum() for a, b in zip(new, tree.flatten(family.trained(state))[0]))
        assert abs(moved / budget - 1) < 0.05, f"{name}: {moved}"


# The claims


def run(**figures):
    return {
        "frechet": 1.0,
        "ms": 1.0,
        "evaluations": 1,
        "in a row": 1,
        "likelihood": "none",
        "classes": 10,
        "relation": "=",
        **figures,
    }


def verdict(results, title, name, claim):
    return claims.cell(results, claims.CLAIMED[title], name, claim).agrees


@pytest.mark.parametrize("title, figures, right, wrong", [
    ("likelihood", {"likelihood": "bound"}, "bound", "exact"),
    ("bits/dim", {"bits": 1.0}, "best", "poor"),
    ("bits/dim", {"bits": 2.5}, "good", "best"),
    ("bits/dim", {"bits": 3.0}, "poor", "good"),  # two of four are better
    ("Frechet distance", {"frechet": 5.0}, "poor", "good"),
    ("precision", {"precision": 0.61}, "high", "low"),
    ("recall", {"recall": 0.59}, "low", "high"),
    ("classes", {"classes": 9}, "fewer", "all"),
    ("ms for a sample", {"ms": 0.9}, "fast", "slow"),
    ("ms for a sample", {"ms": 1.1}, "slow", "fast"),
    ("evaluations", {"evaluations": 1, "in a row": 1}, "one", "many"),
    ("evaluations", {"evaluations": 1, "in a row": 64}, "one a pixel", "one"),  # as much work as one, but all that waiting
    ("evaluations", {"evaluations": 50, "in a row": 50}, "many", "one"),
    ("latent space", {"midpoints": 0.9, "mean images": 1.0}, "smooth", "none"),
    ("latent space", {}, "none", "smooth"),
])  # fmt: skip
def test_a_claim_is_held_against_the_figure(title, figures, right, wrong):
    others = {"a": [run(bits=2.0, ms=10.0)], "b": [run(bits=2.8)], "c": [run(bits=4.0)]}
    results = Results({"x": [run(**{"bits": 2.5, **figures})], **others}, {}, {"precision": 0.8, "recall": 0.8}, 64)
    assert verdict(results, title, "x", right) is True and verdict(results, title, "x", wrong) is False
    assert verdict(results, title, "x", None) is None


def test_a_code_that_does_not_interpolate_is_a_code():
    results = Results({"x": [run(**{"midpoints": 1.1, "mean images": 1.0})]}, {}, {}, 64)
    assert verdict(results, "latent space", "x", "smooth") is False and verdict(results, "latent space", "x", "none") is False


def test_stability_needs_seeds_that_agree_and_none_that_diverged():
    seeds = {"a": [1.0, 1.2], "b": [1.0, 2.0], "c": [1.0]}
    runs = {name: [run(frechet=value) for value in values] for name, values in seeds.items()}
    results = Results(runs | {"d": [run(), run(), {"diverged": "NaN"}]}, {}, {}, 64)
    stable = {name: verdict(results, "spread over seeds", name, "stable") for name in results.runs}
    assert stable == {"a": True, "b": False, "c": None, "d": False}
    assert claims.cell(results, claims.CLAIMED["spread over seeds"], "d").text == "0%, 1 of 3 diverged"


@pytest.mark.parametrize("ms, shown", [(0.0123, "0.012"), (9.7, "9.7"), (33.4, "33"), (1275.0, "1,275")])
def test_rounded_figures_are_short_and_plain(ms, shown):
    assert claims.rounded("ms")(Results({"x": [run(ms=ms)]}, {}, {}, 64), "x") == shown


def test_every_family_has_a_claim_or_none_in_every_column():
    assert set(claims.CLAIMS) == set(families.FAMILIES)
    assert {len(row) for row in claims.CLAIMS.values()} == {len(claims.CLAIMED)}
    assert all(
        row[list(claims.CLAIMED).index("bits/dim")] is None for name, row in claims.CLAIMS.items() if name in ("GAN", "EBM")
    )


# The report


def test_a_report_escapes_what_it_is_given():
    blocks = ["# a < b", "- `x` & y", report.Table(("bits",), {"<b>": (report.Cell("<= 2", "poor", False),)})]
    page = report.html(blocks)
    assert "<td data-column" in page and "<td class=empty" not in page
    assert '<td class=empty data-column="bits">' in report.html(["# x", report.Table(("bits",), {"a": (report.Cell(""),)})])
    assert "<title>a &lt; b</title>" in page and "<li><code>x</code> &amp; y</li>" in page and "&lt;b&gt;" in page
    assert "<b>&lt;= 2</b><span class=disagrees>poor: disagrees" in page
    assert "| **<b>** | <= 2<br>*poor*: disagrees" in report.markdown(blocks, ".")


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="row 'VAE' has 1 cells for 2 columns"):
        report.Table(("a", "b"), {"VAE": (report.Cell("1"),)})
