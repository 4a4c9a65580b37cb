"""What is the same in every lesson that trains: where it writes, how it goes on, and how it ends.

fit         train.fit, with the steps, seed, folder and resumption of the command line
make_room   an earlier run in the folder is kept, under another name
finish      the last lines: what a quick run is worth, and where everything is
"""

import sys
from itertools import count
from pathlib import Path

from tinygen import train
from tinygen.train.loop import CHECKPOINT, alone_in

LEFT = {".safetensors", ".jsonl", ".png", ".gif", ".svg", ".md", ".html"}  # kinds of files that demos leave


def fit(chosen, step, state, batches, log_every, on_log=None, steps=None, resume=None):
    """The state after so many steps, by default those that were chosen: see train.fit. log_every below 1 counts as 1.

    A folder or a checkpoint that cannot be used is one sentence and exit code 2, and NaN is what train.fit says of it, and exit
    code 1. An error of the step itself is a bug, and keeps its traceback. On a GPU only the steps run there: the state that
    comes back, and that on_log is given, is on the CPU.
    """
    steps = chosen.steps if steps is None else steps
    resume = bool(chosen.resume) if resume is None else resume
    if chosen.device == "gpu":
        state, batches = train.move(state, "gpu"), train.Moving(batches, "gpu")

    def told(n, state, metrics):
        return on_log(n, train.move(state, "cpu"), metrics)

    try:
        if not resume:
            make_room(chosen.out)
        state = train.fit(
            step, state, batches, steps, seed=chosen.seed, out=chosen.out, resume=resume, log_every=max(1, log_every),
            checkpoint_every=max(1, min(1000, steps // 10)), on_log=on_log and told, capture=chosen.graph,
        )  # fmt: skip
        return train.move(state, "cpu")
    except train.NonFiniteError as error:
        stop(error, 1)
    except train.NotCapturable as error:
        stop(f"{error}; leave out --graph")
    except MemoryError as error:
        stop(f"the memory of the {chosen.device.upper()} is full ({error}); take a smaller model, or another device")
    except OSError as error:
        stop(f"cannot write to {chosen.out}: {error.strerror}; choose another --out" if error.strerror else error)
    except ValueError as error:
        if not str(error).startswith(("fit:", "load_checkpoint:")):
            raise
        stop(error)


def make_room(folder, begun=CHECKPOINT):
    """Rename the folder of an earlier run, which has `begun` in it, to folder.1 or a higher number, and say so.

    Not where there is anything else in it than demos leave: then train.fit numbers the files that it would replace. ValueError
    if that run is still going on.
    """
    if not (folder / begun).exists() or folder.resolve() == Path.cwd():
        return
    if all(path.is_dir() or path.suffix in LEFT for path in folder.iterdir()):
        free = next(each for k in count(1) if not (each := folder.with_name(f"{folder.name}.{k}")).exists())
        with alone_in(folder):
            folder.rename(free)
        print(f"the earlier run in {folder}/ is now in {free}/", file=sys.stderr)


def finish(chosen, left="pictures, log and checkpoint"):
    """Say that a quick run proves nothing, and where everything is."""
    if chosen.quick:
        print("this was a quick run, to see that everything works: its figures and pictures mean nothing")
    print(f"{left} are in {chosen.out}/")


def stop(sentence, code=2):
    print(sentence, file=sys.stderr)
    sys.exit(code)
