"""The rows that the sync protocol carries, as immutable values (docs/sync-protocol-v1.md, sections 1 and 3).

They deliberately know nothing of bytes (``canonical``, ``codec``), of SQL, or of who may see what.

Invariants:
    1. A row's identity is (device_alias, epoch, counter); counters of an epoch run 1, 2, 3 ... without holes, those of
       results and those of notes each by themselves.
    2. Result rows and notes never change. Annotations merge field by field (``merge``).
    3. Enum values are those of ``einthoven.results``; the protocol carries them as integers and keeps unknown ones.
    4. What a newer version adds to a row travels, is stored and is summed with it by those who don't know it
       (``Extra``, ``FurtherRegister``).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import msgspec

Extra: TypeAlias = tuple[tuple[int, int | bytes], ...]
"""Columns that this version does not know: (number, value), numbers ascending from ``limits.MIN_EXTRA_NUMBER``; an even
number's value is an integer, an odd one's bytes. Defaults (0, no bytes) are left out."""


class ResultRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):  # thousands at a time; can't form a cycle
    """One window's verdict as it travels.

    Attributes:
        counter: Position in the device's log for this epoch, from 1.
        started_at_ms: UTC of the first sample, ms since 1970.
        duration_ms: Length of the window.
        n_steps: Model steps that the verdict rests on.
        usable_s: Seconds of usable quality.
        quality: Quality flags seen.
        rhythm: Rhythm class.
        confidence_permille: Calibrated probability of the class, 0-1000.
        logits: Calibrated integer logits of N, A, O, ~; their unit is the model's.
        tier: Risk tier.
        reason: Inconclusive reason, 0 for none.
        model_digest: SHA-256 of the model's manifest, which names all that decides; 32 bytes.
        front_end_version: Version of the integer front end.
        extra: Columns of a newer version.
    """

    counter: int
    started_at_ms: int
    duration_ms: int
    n_steps: int
    usable_s: int
    quality: int
    rhythm: int
    confidence_permille: int
    logits: tuple[int, int, int, int]
    tier: int
    reason: int
    model_digest: bytes
    front_end_version: int
    extra: Extra = ()


class ResultId(msgspec.Struct, frozen=True, order=True):
    """Identity of a result anywhere in a tenant."""

    device_alias: int
    epoch: int
    counter: int


class Register(msgspec.Struct, frozen=True):
    """One field of an annotation: a value and the hybrid logical time it was written at."""

    value: str
    hlc: int


class FurtherRegister(msgspec.Struct, frozen=True, order=True):
    """A register of a newer version: it merges like any other, by (hlc, value), and is never looked into.

    Attributes:
        number: Which one, from 0.
        hlc: Hybrid logical time it was written at.
        value: Its bytes.
    """

    number: int
    hlc: int
    value: bytes


class AnnotationRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one author says of one result; merges field by field, last writer by hybrid logical clock.

    A register with time 0 and no text says nothing: a push holds only what was written.

    Attributes:
        target: The result it speaks of.
        author: Opaque principal id of the author (no name), at most 64 characters.
        rhythm: The author's rhythm class as text (``""`` none, ``"N" "A" "O" "~"``).
        comment: Free text, at most 2,000 characters.
        further: Registers of a newer version, numbers ascending.
    """

    target: ResultId
    author: str
    rhythm: Register
    comment: Register
    further: tuple[FurtherRegister, ...] = ()


class Field(IntEnum):
    """The registers of an annotation."""

    RHYTHM = 1
    COMMENT = 2


class Superseded(msgspec.Struct, frozen=True, order=True):
    """The loser of a conflict: a write that was overtaken by one that had not seen it. Kept, and never changed.

    Attributes:
        target: The result it spoke of.
        author: Who wrote it.
        field: Which register; unknown ones are kept.
        hlc: When it was written; with all of the above, its identity.
        value: What it said.
    """

    target: ResultId
    author: str
    field: int
    hlc: int
    value: str


class NoteRow(msgspec.Struct, frozen=True, kw_only=True):
    """A note of the diary: added, never changed, and gone only by a tombstone.

    Attributes:
        device_alias: Who wrote it down; 0 is the server, for somebody at the console.
        epoch: Epoch of that device (of the shard, for the server).
        counter: Position in that device's log of notes, from 1, without holes.
        author: Opaque principal id, at most 64 characters.
        at_ms: What moment it speaks of, UTC, ms since 1970.
        text: At most 2,000 characters.
        extra: Columns of a newer version.
    """

    device_alias: int
    epoch: int
    counter: int
    author: str
    at_ms: int
    text: str
    extra: Extra = ()


class RowKind(IntEnum):
    """What a tombstone speaks of; unknown kinds are kept."""

    RESULT = 1
    ANNOTATION = 2
    NOTE = 3


class Tombstone(msgspec.Struct, frozen=True, order=True):
    """A row that is gone for good. As a push, the wish that it be.

    Attributes:
        kind: Of what kind it was.
        device_alias: With epoch and counter, its identity; of an annotation, that of its target.
        epoch: See there.
        counter: See there.
        author: Of an annotation; else empty.
        hlc: Of a deletion of an annotation, the latest time of the registers that it deletes; later ones are spared.
            0 for all, as from a device that can't say.
    """

    kind: int
    device_alias: int
    epoch: int
    counter: int
    author: str = ""
    hlc: int = 0


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What the server decides for a device, signed by the pinned authority: settings, models, consents.

    Attributes:
        name: ``settings/...``, ``models/...``, ``consents/...``; at most 64 characters.
        version: From 1; a higher one replaces a lower one.
        issued_at_ms: UTC, ms since 1970.
        body: Its bytes; JSON for those kinds.
        signature: By the authority's key over ``documents.signed_bytes``.
    """

    name: str
    version: int
    issued_at_ms: int
    body: bytes
    signature: bytes


class IdentifiedResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A result with the name that its row lacks.

    Attributes:
        device_alias: Who made it.
        epoch: In which epoch.
        row: The row, with its counter.
    """

    device_alias: int
    epoch: int
    row: ResultRow


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """A device's signature over a run of its results, so that a row needs none of its own.

    Attributes:
        epoch: Epoch of the run.
        first_counter: First counter of the run.
        last_counter: Last counter, inclusive.
        results_root: RFC 9162 Merkle tree hash over the canonical bytes of the rows, 32 bytes.
        segments_root: The same over the rows' segment digests, 32 bytes.
        signature: Ed25519 over ``merkle.seal_message``, 64 bytes.
    """

    epoch: int
    first_counter: int
    last_counter: int
    results_root: bytes
    segments_root: bytes
    signature: bytes
