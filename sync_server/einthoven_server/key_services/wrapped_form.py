"""How a wrapped key names the service that wrapped it. Pure.

Invariants:
    1. Byte 3, kind of service, label (a version, if the service needs one said), each with its length; then what the
       service gave. A key file's keys begin with bytes 1 and 2 (``key_service_file``).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

from einthoven_server.errors import EnvelopeRefused

FILE: Final = "file"
_FORM: Final = b"\x03"


class Wrapped(NamedTuple):
    """A wrapped key's parts."""

    kind: str
    label: str
    content: bytes


def pack(wrapped: Wrapped) -> bytes:
    """The bytes that are kept."""
    parts = (text.encode("ascii") for text in (wrapped.kind, wrapped.label))
    return _FORM + b"".join(bytes([len(part)]) + part for part in parts) + wrapped.content


def unpack(octets: bytes) -> Wrapped:
    """The parts.

    Raises:
        EnvelopeRefused: It has no form that is known.
    """
    if octets[:1] in {b"\x01", b"\x02"}:
        return Wrapped(FILE, "", octets)
    content = b""
    with suppress(ValueError, IndexError):
        kind_end = 2 + octets[1]
        label_end = kind_end + 1 + octets[kind_end]
        kind, label = octets[2:kind_end].decode("ascii"), octets[kind_end + 1 : label_end].decode("ascii")
        content = octets[label_end:]
    if octets[:1] != _FORM or not content:
        raise EnvelopeRefused("a wrapped key is not in a known form", "restore the database from a backup")
    return Wrapped(kind, label, content)


def of_kind(octets: bytes, kind: str) -> Wrapped:
    """The parts of what a service of this kind wrapped.

    Raises:
        EnvelopeRefused: Another kind did.
    """
    wrapped = unpack(octets)
    if wrapped.kind != kind:
        raise EnvelopeRefused("a key was wrapped by another kind of service", "give --key-service as it was")
    return wrapped
