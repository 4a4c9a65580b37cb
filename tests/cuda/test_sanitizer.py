"""AddressSanitizer and its sibling for undefined behaviour watch the kernels: every access, of shared memory too.

Their libraries must be loaded before anything else, so each of these tests starts a process.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda.harness import COMPILER, SANITIZE, missing

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def under_sanitizer(*command):
    libraries = [
        subprocess.run([COMPILER, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(os.path.isabs(path) for path in libraries):
        pytest.skip(f"{COMPILER} comes without AddressSanitizer's library")
    # Python keeps memory until it ends, which is no leak; and what a fiber's stack holds may outlive a function's end
    settings = {
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        SANITIZE: "1",
    }
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, env=os.environ | settings)


LAUNCH = """
import numpy as np
from tests.cuda.harness import Harness
from tinygen.kernels import cuda

def launch(kernel, fault):
    x, y, defines = np.ones(64, np.float32), np.zeros(64, np.float32), {"real": "float", "FAULT": fault}
    args = (x, y, np.int32(64), np.float32(3)) if kernel == "scale" else (x, y)
    with cuda.launching_by(Harness()):
        program = cuda.Program("tests/cuda/harness.py", "faults.cu", FAULT=(0, 1))
        program.launch(kernel, (2,) if kernel == "scale" else (1,), (64,), *args, shared=256, defines=defines)
"""
FAULTS = {
    "scale": "heap-buffer-overflow",
    "read_beyond": "heap-buffer-overflow",
    "static_beyond": "index 64 out of bounds",
    "reverse_dynamic": "heap-buffer-overflow",
}


@pytest.mark.parametrize("kernel", FAULTS)
def test_a_planted_fault_is_seen(kernel):
    run = under_sanitizer("-c", f"{LAUNCH}\nlaunch({kernel!r}, 1)")
    assert run.returncode != 0 and FAULTS[kernel] in run.stderr, run.stderr


def test_without_faults_there_is_nothing_to_see():
    run = under_sanitizer("-c", f"{LAUNCH}\nfor kernel in {list(FAULTS)}:\n    launch(kernel, 0)\nprint('fine')")
    assert run.returncode == 0 and run.stdout == "fine\n", run.stderr


def kernels_with_cuda():
    return sorted(path.parent.name for path in (ROOT / "kernels").glob("*/gpu.py"))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", kernels_with_cuda())
def test_every_kernel_is_clean(kernel):
    tests = ROOT / "tests" / "kernels" / f"test_{kernel}.py"
    run = under_sanitizer("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "harness", str(tests))
    assert run.returncode == 0 and " passed" in run.stdout, run.stdout + run.stderr
