"""Maps of the plane: labelled points, densities, warped grids, energy landscapes with walks, clouds of points."""

import math

import numpy as np

from . import style
from .style import PALETTE


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
    with style.applied():
        figure, axes = style.figure(4.6 if len(kinds) > 1 else 4.0, 4.0)
        colours = style.colours(len(kinds))
        order = np.random.default_rng(0).permutation(len(points))  # or the last label would cover the others
        axes.scatter(
            *points[order].T, s=size, c=np.array(colours)[np.searchsorted(kinds, labels[order])], linewidths=0, alpha=0.8
        )
        axes.set(xlabel=axis_labels[0], ylabel=axis_labels[1], title=title or "", aspect="equal", adjustable="datalim")
        for colour, name in zip(colours, names) if len(kinds) > 1 else ():
            axes.scatter([], [], s=28, color=colour, label=str(name), linewidths=0)
        if len(kinds) > 1:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2, borderaxespad=0.2)
        style.write(figure, path)


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
    with style.applied():
        figure, every_axes = _panels(len(panels), columns, titles, row_labels)
        for i, (axes, values) in enumerate(zip(every_axes, panels)):
            largest = panels[i - i % columns].max()
            axes.imshow(values, style.blues(), extent=extent, origin="lower", vmin=0, vmax=largest, interpolation="bilinear")
        style.write(figure, path)


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


def warped_grid(panels, path, extent, titles=None, columns=None, points=None, row_labels=None):
    """Write what became of the lines of a grid, panel by panel: blue ones were level, orange ones upright.

    panels (K, 2, lines, n, 2), made from `lines_of_grid`. points: None, or an array (m, 2) for each panel, drawn under the
    lines. columns: all in one row if not given. row_labels: of the rows. ValueError for other shapes.
    """
    panels = np.asarray(panels)
    if panels.ndim != 5 or panels.shape[1] != 2 or panels.shape[4] != 2:
        raise ValueError(f"warped_grid: panels must be (K, 2, lines, n, 2), as lines_of_grid makes them; got {panels.shape}")
    from matplotlib.collections import LineCollection

    with style.applied():
        figure, every_axes = _panels(len(panels), columns or len(panels), titles, row_labels)
        for i, (axes, lines) in enumerate(zip(every_axes, panels)):
            if points is not None:
                axes.scatter(*np.asarray(points[i]).T, s=1.5, color="#BBBBBB", linewidths=0)
            for colour, direction in zip(PALETTE, lines):
                axes.add_collection(LineCollection(direction, colors=colour, linewidths=0.6))
            axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
        style.write(figure, path)


def landscape(values, path, extent, paths, points, title=None, depth=8.0):
    """Write a map of an energy over the plane, with contours from its lowest value to `depth` above, and what walks on it.

    values (n, n), at the points of `plane(extent, n)`. paths: arrays (T, 2), lines that begin at a ring and end at a dot.
    points: (m, 2), drawn small and dark. ValueError for other shapes.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"landscape: values must be (n, n); got {values.shape}: reshape the values at the points of a plane")
    along = (np.arange(len(values)) + 0.5) / len(values)
    x, y = extent[0] + (extent[1] - extent[0]) * along, extent[2] + (extent[3] - extent[2]) * along
    height = np.minimum(values - values.min(), depth)
    with style.applied():
        figure, axes = style.figure(4.4, 4.85 if title else 4.65)
        axes.contourf(x, y, height, np.linspace(0, depth, 33), cmap="Blues_r", alpha=0.8)
        axes.contour(x, y, height, np.linspace(0, depth, 9), colors="white", linewidths=0.4)
        axes.scatter(*np.asarray(points).T, s=2, color=PALETTE[6], linewidths=0, alpha=0.6)
        for i, line in enumerate(paths):
            colour = (PALETTE[1], PALETTE[3], PALETTE[4], PALETTE[2])[i % 4]  # those that a blue map does not swallow
            axes.plot(*line.T, color=colour, linewidth=0.9)
            axes.plot(*line[0], "o", color=colour, markersize=5, markerfacecolor="white")
            axes.plot(*line[-1], "o", color=colour, markersize=5)
        figure.legend(handles=_key(), loc="outside lower center", ncols=4, fontsize=8, handletextpad=0.1, columnspacing=1.0)
        axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xticks=[], yticks=[], title=title or "")
        axes.spines[:].set_visible(True)
        style.write(figure, path)


def _key():
    """What is what in a landscape."""
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    def mark(label, **look):
        return Line2D([], [], label=label, linestyle="", **look)

    return [
        mark("a way begins", marker="o", color="#666666", markersize=5, markerfacecolor="white"),
        mark("and ends", marker="o", color="#666666", markersize=5),
        mark("other points", marker=".", color=PALETTE[6], markersize=3),
        mark("low energy", marker="s", color=colormaps["Blues_r"](0.0), markersize=8),
    ]


def clouds(
    panels, path, extent, titles=None, columns=None, row_labels=None, under=None, joined=False, axis_labels=None, marks=None
):
    """Write maps of points side by side, each over the points of `under`, if given, in grey.

    panels: arrays (n, 2), one for each map, and so is under. joined: whether the points are a way, drawn as a line that begins
    with a dot. titles: of the first row, or of every map. columns: all in one row if not given. axis_labels: of both axes,
    which then have scales. marks: the names of what is under a way, and of the dot. ValueError for other shapes.
    """
    panels = [np.asarray(points) for points in panels]
    wrong = [points.shape for points in panels if points.ndim != 2 or points.shape[1] != 2]
    if wrong or not panels or (under is not None and len(under) != len(panels)):
        raise ValueError(f"clouds: panels must be arrays (n, 2), with as many under them; got {wrong or len(panels)}")
    from matplotlib.ticker import MaxNLocator

    with style.applied():
        figure, every_axes = _panels(len(panels), columns or len(panels), titles, row_labels)
        for i, (axes, points) in enumerate(zip(every_axes, panels)):
            if under is not None:
                size, grey = (14, "#999999") if joined else (6, "#CCCCCC")
                axes.scatter(*np.asarray(under[i]).T, s=size, color=grey, linewidths=0, zorder=3 if joined else 1)
            if joined:
                axes.plot(*points.T, color=PALETTE[0], linewidth=0.7)
                axes.scatter(*points[0], s=14, color=PALETTE[1], linewidths=0, zorder=3)
            else:
                axes.scatter(*points.T, s=2, color=PALETTE[0], linewidths=0)
            axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
            if axis_labels:
                axes.xaxis.set_major_locator(MaxNLocator(5))
                axes.yaxis.set_major_locator(MaxNLocator(5))
                axes.set(xlabel=axis_labels[0], ylabel=axis_labels[1] if i % (columns or len(panels)) == 0 else "")
        if marks:
            dots = every_axes[0].collections
            figure.legend(dots, marks, loc="outside lower center", ncols=len(marks))
        style.write(figure, path)


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
