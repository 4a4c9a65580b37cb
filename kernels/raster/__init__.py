"""An image drawn pixel by pixel by a network that remembers what it computed before; see spec.py for how it is described."""

from ..dispatch import by_array_type
from . import spec
from .spec import Program

sample = by_array_type(spec.sample)


def fast():
    """Whether this processor has what the fast version is made of (see tiles.py)."""
    from .. import tiles

    return tiles.FAST


__all__ = ["Program", "fast", "sample"]
