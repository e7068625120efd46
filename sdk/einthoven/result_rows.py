"""A verdict as the SDK holds it, and as it travels and is stored.

The two differ in one thing: the row carries no segment digest (it is sealed beside the rows, and kept beside them).
Pure; deliberately knows neither bytes nor SQL.

Invariants:
    1. ``from_row(to_row(r), r.segment_digest)`` equals ``r``.
"""

from __future__ import annotations

from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven_protocol.messages import ResultRow


def to_row(result: WindowResult) -> ResultRow:
    """The row of a verdict; NumPy integers become plain ones."""
    n, a, o, noise = (int(logit) for logit in result.logits)
    return ResultRow(
        counter=int(result.counter),
        started_at_ms=int(result.started_at_ms),
        duration_ms=int(result.duration_ms),
        n_steps=int(result.n_steps),
        usable_s=int(result.usable_s),
        quality=int(result.quality),
        rhythm=int(result.rhythm),
        confidence_permille=int(result.confidence_permille),
        logits=(n, a, o, noise),
        tier=int(result.tier),
        reason=int(result.reason),
        model_digest=result.model_digest,
        front_end_version=int(result.front_end_version),
    )


def from_row(row: ResultRow, segment_digest: bytes) -> WindowResult:
    """The verdict of a row.

    Raises:
        ValueError: The row has a value that this version has no name for.
    """
    return WindowResult(
        counter=row.counter,
        started_at_ms=row.started_at_ms,
        duration_ms=row.duration_ms,
        n_steps=row.n_steps,
        usable_s=row.usable_s,
        quality=Quality(row.quality),
        rhythm=Rhythm(row.rhythm),
        confidence_permille=row.confidence_permille,
        logits=row.logits,
        tier=RiskTier(row.tier),
        reason=InconclusiveReason(row.reason),
        model_digest=row.model_digest,
        front_end_version=row.front_end_version,
        segment_digest=segment_digest,
    )
