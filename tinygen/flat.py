r"""Trees that are flat: their numbers lie side by side in one vector for each dtype, and the leaves are views of it.

    vector    | weight of layer 0 . . . . . . | bias | weight of layer 1 . . . . . . | bias |
    leaves      0, of shape (784, 400)          1      2, of shape (400, 40)           3

What happens to every number alike, a step of an optimiser or a moving average, is then one pass over one vector. A call for
each leaf would take longer than the arithmetic, unless the leaves are large. In every other way a flat tree is like any other;
but one leaf of it, as long as somebody holds it, keeps the whole vector alive.

    layout, vectors = flat.vectors(params)        no copy where params came from `layout.tree`
    [gradient] = layout.gather(gradients)
    params = layout.tree([p - rate * gradient for p in vectors])
"""

from itertools import accumulate, groupby
from operator import is_
from weakref import ref

import numpy as np

from .autograd import tree
from .backend import array_module
from .kernels import cuda

LARGE = 1 << 14  # numbers: to copy them takes longer than a call for them alone
_flat_trees = {}  # by the identity of its first leaf, while that lives: (layout, references to all leaves, vectors)
_flat_modules = {}  # by the identity of the tree, where that says all: (reference to it, (layout, vectors))


class Layout:
    """Where the leaves of a tree lie in its vectors, one for each dtype, in the order in which they come in the tree."""

    def __init__(self, structure, leaves):
        self.structure, self.frozen = structure, _is_frozen(structure)
        self.shapes, self.has_large = [leaf.shape for leaf in leaves], any(leaf.size >= LARGE for leaf in leaves)
        self.dtypes = list(dict.fromkeys(leaf.dtype for leaf in leaves))
        self.members = [[i for i, leaf in enumerate(leaves) if leaf.dtype == dtype] for dtype in self.dtypes]
        self.places = [None] * len(leaves)  # (which vector, from where, to where, shape)
        for k, members in enumerate(self.members):
            ends = [0, *accumulate(leaves[i].size for i in members)]
            for i, start, end in zip(members, ends, ends[1:]):
                self.places[i] = k, start, end, leaves[i].shape

    def tree(self, vectors):
        """The flat tree whose numbers are those of the vectors, which are not copied: who writes to them writes to the tree."""
        leaves = [vectors[k][start:end].reshape(shape) for k, start, end, shape in self.places]
        made = self.structure.unflatten(leaves)
        if leaves:
            key = id(leaves[0])
            first = ref(leaves[0], lambda _: _flat_trees.pop(key, None))
            _flat_trees[key] = self, [first, *map(ref, leaves[1:])], vectors
        if self.frozen:
            name = id(made)
            _flat_modules[name] = ref(made, lambda _: _flat_modules.pop(name, None)), (self, vectors)
        return made

    def same_as(self, other):
        """Whether vectors of one layout are vectors of the other, too."""
        if self is other:
            return True
        alike = self.shapes == other.shapes and self.members == other.members
        return alike and self.structure.difference(other.structure) is None

    def gather(self, other, in_parts=False):
        """The vectors of a tree of this structure and these shapes, copied together unless it is flat; None if it is neither.

        A vector has the dtype that the leaves at its places have in `other`. With `in_parts`, NumPy's large arrays are not
        copied: a vector is a tuple then, of them and of what lies between them, copied together.
        """
        leaves = _leaves(self.structure, other)
        if leaves is None or [leaf.shape for leaf in leaves] != self.shapes:
            return None
        found = _known(leaves)
        if found and (found[0] is self or found[0].members == self.members):
            return found[2]
        return [(_parts if in_parts and self.has_large else _joined)([leaves[i] for i in members]) for members in self.members]


def vectors(params):
    """The layout of a tree and its vectors: those that it is a view of, or copies where it is not flat."""
    if known := own_vectors(params):
        return known
    leaves, structure = tree.flatten(params)
    layout = Layout(structure, leaves)
    return layout, [_joined([leaves[i] for i in members]) for members in layout.members]


def own_vectors(params):
    """The layout of a flat tree and the vectors that it is a view of; None for another tree."""
    module = _flat_modules.get(id(params))
    if module and module[0]() is params:
        return module[1]
    first = _first_leaf(params)
    known = None if first is None else _flat_trees.get(id(first))
    return known[::2] if known and _known(_leaves(known[0].structure, params)) else None


def pieces(leaves):
    """The leaves of a tree, cut into the flat trees that they are made of: (layout, vectors), or (None, [leaf]), in order."""
    start = 0
    while start < len(leaves):
        known = _flat_trees.get(id(leaves[start]))
        members = leaves[start : start + len(known[1])] if known else []
        layout, arrays = known[::2] if known and _known(members) else (None, [leaves[start]])
        start += len(members) if layout else 1
        yield layout, arrays


def copy(of):
    """A tree with arrays of its own, flat in the parts in which `of` is flat."""
    leaves, structure = tree.flatten(of)
    own = []
    for layout, arrays in pieces(leaves):
        copies = [a.copy() for a in arrays]
        own += tree.flatten(layout.tree(copies))[0] if layout else copies
    return structure.unflatten(own)


def _is_frozen(structure):
    """Whether a tree of this structure is a module, and nothing in it can be exchanged: no list, no dict."""

    def fixed(part):
        return part.kind not in (list, dict) and all(map(fixed, part.children))

    return hasattr(structure.kind, "_keys") and fixed(structure)


def _known(leaves):
    """(layout, references, vectors) if these are all the leaves of a flat tree, otherwise None."""
    known = _flat_trees.get(id(leaves[0])) if leaves else None
    same = known and len(known[1]) == len(leaves) and all(map(is_, leaves, [reference() for reference in known[1]]))
    return known if same else None


def _joined(leaves):
    if len(leaves) == 1:
        return leaves[0].reshape(-1)
    xp = array_module(*leaves)
    if not cuda.capturing():
        return xp.concatenate(leaves, axis=None)
    joined, start = xp.empty(sum(leaf.size for leaf in leaves), xp.result_type(*leaves)), 0
    for leaf in leaves:  # CuPy's concatenate uploads a table of many arrays, which no graph of launches can hold
        joined[start : start + leaf.size] = leaf.reshape(-1)
        start += leaf.size
    return joined


def _parts(leaves):
    """The leaves one after another: a tuple of large ones as they lie, and others together; or, on a GPU, all in one vector."""
    if array_module(*leaves) is not np:
        return _joined(leaves)
    runs = groupby(leaves, lambda leaf: leaf.size >= LARGE)
    return tuple(part for large, run in runs for part in (run if large else [_joined(list(run))]))


def _leaves(structure, other):
    """The leaves of a tree, if it has the structure, whatever its constants; otherwise None."""
    leaves = structure.read(other)  # fast, but particular about constants
    if leaves is None or not (set(map(type, leaves)) <= {np.ndarray} or all(map(tree.is_leaf, leaves))):
        leaves, its_structure = tree.flatten(other)
        if structure.difference(its_structure) is not None:
            return None
    return leaves


def _first_leaf(part):
    """The first array of a tree, None where there is none."""
    if tree.is_leaf(part):
        return part
    if (names := getattr(type(part), "_keys", None)) is not None:
        children = (getattr(part, name) for name in names)
    elif type(part) is dict:
        children = (part[key] for key in sorted(part))
    else:
        children = part if isinstance(part, (tuple, list)) else ()
    return next((leaf for leaf in map(_first_leaf, children) if leaf is not None), None)
