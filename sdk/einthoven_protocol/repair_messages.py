"""The two messages of a repair (docs/sync-repair-v1.md).

They deliberately know nothing of bytes (``repair_codec``) and decide nothing (``repair``, ``repair_answer``).
"""

from __future__ import annotations

import msgspec

from einthoven_protocol.exchange_messages import Cursor, Digest
from einthoven_protocol.rows import (
    AnnotationRow,
    IdentifiedResult,
    NoteRow,
    Superseded,
)


class Run(msgspec.Struct, frozen=True, order=True):
    """Results of one owner by their ids: counters ``first`` to ``last`` of an epoch, inclusive."""

    epoch: int
    first: int
    last: int


class RepairRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Device to server: find out where one bucket differs, and mend it.

    Attributes:
        device_alias: Who asks.
        owner: Whose rows.
        kind: Which bucket.
        session: 16 random bytes that key ``symbols`` and ``powers``.
        symbols: Coded symbols of the shares of all rows of the bucket that the device believes the server to hold,
            ``riblt.SYMBOL_BYTES`` each, from the first on.
        powers: Power sums of the same (``power_sums``), 4 bytes each, in place of symbols.
        sketch: From which the server estimates how many rows differ (``strata``), 80 bytes; empty where the device
            knows, or does not care.
        wanted: Runs of results to send.
        page: Of the bucket's other rows (annotations, notes, superseded writes), those after the first ``page`` in
            canonical order are wanted too; -1 for none.
        given: Own results at or below the acknowledged mark that the server said it lacks, any epochs.
        segments_root: Merkle tree hash over the segment digests of ``given``, 32 bytes; empty without.
        signature: Over ``merkle.given_message`` of ``given``, 64 bytes; empty without.
    """

    device_alias: int
    owner: int
    kind: int
    session: bytes = b""
    symbols: bytes = b""
    powers: bytes = b""
    sketch: bytes = b""
    wanted: tuple[Run, ...] = ()
    page: int = -1
    given: tuple[IdentifiedResult, ...] = ()
    segments_root: bytes = b""
    signature: bytes = b""


class RepairResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Server to device.

    Attributes:
        decoded: 0 without symbols or powers, 1 if they sufficed, 2 if more are needed.
        differences: Rows that differ: their number if ``decoded`` is 1, an estimate if 2 and a sketch came, else 0.
        absent: Items (``riblt``) of rows that only the device holds; the server does not, or no longer.
        results: Rows that only the server holds, or that were wanted by runs.
        annotations: The same.
        notes: The same.
        superseded: The same.
        more: Not all that was wanted fitted; ask again from where this ends.
        verdicts: What became of ``given``, in its order: ``VerdictCode``.
        held: Unless ``decoded`` is 1: of each epoch in which the server holds results of the owner, first and last.
        digest: The bucket's digest on the server, after this.
        cursor: Where the feed stands that all this is of.
    """

    decoded: int = 0
    differences: int = 0
    absent: tuple[int, ...] = ()
    results: tuple[IdentifiedResult, ...] = ()
    annotations: tuple[AnnotationRow, ...] = ()
    notes: tuple[NoteRow, ...] = ()
    superseded: tuple[Superseded, ...] = ()
    more: bool = False
    verdicts: tuple[int, ...] = ()
    held: tuple[Run, ...] = ()
    digest: Digest = Digest(0, 0)
    cursor: Cursor = Cursor(0, 0)
