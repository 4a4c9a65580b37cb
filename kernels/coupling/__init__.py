"""The affine map of a coupling layer, with its logarithmic slopes, and all of its gradients; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

forward = by_array_type(spec.forward)
backward = by_array_type(spec.backward)
