"""``docs/sync-protocol-v1.md`` says what the code does: its examples, limits and codes are compared with it."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from einthoven_protocol import errors, limits, messages
from einthoven_protocol.errors import ProtocolError

ROOT = Path(__file__).parents[2]
SPECIFICATION = (ROOT / "docs" / "sync-protocol-v1.md").read_text(encoding="utf-8")
VECTORS = ROOT / "tests" / "vectors" / "sync"
EXAMPLES = re.findall(r"<!-- vector: (\S+) (.+?) -->\n```\n(.*?)\n```", SPECIFICATION, re.DOTALL)


def vector(file: str, path: str) -> Any:
    """What lies under a path of keys and, in a list, of names."""
    found = json.loads((VECTORS / file).read_text(encoding="ascii"))
    for step in path.split():
        found = next(item for item in found if item["name"] == step) if isinstance(found, list) else found[step]
    return found


def hex_of(example: str) -> str:
    """The bytes of an example, without spaces and comments."""
    return re.sub(r"#.*|\s", "", example)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == SPECIFICATION.count("<!-- vector:") >= 11


@pytest.mark.parametrize(("file", "path", "example"), EXAMPLES, ids=[f"{file}-{path}" for file, path, _ in EXAMPLES])
def test_an_example_is_the_vector_it_names(file: str, path: str, example: str) -> None:
    expected = vector(file, path)
    if isinstance(expected, dict):
        assert example.splitlines() == [f"{name}: {value}" for name, value in expected.items()]
    elif re.fullmatch(r"[0-9a-f]+", expected):
        assert hex_of(example) == expected
    else:
        assert example == expected


def test_the_limits_are_the_codes() -> None:
    written = {name: int(value) for name, value in re.findall(r"^\| `([A-Z_]+)` \| (-?\d+) \|", SPECIFICATION, re.M)}
    assert written == {name: value for name, value in vars(limits).items() if name.isupper()}


def test_the_error_codes_are_the_codes() -> None:
    chapter = SPECIFICATION.split("## 11. Error codes")[1].split("## 12.")[0]
    written = set(re.findall(r"^\| `([a-z_]+)` \|", chapter, re.M))
    tree = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, ProtocolError)]
    assert written == {found.code for found in tree}


def test_the_verdicts_are_numbered_as_written() -> None:
    sentence = SPECIFICATION.split("Verdict codes:")[1].split("Results of a message")[0].replace("\n", " ")
    codes, reasons = sentence.split("Reasons:")
    for text, kind in ((codes, messages.VerdictCode), (reasons, messages.RejectReason)):
        written = re.findall(r"(\d) ([a-z]+)", text)
        assert [(int(number), first) for number, first in written] == [
            (int(value), value.name.split("_")[0].lower()) for value in kind
        ]


def test_links_within_lead_somewhere() -> None:
    titles = re.findall(r"^## (.+)$", SPECIFICATION, re.M)
    anchors = {re.sub(r"[^\w\s-]", "", title.lower()).replace(" ", "-") for title in titles}
    links = set(re.findall(r"\]\(#([\w-]+)\)", SPECIFICATION))
    assert links == anchors
