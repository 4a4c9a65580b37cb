"""What the chains rest on: the runner must refute what is false, and only that."""

import math
import re
from html import escape

import numpy as np
import pytest
from hypothesis import strategies as st
from matplotlib.mathtext import MathTextParser

from tinygen import ops
from tinygen.derivations import chains
from tinygen.derivations.__main__ import main
from tinygen.derivations.chain import Chain
from tinygen.derivations.page import LONG, SHORT, _words

NUMBERS = st.floats(-3, 3)


def chain():
    return Chain("trigonometry", "Sines and cosines.", "nobody", NUMBERS)


def test_a_true_equation_has_no_refutation_and_a_false_one_has_a_simple_one():
    true = chain().equal("pythagoras", r"\sin^2 + \cos^2 = 1", because="radius 1")(
        lambda x: (math.sin(x) ** 2, 1 - math.cos(x) ** 2)
    )
    assert true.refutation() is None and max(map(true.residual, true.examples(30))) < 1
    false = chain().equal("small", r"\sin x = x", because="wishing")(lambda x: (math.sin(x), x))
    found = false.refutation()
    assert found is not None and false.residual(found) > 1


def test_an_equation_that_fails_only_at_an_edge_is_refuted():
    edge = chain().equal("edge", "x = x", because="")(lambda x: (x, x if x < 3 else x + 1))
    assert edge.refutation() == 3


def test_at_most_holds_in_one_direction_only():
    steps = chain()
    assert steps.at_most("up", "", because="")(lambda x: (math.sin(x) ** 2, 1.0)).refutation() is None
    assert steps.at_most("down", "", because="")(lambda x: (1.0, math.sin(x) ** 2)).refutation() is not None
    assert steps.at_most("equality", "", because="")(lambda x: (x, x)).refutation() is None


def test_gradients_are_compared_and_not_values():
    steps = chain()
    shifted = steps.grad_equal("shift", "", because="")(lambda x: (ops.sin, lambda y: ops.sin(y) + 5, np.array(x)))
    assert shifted.refutation() is None
    doubled = steps.grad_equal("double", "", because="")(lambda x: (ops.sin, lambda y: 2 * ops.sin(y), np.array(x)))
    assert doubled.refutation() is not None


def test_a_mean_may_stray_by_its_standard_error_and_not_by_more():
    def samples(x, n=10_000):
        return np.random.default_rng(int(1000 * (x + 3))).normal(x, 1, n)

    steps = chain()
    assert steps.in_expectation("mean", "", because="")(lambda x: (samples(x), x)).refutation() is None
    assert steps.in_expectation("shifted", "", because="")(lambda x: (samples(x), x + 0.1)).refutation() is not None


def test_what_is_not_finite_does_not_hold():
    for value in (math.nan, math.inf):
        assert chain().equal("value", "", because="")(lambda x, value=value: (value, value)).residual(0.0) == math.inf


def test_sides_of_different_shapes_are_an_error_and_not_broadcast():
    step = chain().equal("shapes", "", because="")(lambda x: (np.zeros(3), 0.0))
    with pytest.raises(ValueError, match=r"trigonometry.shapes: .*\(3,\).*\(\)"):
        step.residual(0.0)


def test_names_and_mistakes_come_once():
    steps = chain()
    step = steps.equal("one", "", because="")(lambda x: (x, x))
    step.wrong("a sign", published=True)(lambda x: (x, -x))
    step.wrong("a factor")(lambda x: (x, 2 * x))
    assert list(step.siblings) == ["a sign", "a factor"] and step.published == ["a sign"]
    with pytest.raises(ValueError, match="a sign"):
        step.wrong("a sign")
    with pytest.raises(ValueError, match="'one'"):
        steps.at_most("one", "", because="")
    assert steps["one"] is step and step.tag == "trigonometry.one" and step.refutation("a sign") is not None


def test_examples_are_the_same_at_each_call():
    step = chain().equal("one", "", because="")(lambda x: (x, x))
    assert step.examples(20) == step.examples(20) and len(step.examples(20)) == 20


STEPS = [step for chain in chains().values() for step in chain.steps]
SIBLINGS = [(step, mistake) for step in STEPS for mistake in step.siblings]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.tag)
def test_every_step_holds_and_has_a_wrong_sibling(step):
    assert step.siblings, "a step without a wrong sibling may be one that cannot fail"
    assert step.refutation() is None


@pytest.mark.parametrize("step, mistake", SIBLINGS, ids=lambda x: x if isinstance(x, str) else x.tag)
def test_every_wrong_sibling_is_caught(step, mistake):
    assert step.refutation(mistake) is not None


def test_a_chain_can_be_read(capsys):
    assert main(["gaussian_kl", "--draws", "10"]) == 0
    text = capsys.readouterr().out
    assert "because: " in text and text.count("holds: over 10 instances") == len(chains()["gaussian_kl"].steps)


def test_the_list_names_every_chain(capsys):
    assert main([]) == 0
    assert {line.split(":")[0] for line in capsys.readouterr().out.splitlines() if line[0] != " "} == set(chains())


def test_the_mistakes_that_published_code_had_can_be_listed(capsys):
    assert main(["--published"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed == [f"{step.tag}: {mistake}" for step in STEPS for mistake in step.published]
    assert all(set(step.published) <= set(step.siblings) for step in STEPS) and len(listed) >= 15


def test_an_unknown_chain_is_answered_with_the_known_ones(capsys):
    assert main(["gaussian_lk"]) == 2
    assert "'gaussian_lk'" in capsys.readouterr().err


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.tag)
def test_every_equation_can_be_set(step):
    width, height, *_ = MathTextParser("path").parse(f"${SHORT.sub(LONG, step.latex)}$")
    assert width > 20 and height > 5


@pytest.mark.parametrize("name, title", [
    ("iwae_bound", "IWAE bound"), ("model_elbo", "Model ELBO"), ("elbo", "ELBO"), ("bias_of_cd", "Bias of CD"),
    ("reconstruction_form", "Reconstruction form"),
])  # fmt: skip
def test_acronyms_stay_acronyms_within_a_title(name, title):
    assert _words(name) == title


@pytest.mark.parametrize("names, told", [(["gaussian_kl"], "1 page is in "), (["gaussian_kl", "sde"], "2 pages are in ")])
def test_pages_are_counted(names, told, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tinygen.derivations.__main__.write_pages", lambda *chains: None)
    assert main([*names, "--html", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(told)


def test_a_page_needs_no_network_and_shows_every_step_and_mistake(tmp_path, capsys):
    assert main(["gaussian_kl", "--draws", "20", "--html", str(tmp_path)]) == 0
    page, index = ((tmp_path / name).read_text() for name in ("gaussian_kl.html", "index.html"))
    chain = chains()["gaussian_kl"]
    assert 'href="gaussian_kl.html"' in index and escape(chain.about) in index
    assert page.count("<svg") == 2 * len(chain.steps)  # an equation and its residuals
    for step in chain.steps:
        assert escape(step.because) in page and all(escape(mistake) in page for mistake in step.siblings)
    assert "not refuted" not in page and "does not hold" not in page
    assert not re.search(r"(src|href)=.https?:|@import|<script|<link", page + index)
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert identifiers and len(set(identifiers)) == len(identifiers)
