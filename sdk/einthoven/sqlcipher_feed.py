"""What comes down in an exchange, taken into the encrypted store (``store_rules``, R16 to R19, R21, R22).

Runs inside the caller's transaction and deliberately begins and commits none.

Invariants:
    1. Every change of what the server is known to hold is told to the buckets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from einthoven.sqlcipher_books import FRESH_LINK, EpochLine, link_line
from einthoven.sqlcipher_buckets import BucketKeys, Buckets, bucket_keys, put_said
from einthoven.sqlcipher_notes import bury_note, hear_note
from einthoven.sqlcipher_replicas import drop_replica, find_replica, forget_share, hear_results
from einthoven.sqlcipher_row_reading import RowReader
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.sqlcipher_words import bury_annotation, learn, remove_annotations_of, say_superseded_again
from einthoven.store_rules_feed import DELETED_RESULT, feeds, until
from einthoven.store_schema import position_of
from einthoven_protocol.canonical import decode_superseded_row, encode_superseded_row
from einthoven_protocol.limits import SUM_BYTES
from einthoven_protocol.messages import (
    Digest,
    Document,
    ExchangeResponse,
    IdentifiedResult,
    Owner,
    RepairResponse,
    ResultId,
    RowKind,
    Superseded,
    Tombstone,
)
from einthoven_protocol.packed_results import IdentifiedResults

_OF_TARGET = "WHERE device_alias = ? AND epoch = ? AND counter = ?"


def take_owners(rows: SqlCipherRows, response: ExchangeResponse, key: bytes, alias: int) -> set[int]:
    """R18: keep what the server says of itself, and who the owners are; return those whose key is another one now."""
    link = link_line(rows)
    limits = response.limits
    now = link._replace(
        capabilities=response.capabilities,
        max_results=limits.max_results,
        max_annotations=limits.max_annotations,
        min_interval_s=limits.min_interval_s,
        owners_asked=0 if response.owners else link.owners_asked,
    )
    if now != link:
        rows.put("link", now)
    if not response.owners:
        return set()
    former = bucket_keys(rows, key, alias).owners
    owners = {owner.device_alias: owner.sync_key for owner in response.owners}
    if former == owners:
        return set()
    for gone in former.keys() - owners.keys():
        rows.delete("owner", (gone,))
    changed = {owner for owner in {*former, *owners} if former.get(owner) != owners.get(owner)} - {alias, 0}
    for owner, sync_key in owners.items():
        if former.get(owner) != sync_key:
            rows.put("owner", (owner, sync_key))
        if former.get(owner, sync_key) != sync_key and owner != alias:
            rows.delete_where("dropped_run", "WHERE device_alias = ?", (owner,))
    return changed


def hear(rows: SqlCipherRows, response: ExchangeResponse, bodies: Sequence[bytes], buckets: Buckets) -> None:
    """R16 to R18: the feed, whose results have these canonical bytes."""
    for gone in response.tombstones:
        _bury(rows, gone, buckets)
    take_rows(rows, response, bodies, buckets)
    for document in response.documents:
        held = rows.get("document", (document.name,))
        if held is None or held[1] < document.version:
            rows.put(
                "document",
                (document.name, document.version, document.issued_at_ms, document.signature, document.body),
            )


def take_rows(
    rows: SqlCipherRows,
    answer: ExchangeResponse | RepairResponse,
    bodies: Sequence[bytes],
    buckets: Buckets,
) -> None:
    """Rows that the server holds."""
    for annotation in answer.annotations:
        learn(rows, annotation, buckets)
    hear_results(rows, answer.results, bodies, buckets)
    for note in answer.notes:
        hear_note(rows, note, buckets.keys.own_alias, buckets)
    for superseded in answer.superseded:
        _hear_superseded(rows, superseded, buckets)


def asks_for_owners(answer: ExchangeResponse | RepairResponse, keys: BucketKeys) -> bool:
    """R19: whether a row came of an owner whose key is not known."""
    aliases = {row.target.device_alias for row in answer.annotations}
    aliases |= {row.target.device_alias for row in answer.superseded}
    aliases |= _aliases(answer.results) | {row.device_alias for row in answer.notes}
    return any(keys.of(alias) is None for alias in aliases)


def _aliases(results: Sequence[IdentifiedResult]) -> set[int]:
    if isinstance(results, IdentifiedResults):
        return set(results.aliases.tolist())
    return {row.device_alias for row in results}


def note_said(rows: SqlCipherRows, response: ExchangeResponse, alias: int, *, asked: bool) -> None:
    """Keep what the server says of the buckets, and whether to ask for owners and to compare."""
    link = link_line(rows)
    now = link._replace(
        server_count=response.digest.count,
        server_total=response.digest.total.to_bytes(SUM_BYTES, "big"),
        owners_asked=int(link.owners_asked or asked),
        rebaseline=int(link.rebaseline or response.rebaseline),
    )
    if now != link:
        rows.put("link", now)
    said = response.digests if feeds(response.capabilities) else ()
    put_said(
        rows,
        {(one.device_alias, one.kind): Digest(one.count, one.total) for one in said if one.count or one.total},
    )


def read_superseded(rows: RowReader, target: ResultId | None) -> list[Superseded]:
    """Losers of conflicts, all or those of one result, in order."""
    if target is None:
        found = rows.select("superseded")
    else:
        found = rows.select("superseded", _OF_TARGET, (target.device_alias, target.epoch, target.counter))
    return sorted(decode_superseded_row(row[5]) for row in found)


def read_documents(rows: RowReader) -> list[Document]:
    """The newest version of each document, by name."""
    return [
        Document(name=name, version=version, issued_at_ms=issued_at_ms, body=bytes(body), signature=bytes(signature))
        for name, version, issued_at_ms, signature, body in rows.select("document", "ORDER BY name")
    ]


def read_owners(rows: RowReader) -> list[Owner]:
    """Devices whose rows this one may see."""
    return [Owner(row[0], bytes(row[1])) for row in rows.select("owner", "ORDER BY device_alias")]


def remove_superseded(rows: SqlCipherRows, row: Superseded, buckets: Buckets) -> None:
    """R24: the server lacks a superseded write that it was known to hold."""
    rows.delete("superseded", _superseded_key(row, encode_superseded_row(row)))
    buckets.superseded(row, -1)


def refuse_deleted(rows: SqlCipherRows, position: int, epoch: int, counter: int) -> None:
    """R16 and R24: an own result counts as refused because it was deleted."""
    code, reason = DELETED_RESULT
    rows.put("refusal", (epoch, counter, int(code), int(reason)))
    rows.delete("to_give", (position,))


def begin_new_history(rows: SqlCipherRows, buckets: Buckets) -> None:
    """R21, but for notes."""
    link, alias = link_line(rows), buckets.keys.own_alias
    for owner in {row[0] for row in rows.connection.execute("SELECT DISTINCT device_alias FROM replica").fetchall()}:
        found = rows.select("replica", "WHERE device_alias = ? AND history = ?", (owner, link.history))
        buckets.results(owner, [(row[1], row[4]) for row in found], -1)
    for row in list(rows.select("dropped_run", "WHERE device_alias != ?", (alias,))):
        shares = row[3]
        values = [int.from_bytes(shares[at : at + SUM_BYTES], "big") for at in range(0, len(shares), SUM_BYTES)]
        if buckets.keys.of(row[0]) is not None:
            buckets.change(row[0], 1, values, -1)
        rows.delete("dropped_run", row[:2])
    for row in list(rows.select("superseded", "WHERE known")):
        buckets.superseded(decode_superseded_row(row[5]), -1)
        rows.put("superseded", (*row[:4], 0, row[5]))
    for draft in list(rows.select("draft")):
        if draft[9] is None:
            rows.delete("draft", draft[:4])
        else:
            rows.put("draft", (*draft[:4], 0, 0, 0, 0, 0, draft[9]))
    say_superseded_again(rows)
    rows.delete_where("alert_sent", "")
    rows.delete_where("to_give", "")
    rows.put("link", link._replace(history=link.history + 1))


def begin_enrolment(rows: SqlCipherRows) -> None:
    """R22, but for notes."""
    for table in (
        "replica",
        "superseded",
        "document",
        "owner",
        "bucket",
        "dropped_run",
        "alert_sent",
        "to_give",
        "draft",
    ):
        rows.delete_where(table, "")
    rows.put("link", FRESH_LINK._replace(history=link_line(rows).history))


def _hear_superseded(rows: SqlCipherRows, row: Superseded, buckets: Buckets) -> None:
    body = encode_superseded_row(row)
    key = _superseded_key(row, body)
    held = rows.get("superseded", key)
    if held is None or not held[4]:
        rows.put("superseded", (*key, 1, body))
        buckets.superseded(row)


def _superseded_key(row: Superseded, body: bytes) -> tuple[int, int, int, bytes]:
    target = row.target
    return (target.device_alias, target.epoch, target.counter, hashlib.sha256(body).digest())


def _bury(rows: SqlCipherRows, gone: Tombstone, buckets: Buckets) -> None:
    """R16."""
    name = (gone.device_alias, gone.epoch, gone.counter)
    if gone.kind == RowKind.RESULT:
        _bury_result(rows, ResultId(*name), buckets)
    elif gone.kind == RowKind.ANNOTATION:
        bury_overtaken(rows, (*name, gone.author), until(gone), buckets)
        bury_annotation(rows, (*name, gone.author), until(gone), buckets)
    elif gone.kind == RowKind.NOTE:
        bury_note(rows, name, buckets.keys.own_alias, buckets)


def bury_overtaken(rows: SqlCipherRows, key: tuple[int, int, int, str], hlc: int, buckets: Buckets) -> None:
    """R15 and R16: superseded writes go with the words of their author, up to a time."""
    for row in list(rows.select("superseded", _OF_TARGET, key[:3])):
        superseded = decode_superseded_row(row[5])
        if superseded.author == key[3] and superseded.hlc <= hlc:
            rows.delete("superseded", row[:4])
            if row[4]:
                buckets.superseded(superseded, -1)


def _bury_result(rows: SqlCipherRows, target: ResultId, buckets: Buckets) -> None:
    alias, position = target.device_alias, position_of(target.epoch, target.counter)
    if alias == buckets.keys.own_alias:
        _bury_own_result(rows, target, position, buckets)
    line = find_replica(rows, alias, position)
    if line is not None:
        drop_replica(rows, line, link_line(rows).history, buckets)
    forget_share(rows, alias, position, buckets)
    remove_annotations_of(rows, target, buckets)
    name = (alias, target.epoch, target.counter)
    for row in list(rows.select("superseded", _OF_TARGET, name)):
        if row[4]:
            buckets.superseded(decode_superseded_row(row[5]), -1)
        rows.delete("superseded", row[:4])


def _bury_own_result(rows: SqlCipherRows, target: ResultId, position: int, buckets: Buckets) -> None:
    epoch, result = rows.get("epoch", (target.epoch,)), rows.get("result", (position,))
    ahead = rows.get("alert_sent", (position,))
    if epoch is None or target.counter > EpochLine(*epoch).acknowledged:
        if ahead is not None and ahead[1]:
            rows.put("alert_sent", (position, 0))
            if result is not None:
                buckets.results(target.device_alias, [(position, result[2])], -1)
    elif result is not None and rows.get("refusal", (target.epoch, target.counter)) is None:
        if rows.get("to_give", (position,)) is None:
            buckets.results(target.device_alias, [(position, result[2])], -1)
        refuse_deleted(rows, position, target.epoch, target.counter)
