"""Every kernel compiles with NVRTC, to the machine code of several GPUs, with every set of defines that its gpu.py can ask for.

NVRTC refuses some of what nvcc (and g++) accepts, such as INFINITY without a header; and it is what runs on a user's machine.
"""

import importlib
import re
from pathlib import Path

import pytest

from tests.cuda import nvrtc
from tinygen.kernels import cuda

KERNELS = Path(__file__).parents[2] / "kernels"
ARCHITECTURES = ["sm_75", "sm_80", "sm_90"]  # Turing, Ampere, Hopper
pytestmark = pytest.mark.skipif(nvrtc.missing() is not None, reason=str(nvrtc.missing()))


def programs():
    """The Programs that modules of kernels/ hold, by the name of their file."""
    found = {}
    for path in sorted(KERNELS.rglob("*.py")):
        if "cuda.Program(" in path.read_text():
            module = importlib.import_module(".".join(["tinygen.kernels", *path.relative_to(KERNELS).with_suffix("").parts]))
            found |= {p.path.name: p for p in vars(module).values() if isinstance(p, cuda.Program)}
    return found


PROGRAMS = programs()


def test_every_file_of_cuda_c_belongs_to_a_program():
    assert {path.name for path in KERNELS.rglob("*.cu")} == set(PROGRAMS)


def is_asked_for(defines, architecture):
    """Tensor cores multiply rounded float numbers, tiles of 16 columns or more, and on no card before sm_80."""
    width = defines.get("WIDTH", defines.get("CHANNELS"))
    rounded = defines.get("PRECISION", "FP32") != "FP32"
    return not rounded or (defines["real"] == "float" and width >= 16 and architecture != "sm_75")


def compile_one(name, defines, architecture):
    options = (*cuda.options(defines), "--ptxas-options=--verbose")
    log = nvrtc.compile_for(architecture, PROGRAMS[name].source(), options)
    assert "warning" not in log, log
    assert all(int(n) <= cuda.SHARED_BYTES for n in re.findall(r"(\d+) bytes smem", log)), log


@pytest.mark.parametrize("name", PROGRAMS)
def test_compiles_for_every_gpu(name):
    for number, architecture in enumerate(ARCHITECTURES):  # of single precision the first variant, one in the middle, the last
        variants = [d for d in PROGRAMS[name].variants() if d["real"] == "float" and is_asked_for(d, architecture)]
        compile_one(name, variants[number * (len(variants) - 1) // 2], architecture)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiles_for_every_gpu_with_every_define(name, architecture):
    for defines in PROGRAMS[name].variants():
        if is_asked_for(defines, architecture):
            compile_one(name, defines, architecture)


def test_nvrtc_refuses_what_it_does_not_know_and_says_where():
    with pytest.raises(RuntimeError, match="(?s)sm_80.*kernel.cu.2.: error: .*INFINITY"):
        nvrtc.compile_for("sm_80", '#line 1 "kernel.cu"\nextern "C" __global__ void f(float* y) {\ny[0] = INFINITY; }', ())
