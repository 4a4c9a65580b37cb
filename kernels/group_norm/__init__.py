"""Normalisation of groups of channels, an activation after it, and their gradients; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

forward = by_array_type(spec.forward)
backward = by_array_type(spec.backward)
