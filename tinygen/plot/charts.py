"""What changes over steps, sizes or rivals: learning curves, bands over repeats, parallel axes, dots, a fit that closes in."""

import math

import numpy as np

from . import style
from .style import PALETTE


def curves(log, path, metrics=None, y_label=None, title=None, log_y=False, smooth=0.9, levels=None):
    """Write learning curves over the training step: a noisy one is drawn faintly, with a smoothed one over it.

    log: the records of train.read_log, or a dict {label: records} to compare runs. metrics: the names to draw, all if None.
    A curve with few points beside the others, such as of validation, is drawn as it is, with a dot at each.
    log_y: a logarithmic scale, where the values span it: from the least to three times as much, or more.
    smooth: the weight of a neighbour in the running mean, less than 1; 0 for none. levels: {text: height} of up to three lines
    to compare the curves with, dashed, behind them. ValueError where there is nothing to draw.
    """
    series = _series(log, metrics)
    longest = max(len(steps) for _, steps, _ in series)
    with style.applied():
        figure, axes = style.figure(5.4, 3.3)
        for colour, (label, steps, values) in zip(style.colours(len(series)), series):
            if len(steps) < max(longest / 3, 2) or len(steps) <= 30 or not smooth or not _is_noisy(values, smooth):
                marker = "o" if len(steps) <= 30 else None
                axes.plot(steps, values, color=colour, label=label, marker=marker, markersize=3.5)
            else:
                axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.7)
                axes.plot(steps, _smoothed(values, smooth), color=colour, label=label)
        for (text, height), dashes in zip((levels or {}).items(), ("--", ":", "-.")):
            axes.axhline(height, color="#777777", linewidth=1.1, linestyle=dashes, zorder=1.5, label=text)
        axes.set(xlabel="step", ylabel=y_label or (series[0][0] if len(series) == 1 else ""), title=title or "")
        every = np.concatenate([values for *_, values in series])
        if log_y and every.max() > 3 * max(every.min(), 0):  # on less of it, the scale would have no number to show
            axes.set_yscale("log")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.margins(x=0.02)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
        axes.set_axisbelow(True)
        if levels or len(series) > 4 or (len(series) > 1 and _reaches_the_corner(axes, series)):
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        elif len(series) > 1:
            axes.legend(loc="upper right")
        style.write(figure, path)


def bands(x, series, path, x_label=None, y_label=None, log_x=False):
    """Write curves of several runs each: a line for their mean, in a band from the least to the most.

    x (K,); series {name: values (runs, K)}. ValueError for other shapes, and for more than ten curves.
    """
    wrong = {name: np.shape(values) for name, values in series.items() if np.ndim(values) != 2 or len(values[0]) != len(x)}
    if wrong or not series:
        raise ValueError(f"bands: values must be (runs, {len(x)}), as there are {len(x)} places; got {wrong or 'none'}")
    with style.applied():
        figure, axes = style.figure(5.4, 3.5)
        for colour, (name, values) in zip(style.colours(len(series)), series.items()):
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
        style.write(figure, path)


def parallel(values, path, names, axes):
    """Write a line for each row of values across upright scales, one for each column, their better ends on top.

    values (rows, columns), NaN where there is none: the line then stops before and goes on after, and a ring hangs under the
    scale. axes: (title, better, logarithmic) of each column, better "high" or "low". ValueError for other shapes.
    """
    values = np.asarray(values, np.float64)
    if values.shape != (len(names), len(axes)) or not np.isfinite(values).any(axis=0).all():
        raise ValueError(f"parallel: {len(names)} names and {len(axes)} axes with a value each, but values are {values.shape}")
    columns = np.arange(len(axes))
    with style.applied():
        figure, frame = style.figure(1.05 * len(axes) + 0.6, 3.6)
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
        for row, name, colour, shift in zip(heights, names, style.colours(len(names)), beside):
            frame.plot(columns, row, color=colour, linewidth=1.6, marker="o", markersize=5, label=name)
            missing = np.flatnonzero(np.isnan(row))
            frame.plot(missing + shift, np.full(len(missing), -0.27), "o", color=colour, markersize=5, markerfacecolor="white")
        if np.isnan(values).any():
            frame.text(-0.35, -0.27, "none", ha="right", va="center", fontsize=9, color="#444444")
        frame.set(xlim=(-0.5, len(axes) - 0.5), ylim=(-0.36, 1.45), xticks=[], yticks=[])
        frame.spines[:].set_visible(False)
        figure.legend(loc="outside upper left", ncols=len(names))
        style.write(figure, path)


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
    with style.applied():
        figure = style.bare_figure(1.9 * columns + 0.4, 1.35 * rows + 0.4)
        for i, shares in enumerate(panels):
            axes = figure.add_subplot(rows, columns, i + 1)
            extent = (times[0], times[-1] if len(times) > 1 else times[0] + 1, -0.5, shares.shape[1] - 0.5)
            axes.imshow(
                shares.T, style.blues(), extent=extent, origin="lower", vmin=0, vmax=largest,
                aspect="auto", interpolation="nearest",
            )  # fmt: skip
            axes.set(title=titles[i] if titles else "", yticks=[], ylabel=y_label if i % columns == 0 else "")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.spines[:].set_visible(True)
            axes.tick_params(labelbottom=i + columns >= len(panels))
            if i + columns >= len(panels):
                axes.set_xlabel(x_label)
        style.write(figure, path)


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
    with style.applied():
        figure = style.bare_figure(2.7 * len(panels) + 1.2, 0.24 * len(names) + 0.9)
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
        style.write(figure, path)


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
    with style.applied():
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
                    axes.imshow(values, style.blues(), origin="lower", vmin=0, vmax=np.max(panels[0]), interpolation="nearest")
                else:
                    axes.stairs(panels[0], color="#D4D4D4", fill=True)
                    if k:
                        axes.stairs(values, color=PALETTE[0], linewidth=1)
                    axes.set(xlim=(0, len(values)), ylim=(0, 1.25 * np.max(panels[0])))
            axes = figure.add_axes([beside / width, (y + 0.06) / height, 2.2 / width, (size - 0.06) / height])
            for colour, (name, values) in zip(style.colours(len(curves)), curves.items()):
                axes.plot(steps[:now], values[:now], color=colour, label=name, linewidth=1.1, marker="o", markersize=2)
            every = np.concatenate([np.asarray(values, float) for values in curves.values()])
            decades = np.log10(every[every > 0])
            axes.set(yscale="log", xlim=(-0.03 * max(steps), 1.03 * max(steps)))
            axes.set_ylim(10 ** np.floor(decades.min()), 10 ** np.ceil(decades.max() + 0.01))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
            axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
            axes.tick_params(labelsize=8, labelbottom=i == len(rows) - 1)
            if i == 0:
                axes.set_title(y_label or "", fontsize=10, pad=4)
                axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.1), fontsize=8, handlelength=1.2, borderaxespad=0.2)
            if i == len(rows) - 1:
                axes.set_xlabel("step", fontsize=9, labelpad=1)
        style.write(figure, path)


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
            series.append((label.replace("_", " "), *np.array(pairs, float).T))
    if not series:
        raise ValueError("curves: the log has no metrics; give the records that train.read_log returns")
    return series


def _reaches_the_corner(axes, series):
    """Whether a curve comes where a legend would be, on the upper right. (To look for the best place takes seconds.)"""
    axes.autoscale_view()  # or the limits are those of an empty figure
    to_axes = axes.transData + axes.transAxes.inverted()
    x, y = np.concatenate([to_axes.transform(np.stack([steps, values], axis=1)) for _, steps, values in series]).T
    return bool(((x > 0.6) & (y > 1 - 0.1 * (len(series) + 0.5))).any())


def _is_noisy(values, weight):
    """Whether a curve, in its later half, strays from its running mean by a tenth of the range that it has there."""
    later = slice(len(values) // 2, None)
    return (values - _smoothed(values, weight))[later].std() > 0.1 * np.ptp(values[later])


def _smoothed(values, weight):
    r"""\sum_j weight^|i - j| values_j / \sum_j weight^|i - j|, over as many j on the one side of i as on the other.

    So the mean does not lag behind, and a straight line stays where it is up to both of its ends.
    """
    i = np.arange(len(values))
    reach = np.minimum(i, i[::-1])
    too_far = weight ** (reach + 1.0)

    def sums(values):
        up_to, from_there = _running_sum(values, weight), _running_sum(values[::-1], weight)[::-1]
        up_to, from_there = np.append(up_to, 0), np.append(from_there, 0)  # nothing lies before the first and after the last
        return up_to[i] - too_far * up_to[i - reach - 1] + from_there[i] - too_far * from_there[i + reach + 1] - values

    return sums(values) / sums(np.ones(len(values)))


def _running_sum(values, weight):
    total, totals = 0.0, []
    for value in values:
        total = weight * total + value
        totals.append(total)
    return np.array(totals)
