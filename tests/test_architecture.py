"""The house keeps its floors: who may import whom, read off the source with `ast`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [  # a file imports only from floors below its own, or from its own room
    {"kernels"},
    {"tinygen.autograd", "tinygen.backend", "tinygen.files"},
    {"tinygen.ops", "tinygen.flat"},
    {"tinygen.nn", "tinygen.optim", "tinygen.density", "tinygen.distributions", "tinygen.mcmc"},
    {"tinygen.models", "tinygen.data", "tinygen.metrics", "tinygen.train", "tinygen.plot"},
    {"tinygen.derivations"},
    {"demos"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
SAME_FLOOR = {  # a floor's own order, where one room needs another beside it
    ("tinygen.autograd", "tinygen.backend"),
    ("tinygen.distributions", "tinygen.density"),
    ("tinygen.nn", "tinygen.distributions"),
    ("tinygen.metrics", "tinygen.data"),
    ("tinygen.metrics", "tinygen.train"),
}


def sources():
    for top in ("tinygen", "kernels", "demos"):
        yield from (path for path in sorted((ROOT / top).rglob("*.py")) if path != ROOT / "tinygen" / "__init__.py")


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module):
    """The room a module lies in: `kernels`, `demos`, or the first two parts of its name."""
    module = module.removeprefix("tinygen.") if module.startswith("tinygen.kernels") else module
    top = module.split(".")[0]
    return top if top in ("kernels", "demos") else ".".join(module.split(".")[:2])


def imports_of(path):
    """The modules of this project that a file imports, anywhere in it, as absolute names."""
    module = module_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            found = [f"{base}.{alias.name}" for alias in node.names]
            yield from (name if is_module(name) else base for name in found)


def is_module(name):
    path = ROOT.joinpath(*name.removeprefix("tinygen.kernels").split(".")) if name.startswith("tinygen.kernels") else None
    path = ROOT / "kernels" / Path(*name.split(".")[2:]) if path else ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def of_this_project(name):
    return name.split(".")[0] in ("tinygen", "kernels", "demos")


def test_every_file_lies_in_a_room():
    lost = [module_of(path) for path in sources() if room_of(module_of(path)) not in FLOOR]
    assert not lost, f"no floor is given for {lost}: add the room to FLOORS"


@pytest.mark.parametrize("path", list(sources()), ids=module_of)
def test_imports_go_down(path):
    here = room_of(module_of(path))
    for name in filter(of_this_project, imports_of(path)):
        there = room_of(name)
        if there in ("tinygen", here):
            assert there == here or here == "demos", f"{module_of(path)} imports {name}: only demos import the top of tinygen"
            continue
        below = FLOOR[there] < FLOOR[here] or (here, there) in SAME_FLOOR
        assert below, f"{module_of(path)} on floor {FLOOR[here]} imports {name} on floor {FLOOR[there]}: imports go down"


def test_the_kernels_import_nothing_of_tinygen():
    for path in (ROOT / "kernels").rglob("*.py"):
        outside = [name for name in imports_of(path) if name.startswith("tinygen") and not name.startswith("tinygen.kernels")]
        assert not outside, f"{path.name} imports {outside}"


def test_no_model_imports_another():
    for path in (ROOT / "tinygen" / "models").glob("*.py"):
        others = [name for name in imports_of(path) if name.startswith("tinygen.models.")]
        assert not others, f"{path.name} imports {others}: what two models share belongs to nn, density or distributions"


def test_no_import_cycles():
    graph = {module_of(path): {n for n in imports_of(path) if of_this_project(n)} for path in sources()}
    done, running = set(), []

    def visit(module):
        assert module not in running, f"import cycle: {' -> '.join([*running[running.index(module) :], module])}"
        if module in done or module not in graph:
            return
        running.append(module)
        for name in sorted(graph[module] - {module}):
            visit(name)
        done.add(running.pop())

    for module in graph:
        visit(module)


@pytest.mark.parametrize("name", ["pickle", "shelve", "marshal", "dill", "joblib"])
def test_nothing_unpickles(name):
    for path in sources():
        assert name not in [n.split(".")[0] for n in imports_of(path)], f"{path.name} imports {name}"
        assert "allow_pickle=True" not in path.read_text()


@pytest.mark.parametrize("path", list(sources()), ids=module_of)
def test_docstrings_are_raw_where_they_hold_a_backslash(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            control = [c for c in ast.get_docstring(node, clean=False) or "" if ord(c) < 32 and c != "\n"]
            assert not control, (
                f"{module_of(path)}: a backslash in the docstring of {getattr(node, 'name', 'the file')}: {control}"
            )


def test_import_tinygen_is_light():
    heavy = {"numba", "llvmlite", "cupy", "matplotlib", "pooch", "scipy", "torch", "tqdm", "safetensors"}
    code = (
        "import sys, tinygen, tinygen.nn, tinygen.optim, tinygen.data, tinygen.models.vae, tinygen.kernels; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert "tinygen.models.vae" in loaded
    assert not heavy & {name.split(".")[0] for name in loaded}


def test_kernels_refuse_their_bare_name():
    result = subprocess.run([sys.executable, "-c", "import kernels"], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode != 0 and "from tinygen import kernels" in result.stderr
