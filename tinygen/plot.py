"""The figures of this house, in one style: grids of images, learning curves, maps of labelled points.

A figure is built from matplotlib's objects, not from pyplot, whose current figure and window system would be hidden state; and
matplotlib is imported when the first figure is drawn.
"""

import io
import math
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .files import write_whole

# Okabe & Ito 2008, distinguishable to colour-blind eyes, without the yellow that vanishes on paper; then three to reach ten
PALETTE = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222", "#882255", "#999999", "#6B5B00",
]  # fmt: skip
DPI = 160
STYLE = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#444444",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.3,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
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
    with _style():
        _write(_page_figure(page, title, row_labels, H * scale, H * scale + gap), path)


def curves(log, path, metrics=None, y_label=None, title=None, log_y=False, smooth=0.9):
    """Write learning curves over the training step: a noisy one is drawn faintly, with a smoothed one over it.

    log: the records of train.read_log, or a dict {label: records} to compare runs. metrics: the names to draw, all if None.
    A curve with few points beside the others, such as of validation, is drawn as it is, with a dot at each.
    smooth: the weight of a neighbour in the running mean, less than 1; 0 for none. ValueError where there is nothing to draw.
    """
    series = _series(log, metrics)
    longest = max(len(steps) for _, steps, _ in series)
    with _style():
        figure, axes = _figure(5.4, 3.3)
        for colour, (label, steps, values) in zip(_colours(len(series)), series):
            if len(steps) < max(longest / 3, 2) or len(steps) <= 30 or not smooth or not _is_noisy(values, smooth):
                marker = "o" if len(steps) <= 30 else None
                axes.plot(steps, values, color=colour, label=label, marker=marker, markersize=3.5)
            else:
                axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.7)
                axes.plot(steps, _smoothed(values, smooth), color=colour, label=label)
        axes.set(xlabel="step", ylabel=y_label or (series[0][0] if len(series) == 1 else ""), title=title or "")
        if log_y:
            axes.set_yscale("log")
        axes.margins(x=0.02)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
        axes.set_axisbelow(True)
        if len(series) > 4:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        elif len(series) > 1:
            axes.legend(loc="upper right")  # "best" takes seconds where there are many points
        _write(figure, path)


def scatter(points, labels, path, names=None, title=None, axis_labels=("$z_1$", "$z_2$"), size=4):
    """Write a map of points (N, 2), coloured by their integer labels (N,); labels may be None.

    names: the texts of the labels in the legend, in order of the labels; the labels themselves if not given.
    ValueError for other shapes, or for more than ten labels, which no palette keeps apart.
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 2 or (labels is not None and len(labels) != len(points)):
        seen = "" if labels is None else f" with {len(labels)} labels"
        raise ValueError(f"scatter: points must be (N, 2) with N labels; got {points.shape}{seen}")
    labels = np.zeros(len(points), int) if labels is None else np.asarray(labels)
    kinds = np.unique(labels)
    names = list(kinds) if names is None else names
    with _style():
        figure, axes = _figure(4.6 if len(kinds) > 1 else 4.0, 4.0)
        colours = _colours(len(kinds))
        order = np.random.default_rng(0).permutation(len(points))  # or the last label would cover the others
        axes.scatter(
            *points[order].T, s=size, c=np.array(colours)[np.searchsorted(kinds, labels[order])], linewidths=0, alpha=0.8
        )
        axes.set(xlabel=axis_labels[0], ylabel=axis_labels[1], title=title or "", aspect="equal", adjustable="datalim")
        for colour, name in zip(colours, names) if len(kinds) > 1 else ():
            axes.scatter([], [], s=28, color=colour, label=str(name), linewidths=0)
        if len(kinds) > 1:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2, borderaxespad=0.2)
        _write(figure, path)


def plane(extent, n):
    """The centres of n x n cells of the rectangle extent = (left, right, bottom, top): points (n^2, 2), and the area of a cell.

    Rows run from bottom to top: values at the points, as (n, n), are a panel of `density`, and their sum times the area is an
    integral over the rectangle.
    """
    left, right, bottom, top = extent
    centres = (np.arange(n) + 0.5) / n
    x, y = np.meshgrid(left + (right - left) * centres, bottom + (top - bottom) * centres)
    return np.stack([x, y], axis=-1).reshape(-1, 2), (right - left) * (top - bottom) / n**2


def density(panels, path, extent, titles=None, columns=None, row_labels=None):
    """Write maps of functions of the plane side by side: white is 0, the darkest blue the largest value of a row's first map.

    panels (K, n, n): values of at least 0, at the points of `plane(extent, n)`. columns: all in one row if not given.
    ValueError for other shapes.
    """
    panels = np.asarray(panels, np.float64)
    if panels.ndim != 3 or 0 in panels.shape:
        raise ValueError(f"density: panels must be (K, n, n); got {panels.shape}: reshape the values at the points of a plane")
    from matplotlib.colors import LinearSegmentedColormap

    blues = LinearSegmentedColormap.from_list("", ["white", PALETTE[5], PALETTE[0], "#00223F"])
    columns = columns or len(panels)
    with _style():
        figure, every_axes = _panels(len(panels), columns, titles, row_labels)
        for i, (axes, values) in enumerate(zip(every_axes, panels)):
            largest = panels[i - i % columns].max()
            axes.imshow(values, blues, extent=extent, origin="lower", vmin=0, vmax=largest, interpolation="bilinear")
        _write(figure, path)


def lines_of_grid(extent, lines=21, n=400):
    """The lines of a square grid on the rectangle extent = (left, right, bottom, top), as points (2, lines, n, 2).

    The first half runs from left to right, the second from bottom to top, by n points each. What a map of the plane makes of
    them is a panel of `warped_grid`.
    """
    left, right, bottom, top = extent
    along, across = np.linspace(0, 1, n), np.linspace(0, 1, lines)[:, None]
    along, across = np.broadcast_arrays(along, across)
    level = np.stack([left + (right - left) * along, bottom + (top - bottom) * across], axis=-1)
    upright = np.stack([left + (right - left) * across, bottom + (top - bottom) * along], axis=-1)
    return np.stack([level, upright])


def warped_grid(panels, path, extent, titles=None, columns=None, points=None):
    """Write what became of the lines of a grid, panel by panel: blue ones were level, orange ones upright.

    panels (K, 2, lines, n, 2), made from `lines_of_grid`. points: None, or an array (m, 2) for each panel, drawn under the
    lines. columns: all in one row if not given. ValueError for other shapes.
    """
    panels = np.asarray(panels)
    if panels.ndim != 5 or panels.shape[1] != 2 or panels.shape[4] != 2:
        raise ValueError(f"warped_grid: panels must be (K, 2, lines, n, 2), as lines_of_grid makes them; got {panels.shape}")
    from matplotlib.collections import LineCollection

    with _style():
        figure, every_axes = _panels(len(panels), columns or len(panels), titles)
        for i, (axes, lines) in enumerate(zip(every_axes, panels)):
            if points is not None:
                axes.scatter(*np.asarray(points[i]).T, s=1.5, color="#BBBBBB", linewidths=0)
            for colour, direction in zip(PALETTE, lines):
                axes.add_collection(LineCollection(direction, colors=colour, linewidths=0.6))
            axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
        _write(figure, path)


def landscape(values, path, extent, paths, points, title=None, depth=8.0):
    """Write a map of an energy over the plane, with contours from its lowest value to `depth` above, and what walks on it.

    values (n, n), at the points of `plane(extent, n)`. paths: arrays (T, 2), lines that begin at a ring and end at a dot.
    points: (m, 2), drawn small. ValueError for other shapes.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"landscape: values must be (n, n); got {values.shape}: reshape the values at the points of a plane")
    along = (np.arange(len(values)) + 0.5) / len(values)
    x, y = extent[0] + (extent[1] - extent[0]) * along, extent[2] + (extent[3] - extent[2]) * along
    height = np.minimum(values - values.min(), depth)
    with _style():
        figure, axes = _figure(4.4, 4.6 if title else 4.4)
        axes.contourf(x, y, height, np.linspace(0, depth, 33), cmap="Blues_r", alpha=0.8)
        axes.contour(x, y, height, np.linspace(0, depth, 9), colors="white", linewidths=0.4)
        axes.scatter(*np.asarray(points).T, s=2, color=PALETTE[6], linewidths=0, alpha=0.6)
        for i, line in enumerate(paths):
            colour = (PALETTE[1], PALETTE[3], PALETTE[4], PALETTE[2])[i % 4]  # those that a blue map does not swallow
            axes.plot(*line.T, color=colour, linewidth=0.9)
            axes.plot(*line[0], "o", color=colour, markersize=5, markerfacecolor="white")
            axes.plot(*line[-1], "o", color=colour, markersize=5)
        axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xticks=[], yticks=[], title=title or "")
        axes.spines[:].set_visible(True)
        _write(figure, path)


def clouds(panels, path, extent, titles=None, columns=None, row_labels=None, under=None, joined=False):
    """Write maps of points side by side, each over the points of `under`, if given, in grey.

    panels: arrays (n, 2), one for each map, and so is under. joined: whether the points are a way, drawn as a line that begins
    with a dot. titles: of the first row, or of every map. columns: all in one row if not given. ValueError for other shapes.
    """
    panels = [np.asarray(points) for points in panels]
    wrong = [points.shape for points in panels if points.ndim != 2 or points.shape[1] != 2]
    if wrong or not panels or (under is not None and len(under) != len(panels)):
        raise ValueError(f"clouds: panels must be arrays (n, 2), with as many under them; got {wrong or len(panels)}")
    with _style():
        figure, every_axes = _panels(len(panels), columns or len(panels), titles, row_labels)
        for i, (axes, points) in enumerate(zip(every_axes, panels)):
            if under is not None:
                axes.scatter(*np.asarray(under[i]).T, s=6, color="#CCCCCC", linewidths=0)
            if joined:
                axes.plot(*points.T, color=PALETTE[0], linewidth=0.7)
                axes.scatter(*points[0], s=14, color=PALETTE[1], linewidths=0, zorder=3)
            else:
                axes.scatter(*points.T, s=2, color=PALETTE[0], linewidths=0)
            axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
        _write(figure, path)


@contextmanager
def film(path, seconds=0.08, rest=1.5):
    """Write a GIF of figures that the functions of this file draw, each into `frame()` in place of a path:

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


def _figure(width, height):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _panels(n, columns, titles, row_labels=None):
    """A figure of n maps without scales, two inches wide each, and their axes row by row."""
    from matplotlib.figure import Figure

    rows = math.ceil(n / columns)
    titled = math.ceil(len(titles or ()) / columns)
    figure = Figure(figsize=(2.05 * columns, 2.05 * rows + 0.25 * titled), layout="constrained")
    axes = [figure.add_subplot(rows, columns, i + 1, xticks=[], yticks=[]) for i in range(n)]
    for each, title in zip(axes, titles or ()):
        each.set_title(title)
    for each, label in zip(axes[::columns], row_labels or ()):
        each.set_ylabel(label)
    for each in axes:
        each.spines[:].set_visible(True)
    return figure, axes


def _series(log, metrics):
    """Triples (label, steps, values) of what there is to draw."""
    runs = log if isinstance(log, dict) else {"": log}
    metrics = [metrics] if isinstance(metrics, str) else metrics
    series = []
    for run, records in runs.items():
        found = list(dict.fromkeys(name for record in records for name in record if name not in ("step", "time")))
        for name in metrics or found:
            pairs = [(record["step"], record[name]) for record in records if record.get(name) is not None]
            if not pairs:
                raise ValueError(f"curves: no record has the metric {name!r}; there are {found}")
            label = name if not run else run if metrics and len(metrics) == 1 else f"{run}: {name}"
            series.append((label, *np.array(pairs, float).T))
    if not series:
        raise ValueError("curves: the log has no metrics; give the records that train.read_log returns")
    return series


def _is_noisy(values, weight):
    """Whether a curve, in its later half, strays from its running mean by a tenth of the range that it has there."""
    later = slice(len(values) // 2, None)
    return (values - _smoothed(values, weight))[later].std() > 0.1 * np.ptp(values[later])


def _smoothed(values, weight):
    r"""\sum_j weight^|i - j| values_j / \sum_j weight^|i - j|: a running mean to both sides, which does not lag behind."""

    def sums(values):
        ahead, behind = _running_sum(values, weight), _running_sum(values[::-1], weight)[::-1]
        return ahead + behind - values

    return sums(values) / sums(np.ones(len(values)))


def _running_sum(values, weight):
    total, totals = 0.0, []
    for value in values:
        total = weight * total + value
        totals.append(total)
    return np.array(totals)


def _colours(n):
    if n > len(PALETTE):
        raise ValueError(f"{n} colours are asked for, and the palette keeps {len(PALETTE)} apart; draw fewer in one figure")
    return PALETTE[:n]


def _style():
    from matplotlib import rc_context

    return rc_context(STYLE)


def _write(figure, path):
    """Into a file of that path, or into a frame of a film."""
    whole = path if isinstance(path, io.BytesIO) else io.BytesIO()
    figure.savefig(whole, dpi=DPI, format="png" if whole is path else Path(path).suffix[1:] or "png")
    if whole is not path:
        write_whole(path, whole.getvalue())
