"""Activation functions that NumPy would make in several passes, and their gradients; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

relu_gradient = by_array_type(spec.relu_gradient)
sigmoid = by_array_type(spec.sigmoid)
silu = by_array_type(spec.silu)
silu_gradient = by_array_type(spec.silu_gradient)
