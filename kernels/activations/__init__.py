"""Activation functions that NumPy would make in several passes, and their gradients; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

gelu = by_array_type(spec.gelu)
gelu_gradient = by_array_type(spec.gelu_gradient)
leaky_relu = by_array_type(spec.leaky_relu)
leaky_relu_gradient = by_array_type(spec.leaky_relu_gradient)
relu_gradient = by_array_type(spec.relu_gradient)
sigmoid = by_array_type(spec.sigmoid)
sigmoid_gradient = by_array_type(spec.sigmoid_gradient)
silu = by_array_type(spec.silu)
silu_gradient = by_array_type(spec.silu_gradient)
softplus = by_array_type(spec.softplus)
softplus_gradient = by_array_type(spec.softplus_gradient)
tanh_gradient = by_array_type(spec.tanh_gradient)
