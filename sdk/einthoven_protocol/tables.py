"""The narrow tables of a message: seals, verdicts, refusals, tombstones, documents, owners, digests.

They deliberately know neither messages nor compression; ``result_tables`` and ``word_tables`` have the others.

Invariants:
    1. A column's number and meaning never change; a new column takes a new number.
    2. The row count is checked before any column is read.
    3. Every value is checked against ``limits`` in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from einthoven_protocol import limits
from einthoven_protocol.checks import text_octets
from einthoven_protocol.columns import Table, encode_fixed, encode_integers, encode_octets, write_table
from einthoven_protocol.documents import name_octets
from einthoven_protocol.errors import OutOfRange
from einthoven_protocol.messages import (
    AnnotationVerdict,
    BucketDigest,
    Document,
    Owner,
    RowVerdict,
    Seal,
    Tombstone,
    VerdictCode,
)

_IDENTITY_RANGES: Final = {
    "kind": (1, limits.MAX_ENUM),
    "device_alias": (0, limits.MAX_DEVICE_ALIAS),
    "epoch": (1, limits.MAX_EPOCH),
    "counter": (1, limits.MAX_COUNTER),
}
_DELTA_COLUMNS: Final = frozenset({"device_alias", "epoch", "counter"})
_AUTHOR: Final = 5
_HLC: Final = 7
"""Of tombstones; 6 is the reason of a refusal, which is named alike."""


def encode_seals(rows: Sequence[Seal]) -> list[bytes]:
    """Return the parts of a table of seals, none for no rows.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    if not rows:
        return []
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
    if octets is None:
        return ()
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
    if not rows:
        return []
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
    if octets is None:
        return ()
    table = Table(octets, limits.MAX_VERDICTS_PER_EXCHANGE)
    columns = (
        table.integers(1, "counter", 1, limits.MAX_COUNTER),
        table.integers(2, "verdict code", VerdictCode.DUPLICATE, limits.MAX_ENUM),
        table.integers(3, "verdict reason", 0, limits.MAX_ENUM),
    )
    return tuple(RowVerdict(*row) for row in zip(*columns, strict=True))


def encode_refused(rows: Sequence[AnnotationVerdict]) -> list[bytes]:
    """Return the parts of a table of refused annotations, notes and deletions, none for no rows.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    if not rows:
        return []
    columns = _named_columns(rows)
    columns[6] = encode_integers("reason", [row.reason for row in rows], 0, limits.MAX_ENUM)
    return write_table(len(rows), limits.MAX_REFUSED_PER_EXCHANGE, columns)


def decode_refused(octets: bytes | None) -> tuple[AnnotationVerdict, ...]:
    """Return the refused annotations, notes and deletions of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    if octets is None:
        return ()
    table = Table(octets, limits.MAX_REFUSED_PER_EXCHANGE)
    reasons = table.integers(6, "reason", 0, limits.MAX_ENUM)
    return tuple(
        AnnotationVerdict(kind, alias, epoch, counter, author, reason)
        for (kind, alias, epoch, counter, author), reason in zip(_named(table), reasons, strict=True)
    )


def encode_tombstones(rows: Sequence[Tombstone], max_rows: int = limits.MAX_TOMBSTONES_PER_EXCHANGE) -> list[bytes]:
    """Return the parts of a table of tombstones or deletions, none for no rows.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    if not rows:
        return []
    columns = _named_columns(rows)
    columns[_HLC] = encode_integers("hlc", [row.hlc for row in rows], 0, limits.MAX_HLC, delta=True)
    return write_table(len(rows), max_rows, columns)


def decode_tombstones(
    octets: bytes | None, max_rows: int = limits.MAX_TOMBSTONES_PER_EXCHANGE
) -> tuple[Tombstone, ...]:
    """Return the tombstones or deletions of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    if octets is None:
        return ()
    table = Table(octets, max_rows)
    times = table.integers(_HLC, "hlc", 0, limits.MAX_HLC)
    return tuple(
        Tombstone(kind, alias, epoch, counter, author, hlc)
        for (kind, alias, epoch, counter, author), hlc in zip(_named(table), times, strict=True)
    )


def encode_documents(rows: Sequence[Document]) -> list[bytes]:
    """Return the parts of a table of documents, none for no rows.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    if not rows:
        return []
    if any(
        len(row.body) > limits.MAX_DOCUMENT_BYTES or len(row.signature) > limits.MAX_DOCUMENT_SIGNATURE_BYTES
        for row in rows
    ):
        raise OutOfRange(f"a document is over {limits.MAX_DOCUMENT_BYTES} bytes, or its signature too long")
    columns = {
        1: encode_octets([name_octets(row.name) for row in rows]),
        2: encode_integers("version", [row.version for row in rows], 1, limits.MAX_DOCUMENT_VERSION),
        3: encode_integers("issued_at_ms", [row.issued_at_ms for row in rows], 0, limits.MAX_TIME_MS, delta=True),
        4: encode_octets([row.body for row in rows]),
        5: encode_octets([row.signature for row in rows]),
    }
    return write_table(len(rows), limits.MAX_DOCUMENTS_PER_EXCHANGE, columns)


def decode_documents(octets: bytes | None) -> tuple[Document, ...]:
    """Return the documents of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    if octets is None:
        return ()
    table = Table(octets, limits.MAX_DOCUMENTS_PER_EXCHANGE)
    columns = (
        table.texts(1, "name", limits.MAX_DOCUMENT_NAME_CHARACTERS),
        table.integers(2, "version", 1, limits.MAX_DOCUMENT_VERSION),
        table.integers(3, "issued_at_ms", 0, limits.MAX_TIME_MS),
        table.octets(4, "body", limits.MAX_DOCUMENT_BYTES),
        table.octets(5, "signature", limits.MAX_DOCUMENT_SIGNATURE_BYTES),
    )
    if "" in columns[0]:
        raise OutOfRange("a document has no name")
    return tuple(
        Document(name=name, version=version, issued_at_ms=issued, body=body, signature=signature)
        for name, version, issued, body, signature in zip(*columns, strict=True)
    )


def encode_owners(rows: Sequence[Owner]) -> list[bytes]:
    """Return the parts of a table of owners, none for no rows.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    if not rows:
        return []
    aliases = [row.device_alias for row in rows]
    columns = {
        1: encode_integers("device_alias", aliases, 0, limits.MAX_DEVICE_ALIAS, delta=True),
        2: encode_fixed("sync_key", [row.sync_key for row in rows], limits.SYNC_KEY_BYTES),
    }
    return write_table(len(rows), limits.MAX_OWNERS, columns)


def decode_owners(octets: bytes | None) -> tuple[Owner, ...]:
    """Return the owners of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    if octets is None:
        return ()
    table = Table(octets, limits.MAX_OWNERS)
    aliases = table.integers(1, "device_alias", 0, limits.MAX_DEVICE_ALIAS)
    keys = table.fixed(2, "sync_key", limits.SYNC_KEY_BYTES)
    return tuple(Owner(*row) for row in zip(aliases, keys, strict=True))


def encode_digests(rows: Sequence[BucketDigest]) -> list[bytes]:
    """Return the parts of a table of digests, none for no rows.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    if not rows:
        return []
    aliases = [row.device_alias for row in rows]
    if any(not 0 <= row.total < 1 << (8 * limits.SUM_BYTES) for row in rows):
        raise OutOfRange("digest total is outside 0 to 2**128 - 1")
    columns = {
        1: encode_integers("device_alias", aliases, 0, limits.MAX_DEVICE_ALIAS, delta=True),
        2: encode_integers("kind", [row.kind for row in rows], 1, limits.MAX_ENUM),
        3: encode_integers("digest count", [row.count for row in rows], 0, limits.MAX_DIGEST_COUNT),
        4: encode_octets([row.total.to_bytes(limits.SUM_BYTES, "big") for row in rows]),
    }
    return write_table(len(rows), limits.MAX_DIGESTS_PER_EXCHANGE, columns)


def decode_digests(octets: bytes | None) -> tuple[BucketDigest, ...]:
    """Return the digests of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    if octets is None:
        return ()
    table = Table(octets, limits.MAX_DIGESTS_PER_EXCHANGE)
    columns = (
        table.integers(1, "device_alias", 0, limits.MAX_DEVICE_ALIAS),
        table.integers(2, "kind", 1, limits.MAX_ENUM),
        table.integers(3, "digest count", 0, limits.MAX_DIGEST_COUNT),
        [int.from_bytes(total, "big") for total in table.fixed(4, "digest total", limits.SUM_BYTES)],
    )
    return tuple(BucketDigest(*row) for row in zip(*columns, strict=True))


def _named_columns(rows: Sequence[Tombstone] | Sequence[AnnotationVerdict]) -> dict[int, list[bytes]]:
    """Kind, identity and author: what both a tombstone and a refusal name a row by."""
    columns = {
        number: encode_integers(
            name, list(map(attrgetter(name), rows)), *_IDENTITY_RANGES[name], delta=name in _DELTA_COLUMNS
        )
        for number, name in enumerate(_IDENTITY_RANGES, 1)
    }
    columns[_AUTHOR] = encode_octets([text_octets("author", row.author, limits.MAX_AUTHOR_CHARACTERS) for row in rows])
    return columns


def _named(table: Table) -> list[tuple[int, int, int, int, str]]:
    kind, alias, epoch, counter = (
        table.integers(number, name, *_IDENTITY_RANGES[name]) for number, name in enumerate(_IDENTITY_RANGES, 1)
    )
    authors = table.texts(_AUTHOR, "author", limits.MAX_AUTHOR_CHARACTERS)
    return list(zip(kind, alias, epoch, counter, authors, strict=True))
