"""The four tables of a message: results, annotations, seals, verdicts; rows in, numbered columns out, and back.

They deliberately know neither messages nor compression.

Invariants:
    1. A column's number and meaning never change; a new column takes a new number.
    2. The row count is checked before any column is read.
    3. Every value is checked against ``limits`` in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

from tests.vectors.protocol_1_0 import limits
from tests.vectors.protocol_1_0.canonical import RESULT_RANGES, author_octets, text_octets
from tests.vectors.protocol_1_0.columns import Table, encode_fixed, encode_integers, encode_octets, write_table
from tests.vectors.protocol_1_0.errors import OutOfRange
from tests.vectors.protocol_1_0.messages import (
    AnnotationRow,
    Register,
    ResultId,
    ResultRow,
    RowVerdict,
    Seal,
    VerdictCode,
)

_RESULT_NUMBERS: Final = {
    "counter": 1,
    "started_at_ms": 2,
    "duration_ms": 3,
    "n_steps": 4,
    "usable_s": 5,
    "quality": 6,
    "rhythm": 7,
    "confidence_permille": 8,
    "tier": 9,
    "reason": 10,
    "front_end_version": 11,
}
_LOGIT_NUMBERS: Final = (12, 13, 14, 15)
_MODEL_NUMBER: Final = 16
_DELTA_COLUMNS: Final = frozenset({"counter", "started_at_ms"})

_TARGET_RANGES: Final = {
    "device_alias": (0, limits.MAX_DEVICE_ALIAS),
    "epoch": (1, limits.MAX_EPOCH),
    "counter": (1, limits.MAX_COUNTER),
}


def encode_results(rows: Sequence[ResultRow]) -> list[bytes]:
    """Return the parts of a table of results, none for no rows.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    columns: dict[int, list[bytes]] = {}
    for name, number in _RESULT_NUMBERS.items():
        values = list(map(attrgetter(name), rows))
        columns[number] = encode_integers(name, values, *RESULT_RANGES[name], delta=name in _DELTA_COLUMNS)
    if {len(row.logits) for row in rows} - {len(_LOGIT_NUMBERS)}:
        raise OutOfRange(f"logits are {len(_LOGIT_NUMBERS)} integers")
    for place, number in enumerate(_LOGIT_NUMBERS):
        values = [row.logits[place] for row in rows]
        columns[number] = encode_integers("logit", values, limits.MIN_LOGIT, limits.MAX_LOGIT)
    columns[_MODEL_NUMBER] = encode_fixed("model_digest", [row.model_digest for row in rows], limits.DIGEST_BYTES)
    return write_table(len(rows), limits.MAX_RESULTS_PER_EXCHANGE, columns)


def decode_results(octets: bytes | None) -> tuple[ResultRow, ...]:
    """Return the results of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    table = Table(octets, limits.MAX_RESULTS_PER_EXCHANGE)
    columns = [table.integers(number, name, *RESULT_RANGES[name]) for name, number in _RESULT_NUMBERS.items()]
    logits = [table.integers(number, "logit", limits.MIN_LOGIT, limits.MAX_LOGIT) for number in _LOGIT_NUMBERS]
    models = table.fixed(_MODEL_NUMBER, "model_digest", limits.DIGEST_BYTES)
    rows: Iterator[tuple[Any, ...]] = zip(*columns, zip(*logits, strict=True), models, strict=True)
    return tuple(
        ResultRow(
            counter=counter,
            started_at_ms=start,
            duration_ms=length,
            n_steps=steps,
            usable_s=usable,
            quality=quality,
            rhythm=rhythm,
            confidence_permille=permille,
            logits=pooled,
            tier=tier,
            reason=reason,
            model_digest=model,
            front_end_version=front,
        )
        for counter, start, length, steps, usable, quality, rhythm, permille, tier, reason, front, pooled, model in rows
    )


def encode_annotations(rows: Sequence[AnnotationRow]) -> list[bytes]:
    """Return the parts of a table of annotations, none for no rows.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    columns = {
        number: encode_integers(name, [getattr(row.target, name) for row in rows], *_TARGET_RANGES[name], delta=True)
        for number, name in enumerate(_TARGET_RANGES, 1)
    }
    columns[4] = encode_octets([author_octets(row.author) for row in rows])
    columns[5] = encode_integers("rhythm hlc", [row.rhythm.hlc for row in rows], 0, limits.MAX_HLC, delta=True)
    columns[6] = encode_octets([text_octets("rhythm", row.rhythm.value, limits.MAX_RHYTHM_CHARACTERS) for row in rows])
    columns[7] = encode_integers("comment hlc", [row.comment.hlc for row in rows], 0, limits.MAX_HLC, delta=True)
    columns[8] = encode_octets(
        [text_octets("comment", row.comment.value, limits.MAX_COMMENT_CHARACTERS) for row in rows]
    )
    return write_table(len(rows), limits.MAX_ANNOTATIONS_PER_EXCHANGE, columns)


def decode_annotations(octets: bytes | None) -> tuple[AnnotationRow, ...]:
    """Return the annotations of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    table = Table(octets, limits.MAX_ANNOTATIONS_PER_EXCHANGE)
    targets = [table.integers(number, name, *_TARGET_RANGES[name]) for number, name in enumerate(_TARGET_RANGES, 1)]
    authors = table.texts(4, "author", limits.MAX_AUTHOR_CHARACTERS)
    if "" in authors:
        raise OutOfRange("an annotation has no author")
    rhythm_hlcs = table.integers(5, "rhythm hlc", 0, limits.MAX_HLC)
    rhythms = table.texts(6, "rhythm", limits.MAX_RHYTHM_CHARACTERS)
    comment_hlcs = table.integers(7, "comment hlc", 0, limits.MAX_HLC)
    comments = table.texts(8, "comment", limits.MAX_COMMENT_CHARACTERS)
    return tuple(
        AnnotationRow(target=ResultId(*target), author=author, rhythm=Register(*rhythm), comment=Register(*comment))
        for target, author, rhythm, comment in zip(
            zip(*targets, strict=True),
            authors,
            zip(rhythms, rhythm_hlcs, strict=True),
            zip(comments, comment_hlcs, strict=True),
            strict=True,
        )
    )


def encode_seals(rows: Sequence[Seal]) -> list[bytes]:
    """Return the parts of a table of seals, none for no rows.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    columns = {
        1: encode_integers("epoch", [row.epoch for row in rows], 1, limits.MAX_EPOCH),
        2: encode_integers("first counter", [row.first_counter for row in rows], 1, limits.MAX_COUNTER, delta=True),
        3: encode_integers("last counter", [row.last_counter for row in rows], 1, limits.MAX_COUNTER, delta=True),
        4: encode_fixed("results_root", [row.results_root for row in rows], limits.DIGEST_BYTES),
        5: encode_fixed("segments_root", [row.segments_root for row in rows], limits.DIGEST_BYTES),
        6: encode_fixed("signature", [row.signature for row in rows], limits.SIGNATURE_BYTES),
    }
    return write_table(len(rows), limits.MAX_SEALS_PER_EXCHANGE, columns)


def decode_seals(octets: bytes | None) -> tuple[Seal, ...]:
    """Return the seals of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    table = Table(octets, limits.MAX_SEALS_PER_EXCHANGE)
    columns = (
        table.integers(1, "epoch", 1, limits.MAX_EPOCH),
        table.integers(2, "first counter", 1, limits.MAX_COUNTER),
        table.integers(3, "last counter", 1, limits.MAX_COUNTER),
        table.fixed(4, "results_root", limits.DIGEST_BYTES),
        table.fixed(5, "segments_root", limits.DIGEST_BYTES),
        table.fixed(6, "signature", limits.SIGNATURE_BYTES),
    )
    return tuple(
        Seal(
            epoch=epoch,
            first_counter=first,
            last_counter=last,
            results_root=results_root,
            segments_root=segments_root,
            signature=signature,
        )
        for epoch, first, last, results_root, segments_root, signature in zip(*columns, strict=True)
    )


def encode_verdicts(rows: Sequence[RowVerdict]) -> list[bytes]:
    """Return the parts of a table of verdicts, none for no rows.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    columns = {
        1: encode_integers("counter", [row.counter for row in rows], 1, limits.MAX_COUNTER, delta=True),
        2: encode_integers("verdict code", [row.code for row in rows], VerdictCode.DUPLICATE, limits.MAX_ENUM),
        3: encode_integers("verdict reason", [row.reason for row in rows], 0, limits.MAX_ENUM),
    }
    return write_table(len(rows), limits.MAX_VERDICTS_PER_EXCHANGE, columns)


def decode_verdicts(octets: bytes | None) -> tuple[RowVerdict, ...]:
    """Return the verdicts of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    table = Table(octets, limits.MAX_VERDICTS_PER_EXCHANGE)
    columns = (
        table.integers(1, "counter", 1, limits.MAX_COUNTER),
        table.integers(2, "verdict code", VerdictCode.DUPLICATE, limits.MAX_ENUM),
        table.integers(3, "verdict reason", 0, limits.MAX_ENUM),
    )
    return tuple(RowVerdict(*row) for row in zip(*columns, strict=True))
