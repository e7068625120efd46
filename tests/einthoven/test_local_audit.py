"""The chain of the audit trail: what was changed, dropped, put in or cut off is found, and where."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.local_audit import FIRST_PREVIOUS_HASH, check_entry, entry_after, entry_hash, next_entry, verify
from einthoven.store_values import MAX_SUBJECT_CHARS, AuditAction, AuditEntry


def trail(count: int) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for number in range(count):
        previous = entries[-1] if entries else None
        entries.append(next_entry(previous, AuditAction(1 + number % 14), f"subject {number}", 1_000 + number))
    return entries


def test_the_hash_is_that_of_the_written_layout() -> None:
    octets = b"\x01" + bytes(32) + (1).to_bytes(8, "big") + (5).to_bytes(8, "big") + b"\x00\x0d" + "é".encode()

    assert entry_hash(bytes(32), 1, 5, 13, "é") == hashlib.sha256(octets).digest()
    assert next_entry(None, AuditAction.VIEWED, "é", 5).entry_hash == hashlib.sha256(octets).digest()


def test_entries_are_numbered_and_chained() -> None:
    first, second = trail(2)

    assert (first.seq, second.seq) == (1, 2)
    assert second.entry_hash == entry_hash(first.entry_hash, 2, 1_001, 2, "subject 1")
    assert entry_after(1, first.entry_hash, AuditAction(2), "subject 1", 1_001) == second


def test_a_whole_trail_holds_also_in_pages() -> None:
    entries = trail(9)

    assert verify(entries) is None
    assert verify(entries, head=entries[-1].entry_hash) is None
    assert verify([]) is None
    assert verify([], head=FIRST_PREVIOUS_HASH) is None
    assert verify(entries[4:], previous=entries[3], head=entries[-1].entry_hash) is None


@given(st.data())
def test_any_change_is_found_at_its_place(data: st.DataObject) -> None:
    entries = trail(6)
    at = data.draw(st.integers(0, 5))
    entry = entries[at]
    entries[at] = data.draw(
        st.sampled_from(
            [
                replace(entry, seq=99),
                replace(entry, at_ms=7),
                replace(entry, at_ms=-1),
                replace(entry, action=AuditAction.CONSENT_CHANGED),
                replace(entry, subject="other"),
                replace(entry, subject="\ud800"),
                replace(entry, entry_hash=bytes(32)),
                replace(entry, entry_hash=b""),
            ]
        )
    )

    assert verify(entries) == at + 1


@pytest.mark.parametrize("at", range(5))
def test_an_entry_that_was_taken_out_is_missed(at: int) -> None:
    entries = trail(6)
    del entries[at]

    assert verify(entries) == at + 1


def test_a_trail_that_was_cut_off_shows_against_its_head_only() -> None:
    entries = trail(6)

    assert verify(entries[:4]) is None
    assert verify(entries[:4], head=entries[-1].entry_hash) == 5
    assert verify([], head=entries[-1].entry_hash) == 1


def test_an_entry_that_was_put_in_is_found() -> None:
    entries = trail(4)
    entries.insert(2, replace(entries[1], seq=3))

    assert verify(entries) == 3


@pytest.mark.parametrize(
    ("subject", "at_ms"), [("x" * (MAX_SUBJECT_CHARS + 1), 0), ("\udfff", 0), ("\0", 0), ("", -1), ("", 2**63)]
)
def test_what_does_not_fit_is_refused(subject: str, at_ms: int) -> None:
    with pytest.raises(ValueError, match="audit entry"):
        check_entry(subject, at_ms)
    with pytest.raises(ValueError, match="audit entry"):
        next_entry(None, AuditAction.VIEWED, subject, at_ms)


def test_limits_themselves_fit() -> None:
    check_entry("x" * MAX_SUBJECT_CHARS, 2**63 - 1)


@pytest.mark.parametrize(("previous", "seq", "action"), [(b"", 1, 1), (bytes(32), -1, 1), (bytes(32), 1, 2**16)])
def test_a_hash_of_what_no_entry_holds_is_refused(previous: bytes, seq: int, action: int) -> None:
    with pytest.raises(ValueError, match=r"entry"):
        entry_hash(previous, seq, 0, action, "")
