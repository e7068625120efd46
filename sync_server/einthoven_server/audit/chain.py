"""The audit chain: each entry's MAC covers its fields and the MAC before it. Pure.

It deliberately uses a key: with a bare hash, whoever owns the database could alter an entry and compute the rest anew.

Invariants:
    1. Entry n's MAC is HMAC-SHA256(key, previous MAC || canonical bytes of n); entry 1's previous MAC is 32 zero bytes.
    2. Canonical bytes carry lengths and the entry's form, so that no two entries have the same.
    3. An entry that was altered, removed, added or moved is found, and the first such one is named. Cutting off the end
       together with the head is found by the checkpoints that reach further (``checkpoints``).
    4. An entry's leaf in the tree (``merkle``) is its canonical bytes with its MAC: whoever lacks the key can't try
       contents on the hashes that a proof shows.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from einthoven_server.errors import AuditTampered

FIRST_PREVIOUS: Final = bytes(32)
ALLOWED: Final = "allowed"
REPLAYED: Final = "replayed"
NOBODY: Final = "-"
FIRST_FORM: Final = 1
"""Entries of before: time, actor, operation, patient and outcome are all they say."""
FORM: Final = 2
_FORM_BIT: Final = 1 << 63
"""Set in the place of entries of form 2; a position never is that large."""
_PLACE: Final = struct.Struct(">Qq")
_LENGTH: Final = struct.Struct(">I")
_HEAD_LABEL: Final = b"einthoven audit head 1\0".ljust(64, b"\0")
"""Domain separation: where an entry has a MAC and its place, a head has these zeros."""


class Event(NamedTuple):
    """What happened.

    Attributes:
        at_ms: When, ms since 1970, by the server's clock.
        actor: Principal or device id, ``"-"`` for nobody known.
        operation: Name of the operation.
        patient: Opaque id of the patient concerned, ``""`` for none.
        outcome: ``"allowed"`` or the code of the refusal.
        role: The actor's role, ``""`` for nobody's.
        resource: Kind of what it was about (a FHIR type where there is one), ``""`` for none in particular.
        resource_id: Its opaque id.
        purpose: Purpose of use, a code of HL7's v3-ActReason; ``""`` where none is known.
        others: Opaque ids of further patients concerned.
    """

    at_ms: int
    actor: str
    operation: str
    patient: str
    outcome: str
    role: str = ""
    resource: str = ""
    resource_id: str = ""
    purpose: str = ""
    others: tuple[str, ...] = ()


_UNSAID: Final = Event(0, "", "", "", "")[5:]
"""What entries of before leave open."""


class Entry(NamedTuple):
    """An event in its place.

    Attributes:
        seq: Position, from 1.
        event: What happened.
        previous: MAC of the entry before, 32 bytes.
        mac: MAC of this one, 32 bytes.
        form: How it was written; ``FIRST_FORM`` for those of before.
    """

    seq: int
    event: Event
    previous: bytes
    mac: bytes
    form: int = FORM

    @property
    def leaf(self) -> bytes:
        """What it is in the tree."""
        return canonical(self.seq, self.event, self.form) + self.mac


def canonical(seq: int, event: Event, form: int = FORM) -> bytes:
    """The bytes of an event in its place.

    Raises:
        ValueError: No entry has this form, or says more than its form has.
    """
    if form == FORM:
        place = seq | _FORM_BIT
        texts: tuple[str, ...] = (*event[1:-1], *event.others)
    elif form == FIRST_FORM and event[5:] == _UNSAID:
        place, texts = seq, event[1:5]
    else:
        raise ValueError(f"no audit entry of form {form} is like this")
    parts = [_PLACE.pack(place, event.at_ms)]
    for text in texts:
        octets = text.encode()
        parts.append(_LENGTH.pack(len(octets)))
        parts.append(octets)
    return b"".join(parts)


def mac_of(key: bytes, seq: int, event: Event, previous: bytes, form: int = FORM) -> bytes:
    """The MAC of an event in its place, 32 bytes."""
    return hmac.digest(key, previous + canonical(seq, event, form), "sha256")


def seal_of(key: bytes, seq: int, mac: bytes, frontier: bytes) -> bytes:
    """The MAC over a log's head, 32 bytes: how far it reaches, its last MAC, and its tree's frontier."""
    return hmac.digest(key, _HEAD_LABEL + _PLACE.pack(seq, len(frontier)) + mac + frontier, "sha256")


def link(key: bytes, last_seq: int, last_mac: bytes, events: Iterable[Event]) -> list[Entry]:
    """Put events at the end of a chain whose last entry is given."""
    return [entry for entry, _ in linked(key, last_seq, last_mac, events)]


def linked(key: bytes, last_seq: int, last_mac: bytes, events: Iterable[Event]) -> list[tuple[Entry, bytes]]:
    """The same, each entry with its leaf."""
    entries: list[tuple[Entry, bytes]] = []
    seq, previous = last_seq, last_mac
    for event in events:
        seq += 1
        octets = canonical(seq, event)
        mac = hmac.digest(key, previous + octets, "sha256")
        entries.append((Entry(seq, event, previous, mac), octets + mac))
        previous = mac
    return entries


class Verifier:
    """Checks entries in order, then the head.

    Args:
        key: The chain's key, 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._seq = 0
        self._mac = FIRST_PREVIOUS

    @property
    def seq(self) -> int:
        """The last entry that was checked; 0 before the first."""
        return self._seq

    def check(self, entry: Entry) -> bytes:
        """Check the next entry.

        Returns:
            Its leaf.

        Raises:
            AuditTampered: It is not the one that was written there.
        """
        if entry.seq != self._seq + 1:
            raise tampered(f"audit entry {self._seq + 1} is missing")
        try:
            octets = canonical(entry.seq, entry.event, entry.form)
        except (ValueError, struct.error) as error:
            raise tampered(f"audit entry {entry.seq} was altered") from error
        expected = hmac.digest(self._key, self._mac + octets, "sha256")
        if entry.previous != self._mac or not hmac.compare_digest(entry.mac, expected):
            raise tampered(f"audit entry {entry.seq} was altered")
        self._seq, self._mac = entry.seq, entry.mac
        return octets + entry.mac

    def check_head(self, seq: int, mac: bytes) -> None:
        """Check that the chain ends where its head says.

        Raises:
            AuditTampered: Entries after the last one are missing, or the head was altered.
        """
        if seq > self._seq:
            raise tampered(f"audit entry {self._seq + 1} is missing")
        if seq != self._seq or not hmac.compare_digest(mac, self._mac):
            raise tampered("the audit chain's head was altered")


def tampered(problem: str) -> AuditTampered:
    """What is said of a log that does not hold."""
    return AuditTampered(problem, "treat it and all after it as unproven, and find out who had access to the database")
