"""The command line that all demos share, and how a demo stops when something outside it is missing."""

import argparse
import math
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from tinygen import kernels
from tinygen.backend import to_device
from tinygen.kernels import jit


def options(
    name, description, steps=None, data=("digits", "mnist"), devices=("cpu", "gpu"), resumes_from="checkpoint.safetensors",
    **more,
):  # fmt: skip
    """Parse the command line of a demo: the flags that all share, and `more`, a dictionary of argparse settings by flag name.

    `steps` has the number of training steps for each data set, and for "quick", or is None for a demo that counts its own. What
    can be resumed has `resumes_from` in its folder. `devices` are those on which there is something to do. In a notebook there
    is no command line: the defaults hold.
    """
    parser = argparse.ArgumentParser(f"python -m demos {name}", description=description)
    parser.add_argument("--device", choices=devices, default="cpu", help="where to train (default: %(default)s)")
    parser.add_argument(
        "--graph", action=argparse.BooleanOptionalAction, help="on a GPU, steps as a CUDA graph (default: where they can be)"
    )
    parser.add_argument("--data", choices=data, default=data[0], help="the data set (default: %(default)s)")
    if steps is not None:
        parser.add_argument("--steps", type=at_least_one, help="training steps (default: depends on the data)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs", name), help="directory to write to (default: %(default)s)")
    parser.add_argument(
        "--resume", type=Path, nargs="?", const=True, metavar="DIR", help="go on with the run in DIR (default: in --out)"
    )
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that everything works")
    parser.add_argument("--threads", type=at_least_one, help="for large loops (default: one for each processor)")
    for flag, settings in more.items():
        parser.add_argument(f"--{flag}", **settings)
    chosen = parser.parse_args([] if "ipykernel" in sys.modules else None)
    jit.announce()
    threadpool_limits(1, "blas")  # the small products of these models would wait for its second thread
    if chosen.threads:
        kernels.threads.use(chosen.threads)
    if chosen.seed < 0:
        parser.error(f"--seed must be at least 0, not {chosen.seed}")
    if chosen.resume:
        chosen.out = chosen.resume = chosen.out if chosen.resume is True else chosen.resume
        if not (chosen.resume / resumes_from).exists():
            parser.error(f"--resume: there is no {resumes_from} in {chosen.resume}")
    if chosen.device == "gpu":
        with plain_errors():
            to_device(np.zeros(1), "gpu")  # or a sentence that says what is missing
    try:  # now, and not after an hour of training
        chosen.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=chosen.out).close()
    except OSError as error:
        parser.error(f"--out: cannot write to {chosen.out}: {error.strerror}")
    if steps is not None:
        chosen.steps = chosen.steps or steps["quick" if chosen.quick else chosen.data]
    return chosen


def at_least_one(text):
    """An argparse type: a whole number from 1."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def positive(text):
    """An argparse type: a number above 0."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return number


def not_negative(text):
    """An argparse type: a number from 0."""
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {text!r}")
    return number


@contextmanager
def plain_errors():
    """What a user can mend (a missing file, no network, no GPU) becomes one sentence and exit code 2, without a traceback."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
