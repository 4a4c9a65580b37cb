r"""Training is one function, `fit`, which owns the progress bar, the log, the checkpoints and the NaN guard, and nothing of any
model:

    state_{n+1}, metrics_n = step(state_n, batch_n, rng_n),     n = 0, 1, ..., steps - 1

`step` is pure, `state` is a tree that holds everything that changes, and batch_n and rng_n are functions of n and of seeds. So
the state after n steps is a function of state_0 and n alone. A checkpoint need only hold (state_n, n, seed) for a resumed run
to equal an uninterrupted one to the last bit; and when a NaN appears, its step can be run again under observation.

loop.py   fit        checkpoint.py   states as files        log.py   metrics as lines        guard.py   where a NaN came from
moves.py  states and batches to a GPU and back             graph.py  steps as CUDA graphs
"""

from .checkpoint import checkpoint_info, load_checkpoint, save_checkpoint
from .graph import NotCapturable
from .guard import NonFiniteError
from .log import read_log
from .loop import fit
from .moves import Moving, move

__all__ = [
    "Moving", "NonFiniteError", "NotCapturable", "checkpoint_info", "fit", "load_checkpoint", "move", "read_log",
    "save_checkpoint",
]  # fmt: skip
