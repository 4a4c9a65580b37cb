"""Animations: the figures of this package, one after another."""

import io
from contextlib import contextmanager

from ..files import write_whole


@contextmanager
def film(path, seconds=0.08, rest=1.5):
    """Write a GIF of figures that the functions of this package draw, each into `frame()` in place of a path:

        with plot.film("chains.gif") as frame:
            for points in walk:
                plot.clouds([points], frame(), extent)

    seconds: that a frame is shown; rest: that the last one is, before it begins anew. The figures must be of one size, so
    nothing in their texts may change it. ValueError if there are none, or of different sizes.
    """
    frames = []

    def frame():
        frames.append(io.BytesIO())
        return frames[-1]

    yield frame
    from PIL import Image

    if not frames:
        raise ValueError(f"film: nothing was drawn for {path}; give frame() to a plot function in place of its path")
    images = [Image.open(file).convert("RGB") for file in frames]
    sizes = sorted({image.size for image in images})
    if len(sizes) > 1:
        raise ValueError(f"film: the frames of {path} have {len(sizes)} sizes, {sizes[0]} and {sizes[-1]}; draw them alike")
    # one palette for all, from the last frame and some before it, or colours would flicker; no dithering, or the ground would
    sheet = Image.new("RGB", (images[0].width, images[0].height * 4))
    for i in range(4):
        sheet.paste(images[(len(images) - 1) * i // 3], (0, i * images[0].height))
    palette = sheet.quantize(255, dither=Image.Dither.NONE)
    first, *others = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    milliseconds = [round(1000 * seconds)] * len(others) + [round(1000 * rest)]
    whole = io.BytesIO()
    first.save(whole, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0, optimize=False)
    write_whole(path, whole.getvalue())
