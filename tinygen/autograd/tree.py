"""Trees: the shape in which models, optimiser states and batches travel.

A tree is an array (a leaf), or a tuple, list, dict or `@module` of trees. Everything else (numbers, strings, functions, None)
is structure: it says what the tree is, carries no gradient and is not saved. So a model is an ordinary frozen dataclass,

    @module
    class Linear:
        weight: Array
        bias: Array

and `grad` of a function of a model is a model of gradients.
"""

from dataclasses import dataclass, fields, is_dataclass
from types import MethodType
from typing import Any

import numpy as np

Array = Any  # of NumPy or of CuPy, or one that is being differentiated


def module(cls):
    """Make a class a frozen dataclass that is a tree: its fields are its children, in the order of their declaration."""
    cls = dataclass(frozen=True, eq=False, repr=False)(cls)
    cls.__repr__ = _summary
    cls._keys = [field.name for field in fields(cls)]
    return cls


def is_leaf(x):
    """Whether x is an array: of NumPy, of CuPy, or one that is being differentiated."""
    return hasattr(x, "dtype") and hasattr(x, "shape") and not isinstance(x, type)


class Structure:
    """What is left of a tree when its arrays are taken out; `unflatten` puts arrays back.

    A structure that is used again and again writes itself functions for it, which ask nothing at every node.
    """

    __slots__ = ("_builder", "_built", "_reader", "children", "keys", "kind", "value")

    def __init__(self, kind, keys=(), children=(), value=None):
        self.kind, self.keys, self.children, self.value = kind, keys, children, value
        self._built, self._builder, self._reader = 0, None, None

    def read(self, tree):
        """The leaves of a tree, or None if it is of another structure or has other constants."""
        if self._reader is None:
            self._reader = _reader(self)
        return self._reader(tree)

    def unflatten(self, leaves):
        """The tree with these leaves, in the order in which `flatten` gave them."""
        self._built += 1
        if self._built > 3:  # sooner it would not be worth it
            leaves = list(leaves)
            if self._builder is None:
                self._builder = len(self.paths()), _builder(self)
            if len(leaves) == self._builder[0]:
                return self._builder[1](leaves)
        leaves = iter(leaves)
        tree = self._build(leaves)
        if next(leaves, leaves) is not leaves:
            raise ValueError("unflatten: there are more leaves than places in the tree")
        return tree

    def _build(self, leaves):
        if self.kind == "leaf":
            try:
                return next(leaves)
            except StopIteration:
                raise ValueError("unflatten: there are fewer leaves than places in the tree") from None
        if self.kind == "constant":
            return self.value
        parts = [child._build(leaves) for child in self.children]
        if self.kind in (tuple, list):
            return self.kind(parts)
        if self.kind is dict:
            return dict(zip(self.keys, parts))
        if issubclass(self.kind, tuple):
            return self.kind(*parts)
        made = object.__new__(self.kind)  # a frozen dataclass whose checks ran when it was first made
        made.__dict__.update(zip(self.keys, parts))
        return made

    def paths(self, prefix=""):
        """Where each leaf lies: "encoder.layers.0.weight"."""
        if self.kind == "leaf":
            return [prefix]
        return [
            path
            for key, child in zip(self.keys, self.children)
            for path in child.paths(f"{prefix}.{key}" if prefix else str(key))
        ]

    def difference(self, other):
        """The first path at which two structures differ, or None. Constants may differ: they are no part of the shape."""
        place = self._first_difference(other)
        return place if place is None else ".".join(str(key) for key in place) or "the root"

    def _first_difference(self, other):
        if self is other:
            return None
        if self.kind != other.kind or self.keys != other.keys:
            return []
        for key, a, b in zip(self.keys, self.children, other.children):
            place = a._first_difference(b)
            if place is not None:
                return [key, *place]
        return None


_LEAF = Structure("leaf")


def flatten(tree, also=()):
    """The arrays of a tree, as a list, and its structure: `structure.unflatten(leaves)` is the tree again.

    What is of a type in `also` counts as an array.
    """
    leaves = []
    return leaves, _describe(tree, leaves, also)


def _describe(tree, leaves, also):
    kind = type(tree)
    if kind is np.ndarray:  # first, because most leaves are
        leaves.append(tree)
        return _LEAF
    if (keys := getattr(kind, "_keys", None)) is not None:
        return Structure(kind, keys, [_describe(getattr(tree, key), leaves, also) for key in keys])
    if isinstance(tree, tuple) or kind is list:
        return Structure(kind, range(len(tree)), [_describe(child, leaves, also) for child in tree])
    if kind is dict:
        keys = sorted(tree)
        return Structure(dict, keys, [_describe(tree[key], leaves, also) for key in keys])
    if is_leaf(tree) or isinstance(tree, also):
        leaves.append(tree)
        return _LEAF
    if is_dataclass(tree) and not isinstance(tree, type):
        raise TypeError(f"{kind.__name__} is a dataclass but not a tree: decorate it with @module, so that its arrays are seen")
    return Structure("constant", value=tree)


def paths(tree):
    """The path of each leaf, parallel to the leaves of `flatten`."""
    return flatten(tree)[1].paths()


def map(f, tree, *rest):
    """f applied to each leaf of tree and the leaves at the same place in rest. ValueError where the trees differ."""
    leaves, structure = flatten(tree)
    columns = [leaves]
    for other in rest:
        other_leaves, other_structure = flatten(other)
        place = structure.difference(other_structure)
        if place:
            raise ValueError(
                f"tree.map: the trees differ at {place}: {type(tree).__name__} and {type(other).__name__} must match"
            )
        columns.append(other_leaves)
    return structure.unflatten([f(*xs) for xs in zip(*columns)])


def dot(a, b):
    """The inner product of two trees, summed over all their leaves. ValueError where their shapes differ."""

    def product(x, y):
        if x.shape != y.shape:
            raise ValueError(f"tree.dot: leaves of shapes {tuple(x.shape)} and {tuple(y.shape)}; they must agree")
        return (x * y).sum()

    return sum(flatten(map(product, a, b))[0])


def size(tree):
    """How many numbers a tree holds: the number of parameters of a model."""
    return sum(leaf.size for leaf in flatten(tree)[0])


def replace(tree, path, value):
    """The tree with the part at `path` ("encoder.layers.0") replaced by value."""
    head, _, rest = path.partition(".")
    if isinstance(tree, (tuple, list)):
        parts = list(tree)
        parts[int(head)] = replace(parts[int(head)], rest, value) if rest else value
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, dict):
        return {**tree, head: replace(tree[head], rest, value) if rest else value}
    old = getattr(tree, head)
    made = object.__new__(type(tree))
    made.__dict__.update({**tree.__dict__, head: replace(old, rest, value) if rest else value})
    return made


def _summary(module):
    """Linear(weight=float32(784, 400), bias=float32(400,))"""
    inside = ", ".join(f"{field.name}={_brief(getattr(module, field.name))}" for field in fields(module))
    return f"{type(module).__name__}({inside})"


def _brief(x):
    if is_leaf(x):
        return f"{x.dtype}{tuple(x.shape)}"
    if isinstance(x, (tuple, list)):
        return "[" + ", ".join(_brief(child) for child in x) + "]"
    return getattr(x, "__name__", None) or repr(x)


# Functions for one structure, ten times as fast as a walk along it


def _reader(structure):
    """tree -> its leaves, or None; a line of source for each node, such as `if type(tree_1) is not Linear: return None`."""
    lines, known, leaves = [], {"same": _same_constant}, []

    def visit(part, name):
        if part.kind == "leaf":
            leaves.append(name)
            return
        if part.kind == "constant":
            value = _bound(part.value, known)
            lines.append(f"if {name} is not {value} and not same({name}, {value}): return None")
            return
        lines.append(f"if type({name}) is not {_bound(part.kind, known)}: return None")
        children = [f"{name}_{i}" for i in range(len(part.children))]
        if part.kind is dict:
            lines.append(f"if {name}.keys() != {_bound(set(part.keys), known)}: return None")
            lines.extend(f"{child} = {name}[{_bound(key, known)}]" for child, key in zip(children, part.keys))
        elif issubclass(part.kind, (tuple, list)):
            lines.append(f"if len({name}) != {len(children)}: return None")
            lines.append(f"[{', '.join(children)}] = {name}")
        else:
            lines.extend(f"{child} = {name}.{key}" for child, key in zip(children, part.keys))
        for child, child_name in zip(part.children, children):
            visit(child, child_name)

    visit(structure, "tree")
    return _made("tree", [*lines, f"return [{', '.join(leaves)}]"], known)


def _builder(structure):
    """leaves -> the tree, as `Structure._build` builds it."""
    lines, known, leaves = [], {"new": object.__new__}, []

    def expression(part):
        if part.kind == "leaf":
            leaves.append(f"leaf_{len(leaves)}")
            return leaves[-1]
        if part.kind == "constant":
            return _bound(part.value, known)
        children = [expression(child) for child in part.children]
        if part.kind is list:
            return f"[{', '.join(children)}]"
        if part.kind is tuple:
            return f"({''.join(f'{child}, ' for child in children)})"
        if part.kind is dict:
            return "{" + ", ".join(f"{_bound(key, known)}: {child}" for key, child in zip(part.keys, children)) + "}"
        if issubclass(part.kind, tuple):
            return f"{_bound(part.kind, known)}({', '.join(children)})"
        name = f"part_{len(lines)}"
        lines.append(f"{name} = new({_bound(part.kind, known)})")
        lines.append(f"{name}.__dict__.update({', '.join(f'{key}={child}' for key, child in zip(part.keys, children))})")
        return name

    result = expression(structure)
    return _made("leaves", [f"[{', '.join(leaves)}] = leaves", *lines, f"return {result}"], known)


def _bound(x, known):
    """A name in the source for a thing from outside."""
    known[f"k{len(known)}"] = x
    return f"k{len(known) - 1}"


def _made(argument, lines, known):
    exec("\n    ".join([f"def made({argument}):", *lines]), known)
    return known["made"]


def _same_constant(a, b):
    """Whether two constants surely mean the same: plain values that read the same (0.0 and -0.0 do not), or one object."""
    if type(a) is not type(b):
        return False
    return a is b or (repr(a) == repr(b) if isinstance(a, PLAIN) else isinstance(a, (MethodType, np.dtype)) and a == b)


PLAIN = (bool, int, float, complex, str, bytes, slice, range)
