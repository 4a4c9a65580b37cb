"""Freed memory is kept: arrays of training steps cost no page faults from the second step on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COUNT = """
import resource, numpy as np
from tinygen import kernels

def step():
    a = [np.ones(4_000_000 + 1000 * i, np.float32) for i in range(3)]  # above what the C library takes from its heap by itself

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, kernels.memory.keep_what_is_freed())
"""


def faults(**environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    run = subprocess.run(
        [sys.executable, "-c", COUNT], env={**inherited, **environment}, capture_output=True, text=True, check=True, cwd=ROOT
    )
    number, understood = run.stdout.split()
    return int(number), understood == "True"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has the switches")
def test_arrays_that_come_again_cost_no_page_faults_unless_the_environment_decides():
    kept, understood = faults()
    if not understood:
        pytest.skip("this C library has no mallopt")
    given_back, understood = faults(MALLOC_TRIM_THRESHOLD_="131072")
    assert not understood
    assert kept < 100 < 5000 < given_back


PAGES = """
import numpy as np
from tinygen import kernels

x = np.ones(900_000, np.float32)  # of larger ones, NumPy says so itself
end = x.ctypes.data + x.nbytes - 1  # more than 2 MiB from its beginning, which may lie before the first large page
for line in open("/proc/self/smaps"):
    name, *rest = line.split()
    if not name.endswith(":"):
        first, last = (int(address, 16) for address in name.split("-"))
    if name == "VmFlags:" and first <= end < last:
        print("hg" in rest)
"""


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="Linux has them, if it was made with them")
@pytest.mark.parametrize(
    "environment, asked", [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)], ids=["", "told not to"]
)
def test_arrays_lie_in_large_pages_unless_the_environment_decides(environment, asked):
    run = subprocess.run(
        [sys.executable, "-c", PAGES], env={**os.environ, **environment}, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout.split() == [str(asked)]
