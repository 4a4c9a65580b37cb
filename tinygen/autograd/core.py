r"""How a computation is recorded, so that it can be differentiated (`reverse.py` then does so).

A computation is a chain of primitives, functions of arrays that know their own derivatives: one rule per argument, the
vector-Jacobian product (VJP) g -> g^T dp/dx. Three ideas carry all of this package:

* **Gradients by rewriting.** A rule is an ordinary function made of primitives. Given arrays it computes; given tracers it is
  itself recorded. So `grad(grad(f))` needs no flag: the backward pass of the inner gradient is just more computation.
* **Levels.** Every running derivative has a level of its own, rising inwards. A tracer belongs to one level, and a primitive
  is recorded at the highest level among its arguments, then called again one level down. A function that closes over the
  variable of an outer derivative therefore never confuses the two.
* **Keep what is named.** A rule receives what its parameters name, and nothing else stays in memory until the backward pass.

Source for nested levels: Pearlmutter & Siskind 2008, *Reverse-mode AD in a functional framework*.
"""

from contextlib import contextmanager
from functools import update_wrapper
from inspect import Parameter, signature
from itertools import count
from types import MethodType

from ..backend import array_module

levels = count(1)  # one for every derivative ever started: an inner one starts later, so its level is higher
_clock = count()  # the order in which nodes are made is a topological order: a result is younger than what made it
_observer = None  # see `observe`
recorders = {}  # the levels at which a function is written down as a program, not differentiated; see `program.py`


class Tracer:
    """A value that is being differentiated: an array (or a tracer of a lower level) and the node that made it.

    It behaves like its array: `tinygen.ops` adds the operators (+, *, @, [], ...) and methods. Comparisons give plain arrays.
    """

    __slots__ = ("level", "node", "value")
    __array_priority__ = 1000  # so that `array * tracer` asks the tracer

    def __init__(self, value, level, node):
        self.value, self.level, self.node = value, level, node

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: len(self.value.shape))
    size = property(lambda self: self.value.size)

    def __len__(self):
        return len(self.value)

    def __repr__(self):
        return f"Tracer(level={self.level}, {self.value!r})"

    def __array__(self, *_, **__):
        if self.level in recorders:
            raise recorders[self.level].refusal(self)
        raise TypeError(
            f"a NumPy function was given a value that is being differentiated, of shape {self.shape}: use the function of the "
            "same name in tinygen.ops, or stop_gradient(x) where no derivative is wanted"
        )

    __array_function__ = __float__ = __int__ = __index__ = __array__


class Node:
    """How one value was made: by which primitive, from which parents, and what its rules asked to keep.

    `parents` holds a pair (argument number, node) for each argument that is traced at this level; a leaf has none.
    """

    __slots__ = ("dtype", "kept", "order", "parents", "primitive", "shape")

    def __init__(self, value, primitive=None, parents=(), kept=None):
        self.order = next(_clock)
        self.shape, self.dtype = value.shape, value.dtype
        self.primitive, self.parents, self.kept = primitive, parents, kept


class Primitive:
    r"""A function of arrays that knows its own vector-Jacobian products: `y = p(*arrays, **static)`.

    Parameters without a default are array arguments, and `*arrays` any number of them; parameters with one are static.
    `p.rule(x=lambda g, x, y: ...)` gives the VJP for argument x: g (shape of y) -> g^T dy/dx (shape of x). A rule names

        g first, then any of: y, an argument, a static parameter, x_shape (the shape of x, without keeping x alive),
        and, for variadic arguments, i (which one).

    It may return a cotangent of the shape that x was broadcast to: the core sums it back; or None, for zero. A rule that makes
    several cotangents in one pass is given for each of these arguments, and returns a tuple of one for each argument of p.
    """

    def __init__(self, forward):
        update_wrapper(self, forward)
        self.forward = forward
        self.signature = signature(forward)  # looking it up anew in each call would take longer than many a primitive
        parameters = self.signature.parameters.values()
        self.variadic = next((p.name for p in parameters if p.kind is Parameter.VAR_POSITIONAL), None)
        self.defaults = {p.name: p.default for p in parameters if p.default is not Parameter.empty}
        self.arguments = [p.name for p in parameters if p.name not in self.defaults]
        self.rules = {}

    def __repr__(self):
        return f"<primitive {self.__name__}>"

    def __get__(self, instance, owner=None):  # a primitive can serve as a method, and `help` treats it as a function
        return self if instance is None else MethodType(self, instance)

    def rule(self, **rules):
        """Register VJP rules by argument name. TypeError where a rule names something that this primitive does not have."""
        known = {
            "y",
            *self.arguments,
            *(f"{a}_shape" for a in self.arguments),
            *self.defaults,
            *((self.variadic and "i") or ()),
        }
        for argument, function in rules.items():
            first, wants = [*signature(function).parameters][:1], [*signature(function).parameters][1:]
            if argument not in self.arguments or first != ["g"] or not known.issuperset(wants):
                raise TypeError(
                    f"{self.__name__}: the rule for {argument!r} takes ({', '.join(first + wants)}); it must be for one of "
                    f"{self.arguments}, take g first, and then only names among {sorted(known)}"
                )
            self.rules[argument] = function, wants
        return self

    def __call__(self, *args, **static):
        if len(args) != len(self.arguments) and not self.variadic:
            args, static = self._bind(args, static)
        level = 0
        for a in args:
            if type(a) is Tracer and a.level > level:
                level = a.level
        if recorders:  # a program may also compute what is static to derivatives, such as the indices of an embedding
            level = max(level, level_within(static))
            if level in recorders:
                return recorders[level].call(self, args, static)
        return self._record(level, args, static) if level else self._evaluate(args, static)

    def _bind(self, args, static):
        """Sort arguments given by keyword, and static ones given by position, into their places."""
        try:
            bound = self.signature.bind(*args, **static).arguments
        except TypeError as error:
            raise TypeError(f"{self.__name__}{self.signature}: {error}") from None
        return [bound.pop(name) for name in self.arguments], bound

    def _evaluate(self, args, static):
        try:
            y = self.forward(*args, **static)
        except (TypeError, ValueError, IndexError) as error:
            kind = TypeError if isinstance(error, TypeError) else type(error)  # NumPy's own TypeErrors take no message
            raise kind(_explain(self, args, error)) from error
        if _observer is not None:
            _observer(self, args, y)
        return y

    def _record(self, level, args, static):
        below = [a.value if type(a) is Tracer and a.level == level else a for a in args]
        y = self(*below, **static)  # the same call, one level down
        parents, kept = [], {}
        for i, a in enumerate(args):
            if type(a) is Tracer and a.level == level:
                _, wants = self.rule_for(i)
                parents.append((i, a.node))
                for name in wants:
                    if name not in kept:
                        kept[name] = self._look_up(name, y, below, static)
        return Tracer(y, level, Node(y, self, parents, kept))

    def rule_for(self, i):
        argument = self.variadic or self.arguments[i]
        if argument not in self.rules:
            raise TypeError(
                f"{self.__name__} has no derivative with respect to {argument!r}; where none is wanted, pass "
                f"stop_gradient({argument})"
            )
        return self.rules[argument]

    def _look_up(self, name, y, args, static):
        if name == "y":
            return y
        if name in self.defaults:
            return static.get(name, self.defaults[name])
        if name == "i":
            return None  # known only when the rule runs
        argument = name.removesuffix("_shape")
        if argument == self.variadic:
            return args if name == argument else [a.shape for a in args]
        value = args[self.arguments.index(argument)]
        return value if name == argument else getattr(value, "shape", ())


def level_within(x):
    """The highest level of the tracers in tuples, lists and dicts; 0 if there is none."""
    if type(x) is Tracer:
        return x.level
    inside = x.values() if type(x) is dict else x if isinstance(x, (tuple, list)) else ()
    return max(map(level_within, inside), default=0)


def _explain(primitive, args, error):
    """What a failing forward should say: the operation, the shapes, the cause, the remedy."""
    message = str(error)
    if message.startswith(f"{primitive.__name__}: ") and "gufunc" not in message:  # the forward, not NumPy, has said it all
        return message
    shapes = ", ".join(f"{a.dtype}{tuple(a.shape)}" if hasattr(a, "shape") else repr(a) for a in args)
    remedy = ""
    if len({array_module(a).__name__ for a in args if hasattr(a, "shape")}) > 1:
        remedy = "; arrays of NumPy and CuPy are mixed: move them to one device with tinygen.backend.to_device"
    elif "core dimension" in message:
        remedy = "; the axes that are summed over must be equally long: transpose one of the arrays"
    elif "broadcast" in message:
        remedy = "; align the trailing axes, or insert one with x[:, None]"
    return f"{primitive.__name__}({shapes}): {message}{remedy}"


@contextmanager
def observe(callback):
    """Call callback(primitive, args, y) after every primitive that computes, forward and backward, within the block."""
    global _observer
    before, _observer = _observer, callback
    try:
        yield
    finally:
        _observer = before


def observed():
    """Whether somebody observes."""
    return _observer is not None
