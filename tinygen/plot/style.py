"""One style for every figure: colours, fonts, sizes, and how a figure becomes a file or a frame of a film."""

import io
from pathlib import Path

from ..files import write_whole

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


def applied():
    from matplotlib import rc_context

    return rc_context(STYLE)


def colours(n):
    if n > len(PALETTE):
        raise ValueError(f"{n} colours are asked for, and the palette keeps {len(PALETTE)} apart; draw fewer in one figure")
    return PALETTE[:n]


def blues():
    """From white to the darkest blue."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("", ["white", PALETTE[5], PALETTE[0], "#00223F"])


def bare_figure(width, height):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def figure(width, height):
    figure = bare_figure(width, height)
    return figure, figure.add_subplot()


def write(figure, path):
    """Into a file of that path, or into a frame of a film."""
    whole = path if isinstance(path, io.BytesIO) else io.BytesIO()
    kind = "png" if whole is path else Path(path).suffix[1:] or "png"
    figure.savefig(whole, dpi=DPI, format=kind, metadata={"Date": None} if kind == "svg" else None)
    if whole is not path:
        write_whole(path, whole.getvalue())
