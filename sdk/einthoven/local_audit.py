"""The device's audit trail as a hash chain: what was done to the store, in order, each entry sealing those before it.

Pure. It deliberately proves nothing against whoever holds the store's key: such a one can write a whole new chain. The
chain shows an entry changed, dropped or put in between without that; the newest hash (``head``) is kept apart by the
store, so that a trail cut off at its end shows as well. It deliberately knows no clock and no patient.

Invariants:
    1. ``entry_hash`` = SHA-256(version byte || previous hash || seq u64 || at_ms u64 || action u16 || subject UTF-8),
       big-endian. The fields before the subject have fixed lengths, so no two entries have the same octets.
    2. ``seq`` runs 1, 2, 3 ... without holes; the hash before the first entry is 32 zero bytes.
    3. A subject is opaque: a number, a setting's name, a digest in hex.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

from einthoven.store_values import MAX_SUBJECT_CHARS, AuditAction, AuditEntry

CHAIN_VERSION: Final = 1
"""First octet of what is hashed; another layout gets another number."""
FIRST_PREVIOUS_HASH: Final = bytes(32)
"""Stands for the hash before the first entry."""

_FIELDS: Final = struct.Struct(">QQH")
_MAX_U64: Final = 2**64 - 1


def entry_hash(previous_hash: bytes, seq: int, at_ms: int, action: int, subject: str) -> bytes:
    """Return the hash that chains an entry to the one before, 32 bytes.

    Args:
        previous_hash: Hash of the entry before, 32 bytes; ``FIRST_PREVIOUS_HASH`` for the first.
        seq: Number of the entry, from 1.
        at_ms: UTC, ms since 1970.
        action: What was done.
        subject: What to.

    Raises:
        ValueError: A value does not fit its field, or the subject can't be written as UTF-8.
    """
    if len(previous_hash) != len(FIRST_PREVIOUS_HASH):
        raise ValueError("the hash of the entry before has 32 bytes")
    try:
        fields = _FIELDS.pack(seq, at_ms, action)
    except struct.error as error:
        raise ValueError("an audit entry's number, time or action does not fit its field") from error
    return hashlib.sha256(bytes([CHAIN_VERSION]) + previous_hash + fields + subject.encode("utf-8")).digest()


def check_entry(subject: str, at_ms: int) -> None:
    """Hold what is to be recorded to its limits.

    Raises:
        ValueError: The subject is over ``MAX_SUBJECT_CHARS`` or no text, or the time is before 1970.
    """
    if len(subject) > MAX_SUBJECT_CHARS:
        raise ValueError(f"an audit entry's subject has at most {MAX_SUBJECT_CHARS} characters, not {len(subject)}")
    if "\0" in subject or any("\ud800" <= character <= "\udfff" for character in subject):
        raise ValueError("an audit entry's subject holds a character that can't be stored")
    # One bit less than the field has: a database's integers are signed.
    if not 0 <= at_ms <= _MAX_U64 >> 1:
        raise ValueError("an audit entry's time is in ms since 1970")


def next_entry(previous: AuditEntry | None, action: AuditAction, subject: str, at_ms: int) -> AuditEntry:
    """Return the entry that follows ``previous``, or the first.

    Raises:
        ValueError: See ``check_entry``.
    """
    seq, previous_hash = (0, FIRST_PREVIOUS_HASH) if previous is None else (previous.seq, previous.entry_hash)
    return entry_after(seq, previous_hash, action, subject, at_ms)


def entry_after(last_seq: int, last_hash: bytes, action: AuditAction, subject: str, at_ms: int) -> AuditEntry:
    """Return the entry that follows the one numbered ``last_seq`` (0 if there is none yet).

    Raises:
        ValueError: See ``check_entry``.
    """
    check_entry(subject, at_ms)
    seq = last_seq + 1
    chained = entry_hash(last_hash, seq, at_ms, int(action), subject)
    return AuditEntry(seq=seq, at_ms=at_ms, action=AuditAction(action), subject=subject, entry_hash=chained)


def verify(
    entries: Iterable[AuditEntry],
    *,
    previous: AuditEntry | None = None,
    head: bytes | None = None,
) -> int | None:
    """Return the number of the first entry that is not as it was written, or that is missing; ``None`` if all hold.

    Args:
        entries: In order.
        previous: The entry before them, itself verified, where the trail is read in pages.
        head: Hash of the newest entry, as it was kept apart; ``FIRST_PREVIOUS_HASH`` for an empty trail. Not given,
            a trail that was cut off at its end is not noticed.
    """
    seq, last_hash = (0, FIRST_PREVIOUS_HASH) if previous is None else (previous.seq, previous.entry_hash)
    for entry in entries:
        seq += 1
        if entry.seq != seq or not _follows(last_hash, entry):
            return seq
        last_hash = entry.entry_hash
    return seq + 1 if head is not None and head != last_hash else None


def _follows(last_hash: bytes, entry: AuditEntry) -> bool:
    try:
        return entry.entry_hash == entry_hash(last_hash, entry.seq, entry.at_ms, entry.action, entry.subject)
    except ValueError:  # an edited entry may hold what was never written
        return False
