"""Waiting for a number in memory to change, without Python's lock: what another thread says is heard within a microsecond."""

from llvmlite import ir
from numba.core import config, types
from numba.extending import intrinsic

from .jit import jit

PATIENCE = 0 if config.DISABLE_JIT else 2_000_000  # looks, less than a millisecond: then it is better to sleep
# Who has changed the number has Python's lock, and is about to enter a loop and to let go of it. To ask for it before is to be
# put to sleep. So we look on for a microsecond or two: longer for a thread that prepares a loop of its own.
ENTERING, LEAVING = 20_000, 6000


@intrinsic
def _read(typing, address):
    """The int64 at an address, each time anew."""

    def code(context, builder, signature, arguments):
        return builder.load_atomic(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), "acquire", 8)

    return types.int64(types.uintp), code


@jit
def changed(address, old, patience, longer):
    """Whether the number at an address is another one than `old`, now or within some looks; and then `longer` looks more."""
    for _ in range(patience):
        if _read(address) != old:
            for _ in range(longer):
                _read(address)
            return True
    return False
