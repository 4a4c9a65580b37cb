"""List the derivations; read and run those named; see what refutes their wrong siblings, and what of the models they check."""

import argparse
import sys
import textwrap
import time
from pathlib import Path

from . import chains
from .coverage import show_coverage

try:
    from .chain import DRAWS, SIDES, shown
    from .page import write_pages
except ModuleNotFoundError as error:
    if error.name != "hypothesis":
        raise
    print("the instances are drawn by Hypothesis, which is not installed: pip install hypothesis", file=sys.stderr)
    sys.exit(2)


def main(arguments=None):
    parser = argparse.ArgumentParser("python -m tinygen.derivations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="chains to read and run; without any, they are listed")
    parser.add_argument("--mutants", action="store_true", help="run the wrong siblings of all chains, or of those named")
    parser.add_argument("--published", action="store_true", help="list the wrong siblings that published code really had")
    parser.add_argument("--coverage", action="store_true", help="list the equations of the models with the steps that run them")
    parser.add_argument("--html", type=Path, metavar="DIR", help="write a page for each chain, and an index, to this folder")
    parser.add_argument("--draws", type=int, default=DRAWS, metavar="N", help="instances for each step (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    known = chains()
    unknown = [name for name in chosen.names if name not in known]
    if unknown or chosen.draws < 1:
        wrong = f"there is no chain {unknown[0]!r}; there are: {', '.join(known)}" if unknown else "--draws must be at least 1"
        print(f"derivations: {wrong}", file=sys.stderr)
        return 2
    named = [known[name] for name in chosen.names or known]
    if chosen.coverage:
        return show_coverage()
    if chosen.published:
        return show_published(named)
    if chosen.mutants:
        return run_mutants(named, chosen.draws)
    if chosen.html:
        write_pages(named, chosen.html, chosen.draws)
        pages = "1 page is" if len(named) == 1 else f"{len(named)} pages are"
        print(f"{pages} in {chosen.html}/, with an index.html")
        return 0
    if not chosen.names:
        return show_list(named)
    return max(read(chain, chosen.draws) for chain in named)


def show_list(chains):
    for chain in chains:
        siblings = sum(len(step.siblings) for step in chain.steps)
        print(f"{chain.name}: {len(chain.steps)} steps, {siblings} wrong siblings. {chain.source}")
        print(textwrap.fill(chain.about, 100, initial_indent="    ", subsequent_indent="    "))
    return 0


def show_published(chains):
    for chain in chains:
        for step in chain.steps:
            for mistake in step.published:
                print(f"{step.tag}: {mistake}")
    return 0


def read(chain, draws):
    """Print each step, its reason, both sides on an instance, and the worst residual of many; 1 if a step does not hold."""
    print(f"{chain.name}: {chain.about}\n{chain.source}\n")
    refuted = 0
    for number, step in enumerate(chain.steps, start=1):
        instances = step.examples(draws)
        left, right, _ = step.values(instances[-1])
        worst = max(step.residual(instance) for instance in instances)
        refuted += worst > 1
        source = "" if step.source == chain.source else f" ({step.source})"
        print(f"{number}. {step.name}{source}\n     {step.latex}")
        print(textwrap.fill(f"because: {step.because}", 110, initial_indent="     ", subsequent_indent="     "))
        said, sign = f" ({SIDES[step.kind]})" if step.kind in SIDES else "", "<=" if step.kind == "at_most" else "="
        print(f"     {shown(left)} {sign} {shown(right)}{said}")
        verdict = "DOES NOT HOLD" if worst > 1 else "holds"
        print(f"     {verdict}: over {len(instances)} instances, at worst {worst:.1e} of what rounding allows\n")
    return int(refuted > 0)


def run_mutants(chains, draws):
    """Print which wrong siblings are refuted; 1 if one is not, or if a step is."""
    start, caught, total, failed = time.perf_counter(), 0, 0, []
    for chain in chains:
        for step in chain.steps:
            if step.refutation(draws=draws) is not None:
                failed.append(f"{step.tag} does not hold")
            if not step.siblings:
                failed.append(f"{step.tag} has no wrong sibling")
            for mistake in step.siblings:
                total += 1
                found = step.refutation(mistake, draws) is not None
                caught += found
                print(f"{'caught  ' if found else 'SURVIVES'}  {step.tag}: {mistake}")
                if not found:
                    failed.append(f"{step.tag} survives: {mistake}")
    steps = sum(len(chain.steps) for chain in chains)
    print(
        f"\n{len(chains)} chains, {steps} steps, {caught} of {total} wrong siblings caught, {time.perf_counter() - start:.0f} s"
    )
    print("\n".join(failed), end="\n" if failed else "")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
