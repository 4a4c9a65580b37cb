"""Arrays and random numbers: what the rest of tinygen knows about devices.

A device is where the arrays live. Nothing here holds a current device or a global seed: functions ask `array_module` for the
library that their arguments belong to, and random numbers come from the `Generator` that is passed in.
"""

import sys

import numpy as np


def array_module(*arrays):
    """The library of the arrays: cupy if any of them lives on a GPU, otherwise numpy."""
    for a in arrays:
        if type(a).__module__.partition(".")[0] == "cupy":
            return sys.modules["cupy"]
    return np


class Generator:
    """Random numbers from Philox, a counter-based generator: the n-th number is a function of (seed, n).

    So `rng.at(step)` is the generator of that training step, whatever came before: a run can be resumed, and any one of its
    steps repeated, without storing a state. Methods take the shape first, and float32 is the default.
    Source: Salmon et al. 2011, *Parallel random numbers: as easy as 1, 2, 3*.
    """

    def __init__(self, seed=0):
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"Generator: seed must be a non-negative integer, not {seed!r}")
        self._start(np.random.SeedSequence(int(seed)).generate_state(2, np.uint64), 0)

    def _start(self, key, stream):
        self._key, self._stream = key, stream
        self._random = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, stream]))
        return self

    def at(self, step):
        """The generator of a step: independent of this one, and the same however much of this one was used."""
        if step < 0:
            raise ValueError(f"Generator.at: step must be at least 0, not {step}")
        key = self._key
        if self._stream:  # at(a).at(b): a key of its own, or it would be at(b)
            key = np.random.SeedSequence([*map(int, key), self._stream]).generate_state(2, np.uint64)
        return object.__new__(Generator)._start(key, int(step) + 1)

    def split(self, n):
        """n generators, independent of each other and of this one."""
        keys = self._random.integers(0, 2**64, (n, 2), np.uint64)
        return [object.__new__(Generator)._start(key, 0) for key in keys]

    def normal(self, shape=(), dtype=np.float32):
        """Standard normal numbers."""
        return self._random.standard_normal(shape, dtype)

    def uniform(self, shape=(), dtype=np.float32):
        """Uniform numbers in [0, 1)."""
        return self._random.random(shape, dtype)

    def bernoulli(self, p, dtype=np.float32):
        """1 with probability p, otherwise 0, for each element of p."""
        p = np.asarray(p)
        return (self._random.random(p.shape, np.float32 if p.dtype == np.float32 else np.float64) < p).astype(dtype)

    def categorical(self, probabilities):
        """An index along the last axis, drawn with the given probabilities (which sum to 1), for each row."""
        cumulative = np.cumsum(np.asarray(probabilities), axis=-1, dtype=np.float64)
        u = self._random.random((*cumulative.shape[:-1], 1)) * cumulative[..., -1:]
        return (u >= cumulative).sum(axis=-1)

    def integers(self, low, high, shape=()):
        """Integers from low to high - 1."""
        return self._random.integers(low, high, shape)

    def permutation(self, n):
        """The numbers 0 to n - 1 in random order."""
        return self._random.permutation(n)


def to_device(x, device):
    """An array on "cpu" or "gpu", copied only if it lives elsewhere. RuntimeError, which says why, where there is no GPU."""
    if device not in ("cpu", "gpu"):
        raise ValueError(f"to_device: device must be 'cpu' or 'gpu', not {device!r}")
    on_gpu = array_module(x) is not np
    if device == "cpu":
        return x.get() if on_gpu else x
    return x if on_gpu else _cupy().asarray(x)


def _cupy():
    try:
        import cupy
    except ImportError:
        raise RuntimeError("no GPU arrays: CuPy is not installed; install it with pip install 'tinygen[gpu]'") from None
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f"no GPU: the CUDA driver gave an error ({error}); see `nvidia-smi`") from None
    if not devices:
        raise RuntimeError("no GPU: CUDA sees no device; see `nvidia-smi`")
    return cupy
