"""Normalisation of groups of channels and its gradients; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

forward = by_array_type(spec.forward)
input_gradient = by_array_type(spec.input_gradient)
parameter_gradient = by_array_type(spec.parameter_gradient)
