"""What a model says about its history is what its header cites."""

import importlib
import pkgutil
import re

import pytest

from tinygen import models

FILES = [importlib.import_module(f"{models.__name__}.{name}") for _, name, _ in pkgutil.iter_modules(models.__path__)]
FAMILIES = [file for file in FILES if hasattr(file, "train_step")]
every_model = pytest.mark.parametrize("file", FAMILIES, ids=lambda file: file.__name__.rpartition(".")[2])


@every_model
def test_every_source_of_the_timeline_is_cited_in_the_header(file):
    header = " ".join(file.__doc__.split())
    assert file.TIMELINE
    for event, source in file.TIMELINE.items():
        assert re.fullmatch(r".+ \d{4}", source) and source in header, f"{event}: the header does not cite {source}"


@every_model
def test_a_timeline_is_in_the_order_of_its_years(file):
    years = [int(source[-4:]) for source in file.TIMELINE.values()]
    assert years == sorted(years)
