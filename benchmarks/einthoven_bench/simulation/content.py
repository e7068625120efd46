"""What is written in a simulated world: every result, note and word can be told from every other by what it says.

It deliberately makes no signal: a simulated result's segment was dropped at once.
"""

from __future__ import annotations

import hashlib
from typing import Final

from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven_protocol.messages import NoteRow, ResultRow

_MODEL: Final = hashlib.sha256(b"simulated model").digest()
RHYTHMS: Final = ("N", "A", "O", "~")


def make_result(serial: int, started_at_ms: int, *, urgent: bool) -> WindowResult:
    """A verdict that no other is like."""
    return WindowResult(
        counter=0,
        started_at_ms=started_at_ms,
        duration_ms=30_000,
        n_steps=30,
        usable_s=serial % 31,
        quality=Quality(serial % 3),
        rhythm=Rhythm.AF if urgent else Rhythm.NORMAL,
        confidence_permille=serial % 1_001,
        logits=(serial, -serial, 7, 11),
        tier=RiskTier.URGENT if urgent else RiskTier.ROUTINE,
        reason=InconclusiveReason.NONE,
        model_digest=_MODEL,
        front_end_version=1,
        segment_digest=hashlib.sha256(f"segment {serial}".encode()).digest(),
    )


def serial_of(row: ResultRow | WindowResult) -> int:
    """Which of them it is."""
    return row.logits[0]


def note_text(serial: int) -> str:
    """What a note says."""
    return f"note {serial}"


def note_serial(row: NoteRow) -> int:
    """Which of them it is; 0 for one of which only its place is left."""
    return int(row.text.rpartition(" ")[2] or 0)


def comment_text(serial: int) -> str:
    """What a comment says."""
    return f"comment {serial}"
