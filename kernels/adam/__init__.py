"""One step of Adam for one array of parameters; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

pace = spec.pace
update = by_array_type(spec.update)
