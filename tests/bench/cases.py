"""All cases, in the order of the table."""

from . import kernels, steps
from .scaling import sweeps


def cases(quick=False):
    """With small arrays, to see that everything runs, if quick."""
    return [*kernels.cases(quick), *steps.cases(quick)]


def named(name, quick=False):
    """The case of that name: one of the table, or a size of a sweep."""
    sizes = (case for sweep in sweeps(quick) for case in sweep.cases.values())
    return next(case for every in (cases(quick), sizes) for case in every if case.name == name)
