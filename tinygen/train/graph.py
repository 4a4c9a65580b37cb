r"""A training step as a CUDA graph: captured once, and then launched as a whole.

A step of a small model is a few hundred launches, and the processor takes longer to ask for each than the GPU to do it. A graph
is all of them, written down with their arguments; one call starts it. So it does the same with the same arrays every time, and
whatever is to change from step to step must lie in arrays that do not move:

    processor, before each launch        GPU: fixed arrays                 GPU: the graph, with memory of its own
                                                                        .-------------------------------------.
    a batch          -- copied to -->    batch                    ----> |                                     |
    what follows     -- copied to -->    numbers: the stream of   ----> |  step(state, batch, rng)            |
    from the count                       rng, rates, decays             |    |                                |
                                         state                    ----> |    |       intermediate results     |
                                           ^                            |    v                                |
                                           '----- copied at the end --- |  new state                          |
    reads, when it logs    <----------------------------------------- - |  metrics                            |
    counts: step = 17, 18, ...                                          '-------------------------------------'

Nothing comes back unasked, so the processor runs ahead of the GPU. It needs no answer, because it counts the steps itself: a
counter of the state (a whole number without axes, as optimisers have) stays on the CPU, and while a graph is captured a `Count`
stands in for it, which knows the counter but not its value. `count + 1` is the counter of the next state, and
`count.numbers(f)` an array that holds f(value) whenever the graph is launched: a schedule may so be any Python function. What
would need the value at once, such as int(count), is an error, and not a constant that stays as it was. Random numbers are made
by counting as well (kernels/random): those of step n are a stream of that number, which is one more number to be written.

The new state is copied over the old one, an additional pass over it. Two graphs in turns, each writing where the other reads,
would save half of that: for a model so large that this matters, launches do not.

What cannot be captured: a step that looks at numbers (float(x), bool(x), x[mask]), moves arrays to the GPU or away, or calls
cuBLAS, cuSOLVER or a sort, whose launches CuPy refuses to write down. The matrix product of kernels/matmul can be, and takes
the place of cuBLAS's in all steps of a run that has a graph (`cuda.capturing`), so that each gives the same bits as it would
outside of the graph. A batch of another shape is such a step.

Source: CUDA C++ Programming Guide, "CUDA Graphs"; CuPy's `Stream.begin_capture`.
"""

import gc
import traceback
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

from .. import flat
from ..autograd import tree
from ..autograd.tree import Array, module
from ..backend import array_module, device_of, to_device
from ..kernels import cuda
from .guard import checked
from .log import as_numbers, require_numbers

ALIGNMENT = 8  # bytes, of the numbers


class NotCapturable(TypeError):
    """A step does what no graph can repeat; the message says what."""


class Graphed:
    """step(state, batch, rng), made by a graph from its first call on, if it can be; if it cannot, `reason` says why.

    The arrays of the state and the metrics that come back are overwritten by the next call: flat.copy(state) keeps one. With
    required=True what cannot be captured is an error. Call it in `own_stream()`; all of the state that is not a counter, and
    all of the batch, must be on the GPU.
    """

    def __init__(self, step, required=False):
        self.step, self.required, self.reason, self._graph = step, required, None, None

    def __call__(self, state, batch, rng):
        if self._graph is None and self.reason is None:
            return self._begin(state, batch, rng)
        if self._graph is None or not self._graph.fits(state, batch, rng):
            return self.ordinary(state, batch, rng)
        if not self._graph.compared:
            return self._compared(state, batch, rng)
        return self._graph.launch(state, batch, rng)

    def ordinary(self, state, batch, rng):
        """The step without the graph, and with the same bits."""
        with nullcontext() if self._graph is None else cuda.as_captured():
            return self.step(state, batch, rng)

    def _begin(self, state, batch, rng):
        try:
            self._graph = Graph(self.step, state, batch, rng)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}{_place(error, state)}"
            traceback.clear_frames(error.__traceback__)  # which hold arrays: memory may be what was missing
            result = self.step(state, batch, rng)  # if this fails as well, the error is the step's own
            self._refuse(reason, error)
            return result
        return self._graph.state, self._graph.first_metrics

    def _compared(self, state, batch, rng):
        """The first launch, compared with the step itself: to the last bit, if that gives the same bits when it is made again.

        (Sums whose order is left to chance, as of the gradients of rows that were looked up more than once, do not.)
        """
        kept = flat.copy(state)
        expected, again = (self.ordinary(kept, batch, rng.copy()) for _ in range(2))
        seen = self._graph.launch(state, batch, rng)
        as_it_should = _equal if _equal(expected, again) else _close
        if as_it_should(expected, again) and as_it_should(expected, seen):
            self._graph.compared = True
            return seen
        self._graph = None
        self._refuse("made again, the step gave other numbers: it depends on more than its arguments")
        return self.step(kept, batch, rng)

    def _refuse(self, reason, error=None):
        self.reason = reason
        if self.required:
            raise NotCapturable(f"the step cannot be captured as a graph: {reason}") from error


@module
class Carried:
    """The state, and what the GPU notes beside it: whether all metrics of all steps so far were finite, bool ()."""

    state: object
    finite: Array


class OnGPU:
    """Steps that the processor asks for without waiting for their results, one after another from a state on the GPU."""

    waited_for, overwrites = False, True

    def __init__(self, step, state, capture):
        self.step = step
        xp = array_module(*tree.flatten(state)[0])
        self.carried, self.metrics = Carried(state, xp.ones((), bool)), {}
        self.graphed = None if capture is False else Graphed(self._noting, required=capture is True)

    @property
    def reason(self):
        """Why the steps are not made by a graph, if they were to be."""
        return self.graphed and self.graphed.reason

    def make(self, batch, rng):
        """The next step."""
        self.carried, self.metrics = (self.graphed or self._noting)(self.carried, batch, rng)

    def told(self):
        """The metrics as floats, and whether those of all steps so far were finite."""
        return as_numbers(self.metrics), bool(self.carried.finite)

    def seen(self):
        """The state, which stays as it is."""
        return flat.copy(self.carried.state) if self.graphed else self.carried.state

    def again(self, state, batch, rng):
        """The step from any state, not by the graph, but with the same bits."""
        take = self.graphed.ordinary if self.graphed else self._noting
        carried, metrics = take(Carried(state, True), batch, rng)
        return carried.state, metrics

    def _noting(self, carried, batch, rng):
        state, metrics = checked(self.step(carried.state, batch, rng))
        require_numbers(metrics)
        finite = carried.finite
        for value in metrics.values():
            finite = finite & array_module(value).isfinite(value)
        return Carried(state, finite), metrics


class Graph:
    """A captured step and the arrays that it works with. The step is made once on the way: `state` is the one after it."""

    def __init__(self, step, state, batch, rng):
        self.cupy = array_module(*tree.flatten(state)[0])
        stream = self.cupy.cuda.get_current_stream()
        if stream == self.cupy.cuda.Stream.null:
            raise NotCapturable("the default stream cannot be captured; call the step in `own_stream()`")
        self.step, self.key, self.compared = step, rng.key, False
        with cuda.as_captured():
            self._fix(state, batch, step(state, batch, rng.copy())[0])  # compiles what is not compiled yet, too
            self.pool = self.cupy.cuda.MemoryPool()  # of the graph alone: what is free in it now will be written to
            with self.cupy.cuda.using_allocator(self.pool.malloc):
                self.numbers, self.stream = Numbers(self.cupy), rng.stream
                self.first_metrics = {name: _own(value) for name, value in self._run(rng).items()}
                self._count()
                self.numbers.settle()
                gc.collect()  # what cycles of Python's hold of the pool
                self.metrics, self.graph = self._captured(stream, rng)

    def _fix(self, state, batch, example):
        """The fixed arrays of the state and the batch. `example`, a later state, shows which of them lie side by side."""
        self.structure, self.batch_structure = tree.flatten(state)[1], tree.flatten(batch)[1]
        later = list(map(_mutable, self._leaves_of(example)))
        _require_kinds(tree.flatten(state)[0], later)
        self.state = flat.copy(self.structure.unflatten(later))
        self.leaves = self.structure.read(self.state)
        self.counters = {i: leaf for i, leaf in enumerate(self.leaves) if _is_counter(leaf)}
        for name, leaf in zip(self.structure.paths(), self.leaves):
            if device_of(leaf) == "cpu" and not _is_counter(leaf):
                raise NotCapturable(f"{name} is on the CPU; move it with train.move")
        self.write(state)
        if any(device_of(leaf) == "cpu" for leaf in tree.flatten(batch)[0]):
            raise NotCapturable("the batch is on the CPU; move it with train.Moving")
        self.batch = [leaf.copy() for leaf in tree.flatten(batch)[0]]

    def _run(self, rng):
        """What is captured: the step, and its new state copied over the old one."""
        counts = {i: Count(self.numbers, counter) for i, counter in self.counters.items()}
        state = self.structure.unflatten([counts.get(i, leaf) for i, leaf in enumerate(self.leaves)])
        stream = self.numbers.array(lambda: self.stream, np.uint64)
        new, metrics = self.step(state, self.batch_structure.unflatten(self.batch), rng.on_stream(stream))
        leaves = self._leaves_of(new)
        self.next = {i: leaves[i] for i in self.counters}
        if not all(isinstance(count, Count) for count in self.next.values()):
            raise NotCapturable("a counter of the new state does not follow from one of the old state, as step + 1 does")
        fixed = set(map(_memory, [*self.leaves, *self.batch]))
        metrics = {name: _own(value) if _memory(value) in fixed else value for name, value in metrics.items()}
        _overwrite(*map(self._on_gpu, (self.leaves, leaves)))
        return metrics

    def _on_gpu(self, leaves):
        return [leaf for i, leaf in enumerate(leaves) if i not in self.counters]

    def _captured(self, stream, rng):
        stream.begin_capture()
        try:
            with _no_uploads(self.cupy):
                metrics = self._run(rng)
        except BaseException:
            with suppress(Exception):  # where what went wrong has spoilt the capture, it cannot be ended without an error
                stream.end_capture()
            raise
        return metrics, stream.end_capture()

    def _leaves_of(self, state):
        leaves = self.structure.read(state)
        if leaves is None:
            raise NotCapturable("the step changes the structure of the state, or a Python number in it; make that an array")
        return leaves

    def fits(self, state, batch, rng):
        """Whether the graph is that of a step with these arguments."""
        fits = _has_kinds(self.batch_structure.read(batch), self.batch) and rng.key == self.key
        return fits and (state is self.state or _has_kinds(self.structure.read(state), self.leaves))

    def write(self, state):
        """Make the fixed state this one."""
        leaves = self._leaves_of(state)
        _overwrite(*map(self._on_gpu, (self.leaves, leaves)))
        for i, counter in self.counters.items():
            counter[...] = leaves[i]

    def launch(self, state, batch, rng):
        """(state, metrics): the fixed arrays, which will hold the results when the GPU has got so far."""
        if state is not self.state:
            self.write(state)
        for to, leaf in zip(self.batch, self.batch_structure.read(batch)):
            to[...] = leaf
        self.stream = rng.stream
        self.numbers.write()
        self.graph.launch()
        self._count()
        return self.state, self.metrics

    def _count(self):
        values = {i: count.value() for i, count in self.next.items()}
        for i, value in values.items():
            self.counters[i][...] = value


class Count:
    """A counter of the state plus a number, while a graph is captured: what it will be is known when that is launched."""

    def __init__(self, written, counter, added=0):
        self._written, self._counter, self._added = written, counter, added

    def __add__(self, number):
        return Count(self._written, self._counter, self._added + number)

    def numbers(self, function):
        """An array of float64 on the GPU that holds function(value), a number or a tuple, whenever the graph is launched."""
        return self._written.array(lambda: function(self.value()), np.float64)

    def value(self):
        """What it is before the next launch."""
        return int(self._counter) + self._added

    def _refuse(self, *_):
        raise NotCapturable(
            "the step looks at a counter, whose value would stay what it is now in all steps; ask for count.numbers(function)"
        )

    __int__ = __float__ = __index__ = __bool__ = __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __array__ = __format__ = _refuse
    __hash__ = None


class Numbers:
    """Arrays on the GPU whose values the processor works out and writes, all at once, before each launch.

    They are asked for twice, in the same order: by the run that fills the pool, whose values are there at once; and, after
    `settle`, by the one that is captured, whose arrays are parts of the buffer that is written to.
    """

    def __init__(self, cupy):
        self.cupy, self.functions, self.places, self.there = cupy, [], [], None

    def array(self, function, dtype):
        """An array that will hold function() at each launch."""
        self.functions.append(function)
        if self.there is None:
            values = np.array(function(), dtype)
            start = self.places[-1][1] if self.places else 0
            self.places.append((start, start + -(-values.nbytes // ALIGNMENT) * ALIGNMENT, values))
            return self.cupy.asarray(values)
        if len(self.functions) > len(self.places):
            raise NotCapturable("the step did not repeat itself: it asked for more numbers than before")
        start, _, values = self.places[len(self.functions) - 1]
        return self.there[start : start + values.nbytes].view(values.dtype).reshape(values.shape)

    def settle(self):
        """From now on arrays are parts of one buffer."""
        self.here = np.zeros(self.places[-1][1], np.uint8)
        self.there, self.functions = self.cupy.asarray(self.here), []

    def write(self):
        """The values for the next launch."""
        for function, (start, _, values) in zip(self.functions, self.places):
            values[...] = function()
            self.here[start : start + values.nbytes] = values.reshape(-1).view(np.uint8)
        self.there.set(self.here)


@contextmanager
def own_stream(device):
    """Within, the launches and copies go to a stream that can be captured; nothing to do on a CPU."""
    if device == "cpu":
        yield
        return
    import cupy

    cupy.cuda.get_current_stream().synchronize()  # what is used now may have been made there
    with _stream(cupy) as stream:
        try:
            yield
        finally:
            stream.synchronize()


@lru_cache(None)
def _stream(cupy):
    """One for all runs: CuPy keeps the memory that was freed on a stream for the same stream."""
    return cupy.cuda.Stream(non_blocking=True)


@contextmanager
def _no_uploads(cupy):
    """Within, copying numbers to the GPU is an error: a graph would copy them anew, from memory that others use by then.

    CuPy copies through pinned memory, and so do functions of its own that make tables on the processor.
    """

    def refuse(size):
        raise NotCapturable("the step moves numbers to the GPU; move them before, or make them there")

    cupy.cuda.set_pinned_memory_allocator(refuse)
    try:
        yield
    finally:
        cupy.cuda.set_pinned_memory_allocator(cupy.get_default_pinned_memory_pool().malloc)


def _overwrite(fixed, new):
    """new copied to fixed: whole vectors where both are flat alike, and nothing that is still to be read."""
    _require_kinds(fixed, new)
    pieces = [[a for _, arrays in flat.pieces(leaves) for a in arrays] for leaves in (fixed, new)]
    if _has_kinds(*pieces):
        fixed, new = pieces
    places = {_memory(a) for a in fixed}
    new = [a.copy() if _memory(a) in places else a for a in new]
    for to, a in zip(fixed, new):
        to[...] = a


def _has_kinds(arrays, others):
    """Whether these are arrays, on the same devices and of the same shapes and dtypes as others."""
    kinds = [[(device_of(a), a.shape, a.dtype) for a in each or ()] for each in (arrays, others)]
    return arrays is not None and kinds[0] == kinds[1]


def _require_kinds(old, new):
    if not _has_kinds(new, old):
        raise NotCapturable("the step changes the shape or dtype of an array of the state, or moves it")


def _is_counter(leaf):
    return isinstance(leaf, np.ndarray) and leaf.ndim == 0 and leaf.dtype.kind in "iu"


def _mutable(leaf):
    return np.array(leaf) if isinstance(leaf, np.generic) else leaf


def _memory(x):
    """What is the same for all views of an array on the GPU; None for numbers."""
    return id(x.data.mem) if device_of(x) == "gpu" else None


def _own(value):
    return value.copy() if device_of(value) == "gpu" else value


def _equal(a, b):
    """Whether two trees have the same leaves, to the last bit."""
    return [x.tobytes() for x in _numbers_of(a)] == [x.tobytes() for x in _numbers_of(b)]


def _close(a, b):
    """Whether they differ by rounding only."""
    pairs = zip(_numbers_of(a), _numbers_of(b))
    return all(np.linalg.norm(x - y.astype(np.float64)) <= 1e-3 * np.linalg.norm(x) for x, y in pairs)


def _numbers_of(x):
    """The leaves on the CPU, exactly."""
    return [to_device(leaf, "cpu") for leaf in tree.flatten(x)[0]]


def _place(error, state):
    """Where an error comes from: the innermost line that is neither CuPy's nor here."""
    here_and_cupy = __file__, array_module(*tree.flatten(state)[0]).__file__.removesuffix("__init__.py")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
    inner = next((frame for frame in reversed(frames) if not frame.filename.startswith(here_and_cupy)), None)
    return f" ({Path(inner.filename).name}, line {inner.lineno}: {inner.line})" if inner else ""
