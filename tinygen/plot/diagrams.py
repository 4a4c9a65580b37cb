"""Diagrams of words: a tree of kinds, and a timeline."""

from itertools import count

from . import style
from .style import PALETTE


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
    with style.applied():
        figure, axes = style.figure(right + 2.0, 0.62 * (1 - low) + 0.2)
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
        style.write(figure, path)


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

    columns: {name: [(year, event, source)]}, at least one event each. All years are equally long, so where a column has more
    events in a year than there is room for, the last of them, and those after it, stand lower than they should.
    ValueError for more than ten columns, or a column without events.
    """
    if not columns or not all(columns.values()):
        raise ValueError("timeline: every column needs an event; leave out the others")
    years = range(
        min(year for events in columns.values() for year, *_ in events),
        1 + max(year for events in columns.values() for year, *_ in events),
    )
    length, pitch = 0.55, 0.25  # inches of a year, and between two events of two lines each
    top = {year: -length * i for i, year in enumerate(years)}
    below = top[years[-1]] - pitch * max(sum(year == years[-1] for year, *_ in events) for events in columns.values())
    happened = {year for events in columns.values() for year, *_ in events}
    with style.applied():
        figure, axes = style.figure(1.75 * len(columns) + 0.6, 0.75 - below)
        for year in years:
            axes.text(-0.25, top[year], year, ha="right", va="center", color="#444444" if year in happened else "#BBBBBB")
            if year in happened:
                axes.plot([-0.15, 1.75 * len(columns)], [top[year]] * 2, color="#EEEEEE", linewidth=0.8, zorder=0)
        for i, ((name, events), colour) in enumerate(zip(columns.items(), style.colours(len(columns)))):
            x = 1.75 * i
            axes.text(x, 0.45, name, fontsize=12, color=colour, ha="left", va="center")
            heights = []
            for year, event, source in sorted(events, key=lambda event: event[0]):
                heights.append(min([top[year], *(height - pitch for height in heights[-1:])]))
                ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
                axes.text(x + 0.14, heights[-1], event, va="center", fontsize=9.5, bbox=ground)
                axes.text(x + 0.14, heights[-1] - 0.13, source, va="center", fontsize=7.5, color="#666666", zorder=4)
            axes.plot([x] * len(heights), heights, "-o", color=colour, markersize=5)
        axes.set(xlim=(-0.7, 1.75 * len(columns)), ylim=(below, 0.7))
        axes.axis("off")
        style.write(figure, path)
