"""The product of matrices; see spec.py for the equation."""

from ..dispatch import by_array_type
from . import spec

product = by_array_type(spec.product)
