"""Ctrl-C that waits for the end of a training step: within one that writes the new state over the old, neither is whole."""

import signal
import threading
from contextlib import contextmanager

from .log import say


@contextmanager
def that_wait(wanted):
    """Yield asked(): whether Ctrl-C was pressed; whoever is asked to stop raises KeyboardInterrupt. The second does not wait.

    Nothing changes where Ctrl-C is not for us: in another thread than the first, or where somebody else handles it.
    """
    pressed = []

    def note(*_):
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)
        say("stopping at the end of this step; Ctrl-C again stops at once, with the state that was looked at last")

    ours = signal.default_int_handler
    ours = wanted and threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is ours
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:  # after the last step
        raise KeyboardInterrupt
