"""The figures of this house, in one style: grids of images, learning curves, maps of labelled points.

A figure is built from matplotlib's objects, not from pyplot, whose current figure and window system would be hidden state; and
matplotlib is imported when the first figure is drawn.
"""

import io
import math
from collections import Counter
from contextlib import contextmanager
from itertools import count
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
    "svg.hashsalt": "tinygen",  # or the same figure would be another file each time
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
    columns = columns or len(panels)
    with _style():
        figure, every_axes = _panels(len(panels), columns, titles, row_labels)
        for i, (axes, values) in enumerate(zip(every_axes, panels)):
            largest = panels[i - i % columns].max()
            axes.imshow(values, _blues(), extent=extent, origin="lower", vmin=0, vmax=largest, interpolation="bilinear")
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


def parallel(values, path, names, axes):
    """Write a line for each row of values across upright scales, one for each column, their better ends on top.

    values (rows, columns), NaN where there is none: the line then stops before and goes on after, and a ring hangs under the
    scale. axes: (title, better, logarithmic) of each column, better "high" or "low". ValueError for other shapes.
    """
    values = np.asarray(values, np.float64)
    if values.shape != (len(names), len(axes)) or not np.isfinite(values).any(axis=0).all():
        raise ValueError(f"parallel: {len(names)} names and {len(axes)} axes with a value each, but values are {values.shape}")
    columns = np.arange(len(axes))
    with _style():
        figure, frame = _figure(1.05 * len(axes) + 0.6, 3.6)
        heights, beside = np.empty(values.shape), np.linspace(-0.09, 0.09, len(names))
        for i, (title, better, logarithmic) in enumerate(axes):
            at = np.log(np.maximum(values[:, i], 1e-12)) if logarithmic else values[:, i]
            worst, best = np.nanargmin(at), np.nanargmax(at)
            worst, best = (worst, best) if better == "high" else (best, worst)
            heights[:, i] = 1 + (at - at[best]) / (abs(at[best] - at[worst]) or 1) * (1 if better == "high" else -1)
            frame.plot([i, i], [0, 1], color="#BBBBBB", linewidth=0.8, zorder=0)
            frame.text(i, 1.05, _brief(values[best, i]), ha="center", va="bottom", fontsize=9, color="#444444")
            frame.text(i, -0.05, _brief(values[worst, i]), ha="center", va="top", fontsize=9, color="#444444")
            frame.text(i, 1.17, title, ha="center", va="bottom", fontsize=10)
        for row, name, colour, shift in zip(heights, names, _colours(len(names)), beside):
            frame.plot(columns, row, color=colour, linewidth=1.6, marker="o", markersize=5, label=name)
            missing = np.flatnonzero(np.isnan(row))
            frame.plot(missing + shift, np.full(len(missing), -0.27), "o", color=colour, markersize=5, markerfacecolor="white")
        if np.isnan(values).any():
            frame.text(-0.35, -0.27, "none", ha="right", va="center", fontsize=9, color="#444444")
        frame.set(xlim=(-0.5, len(axes) - 0.5), ylim=(-0.36, 1.45), xticks=[], yticks=[])
        frame.spines[:].set_visible(False)
        figure.legend(loc="outside upper left", ncols=len(names))
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


def occupation(panels, path, times, titles=None, columns=None, y_label=None, x_label="step", largest=1.0):
    """Write how much each of k places holds as time goes on, side by side: a row of a map is a place, a column a time.

    panels: arrays (times, k) of shares of at least 0; white is 0, the darkest blue `largest` and all above. titles: of each
    map. columns: all in one row if not given. ValueError for other shapes.
    """
    panels = [np.asarray(shares, np.float64) for shares in panels]
    wrong = [shares.shape for shares in panels if shares.ndim != 2 or len(shares) != len(times) or not shares.size]
    if wrong or not panels:
        raise ValueError(f"occupation: panels must be (times, k), with {len(times)} times; got {wrong or 'none'}")
    columns = columns or len(panels)
    rows = math.ceil(len(panels) / columns)
    with _style():
        figure = _bare_figure(1.9 * columns + 0.4, 1.35 * rows + 0.4)
        for i, shares in enumerate(panels):
            axes = figure.add_subplot(rows, columns, i + 1)
            extent = (times[0], times[-1] if len(times) > 1 else times[0] + 1, -0.5, shares.shape[1] - 0.5)
            axes.imshow(
                shares.T, _blues(), extent=extent, origin="lower", vmin=0, vmax=largest, aspect="auto", interpolation="nearest"
            )
            axes.set(title=titles[i] if titles else "", yticks=[], ylabel=y_label if i % columns == 0 else "")
            axes.spines[:].set_visible(True)
            axes.tick_params(labelbottom=i + columns >= len(panels))
            if i + columns >= len(panels):
                axes.set_xlabel(x_label)
        _write(figure, path)


def dots(panels, path, names, titles=None, x_label=None):
    """Write what several runs of each of some kinds came to, side by side: a dot for each run, a bar for their mean.

    panels: arrays (kinds, runs) of values of at least 0, where the scales begin. names: of the kinds, from top to bottom.
    ValueError for other shapes.
    """
    panels = [np.asarray(values, np.float64) for values in panels]
    wrong = [values.shape for values in panels if values.ndim != 2 or len(values) != len(names) or not values.size]
    if wrong or not panels:
        raise ValueError(f"dots: panels must be (kinds, runs), with {len(names)} kinds; got {wrong or 'none'}")
    height = np.arange(len(names))[::-1]
    with _style():
        figure = _bare_figure(2.7 * len(panels) + 1.2, 0.24 * len(names) + 0.9)
        for i, values in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), i + 1)
            axes.plot(values, height, "o", color=PALETTE[0], markersize=4, alpha=0.55, mew=0)
            axes.plot(values.mean(axis=1), height, "|", color=PALETTE[1], markersize=11, markeredgewidth=2)
            axes.set(title=titles[i] if titles else "", xlabel=x_label or "", yticks=height, yticklabels=() if i else names)
            axes.grid(axis="y", color="#E4E4E4", linewidth=0.5)
            axes.set_axisbelow(True)
            axes.tick_params(axis="y", length=0)
            axes.set_ylim(-0.6, len(names) - 0.4)
            axes.margins(x=0.06)
            axes.set_xlim(left=-0.03 * axes.get_xlim()[1])
        _write(figure, path)


def bands(x, series, path, x_label=None, y_label=None, log_x=False):
    """Write curves of several runs each: a line for their mean, in a band from the least to the most.

    x (K,); series {name: values (runs, K)}. ValueError for other shapes, and for more than ten curves.
    """
    wrong = {name: np.shape(values) for name, values in series.items() if np.ndim(values) != 2 or len(values[0]) != len(x)}
    if wrong or not series:
        raise ValueError(f"bands: values must be (runs, {len(x)}), as there are {len(x)} places; got {wrong or 'none'}")
    with _style():
        figure, axes = _figure(5.4, 3.5)
        for colour, (name, values) in zip(_colours(len(series)), series.items()):
            values = np.asarray(values, np.float64)
            axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)
            axes.plot(x, values.mean(axis=0), color=colour, label=name, marker="o", markersize=3)
        if log_x:
            axes.set_xscale("log")
            axes.set_xticks(x, [f"{place:g}" for place in x])
            axes.minorticks_off()
        axes.set(xlabel=x_label or "", ylabel=y_label or "")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        _write(figure, path)


def approach(rows, path, titles, steps, now=None, y_label=None):
    """Write what models make of a known density, and beside it how far they were from it after so many steps.

    rows: pairs (panels, curves), one for each density. panels (K, n) or (K, n, n): its values, drawn in grey or as the first
    map, then what the models make of it. curves: {name: (looks,)}, of which the first `now` are drawn, in scales that fit all
    above 0. titles: of the K panels. steps: (looks,). ValueError for other shapes.
    """
    wrong = [np.shape(panels) for panels, _ in rows if len(panels) != len(titles) or np.ndim(panels) not in (2, 3)]
    wrong += [np.shape(y) for _, curves in rows for y in curves.values() if np.shape(y) != np.shape(steps)]
    if wrong or not rows:
        raise ValueError(
            f"approach: panels must be {len(titles)} arrays (n,) or (n, n), and curves ({len(steps)},); got {wrong or 'none'}"
        )
    size, gap, left, bottom, top = 1.2, 0.08, 0.08, 0.45, 0.28
    height = bottom + len(rows) * (size + gap) + top
    beside = left + len(titles) * (size + gap) + 0.4
    width = beside + 2.2 + 1.05
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height))  # laid out by hand: the same in every frame of a film, and quickly
        for i, (panels, curves) in enumerate(rows):
            y = bottom + (len(rows) - 1 - i) * (size + gap)
            for k, values in enumerate(panels):
                axes = figure.add_axes([(left + k * (size + gap)) / width, y / height, size / width, size / height])
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(True)
                if i == 0:
                    axes.set_title(titles[k], fontsize=10, pad=4)
                if np.ndim(values) == 2:
                    axes.imshow(values, _blues(), origin="lower", vmin=0, vmax=np.max(panels[0]), interpolation="nearest")
                else:
                    axes.stairs(panels[0], color="#D4D4D4", fill=True)
                    if k:
                        axes.stairs(values, color=PALETTE[0], linewidth=1)
                    axes.set(xlim=(0, len(values)), ylim=(0, 1.25 * np.max(panels[0])))
            axes = figure.add_axes([beside / width, (y + 0.06) / height, 2.2 / width, (size - 0.06) / height])
            for colour, (name, values) in zip(_colours(len(curves)), curves.items()):
                axes.plot(steps[:now], values[:now], color=colour, label=name, linewidth=1.1, marker="o", markersize=2)
            every = np.concatenate([np.asarray(values, float) for values in curves.values()])
            decades = np.log10(every[every > 0])
            axes.set(yscale="log", xlim=(-0.03 * max(steps), 1.03 * max(steps)))
            axes.set_ylim(10 ** np.floor(decades.min()), 10 ** np.ceil(decades.max() + 0.01))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
            axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
            axes.tick_params(labelsize=8, labelbottom=i == len(rows) - 1)
            if i == 0:
                axes.set_title(y_label or "", fontsize=10, pad=4)
                axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.1), fontsize=8, handlelength=1.2, borderaxespad=0.2)
            if i == len(rows) - 1:
                axes.set_xlabel("step", fontsize=9, labelpad=1)
        _write(figure, path)


def tree(branches, path, links=()):
    """Write a tree that grows to the right. branches: {text: branches}, a leaf has {}; the second line of a text is smaller.

    links: triples (leaf, node, text) of first lines, drawn as broken lines to a node one step further left. ValueError for a
    link to what is not there.
    """
    places, edges, leaves, pitch = {}, [], count(), 2.8

    def place(text, below, depth):
        """Nodes stand in the middle of what grows from them."""
        children = [place(*child, depth + 1) for child in below.items()]
        y = (children[0][1] + children[-1][1]) / 2 if children else -next(leaves)
        places[text] = (pitch * depth, y)
        edges.extend((places[text], child) for child in children)
        return places[text]

    for root in branches.items():
        place(*root, 0)
    named = {text.partition("\n")[0]: at for text, at in places.items()}
    if unknown := {end for *ends, _ in links for end in ends} - set(named):
        raise ValueError(f"tree: links lead to {', '.join(sorted(unknown))}, and there are {', '.join(sorted(named))}")
    right, low = max(x for x, _ in places.values()), min(y for _, y in places.values())
    with _style():
        figure, axes = _figure(right + 2.0, 0.62 * (1 - low) + 0.2)
        for (x0, y0), (x1, y1) in edges:
            _bow(axes, (x0 + 0.85, y0), (x1 - 0.85, y1), edgecolor="#999999", linewidth=1.1)
        for text, (x, y) in places.items():
            name, _, note = text.partition("\n")
            box = {"boxstyle": "round,pad=0.02,rounding_size=0.1", "linewidth": 1, "edgecolor": PALETTE[round(x / pitch) % 4]}
            _box(axes, (x - 0.85, y - 0.32), 1.7, 0.64, facecolor="white", **box)
            axes.text(x, y + 0.12 * bool(note), name, ha="center", va="center", fontsize=11)
            axes.text(x, y - 0.16, note, ha="center", va="center", fontsize=7.5, color="#555555")
        for leaf, node, text in links:
            (x0, y0), (x1, y1) = named[leaf], named[node]
            _bow(
                axes, (x0 - 0.87, y0 - 0.15), (x1 + 0.87, y1 + 0.15), edgecolor=PALETTE[1], linewidth=1.1, linestyle=(0, (4, 3))
            )
            axes.text((x0 + x1) / 2 - 0.1, (y0 + y1) / 2 + 0.05, text, fontsize=8.5, color=PALETTE[1], ha="right", va="bottom")
        axes.set(xlim=(-1, right + 1), ylim=(low - 0.5, 0.5))
        axes.axis("off")
        _write(figure, path)


def _box(axes, corner, width, height, **style):
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(FancyBboxPatch(corner, width, height, **style))


def _bow(axes, start, end, **style):
    """A curve that leaves and arrives level."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    middle = (start[0] + end[0]) / 2
    outline = Outline([start, (middle, start[1]), (middle, end[1]), end], [1, 4, 4, 4])
    axes.add_patch(PathPatch(outline, facecolor="none", zorder=0, **style))


def timeline(columns, path):
    """Write what happened when: a column for each line of events, time runs downwards.

    columns: {name: [(year, event, source)]}, at least one event each. Years without events take less room.
    ValueError for more than ten columns, or a column without events.
    """
    if not columns or not all(columns.values()):
        raise ValueError("timeline: every column needs an event; leave out the others")
    years = range(
        min(year for events in columns.values() for year, *_ in events),
        1 + max(year for events in columns.values() for year, *_ in events),
    )
    most = {y: max(sum(year == y for year, *_ in events) for events in columns.values()) for y in years}
    top, below = {}, 0.0
    for year in years:
        top[year] = below
        below -= 0.42 * most[year] + 0.1 if most[year] else 0.12
    with _style():
        figure, axes = _figure(1.75 * len(columns) + 0.6, 0.75 - below)
        for year in years:
            if most[year]:
                axes.text(-0.25, top[year], year, ha="right", va="center", color="#444444")
                axes.plot([-0.15, 1.75 * len(columns)], [top[year]] * 2, color="#EEEEEE", linewidth=0.8, zorder=0)
        for i, ((name, events), colour) in enumerate(zip(columns.items(), _colours(len(columns)))):
            x, seen = 1.75 * i, Counter()
            axes.text(x, 0.45, name, fontsize=12, color=colour, ha="left", va="center")
            heights = []
            for year, event, source in sorted(events, key=lambda event: event[0]):
                heights.append(top[year] - 0.42 * seen[year])
                seen[year] += 1
                ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
                axes.text(x + 0.14, heights[-1], event, va="center", fontsize=9.5, bbox=ground)
                axes.text(x + 0.14, heights[-1] - 0.17, source, va="center", fontsize=7.5, color="#666666")
            axes.plot([x] * len(heights), heights, "-o", color=colour, markersize=5)
        axes.set(xlim=(-0.7, 1.75 * len(columns)), ylim=(below, 0.7))
        axes.axis("off")
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


def _bare_figure(width, height):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _figure(width, height):
    figure = _bare_figure(width, height)
    return figure, figure.add_subplot()


def _blues():
    """From white to the darkest blue."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("", ["white", PALETTE[5], PALETTE[0], "#00223F"])


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


def _brief(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


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
    kind = "png" if whole is path else Path(path).suffix[1:] or "png"
    figure.savefig(whole, dpi=DPI, format=kind, metadata={"Date": None} if kind == "svg" else None)
    if whole is not path:
        write_whole(path, whole.getvalue())
