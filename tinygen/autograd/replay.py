r"""A function that is recorded at its first call and replayed at the next ones: for steps that are taken a thousand times.

    step = capture(value_and_grad(loss, has_aux=True))      the same arguments, the same results to the last bit

A call on small arrays spends its time on finding out what to compute: tracers, rules, the shapes of trees. All that was the
same the last time. So a program (see program.py) is kept for every kind of arguments that the function was called with: the
structure of their trees, with everything in it that is not an array, and the shape, dtype and layout of every array. Generators
are arguments like arrays: their draws are instructions, made by the generator of each call, in their order.

What a program repeats is what the function did with these arguments. It must therefore be pure: a result may depend on nothing
else, and what is not returned is not done again (print, a counter). Numbers inside arrays may not decide which operations come
next: that is refused while recording. That a function is pure cannot be seen, but tested: the first, second, fourth, eighth,
... replay is compared with an ordinary call.
"""

import copy
from functools import update_wrapper
from inspect import signature

import numpy as np

from ..backend import Generator
from . import core, tree
from .program import Draws, NotRecordable, Program, Recorder

KEPT = 8  # programs of one function
TOO_MANY = 32  # that were recorded, and still less often replayed than recorded


class Capture:
    """See `capture`. `program` is the one that ran last, None at first; `reason` says why nothing is recorded any more."""

    def __init__(self, function, required=True):
        self.function, self.required, self.reason = function, required, None
        self._tapes, self._recorded, self._replayed = [], 0, 0  # the tape that ran last comes first
        update_wrapper(self, function, updated=())

    @property
    def program(self):
        return self._tapes[0].program if self._tapes else None

    def __call__(self, *args, **kwargs):
        if self.reason or core.observed():  # an observer wants to see every primitive
            return self.function(*args, **kwargs)
        call = args, kwargs
        for i, tape in enumerate(self._tapes):
            if (inputs := tape.fit(call)) is not None:
                if i:
                    self._tapes.insert(0, self._tapes.pop(i))
                return self._replay(tape, inputs, call)
        return self._record(call)

    def _record(self, call):
        try:
            inputs, structure = tree.flatten(call, also=Generator)
        except TypeError as error:  # an argument that is no tree
            if self.required:
                raise
            self.reason = str(error)
            return self.function(*call[0], **call[1])
        if not all(isinstance(x, (np.ndarray, np.generic, Generator)) for x in inputs):
            return self.function(*call[0], **call[1])  # a value that an outer derivative or program follows, or on a GPU
        self._recorded += 1
        if self._recorded > max(TOO_MANY, self._replayed):
            self.reason, self._tapes = "nearly every call has arguments of a new kind: other shapes, or other constants", []
            return self.function(*call[0], **call[1])
        copies = _with(inputs, _generators(inputs))
        result = self.function(*call[0], **call[1])  # as it is: what fails here has nothing to do with the recording
        try:
            tape = Tape(self.function, copies, structure)
        except Exception as error:
            if self.required:
                raise
            self.reason = f"{type(error).__name__}: {error}"
        else:
            self._tapes = [tape, *self._tapes][:KEPT]
        return result

    def _replay(self, tape, inputs, call):
        tape.replays += 1
        self._replayed += 1
        if tape.replays & (tape.replays - 1):
            return tape.form.unflatten(tape.program(inputs))
        return self._compared(tape, inputs, call)

    def _compared(self, tape, inputs, call):
        """The result of an ordinary call, which that of the program must equal."""
        copies = [_with(inputs, _generators(inputs)) for _ in range(2)]
        replayed = tape.form.unflatten(tape.program(copies[0]))
        result = self.function(*call[0], **call[1])
        if not _equal(result, replayed):
            difference = _difference(tape.program, Recording(self.function, copies[1], tape.structure))
            message = f"capture: {self.__name__} does not repeat itself: {difference}"
            if self.required or tape.replays > 2:  # the third replay was not compared, and may have been wrong
                raise NotRecordable(message)
            self.reason, self._tapes = message, []
        return result


def capture(function, required=True):
    """function, recorded at the first call with arguments of a kind and replayed at the later ones, with equal results.

    The arguments are trees of NumPy arrays, constants and Generators. `print(captured.program)` shows what a replay computes.
    On values that an outer derivative follows it is the function itself. No result is overwritten by a later call; a check of
    numbers that is not an `ops.opaque` function is made in the first calls only.

    NotRecordable, a TypeError, where the function does what a program cannot repeat, and where a replay differs. With
    required=False it is then called as it is, from that time on, and `captured.reason` says why; but if a replay differs after
    others that nobody compared, it is an error all the same.
    """
    return Capture(function, required)


def trace(function, *args, **kwargs):
    """The Program that function(*args, **kwargs) is: print it, to see what is computed. TypeError as for `capture`."""
    inputs, structure = tree.flatten((args, kwargs), also=Generator)
    return Recording(function, _with(inputs, _generators(inputs)), structure).program()


class Recording:
    """A call of a function, written down: the instructions, and the slots of what goes in and comes out."""

    def __init__(self, function, inputs, structure):
        with Recorder() as recorder:
            stand_ins = [recorder.argument(x) for x in inputs]
            args, kwargs = structure.unflatten(stand_ins)
            outputs, self.form = tree.flatten(function(*args, **kwargs), also=Draws)
            if any(type(y) is Draws for y in outputs):
                raise NotRecordable("capture: the function returns a Generator, which a program cannot give out; return arrays")
            self.inputs, self.outputs = [[recorder.slot(x) for x in each] for each in (stand_ins, outputs)]
        self.instructions, self.names = recorder.instructions, _names(function, structure)
        self.name = getattr(function, "__name__", "")

    def program(self):
        name = self.name if self.name.isidentifier() else "f"
        return Program(name, self.names, self.inputs, self.instructions, self.outputs)


class Tape:
    """A program, the arguments that it is for, and how its results are put together."""

    def __init__(self, function, inputs, structure):
        recording = Recording(function, inputs, structure)
        self.program, self.form = recording.program(), recording.form
        self.structure, self.kinds = structure, [_kind(x) for x in inputs]
        self.replays = 0

    def fit(self, call):
        """The inputs of a call, or None if they are of another kind."""
        inputs = self.structure.read(call)
        return inputs if inputs is not None and [_kind(x) for x in inputs] == self.kinds else None


def _kind(x):
    """What a program takes for granted of an argument."""
    return type(x), getattr(x, "shape", None), getattr(x, "dtype", None), getattr(x, "strides", None)


def _names(function, structure):
    """What to call the inputs: w, params.encoder.weight."""
    try:
        parameters = [p.name for p in signature(function).parameters.values() if p.kind is not p.VAR_POSITIONAL]
    except (TypeError, ValueError):
        parameters = []
    names = []
    for path in structure.paths():
        which, first, *rest = path.split(".")
        if which == "0":
            first = parameters[int(first)] if int(first) < len(parameters) else f"argument_{first}"
        names.append(".".join([first, *rest]))
    return names


# Generators, before and after a call


def _generators(inputs):
    """Copies of the Generators among the inputs, which will draw the same numbers."""
    copies = [copy.copy(x) for x in inputs if type(x) is Generator]
    for each in copies:
        each._random = copy.deepcopy(each._random)
    return copies


def _with(inputs, generators):
    generators = iter(generators)
    return [next(generators) if type(x) is Generator else x for x in inputs]


# Comparison


def _equal(a, b):
    """Whether two trees hold the same: constants, and arrays to the last bit."""
    if tree.is_leaf(a) and tree.is_leaf(b):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    one, form = tree.flatten(a)
    other = form.read(b)
    return other is not None and all(tree.is_leaf(y) and _equal(x, y) for x, y in zip(one, other))


def _difference(program, recording):
    """Where a new recording departs from that of a program."""
    old, new = program.recorded, recording.instructions
    for i, (before, now) in enumerate(zip(old, new)):
        if before.function != now.function:
            return (
                f"its operation {i} was {_called(before)} and is now {_called(now)}; so it takes different ways, by something "
                "that is not an argument"
            )
        if not all(map(_equal, before.constants(), now.constants())):
            return (
                f"in its operation {i}, {_called(before)}, a constant has changed: it is made from something that is not an "
                "argument, or that changes while it is used; make it an argument"
            )
    if len(old) != len(new):
        return f"it made {len(old)} operations and now makes {len(new)}; so something that is not an argument decides"
    return "its operations and constants are the same, so an operation, or what is returned beside arrays, is not pure"


def _called(instruction):
    shapes = ", ".join("..." if x.shape is None else f"{x.dtype}{tuple(x.shape)}" for x in instruction.read())
    return f"{instruction.function.__name__}({shapes})"
