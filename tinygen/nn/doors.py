"""The checks at the door of a layer: an error that names the layer is worth more than one from the product inside it."""

import numpy as np

from ..autograd.tree import is_leaf
from ..backend import array_module
from ..ops import opaque


def require_image(layer, x, channels):
    """ValueError unless x is (N, H, W, channels)."""
    if len(x.shape) != 4:
        raise ValueError(
            f"{layer}: x has shape {tuple(x.shape)}, but images are (N, H, W, {channels}); a single one needs a batch axis, "
            "x[None], and grey ones a channel axis, x[..., None]"
        )
    require_last_axis(layer, x, channels, "images are channels last, (N, H, W, C)")


def require_last_axis(layer, x, n, remedy):
    """ValueError unless the last axis of x has length n."""
    if not x.shape or x.shape[-1] != n:
        raise ValueError(f"{layer}: x has shape {tuple(x.shape)}, but its last axis must have length {n}; {remedy}")


def require_image_shape(model, shape, factor=1, remedy=""):
    """ValueError unless the shape of one image is (H, W, C), where the factor divides H and W; the remedy is another one."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"{model}: the shape of an image is (H, W, C), not {tuple(shape)}; grey ones have one channel, C = 1")
    if shape[0] % factor or shape[1] % factor:
        raise ValueError(
            f"{model}: {shape[0]} x {shape[1]} images cannot be made {factor} times smaller; pad them to a multiple of "
            f"{factor}, or {remedy}"
        )


def require_array(operation, **arrays):
    """TypeError, which names it, for a list or whatever else is no array."""
    for name, x in arrays.items():
        if not is_leaf(x):
            raise TypeError(f"{operation}: {name} is a {type(x).__name__}; give a NumPy array, np.array({name}) of a list")


def require_examples(model, x, shape):
    """ValueError unless x is (N, *shape); TypeError where it is no array."""
    require_array(model, x=x)
    if tuple(x.shape[1:]) != tuple(shape):
        raise ValueError(f"{model}: examples have shape {tuple(x.shape[1:])}, but this model was made for {tuple(shape)}")


def require_sizes(model, **sizes):
    """TypeError, which names it, for one number where there may be several."""
    for name, several in sizes.items():
        if not isinstance(several, (tuple, list)):
            raise TypeError(f"{model}: {name} is {several!r}; give a tuple, such as ({several!r},)")


def require_generator(operation, rng):
    """TypeError for a seed, and for a generator of NumPy's, whose methods do not take the shape first."""
    if rng is None or isinstance(rng, (int, np.integer, np.random.Generator, np.random.RandomState)):
        raise TypeError(f"{operation}: rng is {rng!r}; give a tinygen.Generator(seed)")


def require_labels(model, labels, n, classes):
    """ValueError unless the labels are one class for each of n examples, or None where the model has no classes (0 or None)."""
    if not classes:
        if labels is not None:
            raise ValueError(f"{model}: this model was made without classes; leave the labels out, or make it with classes")
    elif labels is None:
        raise ValueError(f"{model}: this model was made for {classes} classes; give labels, {_labels_of(n, classes)}")
    else:
        require_array(model, labels=labels)
        _require_classes(model, labels, n, classes)


@opaque
def _require_classes(model, labels, n, classes):
    fits = labels.shape == (n,) and labels.dtype.kind in "iu"
    looked_at = array_module(labels) is np  # on a GPU nobody looks: the answer would have to be waited for
    if not fits or (looked_at and (labels.min(initial=0) < 0 or labels.max(initial=0) >= classes)):
        seen = f"some from {labels.min()} to {labels.max()}" if fits else f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise ValueError(f"{model}: labels must be {_labels_of(n, classes)}, one for each example, got {seen}")


def _labels_of(n, classes):
    return f"{n} integers from 0 to {classes - 1}"


def require_at_least_one(layer, **sizes):
    """ValueError, which names it, for a size that is no positive integer."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"{layer}: {name} is {size!r}; it must be an integer of at least 1")
