"""Memory that is freed is kept, for arrays of the same sizes are wanted again at once: in the next step of training.

By itself the C library gives large arrays back to the system as soon as they are freed. The next one then costs a page fault
for every 4 KiB, in which the system writes zeros that nobody reads: a fifth of the time of a PixelCNN's step, four fifths of
Adam's with a million parameters. The price is memory: holes stay between arrays of different sizes (the peak of that PixelCNN
is 460 MiB, not 390), and what a process has held it holds to its end, or until somebody calls malloc_trim; so does whatever
else runs in that process.

Only glibc has these switches. Elsewhere nothing happens; nor where the environment sets one of them itself, as
MALLOC_TRIM_THRESHOLD_=131072 does.
"""

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of mallopt(3)
KEPT = 1 << 30  # bytes: what lies free beyond them at the end of the heap still goes back


def keep_what_is_freed():
    """Tell the C library; whether it understood."""
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a C library without
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT) and mallopt(MMAP_MAX, 0))


keep_what_is_freed()
