r"""The door to the GPU: CUDA C from files, compiled when first launched, on arrays that live there.

A kernel folder's gpu.py holds the host's part of a kernel, and the .cu file beside it the device's:

    program = cuda.Program(__file__, "scale.cu")

    def scale(x, factor):
        x, y = cuda.contiguous(x), cuda.empty(x.shape, x.dtype)
        blocks = -(-x.size // 256)
        program.launch("scale", (blocks,), (256,), x, y, np.int32(x.size), x.dtype.type(factor), defines=cuda.real(x))
        return y

    extern "C" __global__ void scale(const real* x, real* y, int size, real factor) { ... }

What shapes the code (a tile's size, the type `real`) comes as a #define, what shapes the data as an argument. A program is
compiled once for each set of defines; it says beforehand which values there are, Program(__file__, "a.cu", TILE=(32, 64)), so
that a test can compile them all (`real` may always be float or double). A line `#include "b.cuh"` is replaced by that file,
which lies beside the .cu or in kernels/.

Nothing here or in a gpu.py names CuPy. All goes through a device: an object with `module` (the arrays' library), `empty` and
`launch`. The device is CuPy's; `launching_by(other)` puts another in its place, and so the tests run the very same gpu.py, host
code and all, on NumPy arrays and a processor (tests/cuda).
"""

import itertools
import math
import re
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
NUMBERS = (np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64)  # which may be a kernel's argument
REAL = {"float32": "float", "float64": "double"}  # what `real` can be
MOST_BLOCKS = 2**31 - 1, 65535, 65535  # in a grid, along each axis
MOST_THREADS = 1024  # in a block
SHARED_BYTES = 48 << 10  # of shared memory, which a block has without asking for more
OPTIONS = ("--std=c++17",)  # NVRTC's


class Program:
    """The kernels of one .cu file, which lies beside the Python file `beside`, and the values that its defines may have."""

    def __init__(self, beside, name, **defines):
        self.path, self.defines = Path(beside).with_name(name), {"real": REAL.values()} | defines

    def __repr__(self):
        return self.path.name

    def launch(self, kernel, grid, block, *args, shared=0, defines=None):
        """kernel<<<grid, block, shared>>>(*args), on the current stream; an empty grid launches nothing.

        args: contiguous arrays of the device, None for a null pointer, or NumPy's scalars; TypeError for a Python number, which
        does not say how many bytes it has. shared: bytes of `extern __shared__` memory. defines: {name: value}.
        """
        what = f"{self}, {kernel}"
        for limits, sizes, name in ((MOST_BLOCKS, grid, "grid"), ((MOST_THREADS,) * 3, block, "block")):
            if not 1 <= len(sizes) <= 3 or any(n > most for n, most in zip(sizes, limits)):
                raise ValueError(f"{what}: a {name} of {tuple(sizes)}; at most {limits} can be launched")
        if math.prod(block) > MOST_THREADS:
            raise ValueError(f"{what}: a block of {math.prod(block)} threads; at most {MOST_THREADS} can be launched")
        for number, a in enumerate(args):
            _check_argument(what, number, a)
        for name, value in (defines or {}).items():
            if value not in self.defines.get(name, ()):
                raise ValueError(f"{what}: {name}={value} is not among the values that its Program was given: {self.defines}")
        if 0 not in grid:
            args = tuple(np.uintp(0) if a is None else a for a in args)
            _device.launch(self, kernel, tuple(grid), tuple(block), args, shared, dict(defines or {}))

    def variants(self):
        """All sets of defines: what a test compiles."""
        return [dict(zip(self.defines, values)) for values in itertools.product(*self.defines.values())]

    def source(self):
        """The file's text, with what it includes in place."""
        return _text(self.path)


def real(x):
    """The define that makes `real` the type of the numbers of x: float or double. TypeError for others."""
    if x.dtype.name not in REAL:
        raise TypeError(f"kernels on a GPU take arrays of float32 or float64, not of {x.dtype}")
    return {"real": REAL[x.dtype.name]}


def array_module():
    """The library of the device's arrays."""
    return _device.module


def empty(shape, dtype):
    """A new array on the device that holds anything at all."""
    return _device.empty(shape, dtype)


def zeros(shape, dtype):
    return _device.module.zeros(shape, dtype)


def contiguous(x):
    """x with its numbers side by side in memory: x itself where they are."""
    return _device.module.ascontiguousarray(x)


def table(rows):
    """Whole numbers, a tuple of tuples, as an int32 array on the device: copied there once and then kept.

    A graph of launches cannot be captured while something is copied: run what is to be captured once before.
    """
    return _table(rows, _device)


def capability():
    """The device's compute capability, 75 for 7.5; None where it has none."""
    return getattr(_device, "capability", None)


def capturing():
    """Whether launches may become a graph: then nothing may call a library that CuPy refuses there, such as cuBLAS."""
    return _capturing


@contextmanager
def as_captured():
    """Within, `capturing()` is True: kernels are chosen that a graph can hold, whether or not one is made of them."""
    global _capturing
    before, _capturing = _capturing, True
    try:
        yield
    finally:
        _capturing = before


@contextmanager
def launching_by(device):
    """Within, another device stands in CuPy's place; the class below shows what one must have."""
    global _device
    before, _device = _device, device
    try:
        yield device
    finally:
        _device = before


class CuPy:
    """The GPU, through CuPy, which is imported when it is first needed."""

    @property
    def module(self):
        import cupy

        return cupy

    @property
    def capability(self):
        return int(self.module.cuda.Device().compute_capability)

    def empty(self, shape, dtype):
        return self.module.empty(shape, dtype)

    def launch(self, program, kernel, grid, block, args, shared, defines):
        function = _compiled(program, kernel, tuple(sorted(defines.items())))
        if shared > SHARED_BYTES:
            function.max_dynamic_shared_size_bytes = shared
        function(grid, block, args, shared_mem=shared)


def options(defines):
    """NVRTC's options for a set of defines."""
    return (*OPTIONS, *(f"-D{name}={value}" for name, value in sorted(defines.items())))


@lru_cache(None)
def _compiled(program, kernel, defines):
    import cupy

    try:
        return _module(program, defines).get_function(kernel)
    except cupy.cuda.compiler.CompileException as error:
        raise RuntimeError(f"{program}, {kernel}: NVRTC cannot compile it with {dict(defines)}:\n{error}") from None
    except cupy.cuda.driver.CUDADriverError as error:
        raise RuntimeError(f"{program}, {kernel}: the driver cannot load it with {dict(defines)}: {error}") from None


@lru_cache(None)
def _module(program, defines):
    import cupy

    return cupy.RawModule(code=program.source(), options=options(dict(defines)))


@lru_cache(None)
def _table(rows, device):
    return device.module.asarray(np.array(rows, np.int32))


@lru_cache(None)
def _text(path):
    """With the headers in place, CuPy's cache of compiled programs, which goes by the text, sees when one of them changes."""

    def header(line):
        name = line[1]
        found = [folder / name for folder in (path.parent, HERE) if (folder / name).is_file()]
        if not found:
            raise FileNotFoundError(f"{path.name} includes {name}, which is neither beside it nor in {HERE.name}/")
        after = path.read_text()[: line.start()].count("\n") + 2
        return f'{_text(found[0])}\n#line {after} "{path.name}"'

    return f'#line 1 "{path.name}"\n' + re.sub(r'^#include "(.*)"$', header, path.read_text(), flags=re.M)


def _check_argument(what, number, a):
    if a is None or isinstance(a, NUMBERS):
        return
    if not isinstance(a, _device.module.ndarray):
        raise TypeError(
            f"{what}: argument {number} is a {type(a).__module__}.{type(a).__name__}; it must be an array of "
            f"{_device.module.__name__}, None, or a number with a size, such as numpy.int32(3)"
        )
    if not a.flags.c_contiguous:
        raise ValueError(f"{what}: argument {number}, of shape {a.shape}, is not contiguous; pass cuda.contiguous(x)")


_device, _capturing = CuPy(), False
