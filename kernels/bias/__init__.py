"""A bias and an activation after a product of matrices, and their gradient, in one pass each; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

forward = by_array_type(spec.forward)
backward = by_array_type(spec.backward)
