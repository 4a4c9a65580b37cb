"""Memory that is freed is kept, for arrays of the same sizes are wanted again at once: in the next step of training.

By itself the C library gives large arrays back to the system as soon as they are freed. The next one then costs a page fault
for every 4 KiB, in which the system writes zeros that nobody reads: a fifth of the time of a PixelCNN's step, four fifths of
Adam's with a million parameters. The price is memory: holes stay between arrays of different sizes (the peak of that PixelCNN
is 460 MiB, not 390), and what a process has held it holds to its end, or until somebody calls malloc_trim; so does whatever
else runs in that process.

And it is kept in pages of 2 MiB, where Linux has them to give. A step of training goes through more pages of 4 KiB than a
processor remembers the places of: to look these up took 2 to 12 % of its time.

Only glibc has these switches. Elsewhere nothing happens; nor where the environment sets one of them itself, as
MALLOC_TRIM_THRESHOLD_=131072 does.
"""

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of mallopt(3)
KEPT = 1 << 30  # bytes: what lies free beyond them at the end of the heap still goes back
HUGEPAGE, PAGE = 14, 1 << 21  # of madvise(2), and bytes
ROOM = KEPT // 2  # bytes of addresses for large pages; memory is taken only for those that are used


def keep_what_is_freed():
    """Tell the C library; whether it understood."""
    try:
        return bool(_library().mallopt(TRIM_THRESHOLD, KEPT) and _library().mallopt(MMAP_MAX, 0))
    except (OSError, AttributeError):  # a C library without
        return False


def use_large_pages():
    """Ask Linux for them, for the heap's next stretch: take it, say what its pages should be, free it. Whether it understood.

    What is freed is kept: so what comes next lies in that stretch.
    """
    try:
        library = _library()
        library.malloc.restype, pointer, size = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
        start = library.malloc(size(ROOM))
        first = -(-(start or 0) // PAGE) * PAGE
        understood = start and library.madvise(pointer(first), size((start + ROOM - first) // PAGE * PAGE), HUGEPAGE) == 0
        library.free(pointer(start))
        return bool(understood)
    except (OSError, AttributeError):
        return False


def _library():
    """The C library, for this file alone. OSError where it, or the environment, wants to be left alone."""
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        raise OSError
    return ctypes.CDLL(None)


if keep_what_is_freed():
    use_large_pages()
