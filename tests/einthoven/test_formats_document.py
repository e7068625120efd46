"""docs/formats.md says what the code does: every extension, and every limit with its value."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from einthoven.sources import FORM_OF_EXTENSION
from einthoven.xml_records import FORM_OF_ROOT

DOCUMENT = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
LIMITS = re.findall(r"^\| `(\w+)\.(\w+)` \| (\d+) \|", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize("extension", sorted(set(FORM_OF_EXTENSION) - {".tsv", ".txt"}))
def test_every_extension_is_there(extension):
    assert extension in DOCUMENT


@pytest.mark.parametrize("named", ["HL7 aECG", "Philips Sierra", "Schiller EDI"])
def test_every_kind_of_xml_is_there(named):
    assert len(FORM_OF_ROOT) == 3
    assert f"| {named}" in DOCUMENT


@pytest.mark.parametrize(("module", "name", "value"), LIMITS)
def test_a_limit_is_what_it_says(module, name, value):
    assert getattr(importlib.import_module(f"einthoven.{module}"), name) == int(value)


def test_the_limits_of_the_xml_readers_are_all_there():
    told = {name for module, name, _ in LIMITS if module == "xml_records"}
    there = vars(importlib.import_module("einthoven.xml_records"))
    assert told == {name for name in there if name.startswith("MAX_")}
