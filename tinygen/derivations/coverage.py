r"""Which equations of the models are checked, and by which steps.

The header of a model is a table of its equations, a name in front of each. The line of code that computes one says its name,
and the step that runs this line and compares what it gives with something else:

    return abar**0.5 * x0, (1 - abar) ** 0.5  # marginal: [ddpm.marginal]

The name is left out where the function, the class or the constant is called so. A comment of its own belongs to the line below.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
TAGS = re.compile(r"# (?:([\w -]+): )?((?:\[\w+\.\w+\](?:, )?)+)$")
DEFINITIONS = {  # what claims nothing, by its row, and why
    "vae.posterior": "the bound holds for any q",
    "gan.players": "any two functions of these shapes will do",
    "gan.objective": "titles of the columns",
    "mcmc.kernel": "titles of the columns",
}


@dataclass(frozen=True)
class Tagged:
    """A line of code with the steps that check it, and the row of the header that it computes, or "" for no row."""

    line: int
    row: str
    steps: tuple


def tables():
    """The files of the package that have a table of equations, by the models' names."""
    files = [*sorted((PACKAGE / "models").glob("*.py")), PACKAGE / "mcmc.py"]
    return {path.stem: path for path in files if rows(path.read_text())}


def rows(text):
    """The names in the table of a file's docstring: words at the left, and after two spaces an equation."""
    header = ast.get_docstring(ast.parse(text), clean=False) or ""
    return re.findall(r"^ {4,6}(\w[\w-]*(?: \w[\w-]*)?)  +\S", header, re.MULTILINE)


def tagged(text):
    """Every `Tagged` line of a file."""
    found, known, names = [], rows(text), _names(text)
    for number, line in enumerate(text.splitlines(), start=1):
        if match := TAGS.search(line):
            number += line.lstrip().startswith("#")
            row = match[1] or (names[number] if names.get(number) in known else "")
            found.append(Tagged(number, row, tuple(re.findall(r"\[(.+?)\]", match[2]))))
    return found


def _names(text):
    """What the function, class or constant is called that a line belongs to."""
    names = {}
    for node in ast.parse(text).body:
        named = node.targets[0] if isinstance(node, ast.Assign) else node
        name = getattr(named, "id", getattr(named, "name", ""))
        names.update(dict.fromkeys(range(node.lineno, node.end_lineno + 1), name))
    return names


def uncovered():
    """The rows, as in "ddpm.marginal", that no line is tagged with and that are no definitions."""
    found = []
    for model, path in tables().items():
        covered = {line.row for line in tagged(path.read_text())}
        found += [f"{model}.{row}" for row in rows(path.read_text()) if row not in covered]
    return [row for row in found if row not in DEFINITIONS]


def show_coverage():
    """Print the rows of all tables with their steps, then all other tagged lines; 1 if a row has no step."""
    for model, path in tables().items():
        print(path.relative_to(PACKAGE))
        lines = tagged(path.read_text())
        for row in rows(path.read_text()):
            steps = [f"{step} (line {line.line})" for line in lines if line.row == row for step in line.steps]
            reason = DEFINITIONS.get(f"{model}.{row}")
            print(f"    {row:17s} {', '.join(steps) or (f'a definition: {reason}' if reason else 'NO STEP')}")
    print("lines besides")
    for path in sorted(PACKAGE.rglob("*.py")):
        for line in [] if path.parent == Path(__file__).parent else tagged(path.read_text()):
            if not line.row or path not in tables().values():
                print(f"    {path.relative_to(PACKAGE)}:{line.line}  {', '.join(line.steps)}")
    return int(bool(uncovered()))
