"""Steps that write the new state over the old one give the bits of those that do not, for every family."""

import numpy as np
import pytest

from tests.cuda.test_no_transfers import CASES
from tinygen import Generator, flat, train
from tinygen.autograd import tree
from tinygen.optim import Adam, cosine


def bits(state):
    return [(leaf.dtype, leaf.shape, leaf.tobytes()) for leaf in tree.flatten(state)[0]]


def batches(batch):
    """They differ from step to step."""
    return lambda n: tree.map(lambda x: np.roll(x, n, axis=0), batch)


@pytest.mark.parametrize("case", CASES)
def test_a_run_in_place_has_the_bits_of_a_pure_one(case):
    state, step, batch = CASES[case](Generator(0), Adam(cosine(1e-2, 9), eps=1e-3))
    before = bits(state)

    def run(step):
        seen = []
        last = train.fit(
            step, state, batches(batch), 6, log_every=2, progress=False, on_log=lambda n, *logged: seen.append((n, *logged))
        )
        return bits(last), [(n, bits(state), metrics) for n, state, metrics in seen]

    assert run(step) == run(lambda *args: step(*args))  # the second has no form in place
    assert bits(state) == before


@pytest.mark.parametrize("case", ["VAE", "GAN", "EBM, persistent chains", "DDPM"])
def test_the_arrays_of_the_state_are_used_again(case):
    state, step, batch = CASES[case](Generator(0), Adam(1e-3))
    at = batches(batch)
    state, _ = step.in_place(flat.copy(state), at(0), Generator(1))  # makes it flat
    after, _ = step.in_place(state, at(1), Generator(2))
    for old, new in zip(tree.flatten(state)[0], tree.flatten(after)[0]):
        assert not old.shape or np.shares_memory(old, new)
