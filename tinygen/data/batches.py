"""Minibatches, addressed by step number: shuffled rows of arrays, or samples that are drawn anew.

Batch number `step` is a function of (seed, step) and of nothing else, so the position in the data is the step count itself:
a run that is resumed goes on with the batches that it would have seen, and no iterator has a state to be saved.
"""

import numpy as np

from ..backend import Generator, array_module

# A training loop draws its noise from Generator(seed).at(step): data come from streams far beyond, or they would be that noise
EPOCHS, DRAWS = 2**62, 2**61


class Batches:
    """Batches of `batch_size` rows of arrays of N rows, each epoch in an order of its own, drawn from (seed, epoch).

    arrays: one array (N, ...), or a tuple of them, whose rows stay together. Every row comes at most once in an epoch. The
    shapes of all batches are equal, so the N mod batch_size rows that are left over when an epoch ends are not seen in it;
    they are others in every epoch, and none if batch_size divides N.
    TypeError for a list of arrays, or a batch_size that is no integer. ValueError if there are no rows, if the arrays' lengths
    differ, or if batch_size is not within 1 .. N.
    """

    def __init__(self, arrays, batch_size, seed):
        if isinstance(arrays, list):
            raise TypeError("Batches: arrays is a list; give one array, or a tuple of arrays whose rows stay together")
        lengths = [len(array) for array in arrays] if isinstance(arrays, tuple) else [len(arrays)]
        if not lengths or not all(lengths):
            raise ValueError(f"Batches: there are no {'rows' if lengths else 'arrays'} to make batches of")
        if len(set(lengths)) > 1:
            raise ValueError(f"Batches: the arrays have {lengths} rows; give arrays of equal length")
        n = lengths[0]
        if not isinstance(batch_size, (int, np.integer)):
            raise TypeError(f"Batches: batch_size is {batch_size!r}, not an integer")
        if not 1 <= batch_size <= n:
            raise ValueError(f"Batches: batch_size is {batch_size}; give one from 1 to the number of rows, {n}")
        self.arrays, self.batch_size, self.n = arrays, batch_size, n
        self.steps_per_epoch = n // batch_size
        self._random = Generator(seed)
        self._order = None, None  # the epoch, and its permutation

    def at(self, step):
        """The batch of that step (from 0): an array (batch_size, ...), or the tuple of them. ValueError if step < 0."""
        if step < 0:
            raise ValueError(f"Batches.at: step must be at least 0, not {step}")
        epoch, position = divmod(step, self.steps_per_epoch)
        rows = self._permutation(epoch)[position * self.batch_size : (position + 1) * self.batch_size]
        if isinstance(self.arrays, tuple):
            return tuple(array[array_module(array).asarray(rows)] for array in self.arrays)
        return self.arrays[array_module(self.arrays).asarray(rows)]

    def _permutation(self, epoch):
        if self._order[0] != epoch:
            self._order = epoch, self._random.at(EPOCHS + epoch).permutation(self.n)
        return self._order[1]


class Draws:
    """Batches of new samples: batch number `step` is draw(rng), with a generator that belongs to (seed, step)."""

    def __init__(self, draw, seed):
        self.draw, self._random = draw, Generator(seed)

    def at(self, step):
        """The batch of that step (from 0). ValueError if step < 0."""
        if step < 0:
            raise ValueError(f"Draws.at: step must be at least 0, not {step}")
        return self.draw(self._random.at(DRAWS + step))
