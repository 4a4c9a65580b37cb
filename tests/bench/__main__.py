"""python -m tests.bench: tinygen and PyTorch side by side, as a table. --help says how to have less of it.

A bar is a bound on PyTorch's time over ours: above 1, we are faster. Their time is that of the fastest eager contender, in
either memory layout and with either Adam. torch.compile and jax.jit stand beside it as further ratios, and are not judged.
"""

import argparse
import json
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .cases import cases
from .contest import OURS, compiler, hold

COLUMNS = {
    "case": 62, "ours ms": 9, "theirs ms": 9, "which": 31, "ratio": 6, "in rounds": 14, "must / moonshot": 15, "bar": 8,
    "% of roof": 9, "MiB ours / theirs": 17, "memory": 8, "compiled": 8, "jax": 6,
}  # fmt: skip
MEMORY = 1.0, 0.7  # of a step, our peak over theirs: what it must not exceed, and the moonshot


def main(arguments=None):
    chosen = options(arguments)
    print("\n".join(["", *described(chosen), ""]))
    every = cases(chosen.quick)
    roof_case, wanted = every[0], [case for case in every if re.search(chosen.only, case.name, re.IGNORECASE)]
    if not wanted:
        sys.exit(f"tests.bench: no case has {chosen.only!r} in its name; there are:\n  " + "\n  ".join(c.name for c in every))
    results = [hold(roof_case, chosen.threads, chosen.quick, chosen.busy)]
    roof = max(2 * roof_case.products / seconds for seconds in results[0].seconds.values())
    print(f"The roof, by a product of matrices: {roof / 1e9:.0f} GFLOP/s.\n")
    print(line(COLUMNS), line({name: "-" * width for name, width in COLUMNS.items()}), sep="\n")
    for case in wanted:
        result = results[0] if case is roof_case else hold(case, chosen.threads, chosen.quick, chosen.busy)
        if result.seconds:
            print(line(row(result, roof, judged=not chosen.quick)), flush=True)
        if result is not results[0]:
            results.append(result)
    complaints = [complaint for result in results for complaint in result.complaints]
    print("\n".join(["", *complaints]))
    if chosen.json:
        facts = {"described": [*described(chosen)], "threads": chosen.threads, "roof": roof}
        Path(chosen.json).write_text(json.dumps({**facts, "results": [result.as_json() for result in results]}, indent=1))
    return bool(complaints)


def options(arguments):
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="cases whose names match, a regular expression")
    parser.add_argument("--threads", type=int, default=1, help="how many, for each contender; 1 unless told")
    parser.add_argument("--json", metavar="FILE", help="write the medians of every contender and round there, too")
    parser.add_argument(
        "--quick", action="store_true", help="small arrays, and each but a few times: only to see that all runs"
    )
    parser.add_argument("--busy", action="store_true", help="count processor time, because other programs are running too")
    chosen = parser.parse_args(arguments)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not 1 <= chosen.threads <= available:
        parser.error(f"--threads {chosen.threads}: this process may use {available} processors; give a number from 1 to that")
    return chosen


def described(chosen):
    """What the figures depend on, and what is missing, in sentences."""
    libraries = [f"{name} {found}" for name in ("numpy", "numba", "torch", "jax") if (found := installed(name))]
    yield f"{processor()}; Python {platform.python_version()}, {', '.join(libraries)}."
    yield f"Threads of each contender: {chosen.threads}."
    if chosen.busy:
        yield "--busy: times are those of the processor, of all threads together, and not of the clock."
    if chosen.quick:
        yield "--quick: small arrays and bursts of a moment. The figures mean nothing, and none is judged."
    if not installed("torch"):
        yield "PyTorch is not installed: ours runs alone, and no bar is judged. To compare: pip install 'tinygen[bench]'."
    elif not compiler():
        yield "torch.compile needs a C++ compiler, and there is no g++ here (or what $CXX names): without it."
    if not installed("jax"):
        yield "JAX is not installed: without it."


def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor():
    if Path("/proc/cpuinfo").exists():
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return names[0] if names else platform.machine()
    return platform.processor() or platform.machine()


def row(result, roof, judged):
    """What the table says of a result, by column."""
    case, best = result.case, result.best
    told = {"case": case.name, "ours ms": milliseconds(result.seconds[OURS.name])}
    if case.products:
        told["% of roof"] = f"{100 * 2 * case.products / result.seconds[OURS.name] / roof:.0f}"
    if case.bars:
        told["must / moonshot"] = "{:g} / {:g}".format(*case.bars)
    if best:
        ratio, least, greatest = result.ratio(best)
        told |= {"theirs ms": milliseconds(result.seconds[best]), "which": best, "ratio": f"{ratio:.3g}"}
        told["in rounds"] = f"{least:.3g} to {greatest:.3g}"
        if case.bars and judged:
            told["bar"] = verdict(ratio, *case.bars)
        if more := result.memory_ratio():
            told["MiB ours / theirs"] = " / ".join(f"{result.memory[name] / 2**20:.1f}" for name in (OURS.name, best))
            if case.step and judged:
                told["memory"] = verdict(1 / more, *(1 / bar for bar in MEMORY))
    for column, beginning in ("compiled", "torch.compile"), ("jax", "jax"):
        if peer := next((name for name in result.seconds if name.startswith(beginning)), None):
            told[column] = f"{result.ratio(peer)[0]:.3g}"
    return told


def verdict(ratio, must, moonshot):
    return "moonshot" if ratio >= moonshot else "met" if ratio >= must else "missed"


def milliseconds(seconds):
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def line(told):
    """A row of a Markdown table, also to be read as it stands."""
    told = {name: name for name in COLUMNS} if told is COLUMNS else told
    return "| " + " | ".join(str(told.get(name, "")).ljust(width) for name, width in COLUMNS.items()) + " |"


if __name__ == "__main__":
    sys.exit(main())
