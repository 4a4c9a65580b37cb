"""Random numbers that are functions of their address, the same on every device; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

bits = by_array_type(spec.bits)
uniform = by_array_type(spec.uniform)
normal = by_array_type(spec.normal)
order = by_array_type(spec.order)
