r"""A function as a straight line of instructions: recorded once, with all of its derivatives, and then just run.

A function of arrays of fixed shapes computes the same primitives in the same order every time. To find out which, call it once
with tracers of a level of its own. A derivative inside the function starts later, so its level is higher, and what its backward
pass computes comes down to this one like everything else: a gradient is just more lines.

    >>> import numpy as np
    >>> from tinygen import grad, ops
    >>> from tinygen.autograd import trace
    >>> def loss(w, x, t):
    ...     return ops.square(ops.tanh(x @ w) - t).mean()
    >>> w, x, t = np.ones((3, 2), np.float32), np.ones((5, 3), np.float32), np.ones((5, 2), np.float32)
    >>> print(trace(grad(loss), w, x, t))
    def loss(w, x, t):
        a = x @ w                  # float32(5, 2)
        b = tanh(a)                # float32(5, 2)
        c = b - t                  # float32(5, 2)
        d = 0.1 * c                # float32(5, 2)
        e = d + d                  # float32(5, 2)
        f = tanh_gradient(e, b)    # float32(5, 2)
        g = x.T                    # float32(3, 5)
        h = g @ f                  # float32(3, 2)
        return h

What was recorded is made shorter by two rules that do not change a bit of any result: what no result needs is left out, and
what is computed twice is computed once. Whatever depends on no argument was computed while recording, and is a constant (above,
0.1 is the derivative of the mean). Then the lines become a Python function, which calls the primitives' forwards and nothing
else; or where a kernel does two of them in one pass (`together`), that kernel.

No memory is planned: places for intermediate results, kept from run to run and shared by what is not needed at the same time,
made no step faster, as the C library hands the memory that was just freed to the next result anyway (see kernels/memory.py).

Source: Griewank & Walther 2008, *Evaluating Derivatives*, ch. 2 (the evaluation trace) and 6 (its simplification).
"""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import count
from keyword import iskeyword

import numpy as np

from ..backend import Generator
from .core import Tracer, levels, recorders


@dataclass(frozen=True)
class Notation:
    """How a program writes a primitive: as an expression of {0}, {1}, ... and its static parameters by name; or as a call.

    settle(*operands, **static), operands being slots or constants, may return a function of the operands alone that computes
    what the primitive's forward does for NumPy arrays of these shapes and dtypes, to the last bit, but asks fewer questions.
    """

    expression: str = None
    settle: object = None


notations = {}  # of primitives; see ops/operators.py
# {(p, q): settle}: settle(first, second), an instruction of p and one of q whose first operand it makes, may return a function
# of first's operands and second's others that does both at once, with the same result to the last bit
together = {}


class Slot:
    """Where a value stands in a program: an input, or the result of an instruction. `owner` is the slot whose memory it is a
    view of, or itself; shape and dtype are None for what is no array."""

    __slots__ = ("dtype", "owner", "shape")

    def __init__(self, value, owner=None):
        self.shape, self.dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        self.owner = self if owner is None else owner


@dataclass(eq=False)
class Instruction:
    """result = function(*operands, **static): a primitive, or a draw of random numbers. Operands, also those within what is
    static, are slots or constants. One with an effect is never left out."""

    function: object
    operands: tuple
    static: dict
    result: Slot
    effect: bool

    def read(self):
        """The slots that it reads."""
        return [x for x in _within((self.operands, self.static)) if type(x) is Slot]

    def all_static(self):
        return getattr(self.function, "defaults", {}) | self.static

    def constants(self):
        return [x for x in _within((self.operands, self.static)) if type(x) is not Slot]

    def with_slots(self, replace):
        return Instruction(
            self.function, _mapped(self.operands, replace), _mapped(self.static, replace), self.result, self.effect
        )


class NotRecordable(TypeError):
    """A function does what no program can repeat; the message says what, and the remedy."""


# Recording


class Recorder:
    """Writes down what is called with its tracers, while it is computed."""

    def __init__(self):
        self.level, self.instructions = next(levels), []

    def __enter__(self):
        recorders[self.level] = self
        return self

    def __exit__(self, *_):
        del recorders[self.level]

    def argument(self, x):
        """What stands for an array or a Generator while the function is recorded."""
        return Draws(self, x, Slot(x)) if type(x) is Generator else Tracer(x, self.level, Slot(x))

    def call(self, primitive, args, static):
        """The instruction for primitive(*args, **static), carried out and written down."""
        compute = primitive if primitive.rules else primitive.forward  # an opaque function speaks for itself
        return self._write(primitive, compute, tuple(args), static)

    def draw(self, draws, method, args, static):
        return self._write(Draw(method), Draw(method), (draws, *args), static, effect=True)

    def _write(self, function, compute, args, static, effect=False):
        operands = _mapped(args, self._value)
        y = compute(*operands, **_mapped(static, self._value))
        result = Slot(y, _owner(y, zip(args, operands)))
        effect = effect or y is None
        self.instructions.append(Instruction(function, _mapped(args, self.slot), _mapped(static, self.slot), result, effect))
        return self._stand_in(y, result)

    def _stand_in(self, y, slot):
        if type(y) is Generator:
            return Draws(self, y, slot)
        if type(y) is list:  # of generators
            return [self._write(_item, lambda _, i, g=g: g, (Draws(self, y, slot), i), {}) for i, g in enumerate(y)]
        if y is not None and not hasattr(y, "shape"):
            raise NotRecordable(f"capture: {type(y).__name__} is no array; primitives and opaque functions return arrays")
        return y if y is None else Tracer(y, self.level, slot)

    def _value(self, x):
        if type(x) is Tracer:
            return x.value
        return x.generator if type(x) is Draws else x

    def slot(self, x):
        """The slot of a value that the recorder made, or the constant x."""
        if type(x) is Tracer and x.level != self.level:
            raise NotRecordable(
                f"capture: a value of shape {x.shape} that another derivative follows came in by a closure, and would be taken "
                "for a constant; make it an argument of the captured function"
            )
        return x.node if type(x) is Tracer else x.slot if type(x) is Draws else x

    def refusal(self, x):
        return NotRecordable(
            f"capture: the function looks at a number in an array of shape {x.shape} (by if, float, int or NumPy), but what is "
            "recorded must hold for all numbers: choose with ops.where, use the functions of tinygen.ops, return metrics as "
            "arrays, declare what only NumPy can do as @ops.opaque, or leave this part out of the captured function"
        )


class Draws:
    """Stands for a Generator while a function is recorded: what is drawn becomes an instruction."""

    def __init__(self, recorder, generator, slot):
        self.recorder, self.generator, self.slot = recorder, generator, slot

    def __getattr__(self, name):
        if name.startswith("_") or not callable(getattr(Generator, name, None)):
            return getattr(self.generator, name)  # which knows what it has
        return lambda *args, **static: self.recorder.draw(self, name, args, static)


@dataclass(frozen=True)
class Draw:
    """A method of a Generator, as a function whose first argument is the Generator."""

    __name__: str

    def __call__(self, generator, *args, **static):
        return getattr(generator, self.__name__)(*args, **static)


def _item(generators, i):
    return generators[i]


def _owner(y, operands):
    """The slot of which an array is a view, or None."""
    root = _root(y)
    for arg, value in operands:
        if type(arg) is Tracer and _root(value) is root:
            return arg.node.owner
    return None


def _root(x):
    while getattr(x, "base", None) is not None:
        x = x.base
    return x


def _mapped(x, f):
    """A static value with f applied to everything in its tuples, lists and dicts."""
    if type(x) in (tuple, list):
        return type(x)(_mapped(each, f) for each in x)
    return {key: _mapped(each, f) for key, each in x.items()} if type(x) is dict else f(x)


def _within(x):
    if type(x) in (tuple, list, dict):
        for each in x.values() if type(x) is dict else x:
            yield from _within(each)
    else:
        yield x


# Simplification


def simplified(instructions, outputs):
    """The instructions that compute the same outputs (slots or constants), each thing once, and no more than is needed.

    What is given out, or is a part of it, stays what it is: two equal results must not become one array, which whoever changes
    the one would not expect. But what is given out may serve inside the program, too, which has been left when it is changed.
    """
    slots = {y for y in outputs if type(y) is Slot}
    given = {y.owner for y in slots}
    same, seen, kept = {}, {}, []
    for instruction in instructions:
        instruction = instruction.with_slots(lambda x: same.get(x, x) if type(x) is Slot else x)
        key = instruction.function, _frozen(instruction.operands), _frozen(instruction.static)
        result, twin = instruction.result, None if instruction.effect else seen.setdefault(key, instruction.result)
        if twin in (None, result) or result in slots or {twin.owner, result.owner} <= given:
            kept.append(instruction)
        else:
            same[result] = twin
            if result.owner in given:
                given.add(twin.owner)
    return _needed(kept, outputs)


def _frozen(x):
    """A hashable stand-in, equal only for what is the same to the last bit: 0.0 and -0.0, 1 and True differ."""
    if type(x) in (tuple, list):
        return type(x), *map(_frozen, x)
    if type(x) is dict:
        return tuple((key, _frozen(x[key])) for key in sorted(x))
    if type(x) is slice:
        return slice, _frozen(x.start), _frozen(x.stop), _frozen(x.step)
    if type(x) is float:
        return float, x.hex()
    if type(x) in (int, bool, str, type(None)):
        return type(x), x
    return x if type(x) is Slot else (type(x), id(x))


def _needed(instructions, outputs):
    wanted, kept = {y for y in outputs if type(y) is Slot}, []
    for instruction in reversed(instructions):
        if instruction.effect or instruction.result in wanted:
            wanted.update(instruction.read())
            kept.append(instruction)
    return kept[::-1]


# The program


class Program:
    """outputs = program(inputs): lists of arrays, and the Generators among the inputs. `print` shows its lines.

    `recorded` has the instructions as they came; `instructions` those that are carried out.
    """

    def __init__(self, name, names, inputs, instructions, outputs):
        self.name, self.names, self.inputs, self.outputs = name, names, inputs, outputs
        self.recorded, self.instructions = instructions, simplified(instructions, outputs)
        self._run = _compiled(self)

    def __call__(self, inputs):
        return self._run(inputs)

    def __str__(self):
        return _listing(self)


def _compiled(program):
    """The program as a Python function of its inputs. It lets go of every result after the last line that reads it."""
    known, instructions = {"copy": _copy}, _paired(program.instructions, program.outputs)
    names = {x: f"x{i}" for i, x in enumerate(program.inputs)}
    names |= {instruction.result: f"v{i}" for i, instruction in enumerate(instructions)}

    def bound(x):
        """A name, or a number, within the function for what is not made there."""
        if type(x) in (int, bool, type(None)):
            return repr(x)
        known[f"k{len(known)}"] = x
        return f"k{len(known) - 1}"

    last = {}
    for i, instruction in enumerate(instructions):
        last.update(dict.fromkeys([*instruction.read(), instruction.result], i))
    for y in program.outputs:
        last.pop(y if type(y) is Slot else None, None)
    lines = [f"[{', '.join(names[x] for x in program.inputs)}] = inputs"]
    for i, instruction in enumerate(instructions):
        operands = [_written(x, names, bound) for x in instruction.operands]
        notation = notations.get(instruction.function)
        settled = notation and notation.settle and notation.settle(*instruction.operands, **instruction.all_static())
        if settled:
            line = _call(bound(settled), operands, {})
        else:
            static = {name: _written(x, names, bound) for name, x in instruction.static.items()}
            forward = getattr(instruction.function, "forward", instruction.function)
            line = _expression(instruction, operands, static) or _call(bound(forward), operands, static)
        lines.append(f"{names[instruction.result]} = {line}")
        gone = [names[x] for x in dict.fromkeys([*instruction.read(), instruction.result]) if last.get(x) == i]
        if gone:
            lines.append(f"del {', '.join(gone)}")
    given = [names[y] if type(y) is Slot else f"copy({bound(y)})" for y in program.outputs]
    source = "\n    ".join(["def run(inputs):", *lines, f"return [{', '.join(given)}]"])
    exec(compile(source, f"<the program of {program.name}>", "exec"), known)
    return known["run"]


def _paired(instructions, outputs):
    """The instructions, two as one where one function does both, and only the second reads what the first makes."""
    makers = {instruction.result: instruction for instruction in instructions}
    readers = Counter(x for instruction in instructions for x in instruction.read())
    readers.update(y for y in outputs if type(y) is Slot)
    pairs, done = {}, set()
    for second in instructions:
        first = makers.get(second.operands[0]) if second.operands and type(second.operands[0]) is Slot else None
        settle = together.get((first.function, second.function)) if first and readers[first.result] == 1 else None
        if settle and (both := settle(first, second)):
            pairs[second] = Instruction(both, (*first.operands, *second.operands[1:]), {}, second.result, second.effect)
            done.add(first)
    return [pairs.get(instruction, instruction) for instruction in instructions if instruction not in done]


def _copy(constant):
    """A constant that is given out: the next run must give it out as it is now, whatever is done to this one."""
    return constant.copy() if isinstance(constant, np.ndarray) and constant.flags.writeable else constant


def _expression(instruction, operands, static):
    """What stands right of the equals sign, where that is no call of the function by its name; else None."""
    notation = notations.get(instruction.function)
    if type(instruction.function) is Draw:
        generator, *operands = operands
        return _call(f"{generator}.{instruction.function.__name__}", operands, static)
    if notation is None or notation.expression is None:
        return None
    if operands[0].startswith("-") and "**" in notation.expression:
        operands = [f"({operands[0]})", *operands[1:]]
    defaults = {name: repr(value) for name, value in instruction.function.defaults.items()}
    return notation.expression.format(*operands, **defaults | static)


def _call(function, operands, static):
    return f"{function}({', '.join([*operands, *(f'{name}={x}' for name, x in static.items())])})"


def _written(x, names, constant):
    """The source of a static value in which there may be slots."""
    if not any(type(each) is Slot for each in _within(x)):
        return constant(x)
    if type(x) is dict:
        return "{" + ", ".join(f"{key!r}: {_written(each, names, constant)}" for key, each in x.items()) + "}"
    if type(x) in (tuple, list):
        inside = ", ".join(_written(each, names, constant) for each in x)
        return f"[{inside}]" if type(x) is list else f"({inside}{',' * (len(x) == 1)})"
    return names[x]


# The listing


def _listing(program):
    letters = _letters({name.partition(".")[0] for name in program.names})
    names = dict(zip(program.inputs, map(_path, program.names)))
    lines = []
    for instruction in program.instructions:
        operands = [_written(x, names, _brief) for x in instruction.operands]
        defaults = getattr(instruction.function, "defaults", {})
        told = {
            name: _written(x, names, _brief)
            for name, x in instruction.static.items()
            if _frozen(x) != _frozen(defaults.get(name, Slot(None)))
        }
        line = _expression(instruction, operands, told) or _call(instruction.function.__name__, operands, told)
        line = re.sub(r"\[\((.*?),?\)\]$", r"[\1]", line.replace(".transpose((1, 0))", ".T"))  # x[(:, 0)] is x[:, 0]
        if not (instruction.result.shape is None and instruction.effect):
            names[instruction.result] = next(letters)
            line = f"{names[instruction.result]} = {line}"
        lines.append((line, instruction.result))
    width = max((len(line) for line, _ in lines), default=0)
    body = [line if y.shape is None else f"{line:{width}}    # {y.dtype}{tuple(y.shape)}" for line, y in lines]
    outputs = [names[y] if type(y) is Slot else _brief(y) for y in program.outputs]
    arguments = dict.fromkeys(name.partition(".")[0] for name in program.names)
    return "\n    ".join([f"def {program.name}({', '.join(arguments)}):", *body, f"return {', '.join(outputs)}"])


def _letters(taken):
    """a, b, ..., z, aa, ab, ..., without what is taken and what Python takes for a word."""
    for n in count(1):
        name, rest = "", n
        while rest:
            rest, letter = divmod(rest - 1, 26)
            name = chr(ord("a") + letter) + name
        if name not in taken and not iskeyword(name):
            yield name


def _path(name):
    """layers.0.weight as Python writes it: layers[0].weight."""
    head, *rest = name.split(".")
    return head + "".join(f"[{key}]" if key.isdigit() else f".{key}" for key in rest)


def _brief(x):
    """A constant for a reader: numbers as they are, slices as between brackets, arrays by the number that fills them."""
    if isinstance(x, (np.ndarray, np.generic)):
        if x.size and (x == x.flat[0]).all():
            return f"{x.flat[0]:g}" if x.dtype.kind == "f" else str(x.flat[0])
        return f"{x.dtype}{tuple(x.shape)}"
    if type(x) is tuple:
        return f"({', '.join(map(_brief, x))}{',' * (len(x) == 1)})"
    if isinstance(x, np.dtype):
        return str(x)
    if type(x) is slice:
        ends = ["" if end is None else str(end) for end in (x.start, x.stop)]
        return ":".join(ends if x.step is None else [*ends, str(x.step)])
    return "..." if x is Ellipsis else f"{x:g}" if type(x) is float else getattr(x, "__name__", repr(x))
