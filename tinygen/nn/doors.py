"""The checks at the door of a layer: an error that names the layer is worth more than one from the product inside it."""


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
