"""All cases, in the order of the table."""

from . import kernels, steps
from .scaling import sweeps


def cases(conditions):
    """For the device, and with small arrays, to see that everything runs, if quick."""
    return [*kernels.cases(conditions), *steps.cases(conditions)]


def named(name, conditions):
    """The case of that name: one of the table, what else says how fast a device is, or a size of a sweep."""
    sizes = (case for sweep in sweeps(conditions.quick) for case in sweep.cases.values())
    return next(case for every in (cases(conditions), kernels.roofs(conditions), sizes) for case in every if case.name == name)
