r"""CUDA kernels without a GPU: a device for kernels/cuda.py whose arrays are NumPy's and whose processor is this machine's.

    with cuda.launching_by(Harness()):
        y = conv2d.gpu.forward(x, w, ...)       x, w, y: NumPy arrays

The header cuda_on_cpu.h makes a .cu file C++ and says how threads, barriers and warps run; g++ compiles the two into a shared
object, kept in .pytest_cache under a hash of its source and flags. Each launch runs on copies of its arrays:

       guard words        an array's numbers       guard words
    | NaN ... NaN NaN | 0.3  1.7 ... -0.2  2.1 | NaN NaN ... NaN |

so that a write beyond the end is found (each array's NaN has bits of its own, which no arithmetic gives), and a read there
brings in NaN; what `cuda.empty` gives is NaN, too, and shared memory lies between such words as well. A kernel runs three
times, threads and blocks in another order each time, and must give the same bits: a missing barrier makes a difference in one
of them. Types are compared with the kernel's own: an int64 where it reads an int, or float64 numbers through a float*, are
errors.

Where the environment has TINYGEN_SANITIZE, g++ adds AddressSanitizer's checks, which see each access, of shared memory and of
local arrays too. Python must have been started with that library loaded (test_sanitizer.py does), and there are no guard words:
it brings its own.

What it cannot show is in the header. Speed is none of it: a launch of one block costs some 0.1 ms, a multiply-add some ns.
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import numpy as np

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
CACHE = Path(__file__).parents[2] / ".pytest_cache" / "cuda"
COMPILER = "g++"
FLAGS = ["-std=c++20", "-O2", "-shared", "-fPIC", "-fno-gnu-unique", "-fno-toplevel-reorder", "-U_FORTIFY_SOURCE", "-w"]
SANITIZE = "TINYGEN_SANITIZE"
SANITIZE_FLAGS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
SCHEDULES = 3
GUARD = 4096  # bytes on either side of an array
ALIGNMENT = 256  # of arrays, as on a GPU


class Harness:
    """A device as kernels/cuda.py describes it."""

    module = np

    def __init__(self):
        self.sanitize = SANITIZE in os.environ

    def empty(self, shape, dtype):
        array = np.empty(shape, dtype)
        array.reshape(-1).view(np.uint8)[:] = 0xFF
        return array

    def launch(self, program, kernel, grid, block, args, shared, defines):
        what = f"{program}, {kernel}"
        library = compiled(program.source(), tuple(sorted(defines.items())), self.sanitize)
        if not hasattr(library, f"{kernel}__launch"):
            raise RuntimeError(f'{what}: there is no extern "C" __global__ void {kernel} in it')
        written = _written(what, _signature(library, kernel), args)
        sizes = (ctypes.c_uint * 6)(*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3])
        first = None
        for schedule in range(SCHEDULES):
            copies = {_place(a): _Guarded(a, i, self.sanitize) for i, a in enumerate(args) if isinstance(a, np.ndarray)}
            values = [np.array(copies[_place(a)].pointer if isinstance(a, np.ndarray) else a) for a in args]
            pointers = (ctypes.c_void_p * len(args))(*(v.ctypes.data for v in values))
            if getattr(library, f"{kernel}__launch")(sizes, ctypes.c_size_t(shared), schedule, pointers):
                raise RuntimeError(f"{what}: {library.emulator_error().decode()}")
            results = [copies[_place(args[i])].checked(f"{what}: argument {i}") for i in written]
            first = first or results
            for i, a, b in zip(written, first, results):
                if not np.array_equal(a, b):
                    raise RuntimeError(f"{what}: argument {i} depends on the order in which threads run: is a barrier missing?")
        for i, result in zip(written, first):
            args[i].reshape(-1).view(np.uint8)[:] = result


def _place(array):
    """What is the same for an array that is given twice: then the kernel gets one copy."""
    return array.ctypes.data, array.nbytes


class _Guarded:
    """A copy of an array between guard words, or one that AddressSanitizer watches."""

    def __init__(self, array, number, sanitize):
        size = array.nbytes
        if sanitize:  # malloc is AddressSanitizer's own, which finds what lies before or behind
            self.address = _libc().malloc(size)
            self.guards, self.inside = (), np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.address))
        else:
            room = np.empty(size + 2 * GUARD + ALIGNMENT, np.uint8)
            skip = -room.ctypes.data % ALIGNMENT
            before, self.inside, behind, _ = np.split(room[skip:], (GUARD, GUARD + size, GUARD + size + GUARD))
            self.address, self.guards, self.word = None, (before, behind), _guard_word(array.dtype, number)
            for guard in self.guards:
                guard.view(self.word.dtype)[:] = self.word
        self.inside[:] = array.reshape(-1).view(np.uint8)
        self.pointer = np.uintp(self.inside.ctypes.data)

    def checked(self, what):
        for name, guard in zip(("before", "behind"), self.guards):
            if (guard.view(self.word.dtype) != self.word).any():
                raise RuntimeError(f"{what}: the kernel wrote {name} it")
        return self.inside.copy()

    def __del__(self):
        if self.address:
            _libc().free(self.address)


def _guard_word(dtype, number):
    """Bits that stand for NaN in floating numbers, of the kind that any arithmetic turns into NaN of other bits."""
    bits = {"f4": 0xFFA0A000, "f8": 0xFFF4A0A000000000}.get(f"{dtype.kind}{dtype.itemsize}", 0xA5A5A5A5A5A5A500)
    return np.array([bits + number & 2 ** (8 * dtype.itemsize) - 1], f"u{dtype.itemsize}")


@lru_cache(None)
def compiled(source, defines, sanitize):
    """The shared object of a .cu file's text. RuntimeError with the compiler's message."""
    CACHE.mkdir(parents=True, exist_ok=True)
    code = _as_cpp(source)
    flags = FLAGS + (SANITIZE_FLAGS if sanitize else []) + [f"-D{name}={value}" for name, value in defines]
    path = CACHE / f"{hashlib.sha256(repr((HEADER.read_text(), code, flags)).encode()).hexdigest()[:20]}.so"
    if not path.exists():
        made = path.with_suffix(f".{os.getpid()}")
        command = [COMPILER, *flags, "-x", "c++", "-", "-o", made]
        run = subprocess.run(command, input=code, text=True, capture_output=True)
        if run.returncode:
            raise RuntimeError(f"{COMPILER} cannot compile it with {dict(defines)}:\n{run.stderr}")
        os.replace(made, path)
    library = ctypes.CDLL(str(path))
    library.emulator_error.restype = ctypes.c_char_p
    return library


def missing():
    """Why the harness cannot run here; None where it can."""
    return None if shutil.which(COMPILER) else f"{COMPILER}, which compiles CUDA C for the processor, is not installed"


def _as_cpp(source):
    """The text between the header and one EXPORT for each kernel; dynamic shared memory is made a pointer."""
    kernels = re.findall(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(', source)
    source = re.sub(r"extern\s+__shared__\s+([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;", r"DYNAMIC_SHARED(\1, \2);", source)
    behind = "SHARED_GUARD(__COUNTER__)"  # the last static array of shared memory
    return "\n".join([f'#include "{HEADER}"', source, behind, *(f"EXPORT({kernel})" for kernel in kernels), ""])


def _signature(library, kernel):
    """[("*", "f4"), ("", "i4"), ...]: for each argument whether it is a pointer (+ to constants), and the type."""
    describe = getattr(library, f"{kernel}__signature")
    describe.restype = ctypes.c_char_p
    return re.findall(r"([*+]?)(\w+)", describe().decode())


def _written(what, signature, args):
    """The numbers of the arguments that the kernel may write to. TypeError where an argument is not of the kernel's type."""
    if len(signature) != len(args):
        raise TypeError(f"{what}: takes {len(signature)} arguments, not {len(args)}")
    for i, ((pointer, kind), a) in enumerate(zip(signature, args)):
        given = f"{a.dtype.kind}{a.dtype.itemsize}"
        if isinstance(a, np.ndarray) != bool(pointer) and not (pointer and a.dtype == np.uintp and a == 0):
            raise TypeError(
                f"{what}: argument {i} is {type(a).__name__}, where the kernel takes {'an array' if pointer else kind}"
            )
        if isinstance(a, np.generic) and pointer:
            continue
        if given != kind and not (pointer and kind[0] == "V"):  # a pointer to vectors, such as float4, may read any numbers
            raise TypeError(f"{what}: argument {i} is of type {given}, where the kernel takes {kind}")
        if pointer == "*" and not a.flags.writeable:
            raise ValueError(f"{what}: argument {i} is read-only, and the kernel may write to it")
    return [i for i, ((pointer, _), a) in enumerate(zip(signature, args)) if pointer == "*" and isinstance(a, np.ndarray)]


@lru_cache(None)
def _libc():
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    return libc
