"""Compile a loop with Numba, and keep the machine code on disk so that the next process need not compile it again.

The first run of all compiles for seconds a kernel. On a terminal a line says so, and wherever `announce` asked for it; nothing
is said, nor compiled, by an import.
"""

import sys

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, event, types

# What may be assumed of floating-point sums: multiply-adds may be fused and signs of zero ignored, but the order of
# operations stays (reassociation would break the rounding tricks of vector_math.py), and NaN and infinity stay what they are.
SAFE = {"contract", "nsz", "arcp"}


def jit(function, assume=SAFE, **options):
    """`function` compiled by Numba at its first call, for the types that it is given; cached where a cache can be written."""
    options |= {"fastmath": assume, "error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # Numba finds no directory that it may write to: compile in every process instead
        _listener.cached = False
        return numba.njit(**options)(function)


def machine_code(function, *variant):
    """The address of `function`, of integers, that returns nothing: compiled now, and once for all loops that call it (`call`).

    Compiled code is found by its name; so what is made within another function, for some numbers, has them in its name.
    """
    function.__qualname__ += "_".join(map(str, ("", *variant)))
    compiler, signature = jit(function, no_cpython_wrapper=True), (types.int64,) * function.__code__.co_argcount
    compiler.compile(signature)
    compiled = compiler.overloads[signature]
    _kept.append(compiled)
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def call(context, builder, address, numbers):
    """Write the call of `machine_code` into code that is being written."""
    function = context.call_conv.get_function_type(types.void, (types.int64,) * len(numbers))
    result, error = cgutils.alloca_once(builder, context.get_value_type(types.void)), ir.Constant(function.args[1], None)
    builder.call(builder.inttoptr(address, function.as_pointer()), [result, error, *numbers])  # integers make no errors
    return context.get_dummy_value()


def inline(function):
    """A small function to be compiled into the loops that call it."""
    return numba.njit(inline="always", fastmath=SAFE, error_model="numpy")(function)


def sum_in_any_order(function):
    """A function whose only sums are ones that may be reordered: in the given order, each addition waits for the one before."""
    return jit(function, SAFE | {"reassoc"})


def plain(x):
    """x side by side in memory, in this machine's order of bytes, and writeable: for other arrays a loop is compiled anew."""
    return x if x.flags.carray and x.dtype.isnative else np.array(x, x.dtype.newbyteorder("="), order="C")


def announce():
    """From now on, say on stderr which kernel is being compiled even where that is no terminal."""
    _listener.wanted = True


class _Listener(event.Listener):
    """Hears of every compilation, but of no code that comes from the cache; a kernel's is said when its first loop begins."""

    def __init__(self):
        self.wanted, self.cached = False, True
        self.depth = 0  # the functions that a loop calls are compiled within it
        self.said = set()

    def on_start(self, event):
        self.depth += 1
        module = event.data["dispatcher"].py_func.__module__
        if self.depth > 1 or not module.startswith(f"{__package__}.") or not self._heard():
            return
        kernel = module.removeprefix(f"{__package__}.").partition(".")[0]
        if kernel not in self.said:
            self.said.add(kernel)
            often = "once" if self.cached else "in every run, for there is no directory to keep them in (set NUMBA_CACHE_DIR)"
            start = "\r" if sys.stderr.isatty() else ""  # a progress bar may be there
            print(f"{start}compiling kernels, {often}: {kernel} ...", file=sys.stderr, flush=True)

    def on_end(self, event):
        self.depth -= 1

    def _heard(self):
        return self.wanted or (sys.stderr is not None and sys.stderr.isatty())


_kept = []  # compiled functions whose addresses may be called
_listener = _Listener()
event.register("numba:compile", _listener)
