"""Softmax and its logarithm along the last axis, and their gradients; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

softmax = by_array_type(spec.softmax)
softmax_gradient = by_array_type(spec.softmax_gradient)
log_softmax = by_array_type(spec.log_softmax)
log_softmax_gradient = by_array_type(spec.log_softmax_gradient)
