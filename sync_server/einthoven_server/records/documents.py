"""What the server may decide for devices: names and bodies of documents. Pure.

It deliberately knows no single setting, model or consent: a device that reads one judges what is in it.

Invariants:
    1. A name is ``settings/...``, ``models/...`` or ``consents/...``, lower case, and fits the wire.
    2. A body is JSON that all readers read alike, at most ``DOCUMENT_MAX_DEPTH`` deep, kept byte for byte as it came.
"""

from __future__ import annotations

import re
from typing import Final

from einthoven_protocol.limits import MAX_DOCUMENT_NAME_CHARACTERS
from einthoven_server import limits
from einthoven_server.errors import Malformed, NotFound
from einthoven_server.strict_json import check_json

_NAME: Final = re.compile(r"(settings|models|consents)/[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.ASCII)


def document_name(kind: str, rest: str) -> str:
    """The name that an address speaks of.

    Raises:
        NotFound: No document has such a name.
    """
    name = f"{kind}/{rest}"
    if len(name) > MAX_DOCUMENT_NAME_CHARACTERS or not _NAME.fullmatch(name):
        raise NotFound(
            "no document has such a name",
            f"use settings/, models/ or consents/, then a-z 0-9 . _ -, {MAX_DOCUMENT_NAME_CHARACTERS} in all",
        )
    return name


def check_document(body: bytes) -> None:
    """Hold a body to what devices can read.

    Raises:
        Malformed: It is no such JSON, or nested too deeply.
    """
    level = [check_json(body)]
    for _ in range(limits.DOCUMENT_MAX_DEPTH):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return
    raise Malformed(f"the JSON is more than {limits.DOCUMENT_MAX_DEPTH} deep", "nest less")


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
