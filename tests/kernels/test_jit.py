"""What compiles a loop: the cache on disk, what is said about compiling, and when nothing is."""

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
