"""Grids of images, in which a pixel stays a pixel."""

import math

import numpy as np

from . import style
from .style import DPI, STYLE

MARGIN = 8  # pixels around a grid of images


def image_grid(images, path, columns=None, scale=None, ink=True, title=None, row_labels=None):
    """Write images side by side, row by row, every pixel a square of `scale` pixels of the file.

    images (N, H, W, C), C 1 or 3, values in [0, 1]. columns: about sqrt(N) if not given. scale: so that an image is at least
    56 pixels high if not given. ink: whether 1 is black in images of one channel, as in print. row_labels: a text for each row.
    ValueError for other shapes and values.
    """
    images = _as_images(images)
    N, H, W, _ = images.shape
    columns = columns or math.ceil(math.sqrt(N))
    rows = math.ceil(N / columns)
    if row_labels is not None and len(row_labels) != rows:
        raise ValueError(f"image_grid: {len(row_labels)} row labels for {rows} rows; give one for each row")
    scale = scale or math.ceil(56 / H)
    gap = max(2, scale)
    if ink and images.shape[3] == 1:
        images = 1 - images
    page = np.ones((rows * (H * scale + gap) - gap, columns * (W * scale + gap) - gap, 3), np.float32)
    for n, image in enumerate(images):
        top, left = n // columns * (H * scale + gap), n % columns * (W * scale + gap)
        page[top : top + H * scale, left : left + W * scale] = image.repeat(scale, axis=0).repeat(scale, axis=1)
    with style.applied():
        style.write(_page_figure(page, title, row_labels, H * scale, H * scale + gap), path)


def _as_images(images):
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"image_grid: images must be (N, H, W, C) with C 1 or 3, and not empty; got {images.shape}")
    images = images.astype(np.float32)
    if not (images.min() >= 0 and images.max() <= 1):  # not: NaN is refused too
        raise ValueError(
            f"image_grid: values must lie in [0, 1]; got [{images.min():.4g}, {images.max():.4g}]: divide 8-bit images by 255, "
            "or clip samples with .clip(0, 1)"
        )
    return images


def _page_figure(page, title, row_labels, row_height, row_pitch):
    """A figure as large as the page of pixels, its margins and texts, in which a pixel stays a pixel."""
    from matplotlib.figure import Figure

    labels = [] if row_labels is None else [str(label) for label in row_labels]
    height, width = page.shape[:2]
    left = MARGIN + max((_text_width(label, 10) + MARGIN for label in labels), default=0)
    top = MARGIN + (30 if title else 0)
    half_title = _text_width(title, 11) / 2 if title else 0
    centre = max(left + width / 2, half_title + MARGIN)
    full_width, full_height = max(left + width, math.ceil(centre + half_title)) + MARGIN, top + height + MARGIN
    figure = Figure(figsize=(full_width / DPI, full_height / DPI))
    figure.figimage(page, left, MARGIN, origin="upper")
    if title:
        figure.text(centre / full_width, 1 - MARGIN / full_height, title, ha="center", va="top", fontsize=11)
    for i, label in enumerate(labels):
        y = 1 - (top + i * row_pitch + row_height / 2) / full_height
        figure.text((left - MARGIN) / full_width, y, label, ha="right", va="center", fontsize=10)
    return figure


def _text_width(text, size):
    """In pixels of the file."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text:
        return 0
    points = TextPath((0, 0), text, size, prop=FontProperties(STYLE["font.family"])).get_extents().width
    return math.ceil(points * DPI / 72)
