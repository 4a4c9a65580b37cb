"""States and batches on their way to a device: what a run on a GPU begins with, and what is brought back for pictures."""

from ..autograd import tree
from ..backend import to_device


def move(state, device):
    """A tree with its arrays on "cpu" or "gpu", copied only if they live elsewhere. RuntimeError where there is no GPU.

    Counters, whole numbers without axes, stay on the CPU: a schedule reads them at every step, and would have to wait.
    """
    return tree.map(lambda a: a if a.ndim == 0 and a.dtype.kind in "iu" else to_device(a, device), state)


class Moving:
    """The batches of another object with .at(n), each moved to a device when its turn comes."""

    def __init__(self, batches, device):
        self.batches, self.device = batches, device

    def at(self, step):
        """The batch of that step there."""
        return move(self.batches.at(step), self.device)
