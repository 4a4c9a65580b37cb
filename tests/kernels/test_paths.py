"""The same property tests on other processors than this one, and without a compiler: each path in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinygen.kernels import tiles

ROOT = Path(__file__).parents[2]
PROCESSOR_WITHOUT = """
import sys
from llvmlite import binding
missing, width, fast, *arguments = sys.argv[1:]
features = binding.get_host_cpu_features()
features.update({name: False for name in features if name.startswith(tuple(missing.split()))})
binding.get_host_cpu_features = lambda: features
from tinygen.kernels import tiles
assert str(tiles.WIDTH) == width and str(tiles.FAST) == fast
import pytest
sys.exit(pytest.main(arguments))
"""
CPU = "not harness and not gpu"  # tiers


def passes(*command, **settings):
    """Whether there are tests and all of them pass."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"} | settings
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]


def arguments(kernels, chosen=CPU):
    return ["-q", "-p", "no:cacheprovider", "-k", chosen, *(f"tests/kernels/test_{kernel}.py" for kernel in kernels)]


def test_without_a_compiler_python_gives_the_same():
    """Its sums warn where they overflow, and are not fused with products: no test counts units in the last place here."""
    kernels = "adam", "attention", "categorical", "erf", "gate", "masked_conv2d", "raster"
    chosen = arguments(kernels, f"{CPU} and definition")
    passes("-m", "pytest", "-W", "ignore::RuntimeWarning", *chosen, NUMBA_DISABLE_JIT="1")


def test_a_processor_without_fused_multiply_adds_gives_the_same():
    kernels = "attention", "masked_conv2d", "raster"
    passes("-c", PROCESSOR_WITHOUT, "avx fma", "8", "False", *arguments(kernels))


@pytest.mark.slow
@pytest.mark.skipif(not tiles.FAST, reason="this processor has no fused multiply-add")
@pytest.mark.parametrize("missing, width, fast", [("avx512", "8", "True"), ("avx fma", "8", "False")])
def test_registers_of_eight_numbers_and_none_at_all_pass_all_tests(missing, width, fast):
    kernels = "attention", "conv2d", "every_kernel", "flash", "group_norm", "masked_conv2d", "matmul", "raster", "winograd"
    passes("-c", PROCESSOR_WITHOUT, missing, width, fast, *arguments(kernels))
