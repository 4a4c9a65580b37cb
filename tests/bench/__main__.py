"""python -m tests.bench: tinygen and PyTorch side by side, as a table. --help says how to have less of it.

A bar is a bound on PyTorch's time over ours: above 1, we are faster. Their time is that of the fastest eager contender, in
either memory layout and with either Adam. torch.compile and jax.jit stand beside it as further ratios, and are not judged. The
roof is what this machine can do, as measured in the same run: products of matrices, and numbers copied.

With --scaling, time per item against the sizes of batches, images, sequences and layers instead, and where it has a cliff.

    what is compared    kernels.py, steps.py: the cases; operations.py: an operation as a case; case.py: what one is, and what
                        comes of it; twins_torch.py, twins_jax.py: our models in other libraries; pytorch.py: how one competes
    how                 contest.py: the rules; contender.py: the process of a contender; devices.py: its clock and its memory;
                        machine.py: processors, the card, and what is installed
    what is said        tables.py: the table; scaling.py: sweeps over sizes, and their figure
"""

import argparse
import json
import platform
import re
import sys
from pathlib import Path

import numpy as np

from tinygen.backend import to_device

from .case import OURS, Conditions
from .cases import cases
from .contest import hold
from .kernels import roofs
from .machine import available, card, compiler, installed, processor, torch_has
from .scaling import cliffs, draw, measure, sweeps, table
from .tables import COLUMNS, line, markdown, notes, quietness, row


def main(arguments=None):
    chosen = options(arguments)
    conditions = Conditions(chosen.device, chosen.threads, chosen.quick, chosen.busy)
    print("\n".join(["", *described(conditions), ""]))
    every = sweeps(chosen.quick) if chosen.scaling else cases(conditions)
    wanted = [one for one in every if re.search(chosen.only, one.name, re.IGNORECASE)]
    if not wanted:
        sys.exit(f"tests.bench: no case has {chosen.only!r} in its name; there are:\n  " + "\n  ".join(c.name for c in every))
    first = {case.name: hold(case, conditions) for case in roofs(conditions)}
    highest = ceilings([*first.values()])
    print("The roof, by anybody's best round:", " and ".join(f"{x / 1e9:,.0f} G{unit}" for unit, x in highest.items()), "\n")
    if chosen.scaling:
        results = scale(wanted, highest, conditions, chosen.figure)
    else:
        results = compare(wanted, first, highest, conditions)
    complaints = [complaint for result in {**first, **results}.values() for complaint in result.complaints]
    if not chosen.quick and chosen.device == "cpu":
        print("", quietness([*results.values()]), sep="\n")
    print("\n".join(["", *complaints]))
    if chosen.markdown:
        Path(chosen.markdown).write_text(markdown([*results.values()], highest, judged=not chosen.quick))
    if chosen.json:
        facts = {"described": [*described(conditions)], "threads": chosen.threads, "device": chosen.device, "roof": highest}
        facts["card"] = card() if chosen.device == "gpu" else None
        told = [result.as_json() for result in {**first, **results}.values()]
        Path(chosen.json).write_text(json.dumps({**facts, "results": told}, indent=1))
    return bool(complaints)


def ceilings(results):
    """{"FLOP/s", "B/s": the most that somebody reached}, of those who do all the work that they are said to do.

    Those are all in the first product and in a copy: of a convolution, ours makes fewer products.
    """
    reached = {"FLOP/s": [], "B/s": []}
    for result in results:
        amount, unit = result.case.work
        for name, rounds in result.rounds.items():
            if name != OURS or "conv" not in result.case.name:
                reached[unit].append(amount / min(rounds))
    return {unit: max(rates, default=float("nan")) for unit, rates in reached.items()}


def compare(wanted, first, highest, conditions):
    """Print the table as it grows. {name: result}; those which are in `first` need not be measured again."""
    print(line(COLUMNS), line({name: "-" * width for name, width in COLUMNS.items()}), sep="\n")
    results = {}
    for case in wanted:
        result = results[case.name] = first[case.name] if case.name in first else hold(case, conditions)
        if result.rounds:
            print(line(row(result, highest, judged=not conditions.quick)), flush=True)
    if not conditions.quick:
        print(*notes([*results.values()], highest), sep="\n")
    return results


def scale(wanted, highest, conditions, figure):
    """Print each sweep as it ends, and then the cliffs; draw the figure, if one is wanted. {name: result}."""
    swept = []
    for sweep in wanted:
        swept.append((sweep, measure(sweep, conditions)))
        print(table(*swept[-1]), flush=True)
    found = [cliff for sweep, results in swept for cliff in cliffs(sweep, results)]
    print("Cliffs, sizes off the tile that take more than 1.3 times as long per operation as their neighbour on it:")
    print("\n".join(found or ["none"]))
    if figure:
        draw(swept, highest["FLOP/s"], figure)
    return {result.case.name: result for _, results in swept for result in results.values()}


def options(arguments):
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="cases whose names match, a regular expression")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where all run (default: %(default)s)")
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
    if chosen.device == "gpu":
        for flag, why in ("scaling", "its sizes are those of the processor's tiles"), ("busy", "a GPU's time is the clock's"):
            if getattr(chosen, flag):
                parser.error(f"--{flag} is not for --device gpu: {why}")
        try:
            to_device(np.zeros(1), "gpu")
        except RuntimeError as error:
            parser.exit(2, f"tests.bench: {error}\n")
    return chosen


def described(conditions):
    """What the figures depend on, and what is missing, in sentences."""
    libraries = [f"{name} {found}" for name in ("numpy", "numba", "torch", "jax") if (found := installed(name))]
    yield f"{processor()}; Python {platform.python_version()}, {', '.join(libraries)}."
    if conditions.device == "gpu":
        yield "; ".join(f"{what}: {value}" for what, value in card().items() if value is not None) + "."
    yield f"Threads of each contender: {conditions.threads}."
    if conditions.busy:
        yield "--busy: times are those of the processor, of all threads together, and not of the clock."
    if conditions.quick:
        yield "--quick: small arrays and bursts of a moment. The figures mean nothing, and none is judged."
    if not installed("torch"):
        yield "PyTorch is not installed: ours runs alone, and no bar is judged. To compare: pip install -e '.[bench]'."
    elif not torch_has(conditions.device):
        yield "This PyTorch cannot use the GPU: ours runs alone, and no bar is judged. To compare: a PyTorch made for CUDA."
    elif not compiler():
        yield "torch.compile needs a C++ compiler, and there is no g++ here (or what $CXX names): without it."
    if not installed("jax") and conditions.device == "cpu":
        yield "JAX is not installed: without it."


if __name__ == "__main__":
    sys.exit(main())
