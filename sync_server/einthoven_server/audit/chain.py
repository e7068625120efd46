"""The audit chain: each entry's MAC covers its fields and the MAC before it. Pure.

It deliberately uses a key: with a bare hash, whoever owns the database could alter an entry and compute the rest anew.

Invariants:
    1. Entry n's MAC is HMAC-SHA256(key, previous MAC || canonical bytes of n); entry 1's previous MAC is 32 zero bytes.
    2. Canonical bytes carry lengths, so that no two entries have the same.
    3. An entry that was altered, removed, added or moved is found, and the first such one is named. Cutting off the end
       is found only while the head (kept apart) still tells of it; signed checkpoints held elsewhere are for later.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final, NamedTuple

from einthoven_server.errors import AuditTampered

FIRST_PREVIOUS: Final = bytes(32)
ALLOWED: Final = "allowed"
REPLAYED: Final = "replayed"
NOBODY: Final = "-"


class Event(NamedTuple):
    """What happened.

    Attributes:
        at_ms: When, ms since 1970, by the server's clock.
        actor: Principal or device id, ``"-"`` for nobody known.
        operation: Name of the operation.
        patient: Opaque id of the patient concerned, ``""`` for none.
        outcome: ``"allowed"`` or the code of the refusal.
    """

    at_ms: int
    actor: str
    operation: str
    patient: str
    outcome: str


class Entry(NamedTuple):
    """An event in its place.

    Attributes:
        seq: Position, from 1.
        event: What happened.
        previous: MAC of the entry before, 32 bytes.
        mac: MAC of this one, 32 bytes.
    """

    seq: int
    event: Event
    previous: bytes
    mac: bytes


def mac_of(key: bytes, seq: int, event: Event, previous: bytes) -> bytes:
    """The MAC of an event in its place, 32 bytes."""
    texts = (event.actor.encode(), event.operation.encode(), event.patient.encode(), event.outcome.encode())
    content = b"".join(len(text).to_bytes(4, "big") + text for text in texts)
    place = seq.to_bytes(8, "big") + event.at_ms.to_bytes(8, "big", signed=True)
    return hmac.digest(key, previous + place + content, hashlib.sha256)


def link(key: bytes, last_seq: int, last_mac: bytes, events: Iterable[Event]) -> list[Entry]:
    """Put events at the end of a chain whose last entry is given."""
    entries: list[Entry] = []
    seq, previous = last_seq, last_mac
    for event in events:
        seq += 1
        mac = mac_of(key, seq, event, previous)
        entries.append(Entry(seq, event, previous, mac))
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

    def check(self, entry: Entry) -> None:
        """Check the next entry.

        Raises:
            AuditTampered: It is not the one that was written there.
        """
        if entry.seq != self._seq + 1:
            raise _tampered(f"audit entry {self._seq + 1} is missing")
        expected = mac_of(self._key, entry.seq, entry.event, self._mac)
        if entry.previous != self._mac or not hmac.compare_digest(entry.mac, expected):
            raise _tampered(f"audit entry {entry.seq} was altered")
        self._seq, self._mac = entry.seq, entry.mac

    def check_head(self, seq: int, mac: bytes) -> None:
        """Check that the chain ends where its head says.

        Raises:
            AuditTampered: Entries after the last one are missing, or the head was altered.
        """
        if seq > self._seq:
            raise _tampered(f"audit entry {self._seq + 1} is missing")
        if seq != self._seq or not hmac.compare_digest(mac, self._mac):
            raise _tampered("the audit chain's head was altered")


def _tampered(problem: str) -> AuditTampered:
    return AuditTampered(problem, "treat it and all after it as unproven, and find out who had access to the database")
