"""All cases, in the order of the table."""

from . import kernels, steps


def cases(quick=False):
    """With small arrays, to see that everything runs, if quick."""
    return [*kernels.cases(quick), *steps.cases(quick)]


def named(name, quick=False):
    return next(case for case in cases(quick) if case.name == name)
