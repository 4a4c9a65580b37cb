"""A sample of a Gaussian with its divergence from N(0, 1), and both gradients; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

forward = by_array_type(spec.forward)
backward = by_array_type(spec.backward)
