"""The checks at the door of a layer: an error that names the layer is worth more than one from the product inside it."""

import numpy as np


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


def require_at_least_one(layer, **sizes):
    """ValueError, which names it, for a size that is no positive integer."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"{layer}: {name} is {size!r}; it must be an integer of at least 1")
