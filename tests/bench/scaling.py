"""How kernels scale: time per item against a size, and where that has a cliff.

An item is what the work is proportional to as the size grows: an image of a batch, a pixel, a pair of channels, a pair of
tokens of which one sees the other. So time per item is flat where a kernel scales.

A kernel works in tiles, of 8 pixels by 32 channels, say, and a size that its tile does not divide leaves a rest. Sizes on the
tile, multiples of 4 pixels, 16 channels or 64 tokens, are therefore measured beside some that are off it. A cliff is a size off
the tile that takes more than 1.3 times as long per operation as its neighbour, the size on the tile that is nearest by ratio.
(Operations are those of the definition; where they are not counted, items.) Both are measured in the same rounds, and what is
compared are quotients within a round. What is smaller than two thirds of the smallest tile has no neighbour: one image alone
takes longer than one of many, as every call costs something, but not because of a rest.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from statistics import median

from tinygen.plot import PALETTE, style

from . import kernels
from .case import OURS, Case, quotients
from .contest import hold_together

CLIFF = 1.3
ROUNDS, SECONDS = 5, 0.05
ITEMS = {  # of size n
    "image": lambda n: n,
    "pixel": lambda n: n * n,
    "channel": lambda n: n,
    "pair of channels": lambda n: n * n,
    "pair of tokens": lambda n: n * (n + 1) / 2,
    "number": lambda n: n,
    "logit": lambda n: n,
    "row": lambda n: n,
}
UNITS = {1e-12: "ps", 1e-9: "ns", 1e-6: "us", 1e-3: "ms"}


@dataclass(frozen=True)
class Sweep:
    """A kernel at several values of one size."""

    kernel: str
    size: str  # what it is that grows
    item: str
    tile: int
    sizes: tuple[int, ...]
    case_of: Callable[[int], Case]

    @property
    def name(self):
        return f"{self.kernel}, {self.size}"

    @cached_property
    def cases(self):
        """{size: its case}, named after the sweep, as the case's own name need not tell its size."""
        return {n: replace(self.case_of(n), name=f"{self.name} {n:,}", bars=None) for n in self.sizes}

    def neighbours(self):
        """{size off the tile: the size on it that is nearest, by ratio}, where that is at most half as large again."""
        on = [n for n in self.sizes if n % self.tile == 0]
        nearest = {n: min(on, key=lambda near: abs(log(near / n))) for n in self.sizes if n not in on}
        return {n: near for n, near in nearest.items() if max(n, near) <= 1.5 * min(n, near)}

    def per_item(self, n, seconds):
        return seconds / ITEMS[self.item](n)

    def work(self, n):
        """What is done at size n: operations, where they are counted, or items."""
        return self.cases[n].products or ITEMS[self.item](n)


# What grows, the item of its work, the tile, the sizes
BATCH = "batch size", "image", 4, (1, 2, 3, 4, 5, 8, 15, 16, 17)
IMAGE = "image size", "pixel", 4, (7, 8, 9, 14, 16, 27, 28, 29, 31, 32, 33)
CHANNELS = "channels", "pair of channels", 16, (16, 24, 31, 32, 33, 48, 63, 64, 65)
PLANES = "channels", "channel", 16, (16, 20, 28, 32, 36, 48, 60, 64, 68)
TOKENS = "T", "pair of tokens", 64, (63, 64, 65, 100, 127, 128, 129, 255, 256, 257)
HEAD = "D", "channel", 16, (16, 24, 31, 32, 33, 48, 63, 64, 65)
ROWS = "rows", "row", 4, (1, 2, 3, 4, 5, 8, 15, 16, 17, 63, 64, 65)
WIDTH = "width", "pair of channels", 16, (31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 256)
CLASSES = "classes", "logit", 16, (10, 16, 31, 32, 33, 100, 128, 255, 256, 257)
NUMBERS = "size", "number", 1024, (1023, 1024, 1025, 16383, 16384, 16385, 262143, 262144, 262145)


def sweeps(quick=False):
    few, T = ((lambda n: 2), 8) if quick else ((lambda n: n), 128)
    k = kernels
    rows = [
        # kernel, and of most the gradients   what grows  the case of size n
        ("conv 3x3",                          BATCH,      lambda n: k.convolution(n, 28, 32, 32)),
        ("conv 3x3",                          IMAGE,      lambda n: k.convolution(few(8), n, 32, 32)),
        ("conv 3x3",                          CHANNELS,   lambda n: k.convolution(few(8), 28, n, n)),
        ("conv 3x3 stride 2",                 IMAGE,      lambda n: k.convolution(few(8), n, 32, 32, stride=2)),
        ("conv 3x3 stride 2",                 CHANNELS,   lambda n: k.convolution(few(8), 28, n, n, stride=2)),
        ("conv 4x4 transposed",               IMAGE,      lambda n: k.transposed(few(8), n, 32, 32)),
        ("conv 4x4 transposed",               CHANNELS,   lambda n: k.transposed(few(8), 14, n, n)),
        ("conv 1x1",                          IMAGE,      lambda n: k.convolution(few(8), n, 64, 64, kernel=1)),
        ("conv 1x1",                          CHANNELS,   lambda n: k.convolution(few(8), 28, n, n, kernel=1)),
        ("masked conv 5x5",                   BATCH,      lambda n: k.masked(n, 28, 32, 5)),
        ("masked conv 5x5",                   IMAGE,      lambda n: k.masked(few(8), n, 32, 5)),
        ("masked conv 5x5",                   CHANNELS,   lambda n: k.masked(few(8), 28, n, 5)),
        ("causal attention",                  BATCH,      lambda n: k.attention(n, 4, T, 32)),
        ("causal attention",                  TOKENS,     lambda n: k.attention(few(4), 4, n, 32)),
        ("causal attention",                  HEAD,       lambda n: k.attention(few(4), 4, T, n)),
        ("product with 256 x 256",            ROWS,       lambda n: k.product(256, rows=n)),
        ("product of 256 rows",               WIDTH,      lambda n: k.product(n, rows=few(256))),
        ("group norm",                        IMAGE,      lambda n: k.group_norm(few(8), n, 32)),
        ("group norm",                        PLANES,     lambda n: k.group_norm(few(8), 28, n, groups=4)),
        ("softmax cross-entropy",             CLASSES,    lambda n: k.cross_entropy(few(1024), n)),
        ("silu",                              NUMBERS,    lambda n: k.elementwise("silu", n, gradient=True)),
        ("Adam",                              NUMBERS,    lambda n: k.adam([(n,)])),
    ]  # fmt: skip
    return [Sweep(name, what, item, tile, sizes[: 4 if quick else None], of) for name, (what, item, tile, sizes), of in rows]


def measure(sweep, conditions):
    """{size: its `Result`}, of the sizes at which ours ran."""
    results = hold_together([*sweep.cases.values()], ROUNDS, SECONDS, conditions, weigh=False)
    return {n: result for n, result in zip(sweep.sizes, results)}


def cliffs(sweep, results):
    """A sentence for each, with what PyTorch's factor between the same two sizes is."""
    for n, near in sweep.neighbours().items():
        factor = slower(sweep, results, n, near, OURS)
        if factor and factor > CLIFF:
            theirs = slower(sweep, results, n, near, results[n].best)
            beside = f" (PyTorch: {theirs:.2f})" if theirs else ""
            what = "operation" if sweep.cases[n].products else sweep.item
            yield f"{sweep.name} {n:,}: {factor:.2f} times as long per {what} as at {near:,}{beside}"


def slower(sweep, results, n, near, name):
    """A contender's time per operation at n over that at `near`, within a round; None where it has not run at both."""
    rounds = results[n].rounds.get(name), results[near].rounds.get(name)
    return median(quotients(*rounds)) * sweep.work(near) / sweep.work(n) if all(rounds) else None


def lines(sweep, results):
    """{"ours" or "PyTorch": {size: seconds per item}}; PyTorch's in the faster layout at each size."""
    ours = {n: sweep.per_item(n, result.seconds(OURS)) for n, result in results.items() if result.rounds}
    theirs = {n: sweep.per_item(n, result.seconds(result.best)) for n, result in results.items() if result.best}
    return {name: line for name, line in {"ours": ours, "PyTorch": theirs}.items() if line}


def table(sweep, results):
    """Time per item, and how many operations a second that is where products take the time."""
    every = lines(sweep, results)
    scale, unit = unit_of(every.get("ours", {}).values())
    rows = {"": {n: f"{n:,}" for n in sweep.sizes}}
    for name, line in every.items():
        rows[name] = {n: f"{seconds / scale:.3g}" for n, seconds in line.items()}
        if all(case.products for case in sweep.cases.values()):
            work = {n: 2 * sweep.per_item(n, case.products) for n, case in sweep.cases.items()}
            rows[f"{name}, GFLOP/s"] = {n: f"{work[n] / seconds / 1e9:.0f}" for n, seconds in line.items()}
    texts = [f"{name:18}" + "".join(f"{row.get(n, ''):>9}" for n in sweep.sizes) for name, row in rows.items()]
    return "\n".join([f"{sweep.name}: {unit} per {sweep.item}", *texts, ""])


def unit_of(seconds):
    """The largest unit of which all are at least one, in seconds and by its name."""
    least = min(seconds, default=1)
    return max(((scale, unit) for scale, unit in UNITS.items() if scale <= least), default=(1e-12, "ps"))


def draw(swept, roof, path, columns=4):
    """Write small multiples, one for each sweep: time per item, on evenly spaced sizes; what is on the tile is filled."""
    from matplotlib.lines import Line2D

    height = -(-len(swept) // columns)
    with style.applied():
        figure = style.bare_figure(2.9 * columns, 2.0 * height + 0.5)
        for i, (sweep, results) in enumerate(swept):
            panel(figure.add_subplot(height, columns, i + 1), sweep, results, roof)
        handles = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels())}
        handles["on the tile"] = Line2D([], [], color="#444444", marker="o", markersize=4, linestyle="")
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=len(handles))
        style.write(figure, path)


def panel(axes, sweep, results, roof):
    every, at, off = lines(sweep, results), {n: i for i, n in enumerate(sweep.sizes)}, sweep.neighbours()
    scale, unit = unit_of(every.get("ours", {}).values())

    def plot(line, *style, **how):
        axes.plot([at[n] for n in line], [seconds / scale for seconds in line.values()], *style, **how)

    if all(case.products for case in sweep.cases.values()):
        work = {n: 2 * sweep.per_item(n, case.products) for n, case in sweep.cases.items()}
        highest, label = {n: work[n] / roof for n in work}, "the roof, for the products of the definition"
        plot(highest, color="#999999", linewidth=0.8, linestyle="--", label=label)
        fastest = max((work[n] / seconds for n, seconds in every.get("ours", {}).items()), default=0)
        axes.text(0.98, 0.95, f"up to {fastest / 1e9:.0f} GFLOP/s", transform=axes.transAxes, ha="right", va="top", fontsize=9)
    for (name, line), colour in reversed([*zip(every.items(), PALETTE)]):  # ours on top
        plot(line, color=colour, marker="o", markersize=4, markerfacecolor="white", label=name)
        plot({n: seconds for n, seconds in line.items() if n not in off}, "o", color=colour, markersize=4)
    if high := {n: every["ours"][n] for n, near in off.items() if (slower(sweep, results, n, near, OURS) or 0) > CLIFF}:
        label = f"more than {CLIFF} times its neighbour on the tile"
        plot(high, "o", color=PALETTE[7], markersize=10, markerfacecolor="none", label=label)
    axes.set(title=sweep.name, ylabel=f"{unit} per {sweep.item}", yscale="log")
    axes.set_xticks([*at.values()], [short(n) for n in sweep.sizes])
    axes.tick_params(axis="x", labelsize=8)
    low, high = axes.get_ylim()
    high = max(high, 5 * low)  # or noise would look like cliffs
    places = [figure * 10.0**power for power in range(-3, 7) for figure in (1, 2, 5)]
    axes.set_yticks(places, [f"{place:g}" for place in places])
    axes.minorticks_off()
    axes.set_ylim(low, high)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)


def short(n):
    """1,024 -> 1k; beside it, 1,025 -> +1."""
    thousands, rest = divmod(n + 1, 1024)
    return f"{n}" if n < 1000 else f"{thousands}k" if rest == 1 else f"{rest - 1:+d}"
