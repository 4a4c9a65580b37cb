"""python -m tests.demos.on_pretended_gpu NAME ...: a demo with --device gpu, on the GPU that is not there.

For that GPU see tests/cuda/pretended.py. The harness would take hours over its kernels: those of the CPU stand in for them. So
what is seen here is that the demo's own steps and batches never touch a device array with NumPy.
"""

import runpy
import sys

from tests.cuda import pretended
from tinygen.kernels import dispatch


class CPUKernels:
    """The functions of a kernel's cpu.py, for arrays that pretend."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        function = getattr(self.module, name)

        def run(*args, **kwargs):
            return pretended.wrap(function(*map(inside, args), **{key: inside(value) for key, value in kwargs.items()}))

        return run


def inside(x):
    return x._inside if isinstance(x, pretended.ndarray) else x


def main(name, *arguments):
    load = dispatch._load
    dispatch._load = lambda package, tier: CPUKernels(load(package, "cpu")) if tier == "gpu" else load(package, tier)
    sys.argv = [name, "--device", "gpu", "--no-graph", *arguments]  # these kernels are not written down in a graph
    with pretended.gpu():
        runpy.run_module(f"demos.{name}", run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
