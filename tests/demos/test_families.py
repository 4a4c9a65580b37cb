"""A few steps of every family, as `compare` trains it: no bit depends on the number of threads."""

import numpy as np
import pytest

from demos import families
from tinygen import Generator, data
from tinygen.autograd import tree
from tinygen.kernels import threads


@pytest.mark.parametrize("name", families.FAMILIES)
def test_steps_of_training_give_the_same_bits_with_any_number_of_threads(name, monkeypatch):
    """Though every loop that can be divided is."""
    monkeypatch.setattr(threads, "ENOUGH", 1)
    found = set()
    for size in (1, 2, 3):
        monkeypatch.setattr(threads, "_pool", threads._Pool(size))
        state, step, batches = families.FAMILIES[name](data.load("digits"), 1, 0).training(Generator(0))
        for n in range(3):
            state, _ = step(state, batches.at(n), Generator(n))
        found.add(b"".join(np.asarray(leaf).tobytes() for leaf in tree.flatten(state)[0]))
    assert len(found) == 1
