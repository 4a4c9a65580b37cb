"""Moving numbers about: reshape, transpose, indexing, joining, padding. Each derivative moves the cotangent back.

Indexing and scattering are one another's adjoints, as are `pad` and slicing; so derivatives of any order stay in this file.
"""

import math

from ..autograd.core import Primitive
from ..autograd.reverse import broadcast_to, stack, stop_gradient
from ..backend import array_module
from .elementwise import where

__all__ = [
    "broadcast_to", "concatenate", "expand_dims", "flatten", "flip", "index", "moveaxis", "pad", "repeat", "reshape",
    "scatter_add", "split", "squeeze", "stack", "swapaxes", "take", "take_along_axis", "transpose", "tril", "triu",
]  # fmt: skip


@Primitive
def reshape(x, shape=()):
    """The same numbers in the same (row-major) order, in another shape; one length may be -1."""
    return x.reshape(shape)


@Primitive
def transpose(x, axes=None):
    """The axes of x in the given order; reversed if None."""
    return x.transpose(axes)


@Primitive
def index(x, key=()):
    """x[key]: slices, integers, None, ... and integer or boolean arrays."""
    return x[key]


@Primitive
def scatter_add(g, key=(), shape=()):
    """Zeros of `shape`, to which g is added at `key`: the adjoint of `index`. Entries that a key names twice receive both."""
    xp = array_module(g)
    x = xp.zeros(shape, g.dtype)
    if is_basic(key):
        x[key] = g  # slices name every entry at most once
    elif xp.__name__ == "cupy":
        import cupyx

        cupyx.scatter_add(x, key, g)
    else:
        xp.add.at(x, key, g)
    return x


@Primitive
def concatenate(*arrays, axis=0):
    """Arrays one after another along an axis that they have: concatenate(a, b, axis=0). TypeError for a list of them."""
    if any(isinstance(a, (list, tuple)) for a in arrays):
        raise TypeError("concatenate: the arrays are arguments of their own, concatenate(a, b); put a * before the list")
    return array_module(*arrays).concatenate(arrays, axis)


@Primitive
def pad(x, widths=()):
    """x with zeros around it: widths has a pair (before, after) for each axis."""
    return array_module(x).pad(x, widths)


@Primitive
def flip(x, axis=-1):
    """x in reverse order along one axis."""
    return array_module(x).flip(x, axis)


@Primitive
def take_along_axis(x, indices, axis=-1):
    """y[..., i, ...] = x[..., indices[..., i, ...], ...] along one axis: one choice for each row."""
    return array_module(x).take_along_axis(x, stop_gradient(indices), axis)


def is_basic(key):
    keys = key if isinstance(key, tuple) else (key,)
    return all(k is None or k is Ellipsis or (isinstance(k, (int, slice)) and not isinstance(k, bool)) for k in keys)


def _inverse(axes):
    return None if axes is None else tuple(sorted(range(len(axes)), key=[a % len(axes) for a in axes].__getitem__))


def _concatenate_rule(g, arrays_shape, i, axis):
    start = sum(shape[axis] for shape in arrays_shape[:i])
    return index(g, key=(slice(None),) * (axis % len(g.shape)) + (slice(start, start + arrays_shape[i][axis]),))


def _grid_key(indices, shape, axis):
    """The indices of `take_along_axis` as a key to an array of a shape: every other axis is named by its own position."""
    xp = array_module(indices)
    key = list(xp.ogrid[tuple(slice(n) for n in shape)])
    key[axis] = indices
    return tuple(key)


reshape.rule(x=lambda g, x_shape: reshape(g, shape=x_shape))
transpose.rule(x=lambda g, axes: transpose(g, axes=_inverse(axes)))
index.rule(x=lambda g, x_shape, key: scatter_add(g, key=key, shape=x_shape))
scatter_add.rule(g=lambda g, key: index(g, key=key))
concatenate.rule(arrays=_concatenate_rule)
pad.rule(x=lambda g, x_shape, widths: index(g, key=tuple(slice(a, a + n) for (a, _), n in zip(widths, x_shape))))
flip.rule(x=lambda g, axis: flip(g, axis=axis))
take_along_axis.rule(
    x=lambda g, x_shape, indices, axis: scatter_add(g, key=_grid_key(stop_gradient(indices), x_shape, axis), shape=x_shape)
)


def split(x, sections, axis=-1):
    """x cut into parts along an axis: equal ones for an integer, otherwise of the given lengths."""
    n = x.shape[axis]
    if isinstance(sections, int):
        if sections < 1 or n % sections:
            raise ValueError(
                f"split: axis {axis} of shape {tuple(x.shape)} cannot be cut into {sections} equal parts; give the lengths"
            )
        sections = [n // sections] * sections
    if sum(sections) != n:
        raise ValueError(
            f"split: lengths {list(sections)} add up to {sum(sections)}, but axis {axis} of {tuple(x.shape)} has {n}"
        )
    before = (slice(None),) * (axis % len(x.shape))
    stops = [sum(sections[: i + 1]) for i in range(len(sections))]
    return [x[before + (slice(stop - length, stop),)] for stop, length in zip(stops, sections)]


def take(x, indices, axis=0):
    """The slices of x at integer indices along one axis, as rows of an embedding table are looked up."""
    return index(x, key=(slice(None),) * (axis % len(x.shape)) + (indices,))


def expand_dims(x, axis):
    """x with an axis of length 1 inserted at `axis` of the result."""
    axis %= len(x.shape) + 1
    return reshape(x, shape=(*x.shape[:axis], 1, *x.shape[axis:]))


def squeeze(x, axis=None):
    """x without its axes of length 1, or without the one named."""
    if axis is None:
        return reshape(x, shape=tuple(n for n in x.shape if n != 1))
    if x.shape[axis] != 1:
        raise ValueError(f"squeeze: axis {axis} of shape {tuple(x.shape)} has length {x.shape[axis]}, not 1")
    axis %= len(x.shape)
    return reshape(x, shape=(*x.shape[:axis], *x.shape[axis + 1 :]))


def flatten(x, start=0):
    """x with all axes from `start` on joined into one."""
    return reshape(x, shape=(*x.shape[:start], math.prod(x.shape[start:])))


def swapaxes(x, a, b):
    """x with two axes exchanged."""
    axes = list(range(len(x.shape)))
    axes[a], axes[b] = axes[b], axes[a]
    return transpose(x, axes=tuple(axes))


def moveaxis(x, source, destination):
    """x with one axis moved to another place, the others in their order."""
    axes = list(range(len(x.shape)))
    axes.insert(destination % len(axes), axes.pop(source))
    return transpose(x, axes=tuple(axes))


def repeat(x, n, axis=0):
    """Each slice along an axis n times in a row: [a, b] -> [a, a, b, b]."""
    axis %= len(x.shape)
    wide = broadcast_to(expand_dims(x, axis + 1), shape=(*x.shape[: axis + 1], n, *x.shape[axis + 1 :]))
    return reshape(wide, shape=(*x.shape[:axis], x.shape[axis] * n, *x.shape[axis + 1 :]))


def tril(x, k=0):
    """The lower triangle of the last two axes, from the k-th diagonal down; zeros above it."""
    return where(array_module(stop_gradient(x)).tri(x.shape[-2], x.shape[-1], k, dtype=bool), x, 0)


def triu(x, k=0):
    """The upper triangle of the last two axes, from the k-th diagonal up; zeros below it."""
    return where(array_module(stop_gradient(x)).tri(x.shape[-2], x.shape[-1], k - 1, dtype=bool), 0, x)
