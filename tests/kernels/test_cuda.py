"""The door to the GPU: what it refuses, and what it hands to a device; CuPy is played by a few lines."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tinygen.kernels import cuda


class Recorder:
    """A device that keeps what it is asked to launch."""

    module = np

    def __init__(self):
        self.launched = []

    def empty(self, shape, dtype):
        return np.empty(shape, dtype)

    def launch(self, *args):
        self.launched.append(args)


@pytest.fixture
def program(tmp_path):
    (tmp_path / "half.cuh").write_text("// half\nconstexpr real HALF = 0.5;\n")
    (tmp_path / "toy.cu").write_text('// toy\n#include "half.cuh"\nextern "C" __global__ void halve(real* x) {}\n')
    return cuda.Program(tmp_path / "gpu.py", "toy.cu", TILE=(16, 32))


def test_a_launch_reaches_the_device(program):
    x = np.ones(3, np.float32)
    with cuda.launching_by(Recorder()) as device:
        program.launch("halve", (2,), (32, 2), x, np.int32(3), None, shared=8, defines=cuda.real(x) | {"TILE": 16})
        program.launch("halve", (2, 0), (32,), x)
    (launched,) = device.launched  # an empty grid launches nothing
    assert launched[:4] == (program, "halve", (2,), (32, 2)) and launched[5:] == (8, {"real": "float", "TILE": 16})
    assert launched[4][0] is x and launched[4][1:] == (3, 0) and launched[4][2].dtype == np.uintp  # None: a null pointer


def test_the_device_before_comes_back_after_an_error():
    before = cuda._device
    with pytest.raises(ZeroDivisionError), cuda.launching_by(Recorder()):
        raise ZeroDivisionError
    assert cuda._device is before


@pytest.mark.parametrize(
    "grid, block, args, defines, error, message",
    [
        ((1,), (32,), [3], {}, TypeError, "argument 0 is a builtins.int; it must be an array of numpy, None, or a number"),
        ((1,), (32,), [0.5], {}, TypeError, "argument 0 is a builtins.float"),
        ((1,), (32,), [[1.0]], {}, TypeError, "argument 0 is a builtins.list"),
        ((1,), (32,), [np.ones((4, 4))[:, :2]], {}, ValueError, r"argument 0, of shape \(4, 2\), is not contiguous; pass cuda"),
        ((1,), (32,), [], {"TILE": 64}, ValueError, "TILE=64 is not among the values that its Program was given"),
        ((1,), (32,), [], {"DEPTH": 8}, ValueError, "DEPTH=8 is not among"),
        ((1, 70000), (32,), [], {}, ValueError, r"a grid of \(1, 70000\); at most"),
        ((1,), (2048,), [], {}, ValueError, r"a block of \(2048,\); at most"),
        ((1,), (64, 32), [], {}, ValueError, "a block of 2048 threads; at most 1024"),
        ((1,), (), [], {}, ValueError, r"a block of \(\)"),
    ],
)
def test_what_cannot_be_launched_is_refused(program, grid, block, args, defines, error, message):
    with cuda.launching_by(Recorder()), pytest.raises(error, match=f"toy.cu, halve: {message}"):
        program.launch("halve", grid, block, *args, defines=defines)


def test_headers_are_put_in_their_places_and_lines_keep_their_numbers(program):
    assert program.source().split("\n") == [
        '#line 1 "toy.cu"', "// toy", '#line 1 "half.cuh"', "// half", "constexpr real HALF = 0.5;", "", '#line 3 "toy.cu"',
        'extern "C" __global__ void halve(real* x) {}', "",
    ]  # fmt: skip


def test_a_header_that_is_nowhere_is_named(program, tmp_path):
    (tmp_path / "toy.cu").write_text('#include "third.cuh"\n')
    with pytest.raises(FileNotFoundError, match="toy.cu includes third.cuh, which is neither beside it nor in kernels/"):
        cuda.Program(tmp_path / "gpu.py", "toy.cu").source()


def test_variants_are_all_sets_of_defines(program):
    assert program.variants() == [{"real": r, "TILE": t} for r in ("float", "double") for t in (16, 32)]


def test_only_floating_numbers_are_real():
    assert cuda.real(np.ones(1, np.float32)) == {"real": "float"} and cuda.real(np.ones(1)) == {"real": "double"}
    with pytest.raises(TypeError, match="float32 or float64, not of float16"):
        cuda.real(np.ones(1, np.float16))


def test_a_table_is_copied_to_the_device_once():
    with cuda.launching_by(Recorder()):
        table = cuda.table(((1, 2), (3, 4)))
        assert table.dtype == np.int32 and table.tolist() == [[1, 2], [3, 4]] and cuda.table(((1, 2), (3, 4))) is table


@pytest.fixture
def cupy(monkeypatch):
    """CuPy as far as kernels/cuda.py knows it; `made` holds what was compiled."""

    class CompileException(Exception):
        pass

    class RawModule:
        def __init__(self, code, options):
            self.code, self.options, self.launched = code, options, []
            fake.made.append(self)

        def get_function(self, name):
            if f"void {name}(" not in self.code:
                raise fake.cuda.driver.CUDADriverError("named symbol not found")
            if "-DTILE=32" in self.options:
                raise CompileException("toy.cu(3): error: too wide")

            def launch(grid, block, args, shared_mem):
                self.launched.append((grid, block, args, shared_mem, getattr(launch, "max_dynamic_shared_size_bytes", None)))

            return launch

    fake = ModuleType("cupy")
    fake.ndarray, fake.RawModule, fake.made = np.ndarray, RawModule, []
    fake.empty, fake.zeros, fake.ascontiguousarray = np.empty, np.zeros, np.ascontiguousarray
    driver = SimpleNamespace(CUDADriverError=type("CUDADriverError", (Exception,), {}))
    fake.cuda = SimpleNamespace(compiler=SimpleNamespace(CompileException=CompileException), driver=driver)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    return fake


def test_cupy_compiles_once_for_a_set_of_defines(program, cupy):
    x = np.ones(3, np.float32)
    for shared in (0, 8, 100_000):
        program.launch("halve", (1,), (32,), x, shared=shared, defines={"TILE": 16, "real": "float"})
    program.launch("halve", (1,), (32,), x, defines={"TILE": 16, "real": "double"})
    first, second = cupy.made
    assert first.options == ("--std=c++17", "-DTILE=16", "-Dreal=float") and second.options[-1] == "-Dreal=double"
    assert first.code == program.source()
    assert [launch[3:] for launch in first.launched] == [
        (0, None),
        (8, None),
        (100_000, 100_000),
    ]  # more than 48 KiB: asked for


def test_what_the_compiler_says_is_passed_on(program, cupy):
    with pytest.raises(
        RuntimeError, match=r"toy.cu, halve: NVRTC cannot compile it with {'TILE': 32}:\ntoy.cu\(3\): error: too"
    ):
        program.launch("halve", (1,), (32,), np.ones(3), defines={"TILE": 32})
    with pytest.raises(RuntimeError, match="toy.cu, third: the driver cannot load it with {}: named symbol not found"):
        program.launch("third", (1,), (32,), np.ones(3))
