"""What the models say of their equations must be so: each has a step, and the step runs the very line."""

import ast
import sys
from importlib import import_module

import pytest

from tinygen.derivations import chains
from tinygen.derivations.__main__ import main
from tinygen.derivations.coverage import DEFINITIONS, PACKAGE, rows, tables, tagged, uncovered

STEPS = {step.tag: step for chain in chains().values() for step in chain.steps}
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent.name != "derivations"]
TAGS = [(path, line, step) for path in FILES for line in tagged(path.read_text()) for step in line.steps]

MODEL = '''"""Circles.

    area          A = pi r^2                    Archimedes
    half circle   its arc is pi r
                  and its chord 2 r
      inner       r > 0

Nothing else.
"""
TAU = 2 * 3  # [circles.tau]

def area(r):
    # half circle: [circles.arc]
    return 3 * r * r  # [circles.area], [circles.square]
'''


def test_a_table_has_a_name_in_front_of_each_row():
    assert rows(MODEL) == ["area", "half circle", "inner"] and rows("x = 1") == []


def test_a_tagged_line_says_its_row_or_stands_in_a_function_of_that_name():
    tau, arc, area = tagged(MODEL)
    assert (tau.line, tau.row, tau.steps) == (10, "", ("circles.tau",))
    assert (arc.line, arc.row, arc.steps) == (14, "half circle", ("circles.arc",))
    assert (area.line, area.row, area.steps) == (14, "area", ("circles.area", "circles.square"))


def test_every_equation_of_the_models_is_covered_by_a_step():
    assert uncovered() == [], "tag the line that computes it with a step that runs it, or say in DEFINITIONS why there is none"


def test_every_family_has_a_table_and_definitions_are_rows_that_no_step_covers():
    with_tables = {model for model, path in tables().items() if len(rows(path.read_text())) > 3}
    assert {"bayes", "vae", "gan", "flow", "pixelcnn", "ebm", "ddpm", "mcmc"} <= with_tables
    known = {f"{model}.{row}" for model, path in tables().items() for row in rows(path.read_text())}
    with_steps = {f"{model}.{line.row}" for model, path in tables().items() for line in tagged(path.read_text())}
    assert set(DEFINITIONS) <= known - with_steps


def test_every_name_in_front_of_a_tag_is_a_row_of_that_file():
    wrong = [(path.name, line.line, line.row) for path, line, _ in TAGS if line.row and line.row not in rows(path.read_text())]
    assert not wrong


def test_every_tag_names_a_step():
    assert TAGS and not {(path.name, line.line, step) for path, line, step in TAGS if step not in STEPS}


@pytest.mark.parametrize("path, line, step", TAGS, ids=[f"{path.stem}-{line.line}-{step}" for path, line, step in TAGS])
def test_a_step_runs_every_line_that_is_tagged_with_it(path, line, step):
    if line.line in at_import(path):
        return  # a constant: its step names it
    assert line.line in lines_run(STEPS[step], path)


def at_import(path):
    """The lines of statements outside of functions that hold no function either."""
    constants = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    plain = [node for node in constants if not any(isinstance(part, ast.Lambda) for part in ast.walk(node))]
    return {number for node in plain for number in range(node.lineno, node.end_lineno + 1)}


def lines_run(step, path, draws=12):
    """The lines of a file that are run as the step draws its instances and computes its sides."""
    module = import_module(".".join(["tinygen", *path.relative_to(PACKAGE).with_suffix("").parts]))
    for cached in [value for value in vars(module).values() if hasattr(value, "cache_clear")]:
        cached.cache_clear()
    run = set()

    def in_file(frame, event, _):
        run.add(frame.f_lineno)
        return in_file

    before = sys.gettrace()
    sys.settrace(lambda frame, event, _: in_file(frame, event, _) if frame.f_code.co_filename == str(path) else None)
    try:
        for instance in step.examples(draws):
            step.values(instance)
    finally:
        sys.settrace(before)
    return run


def test_the_list_of_equations_names_every_row(capsys):
    assert main(["--coverage"]) == 0
    text = capsys.readouterr().out
    assert all(f"    {row} " in text for path in tables().values() for row in rows(path.read_text()))
    assert "NO STEP" not in text and all(step in text for _, _, step in TAGS)
