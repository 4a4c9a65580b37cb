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
    """What is left of a tree when its arrays are taken out; `unflatten` puts arrays back."""

    __slots__ = ("children", "keys", "kind", "value")

    def __init__(self, kind, keys=(), children=(), value=None):
        self.kind, self.keys, self.children, self.value = kind, keys, children, value

    def unflatten(self, leaves):
        """The tree with these leaves, in the order in which `flatten` gave them."""
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


def flatten(tree):
    """The arrays of a tree, as a list, and its structure: `structure.unflatten(leaves)` is the tree again."""
    leaves = []
    return leaves, _describe(tree, leaves)


def _describe(tree, leaves):
    kind = type(tree)
    if kind is np.ndarray:  # first, because most leaves are
        leaves.append(tree)
        return _LEAF
    if (keys := getattr(kind, "_keys", None)) is not None:
        return Structure(kind, keys, [_describe(getattr(tree, key), leaves) for key in keys])
    if isinstance(tree, tuple) or kind is list:
        return Structure(kind, range(len(tree)), [_describe(child, leaves) for child in tree])
    if kind is dict:
        keys = sorted(tree)
        return Structure(dict, keys, [_describe(tree[key], leaves) for key in keys])
    if is_leaf(tree):
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
