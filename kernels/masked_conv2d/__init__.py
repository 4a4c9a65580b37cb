"""Masked 2-D convolution and its two gradients; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

forward = by_array_type(spec.forward)
input_gradient = by_array_type(spec.input_gradient)
weight_gradient = by_array_type(spec.weight_gradient)
