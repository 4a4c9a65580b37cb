"""The choice of a kernel's implementation ("tier") by the type of the arrays it is given."""

import functools
from importlib import import_module
from importlib.util import find_spec

import numpy as np

TIERS = {"spec": "definition", "cpu": "CPU", "gpu": "GPU"}
PLAIN = {np.ndarray, int, float, bool, str, tuple, type(None)}  # of arguments that need no closer look (tuples are of numbers)


_found = {}  # {kernel's function: {tier: its implementation}}, of those that were called


def by_array_type(definition):
    """The function of the same name in the file beside `definition`'s that fits the arrays: cpu.py for NumPy, gpu.py for CuPy.

    The file is imported at the first call. NotImplementedError where there is no such file; TypeError where the arguments
    hold no array, or arrays of both libraries.
    """
    package, _, _ = definition.__module__.rpartition(".")
    kernel = package.rpartition(".")[2]
    name = f"{kernel}.{definition.__name__}"
    implementations = _found.setdefault(name, {})

    @functools.wraps(definition)
    def run(*args, **kwargs):
        tier = _tier_of(name, (*args, *kwargs.values()))
        if tier not in implementations:
            implementations[tier] = getattr(_load(package, tier), definition.__name__)
        return implementations[tier](*args, **kwargs)

    return run


def tiers(kernel):
    """{"spec": module, "cpu": module, ...}: the implementations of `kernel` that this machine can run."""
    package = f"{__package__}.{kernel}"
    here = [tier for tier in TIERS if find_spec(f"{package}.{tier}") and (tier != "gpu" or _has_gpu())]
    return {tier: _load(package, tier) for tier in here}


def _tier_of(name, args):
    kinds = {type(a) for a in args}
    if np.ndarray in kinds and kinds <= PLAIN:  # as in most calls: no need to look closer
        return "cpu"
    tiers = {"gpu" if _is_cupy(a) else "cpu" for a in args if isinstance(a, (np.ndarray, np.generic)) or _is_cupy(a)}
    if len(tiers) == 1:
        return tiers.pop()
    if not tiers:
        seen = ", ".join(type(a).__name__ for a in args)
        raise TypeError(f"{name}: expected NumPy or CuPy arrays, got ({seen}); convert them with numpy.asarray")
    raise TypeError(f"{name}: some arrays are on the CPU and some on the GPU; move them all to one device")


def _is_cupy(x):
    return type(x).__module__.partition(".")[0] == "cupy"


def _load(package, tier):
    if find_spec(f"{package}.{tier}") is None:
        kernel = package.rpartition(".")[2]
        raise NotImplementedError(
            f"{kernel} has no {TIERS[tier]} kernel yet; move the arrays to the {'CPU' if tier == 'gpu' else 'GPU'}, "
            f"or write kernels/{kernel}/{tier}.py"
        )
    return import_module(f"{package}.{tier}")


def _has_gpu():
    if find_spec("cupy") is None:
        return False
    import cupy

    return cupy.is_available()
