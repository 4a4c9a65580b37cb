"""The mathematics under the models, as arguments that run: `python -m tinygen.derivations`. See chain.py.

It needs Hypothesis, which draws the instances: pip install -e '.[test]'.
"""

from importlib import import_module
from pathlib import Path

HELPERS = {"__init__", "__main__", "chain", "coverage", "exact", "instances", "page"}


def chains():
    """All chains by name: a file NAME.py of this folder holds the chain NAME."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in HELPERS)
    return {name: getattr(import_module(f"{__name__}.{name}"), name) for name in names}
