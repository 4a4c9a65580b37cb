"""NVRTC, the compiler that CuPy calls, without a driver or a GPU: its library, from a wheel, by ctypes."""

import ctypes
import hashlib
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tests.cuda.harness import CACHE

WHEEL = "nvidia-cuda-nvrtc-cu12"


def compile_for(architecture, source, options):
    """The compiler's log, where it makes machine code of the text; RuntimeError with the log where it does not.

    The log is kept: the same text need not be compiled again, which takes seconds.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    what = _version(), architecture, source, options
    kept = CACHE / f"{hashlib.sha256(repr(what).encode()).hexdigest()[:20]}.log"
    if not kept.exists():
        made = kept.with_suffix(f".{os.getpid()}")
        made.write_text(_compile(architecture, source, options))
        os.replace(made, kept)
    return kept.read_text()


def _compile(architecture, source, options):
    nvrtc, program = _library(), ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    options = [f"--gpu-architecture={architecture}".encode(), *(o.encode() for o in options)]
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if status:
        raise RuntimeError(f"NVRTC, for {architecture}:\n{log.value.decode()}")
    return log.value.decode()


def missing():
    """Why NVRTC cannot run here; None where it can."""
    return None if _paths() else f"NVRTC is not installed; pip install {WHEEL}"


@cache
def _paths():
    spec = find_spec("nvidia")
    roots = [Path(root) for root in spec.submodule_search_locations] if spec else []
    found = [path for root in roots for path in root.glob("*/lib/libnvrtc.so.*")]
    return [path for path in found if path.suffix[1:].isdecimal()]


def _version():
    major, minor = ctypes.c_int(), ctypes.c_int()
    _library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


@cache
def _library():
    return ctypes.CDLL(str(_paths()[0]))
