"""Reads the XML of an ECG export into a small tree, and tells HL7 aECG, Philips Sierra and Schiller EDI apart.

Parsed by expat through defusedxml: a DOCTYPE is refused before anything in it is looked at, so there are no entities
to expand and nothing outside the file is ever fetched (attack 23; OWASP, XML External Entity Prevention).

It deliberately knows no schema and keeps no namespaces: names are local names. The readers ``source_aecg``,
``source_sierra`` and ``source_schiller`` know what stands where.

Invariants:
    1. Every limit below is held while parsing, piece by piece: a bomb is refused when it crosses the limit, not after.
    2. Memory is bounded by ``MAX_XML_BYTES`` and ``MAX_XML_EVENTS``, whatever the file says.
    3. No text of the file is ever in a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError
from einthoven.source_checks import choose_lead, lead_name, library, regular_file, translated

MAX_XML_BYTES: Final = 32 * 2**20
"""Largest file, bytes: an hour of one lead, or twelve leads for many minutes; the examples are under 0.5 MiB."""
MAX_XML_EVENTS: Final = 100_000
"""Most start tags and stretches of text together; the examples have under 4,000."""
MAX_XML_DEPTH: Final = 64
"""Most elements inside each other; aECG needs 15."""
MAX_ATTRIBUTES: Final = 64
"""Most attributes of one element."""
MAX_ATTRIBUTE_CHARS: Final = 4096
"""Longest value of an attribute, characters."""
MAX_TOKEN_BYTES: Final = 2**20
"""Longest tag or comment, bytes: expat holds it whole."""
MAX_XML_SAMPLES: Final = 4_000_000
"""Samples of one lead: 2 hours at 500 Hz."""
PIECE_BYTES: Final = 2**16
BLOCK_COUNTS: Final = 65_536

FORM_OF_ROOT: Final = {
    "AnnotatedECG": "aecg",
    "restingecgdata": "sierra",
    "com.xiriuz.sema.xml.schillerEDI.SchillerEDI": "schiller",
}
"""Which export a document is, by the local name of its root element."""

_COUNT = re.compile(r"[+-]?[0-9]{1,9}")
_SEPARATED: Final = {" ": re.compile(r"\S+"), ",": re.compile(r"[^,]+")}


@dataclass(slots=True)
class XmlElement:
    """An element: local name, attributes by local name, children in order, and its own text."""

    name: str
    attributes: dict[str, str]
    children: list[XmlElement] = field(default_factory=list)
    text: str = ""

    def all(self, path: str) -> Iterator[XmlElement]:
        """Yield the descendants at a path of names, as ``"component/series"``, in order."""
        first, _, rest = path.partition("/")
        for child in self.children:
            if child.name == first:
                if rest:
                    yield from child.all(rest)
                else:
                    yield child

    def first(self, path: str) -> XmlElement | None:
        """The first descendant at a path, or ``None``."""
        return next(self.all(path), None)

    def text_at(self, path: str) -> str | None:
        """The text of the first descendant at a path without outer blanks, or ``None`` where there is none."""
        found = self.first(path)
        return found.text.strip() if found is not None else None


def read_xml(path: Path) -> XmlElement:
    """Return the root element of a file.

    Raises:
        RecordNotFound: It is not there.
        RecordFormatError: Not well-formed XML, with a DOCTYPE, or over one of the limits.
        InputError: It may not be read, or defusedxml is not installed.
    """
    builder = _Builder()
    _parse(path, builder, until=lambda: False)
    if builder.root is None:  # expat has seen to it that there is one; this is for the type checker
        raise _too_much("the file has no element")
    return builder.root


def xml_form(path: Path) -> str:
    """Return ``aecg``, ``sierra`` or ``schiller``, by the root element; no more of the file is parsed.

    Raises:
        RecordNotFound: It is not there.
        RecordFormatError: Not XML, or none of the three.
        InputError: It may not be read, or defusedxml is not installed.
    """
    builder = _Builder()
    _parse(path, builder, until=lambda: builder.root is not None)
    form = FORM_OF_ROOT.get(builder.root.name) if builder.root is not None else None
    if form is None:
        raise RecordFormatError("this kind of XML is not known", "give an HL7 aECG, Philips Sierra or Schiller export")
    return form


def checked_root(path: Path, form: str, named: str) -> XmlElement:
    """Return the root element of a file that must be of one form.

    Raises:
        RecordNotFound: It is not there.
        RecordFormatError: Not such a file.
        InputError: It may not be read, or defusedxml is not installed.
    """
    root = read_xml(path)
    if FORM_OF_ROOT.get(root.name) != form:
        raise RecordFormatError(f"this is not a {named} file", f"give a {named} file")
    return root


def one_lead(names: list[str], wanted: str | None) -> int:
    """``choose_lead``, and refuse a lead that is there twice: which of the two it is would be a guess.

    Raises:
        RecordFormatError: The chosen lead is there twice.
        InputError: There is no such lead.
    """
    index = choose_lead(names, wanted)
    known = lead_name(names[index])
    if sum(name == names[index] or (known is not None and lead_name(name) == known) for name in names) > 1:
        raise RecordFormatError("the lead is there more than once", "export the record again, or name another lead")
    return index


def listed_counts(text: str, separator: str) -> NDArray[np.float64]:
    """Return whole numbers that are written one after another, float64 [n]; NaN where ``NaN`` is written.

    Args:
        text: As ``"-2 -3 17"``.
        separator: ``" "`` for any white space, or ``","``.

    Raises:
        RecordFormatError: One is not a whole number, or there are more than ``MAX_XML_SAMPLES``.
    """
    blocks: list[NDArray[np.float64]] = []
    words = (match.group().strip() for match in _SEPARATED[separator].finditer(text))
    while block := list(islice(words, BLOCK_COUNTS)):
        if len(blocks) * BLOCK_COUNTS + len(block) > MAX_XML_SAMPLES:
            raise RecordFormatError(f"the lead has more than {MAX_XML_SAMPLES} samples", "split the record")
        blocks.append(np.array([_count(word) for word in block], dtype=np.float64))
    return np.concatenate(blocks) if blocks else np.empty(0)


def _count(word: str) -> float:
    if _COUNT.fullmatch(word):
        return float(word)
    if word.lower() == "nan":
        return float("nan")
    raise RecordFormatError("a sample is not a whole number", "export the record again")


class _Builder:
    """What expat tells, made into a tree within the limits."""

    def __init__(self) -> None:
        self.root: XmlElement | None = None
        self.events = 0
        self._open: list[tuple[XmlElement, list[str]]] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._one_more()
        if len(self._open) >= MAX_XML_DEPTH:
            raise _too_much(f"elements are more than {MAX_XML_DEPTH} deep")
        if len(attributes) > MAX_ATTRIBUTES or any(len(value) > MAX_ATTRIBUTE_CHARS for value in attributes.values()):
            raise _too_much("an element has attributes beyond any ECG")
        element = XmlElement(_local(tag), {_local(name): value for name, value in attributes.items()})
        if self._open:
            self._open[-1][0].children.append(element)
        elif self.root is None:
            self.root = element
        self._open.append((element, []))

    def data(self, text: str) -> None:
        self._one_more()
        if self._open:
            self._open[-1][1].append(text)

    def end(self, _tag: str) -> None:
        element, texts = self._open.pop()
        element.text = "".join(texts)

    def close(self) -> None:
        """Nothing is left to do."""

    def _one_more(self) -> None:
        self.events += 1
        if self.events > MAX_XML_EVENTS:
            raise _too_much(f"more than {MAX_XML_EVENTS} elements and texts")


def _parse(path: Path, builder: _Builder, *, until: Callable[[], bool]) -> None:
    """Feed a file to expat piece by piece, until it ends or ``until`` says so."""
    regular_file(path, max_bytes=MAX_XML_BYTES)
    defused = library("defusedxml.ElementTree")
    with translated("XML"), _doctype_named():
        parser = defused.DefusedXMLParser(target=builder, forbid_dtd=True, forbid_entities=True, forbid_external=True)
        silent_bytes = fed_bytes = 0
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                before = builder.events
                parser.feed(piece)
                if until():
                    return
                fed_bytes += len(piece)
                silent_bytes = silent_bytes + len(piece) if builder.events == before else 0
                if silent_bytes > MAX_TOKEN_BYTES or fed_bytes > MAX_XML_BYTES:
                    raise _too_much("a tag or comment is longer than any in an ECG")
        parser.close()


@contextmanager
def _doctype_named() -> Iterator[None]:
    """Say what it was that defusedxml stopped at."""
    try:
        yield
    except library("defusedxml.common").DefusedXmlException as problem:
        raise RecordFormatError("the XML has a DOCTYPE, which no ECG needs", "export the record again") from problem


def _too_much(problem: str) -> RecordFormatError:
    return RecordFormatError(problem, "export the record again")


def _local(name: str) -> str:
    return name.rpartition("}")[2]
