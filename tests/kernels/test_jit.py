"""What compiles a loop: the cache on disk, what is said about compiling, when nothing is, and how little it should be."""

import ast
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import sys
import numpy as np
from tinygen import kernels
from tinygen.kernels import jit
if "announce" in sys.argv:
    jit.announce()
x = np.ones(4, np.float32)
kernels.activations.tanh_gradient(x, x), kernels.activations.relu_gradient(x, x)
kernels.categorical.log_prob(np.zeros(1, np.int64), x[None])  # whose loop calls one of vector_math.py
"""
ONCE = "compiling kernels, once: {} ...\n"


def run(cache, *arguments, code=CODE, **settings):
    """What a process says on stderr that has this folder for its cache."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    settings = {"stderr": subprocess.PIPE, **settings}
    result = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, **settings)
    assert result.returncode == 0 and result.stdout == ""
    return result.stderr


def test_a_kernel_is_announced_when_it_is_compiled_and_the_next_process_compiles_nothing(tmp_path):
    said = run(tmp_path, "announce")
    assert said == ONCE.format("activations") + ONCE.format("categorical")
    assert run(tmp_path, "announce") == ""


def test_nothing_is_said_where_nobody_looks_or_asked(tmp_path):
    assert run(tmp_path) == ""


def test_nothing_is_compiled_by_an_import(tmp_path):
    files = [path for path in sorted((ROOT / "kernels").rglob("*.py")) if "gpu" not in path.stem and path.stem != "__init__"]
    names = [".".join(("tinygen", *path.relative_to(ROOT).with_suffix("").parts)) for path in files]
    code = f"from importlib import import_module\nfor name in {names}: import_module(name)"
    assert run(tmp_path, code=f"from tinygen.kernels import jit; jit.announce()\n{code}") == ""
    assert not list(tmp_path.rglob("*.nbc"))


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no pseudo-terminals here")
def test_on_a_terminal_it_is_said_unasked(tmp_path):
    ours, its = pty.openpty()
    try:
        run(tmp_path, stderr=its)
        said = os.read(ours, 10_000).decode().replace("\r", "")
    finally:
        os.close(ours)
        os.close(its)
    assert said == ONCE.format("activations") + ONCE.format("categorical")


def test_where_no_cache_can_be_written_it_still_works_and_says_so(tmp_path):
    """Numba looks for a directory in three places; here none of them is one."""
    code = "from numba.core import caching; caching.CacheImpl._locator_classes = []\n" + CODE
    said = run(tmp_path, "announce", code=code)
    kernel = r"compiling kernels, in every run, for .* NUMBA_CACHE_DIR\): (activations|categorical) \.\.\.\n"
    assert re.fullmatch(f"({kernel}){{2}}", said)


STEPS = """
import sys
from numba.core.dispatcher import Dispatcher
from tests.cuda.test_no_transfers import CASES
from tinygen import Generator, train
from tinygen.optim import Adam
for case in CASES:
    state, step, batch = CASES[case](Generator(0), Adam(1e-3))
    train.fit(step, state, lambda n: batch, 2, progress=False)
for name, module in sorted(sys.modules.items()):
    for function in vars(module).values() if name.startswith("tinygen.kernels") else ():
        if isinstance(function, Dispatcher) and function.py_func.__module__ == name:
            for signature in function.signatures:
                print(f"{name}.{function.py_func.__name__}", *signature, sep="; ")
"""


def compiled_by_training_steps(cache=None):
    """A line for each function that two steps of each family need, and for each of the types that it is compiled for."""
    environment = os.environ if cache is None else {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", STEPS]
    lines = subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()
    return [line for line in lines if line.startswith("tinygen.kernels.")]


def more_than_once(lines):
    names = [line.partition(";")[0] for line in lines]
    return [line for line, name in zip(lines, names) if names.count(name) > 1]


def test_training_compiles_each_loop_for_one_set_of_types():
    """Whatever differs in a call, an argument that is absent, a read-only array, a shorter integer, compiles all of it anew."""
    lines = compiled_by_training_steps()
    assert len(lines) > 20 and not more_than_once(lines)


@pytest.mark.slow
def test_a_first_run_compiles_no_function_twice_and_few_of_them(tmp_path):
    """With what the loops are made of. There were 65 functions when this was written: more of them take more time."""
    lines = compiled_by_training_steps(tmp_path)
    assert len(lines) < 75 and not more_than_once(lines)


def test_no_compiled_function_assigns_an_array_to_a_slice():
    """It would take two seconds to compile; a number may be assigned."""
    kinds = {"jit", "part", "inline", "scalar", "sum_in_any_order", "exactly"}
    found = []
    for path in sorted((ROOT / "kernels").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and kinds & {getattr(d, "id", None) for d in function.decorator_list}:
                for node in ast.walk(function):
                    if isinstance(node, ast.Assign) and any(map(is_slice, node.targets)) and not is_number(node.value):
                        found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert not found


def is_slice(target):
    return any(isinstance(node, ast.Slice) for node in ast.walk(target))


def is_number(value):
    if isinstance(value, ast.Call):
        return ast.unparse(value.func) in ("f", "np.float32") and all(map(is_number, value.args))
    return isinstance(value, ast.Constant)


VARIANT = """
import sys
from tinygen.kernels import jit

def code(n):
    def add(x):
        x + n
    return jit.machine_code(add, n)

code(int(sys.argv[1]))
print(jit._kept[0].fndesc.llvm_func_name)
"""


def test_variants_of_machine_code_never_share_a_name():
    """Not even where each is the first that its process compiles: from the cache, both will come into a third one."""
    environment = {**os.environ, "PYTHONHASHSEED": "0"}  # otherwise names differ by the order of a set of options in them
    one, other = (subprocess.check_output([sys.executable, "-c", VARIANT, n], env=environment, cwd=ROOT) for n in "12")
    assert one != other
