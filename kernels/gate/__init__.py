"""A gate: tanh of one half of the channels times the sigmoid of the other, and its gradient; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

forward = by_array_type(spec.forward)
backward = by_array_type(spec.backward)
