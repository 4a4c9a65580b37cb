"""python -m tests.bench: tinygen and PyTorch side by side, as a table. --help says how to have less of it.

A bar is a bound on PyTorch's time over ours: above 1, we are faster. Their time is that of the fastest eager contender, in
either memory layout and with either Adam. torch.compile and jax.jit stand beside it as further ratios, and are not judged.

With --scaling, time per item against the sizes of batches, images, sequences and layers instead, and where it has a cliff.
"""

import argparse
import json
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .cases import cases
from .contest import OURS, available, compiler, hold
from .kernels import roofs
from .scaling import cliffs, draw, measure, sweeps, table
from .tables import COLUMNS, line, markdown, row


def main(arguments=None):
    chosen = options(arguments)
    print("\n".join(["", *described(chosen), ""]))
    every = sweeps(chosen.quick) if chosen.scaling else cases(chosen.quick)
    wanted = [one for one in every if re.search(chosen.only, one.name, re.IGNORECASE)]
    if not wanted:
        sys.exit(f"tests.bench: no case has {chosen.only!r} in its name; there are:\n  " + "\n  ".join(c.name for c in every))
    first = {case.name: hold(case, chosen.threads, chosen.quick, chosen.busy) for case in roofs(chosen.quick)}
    roof = highest([*first.values()])
    print(f"The roof, by the best round of a product of matrices, or of PyTorch's convolution: {roof / 1e9:.0f} GFLOP/s.\n")
    results = scale(wanted, roof, chosen) if chosen.scaling else compare(wanted, first, roof, chosen)
    complaints = [complaint for result in {**first, **results}.values() for complaint in result.complaints]
    print("\n".join(["", *complaints]))
    if chosen.json:
        facts = {"described": [*described(chosen)], "threads": chosen.threads, "roof": roof}
        told = [result.as_json() for result in {**first, **results}.values()]
        Path(chosen.json).write_text(json.dumps({**facts, "results": told}, indent=1))
    return bool(complaints)


def highest(results):
    """FLOP/s: the most that somebody reached, who makes the products that he is said to make. Our convolution makes fewer."""
    reached = [
        2 * result.case.products / min(rounds)
        for result in results
        for name, rounds in result.rounds.items()
        if result is results[0] or name != OURS.name
    ]
    return max(reached, default=float("nan"))


def compare(wanted, first, roof, chosen):
    """Print the table as it grows. {name: result}; those which are in `first` need not be measured again."""
    print(line(COLUMNS), line({name: "-" * width for name, width in COLUMNS.items()}), sep="\n")
    results = {}
    for case in wanted:
        result = first[case.name] if case.name in first else hold(case, chosen.threads, chosen.quick, chosen.busy)
        results[case.name] = result
        if result.rounds:
            print(line(row(result, roof, judged=not chosen.quick)), flush=True)
    if chosen.markdown:
        Path(chosen.markdown).write_text(markdown([*results.values()], roof, judged=not chosen.quick))
    return results


def scale(wanted, roof, chosen):
    """Print each sweep as it ends, and then the cliffs; draw the figure. {name: result}."""
    swept = []
    for sweep in wanted:
        swept.append((sweep, measure(sweep, chosen.threads, chosen.quick, chosen.busy)))
        print(table(*swept[-1]), flush=True)
    found = [cliff for sweep, results in swept for cliff in cliffs(sweep, results)]
    print("Cliffs, sizes off the tile that take more than 1.3 times as long per item as their neighbour on it:")
    print("\n".join(found or ["none"]))
    if chosen.figure:
        draw(swept, roof, chosen.figure)
    return {result.case.name: result for _, results in swept for result in results.values()}


def options(arguments):
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="cases whose names match, a regular expression")
    parser.add_argument("--threads", type=int, default=1, help="how many, for each contender; 1 unless told")
    parser.add_argument("--json", metavar="FILE", help="write the medians of every contender and round there, too")
    parser.add_argument("--markdown", metavar="FILE", help="write the README's table there, too")
    parser.add_argument("--scaling", action="store_true", help="time per item against size, and a list of cliffs")
    parser.add_argument("--figure", metavar="FILE", help="with --scaling: draw it there, too")
    parser.add_argument(
        "--quick", action="store_true", help="small arrays, and each but a few times: only to see that all runs"
    )
    parser.add_argument("--busy", action="store_true", help="count processor time, because other programs are running too")
    chosen = parser.parse_args(arguments)
    if not 1 <= chosen.threads <= len(available()):
        parser.error(
            f"--threads {chosen.threads}: this process may use {len(available())} processors; give a number from 1 to that"
        )
    if chosen.figure and not chosen.scaling:
        parser.error("--figure draws what --scaling measures; give both")
    if chosen.markdown and chosen.scaling:
        parser.error("--markdown is the table of the comparison, and --scaling measures something else; give one of them")
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


if __name__ == "__main__":
    sys.exit(main())
