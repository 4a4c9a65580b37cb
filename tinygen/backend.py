"""Arrays and random numbers: what the rest of tinygen knows about devices.

A device is where the arrays live. Nothing here holds a current device or a global seed: functions ask `array_module` for the
library that their arguments belong to, and random numbers come from the `Generator` that is passed in.
"""

import copy
import sys
from functools import cached_property

import numpy as np
from numpy.random.bit_generator import ISeedSequence

BLOCK = 16  # bytes of kernels/random that are made at a time
OLDEST_CARD = 75  # Turing, of 2018: the oldest that the kernels are compiled for in the tests


def array_module(*arrays):
    """The library of the arrays: cupy if any of them lives on a GPU, otherwise numpy."""
    for a in arrays:
        if type(a).__module__.partition(".")[0] == "cupy":
            return sys.modules["cupy"]
    return np


def device_of(*arrays):
    """Where the arrays live: "gpu" if any of them is there, otherwise "cpu"."""
    return "cpu" if array_module(*arrays) is np else "gpu"


class Generator:
    """Random numbers from Philox, a counter-based generator: the n-th number is a function of (seed, n).

    So `rng.at(step)` is the generator of that training step, whatever came before: a run can be resumed, and any one of its
    steps repeated, without storing a state. Methods take the shape first, and float32 is the default. The numbers are made
    where they are wanted: on `device`, "cpu" or "gpu", which at(step) and split(n) hand on. RuntimeError where it is not there.

    The two devices draw different numbers from one seed: a GPU those of kernels/random, Philox with 4 words of 32 bits, a CPU
    those of NumPy's Philox, of 64 bits. (kernels/random itself gives the same ones anywhere, to the last bit.) So a run on one
    device and a run on the other agree in distribution only. What split(n) and at(step) derive from a seed is the same.
    Source: Salmon et al. 2011, *Parallel random numbers: as easy as 1, 2, 3*.
    """

    def __init__(self, seed=0, device="cpu"):
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"Generator: seed must be a non-negative integer, not {seed!r}")
        _require_device("Generator", device)
        self._start(np.random.SeedSequence(int(seed)).generate_state(2, np.uint64), 0, _cupy() if device == "gpu" else np)

    def _start(self, key, stream, library):
        self._key, self._stream, self._library = key, stream, library
        self._blocks = 0  # of kernels/random that were used
        return self

    @cached_property
    def _random(self):
        """NumPy's generator, made when it is first wanted: many a step of training draws nothing."""
        return np.random.Generator(np.random.Philox(_Key(self._key), counter=[0, 0, 0, self._stream]))

    @property
    def key(self):
        """What a seed, and the generators derived from it, have become: with the number of the stream, the whole address."""
        return tuple(map(int, self._key))

    @property
    def stream(self):
        """The number of the stream: of at(step) it is step + 1."""
        return self._stream

    @property
    def device(self):
        """Where the numbers are made."""
        return "cpu" if self._library is np else "gpu"

    def at(self, step):
        """The generator of a step: independent of this one, and the same however much of this one was used."""
        if step < 0:
            raise ValueError(f"Generator.at: step must be at least 0, not {step}")
        key = self._key
        self._require_number("at")
        if self._stream:  # at(a).at(b): a key of its own, or it would be at(b)
            key = np.random.SeedSequence([*map(int, key), self._stream]).generate_state(2, np.uint64)
        return object.__new__(type(self))._start(key, int(step) + 1, self._library)

    def split(self, n):
        """n generators, independent of each other and of this one."""
        self._require_number("split")
        keys = self._random.integers(0, 2**64, (n, 2), np.uint64)
        return [object.__new__(type(self))._start(key, 0, self._library) for key in keys]

    def copy(self):
        """A generator that will draw the same numbers."""
        made = copy.copy(self)
        made._random = copy.deepcopy(self._random)
        return made

    def on_stream(self, number):
        """This generator, with numbers of another stream: `number` is an array on the GPU, uint64 (), read when they are made.

        So a captured graph of launches draws other numbers each time that it is launched; see train/graph.py.
        """
        made = copy.copy(self)
        made._stream, made._random = number, None
        return made

    def normal(self, shape=(), dtype=np.float32):
        """Standard normal numbers."""
        return self._random.standard_normal(shape, dtype) if self._library is np else self._fill("normal", shape, dtype)

    def uniform(self, shape=(), dtype=np.float32):
        """Uniform numbers in [0, 1)."""
        return self._random.random(shape, dtype) if self._library is np else self._fill("uniform", shape, dtype)

    def bernoulli(self, p, dtype=np.float32):
        """1 with probability p, otherwise 0, for each element of p. ValueError for p outside [0, 1] on the CPU."""
        p = self._own("bernoulli", p)
        if self._library is np and not (p.min(initial=0) >= 0 and p.max(initial=0) <= 1):  # also not for NaN
            raise ValueError(f"Generator.bernoulli: p is a probability, in [0, 1], not {_range(p)}; give sigmoid(logits), say")
        return (self.uniform(p.shape, np.float32 if p.dtype == np.float32 else np.float64) < p).astype(dtype)

    def categorical(self, probabilities):
        """An index along the last axis, drawn for each row with the given probabilities, or multiples of them.

        ValueError, if they are on the CPU, for one that is negative or not finite, and for a row of zeros.
        """
        p = self._own("categorical", probabilities)
        cumulative = self._library.cumsum(p, axis=-1, dtype=np.float64)
        if self._library is np and not _are_weights(p, cumulative[..., -1]):
            raise ValueError(
                f"Generator.categorical: each row must hold finite probabilities, at least 0 and not all 0, not {_range(p)}; "
                "give softmax(logits), say"
            )
        u = self.uniform((*cumulative.shape[:-1], 1), np.float64) * cumulative[..., -1:]
        return (u >= cumulative).sum(axis=-1)

    def integers(self, low, high, shape=()):
        """Integers from low to high - 1. ValueError where there are none."""
        if self._library is np:
            return self._random.integers(low, high, shape)
        if not low < high:
            raise ValueError(f"Generator.integers: there is no integer from {low} to {high} - 1")
        return (self.uniform(shape, np.float64) * (high - low)).astype(np.int64) + low

    def permutation(self, n):
        """The numbers 0 to n - 1 in random order."""
        if self._library is np:
            return self._random.permutation(n)
        from . import kernels

        return kernels.random.order(self._library.empty(n, np.int64), self.uniform((n,), np.float64))

    def _require_number(self, method):
        """TypeError where the stream is known on the GPU only."""
        if self._random is None:
            raise TypeError(f"Generator.{method}: it makes generators on the CPU, and this one is in a graph; draw from it")

    def _own(self, method, p):
        """Probabilities as an array of this generator's device, where they must be, unless they are one number."""
        if getattr(p, "ndim", 0) and device_of(p) != self.device:
            raise TypeError(
                f"Generator.{method}: the probabilities are on the {device_of(p).upper()}, and this generator draws on the "
                f"{self.device.upper()}; move them with to_device, or give the generator that device"
            )
        return self._library.asarray(p)

    def _fill(self, kind, shape, dtype):
        """Numbers of kernels/random, from the first block that was not used yet."""
        from . import kernels

        y = self._library.empty(shape, dtype)
        getattr(kernels.random, kind)(y, int(self._key[0]), self._stream, self._blocks)
        self._blocks += -(-y.nbytes // BLOCK)
        return y


class _Key(ISeedSequence):
    """A seed sequence that is a key: given a key as such, NumPy asks the system for entropy too, and takes 3 times as long."""

    def __init__(self, key):
        self.key = key

    def generate_state(self, n_words, dtype=np.uint32):
        return self.key


def _are_weights(p, total):
    """Whether p are finite, at least 0 and not all 0 in a row whose total is given. (What is NaN is not at least 0.)"""
    return p.min(initial=0) >= 0 and total.min(initial=1) > 0 and total.max(initial=1) < np.inf


def _range(p):
    return "NaN" if np.isnan(p).any() else f"within [{p.min():g}, {p.max():g}]"


def to_device(x, device):
    """An array on "cpu" or "gpu", copied only if it lives elsewhere. RuntimeError, which says why, where there is no GPU."""
    _require_device("to_device", device)
    if device_of(x) == device:
        return x
    return x.get() if device == "cpu" else _cupy().asarray(x)


def beside(constant, x):
    """A constant of NumPy's on the device of x: itself, or a copy that is made once, and kept with it from then on."""
    if device_of(x) == "cpu":
        return constant
    if id(constant) not in _copies:
        _copies[id(constant)] = to_device(constant, "gpu"), constant  # which therefore keeps its id
    return _copies[id(constant)][0]


_copies = {}


def _require_device(operation, device):
    if device not in ("cpu", "gpu"):
        raise ValueError(f"{operation}: device must be 'cpu' or 'gpu', not {device!r}")


def _cupy():
    """CuPy, if there is a GPU that it and our kernels can use. RuntimeError, which says what is missing, where not."""
    try:
        import cupy
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        how = "is not installed; install it" if absent else f"cannot be imported ({error}); install it anew"
        raise RuntimeError(f"no GPU arrays: CuPy {how} with pip install -e '.[gpu]' in the checkout") from None
    runtime = cupy.cuda.runtime
    try:
        devices = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise RuntimeError(f"no GPU: the CUDA driver gave an error ({error}); see `nvidia-smi`") from None
    if not devices:
        raise RuntimeError("no GPU: CUDA sees no device; see `nvidia-smi`, and $CUDA_VISIBLE_DEVICES")
    if (capability := int(cupy.cuda.Device().compute_capability)) < OLDEST_CARD:
        raise RuntimeError(
            f"this GPU has compute capability {capability / 10}, and tinygen's kernels are for {OLDEST_CARD / 10} and later; "
            "take another card, or the CPU"
        )
    return cupy
