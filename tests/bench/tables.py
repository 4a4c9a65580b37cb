"""What is said of results: the table on the screen, as wide as it needs to be, and the narrow one for the README."""

from statistics import mean

from .case import OURS

COLUMNS = {
    "case": 62, "ours ms": 9, "theirs ms": 9, "which": 31, "ratio": 6, "in rounds": 14, "must / moonshot": 15, "bar": 8,
    "achieved": 13, "% of roof": 9, "MiB ours / theirs": 17, "memory": 8, "compiled": 8, "jax": 6,
}  # fmt: skip
MEMORY = 1.0, 0.7  # of a step, our peak over theirs: what it must not exceed, and the moonshot
ABOVE_THE_ROOF = (
    "More than 100 % of the roof: Winograd's algorithm makes a convolution of fewer products than are counted, of a quarter "
    "at 3x3; what fits into a cache moves faster than the copy; and the clock is not always the same."
)
HEAD = "ours, ms", "PyTorch's best, ms", "ratio", "must / moonshot", "", "memory, ours / theirs", "% of roof"


def row(result, roofs, judged):
    """What the table says of a result, by column. roofs: {"FLOP/s": the most that anybody reached, "B/s": the same}."""
    case, best = result.case, result.best
    told = {"case": case.name, "ours ms": milliseconds(result.seconds(OURS))}
    if case.work:
        amount, unit = case.work
        rate = amount / result.seconds(OURS)
        told |= {"achieved": f"{rate / 1e9:,.0f} G{unit}", "% of roof": f"{100 * share(result, roofs):.0f}"}
    if case.bars:
        told["must / moonshot"] = "{:g} / {:g}".format(*case.bars)
    if best:
        ratio, least, greatest = result.ratio(best)
        told |= {"theirs ms": milliseconds(result.seconds(best)), "which": best, "ratio": f"{ratio:.3g}"}
        told["in rounds"] = f"{least:.3g} to {greatest:.3g}"
        if case.bars and judged:
            told["bar"] = verdict(ratio, *case.bars)
        if more := result.memory_ratio():
            told["MiB ours / theirs"] = " / ".join(f"{result.memory[name] / 2**20:.1f}" for name in (OURS, best))
            if case.step and judged:
                told["memory"] = verdict(1 / more, *(1 / bar for bar in MEMORY))
    for column, beginning in ("compiled", "torch.compile"), ("jax", "jax"):
        if peer := next((name for name in result.rounds if name.startswith(beginning)), None):
            told[column] = f"{result.ratio(peer)[0]:.3g}"
    return told


def line(told):
    """A row of a Markdown table, also to be read as it stands."""
    told = {name: name for name in COLUMNS} if told is COLUMNS else told
    return "| " + " | ".join(str(told.get(name, "")).ljust(width) for name, width in COLUMNS.items()) + " |"


def markdown(results, roofs, judged):
    """The README's table: kernels, then steps, each with what its bar came to."""
    lines = [_narrow("", *HEAD), "|---" * (1 + len(HEAD)) + "|"]
    for group in "kernels", "steps":
        if found := [result for result in results if result.case.group == group and result.rounds]:
            lines.append(_narrow(f"**{group}**", *[""] * len(HEAD)))
            lines += [_narrow(*cells(result, roofs, judged)) for result in found]
    return "\n".join([*lines, *(notes(results, roofs) if judged else ())]) + "\n"


def notes(results, roofs):
    """What must be said below a table."""
    shares = [share(result, roofs) for result in results if result.rounds and result.case.work]
    return ["", ABOVE_THE_ROOF] if max(shares, default=0) > 1 else []


def quietness(results):
    """How much of the processors other programs had, in a sentence; "" where nobody knows."""
    known = [result for result in results if result.others is not None]
    if not known:
        return ""
    most = max(known, key=lambda result: result.others)
    average = mean(result.others for result in known)
    return f"Other programs had {average:.0%} of the processors' time, and {most.others:.0%} during {most.case.name}."


def share(result, roofs):
    """The rate of ours, of the roof's."""
    amount, unit = result.case.work
    return amount / result.seconds(OURS) / roofs[unit]


def cells(result, roofs, judged):
    told, memory = row(result, roofs, judged), result.memory_ratio()
    yield from (told.get(name, "") for name in ("case", "ours ms", "theirs ms", "ratio", "must / moonshot", "bar"))
    yield f"{memory:.2f}" if memory else ""
    yield told.get("% of roof", "")


def _narrow(*cells):
    return "| " + " | ".join(cells) + " |"


def verdict(ratio, must, moonshot):
    return "moonshot" if ratio >= moonshot else "met" if ratio >= must else "missed"


def milliseconds(seconds):
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"
