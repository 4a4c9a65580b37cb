"""The implementations of a kernel as one body of tests sees them: functions of NumPy arrays, all with the same names.

spec       the definition
cpu        cpu.py
harness    gpu.py and its .cu, run on this machine's processor (harness.py): skipped where there is no g++
gpu        the same with CuPy on a GPU: arrays go there and results come back; `pytest -m gpu`, skipped where there is none
"""

import inspect
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings

from tests.cuda.harness import Harness, missing
from tinygen import kernels
from tinygen.kernels import cuda


def tiers(kernel):
    """{"spec": ..., "cpu": ..., "harness": ..., "gpu": ...}: objects with the functions of the kernel."""
    return {**kernels.tiers(kernel), "harness": _InHarness(kernel), "gpu": _OnGPU(kernel)}


def every(tiers, but=()):
    """The names of the tiers, for `parametrize`, with the marks of those that not every machine can run."""
    return [pytest.param(name, marks=MARKS.get(name, ())) for name in tiers if name not in but]


def for_all(examples, on_harness, **strategies):
    """Hypothesis's `given(**strategies)` with so many examples for a test with an argument `tier`, fewer in the harness."""

    def decorate(test):
        def body(tier, **rest):
            count = on_harness if tier == "harness" else examples

            @settings(deadline=None, max_examples=count)  # the first call compiles
            @given(**strategies)
            def run(**drawn):
                test(tier, **rest, **drawn)

            run()

        names = [n for n in inspect.signature(test).parameters if n not in strategies]
        body.__signature__ = inspect.Signature([inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names])
        body.__name__, body.__doc__ = test.__name__, test.__doc__
        return body

    return decorate


def no_gpu():
    """Why nothing can run on a GPU here; None where it can."""
    if find_spec("cupy") is None:
        return "CuPy is not installed"
    import cupy

    return None if cupy.is_available() else "CuPy finds no GPU, or no driver"


MARKS = {
    "harness": pytest.mark.skipif(missing() is not None, reason=str(missing())),
    "gpu": [pytest.mark.gpu, pytest.mark.skipif(no_gpu() is not None, reason=str(no_gpu()))],
}


class _InHarness:
    def __init__(self, kernel):
        self.kernel, self.device = kernel, Harness()

    def __getattr__(self, name):
        function = _of_gpu_file(self.kernel, name)

        def run(*args, **kwargs):
            with cuda.launching_by(self.device):
                return function(*args, **kwargs)

        return run


class _OnGPU:
    def __init__(self, kernel):
        self.kernel = kernel

    def __getattr__(self, name):
        function = _of_gpu_file(self.kernel, name)

        def run(*args, **kwargs):
            import cupy

            results = function(*_moved(args, cupy.asarray), **_moved(kwargs, cupy.asarray))
            return tuple(map(cupy.asnumpy, results)) if isinstance(results, tuple) else cupy.asnumpy(results)

        return run


def _moved(x, move):
    """x with every array in it, also those in tuples, lists and dicts, moved."""
    if isinstance(x, np.ndarray):
        return move(x)
    if isinstance(x, dict):
        return {key: _moved(value, move) for key, value in x.items()}
    if isinstance(x, (tuple, list)):
        parts = [_moved(part, move) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return x


def _of_gpu_file(kernel, name):
    return getattr(import_module(f"tinygen.kernels.{kernel}.gpu"), name)
