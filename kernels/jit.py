"""Compile a loop with Numba, and keep the machine code on disk so that the next process need not compile it again.

The first run of all compiles, up to two seconds a kernel. On a terminal a line says so, and wherever `announce` asked for it;
nothing is said, nor compiled, by an import.

It would be much longer without some care, for a compiled function is part of every other that calls it, and is there translated
and optimised anew. So there are five kinds:

    jit            a loop that Python calls
    part           of a loop, called by several others
    inline         of a loop, called by one: only there it is compiled
    scalar         from a few numbers to a few: always to be part of the loop around it, or that would do one number at a time
    machine_code   called by its address, and part of nothing: for what is large, and does much at each call

And `a[i:j] = b` must not be written for an array b, but as a loop. It takes two seconds: the error message that Numba prepares,
should the shapes differ, is written by string functions that it compiles first.
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


def part(function):
    """A function that only compiled ones call: a way in from Python would be more code than many a loop is."""
    return jit(function, no_cpython_wrapper=True)


def inline(function):
    """A function that Numba copies into the ones that call it, before it compiles them."""
    return numba.njit(inline="always", fastmath=SAFE, error_model="numpy")(function)


def scalar(function):
    """A function of numbers, compiled once, that LLVM puts into the loops that call it."""
    return jit(function, forceinline=True, no_cpython_wrapper=True)


def machine_code(function, *variant):
    """The address of `function`, of integers, that returns nothing: compiled now, once for all that `call` it.

    A function made within another one, for some numbers, has these in its name: code is found by name, also in the cache.
    """
    function.__qualname__ += "_".join(map(str, ("", *variant)))
    compiler, signature = part(function), (types.int64,) * function.__code__.co_argcount
    compiler.compile(signature)
    compiled = compiler.overloads[signature]
    _kept.append(compiled)
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def call(context, builder, address, numbers):
    """Write a call of machine code into code that is being written (see tiles.py)."""
    function = context.call_conv.get_function_type(types.void, (types.int64,) * len(numbers))
    result, error = cgutils.alloca_once(builder, context.get_value_type(types.void)), ir.Constant(function.args[1], None)
    builder.call(builder.inttoptr(address, function.as_pointer()), [result, error, *numbers])  # integers make no errors
    return context.get_dummy_value()


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
