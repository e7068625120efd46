"""What a repair's answer makes of the encrypted store (``store_rules``, R24).

Runs inside the caller's transaction and deliberately begins and commits none.

Invariants:
    1. Work is in proportion to the bucket's rows, as a repair's is.
    2. A digest that does not count the rows that are here (results that an older version dropped) is computed anew.
"""

from __future__ import annotations

import numpy as np

from einthoven.sqlcipher_books import EpochLine, link_line, sync_line
from einthoven.sqlcipher_buckets import BucketRow, Buckets, bucket_keys, bucket_rows, shares_of
from einthoven.sqlcipher_feed import asks_for_owners, refuse_deleted, remove_superseded, take_rows
from einthoven.sqlcipher_notes import lose_note
from einthoven.sqlcipher_replicas import drop_replica, find_replica, forget_known, forget_share
from einthoven.sqlcipher_row_reading import Row, RowReader
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.sqlcipher_words import forget_known as forget_known_annotation
from einthoven.store_rules_feed import check_words, encoded_results
from einthoven.store_schema import epoch_and_counter, position_of
from einthoven_protocol import digests
from einthoven_protocol.canonical import decode_result_row
from einthoven_protocol.limits import MAX_GIVEN_PER_REPAIR, SUM_BYTES
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    Digest,
    IdentifiedResult,
    NoteRow,
    RepairRequest,
    RepairResponse,
    Superseded,
    VerdictCode,
)
from einthoven_protocol.repair import absent_places


def to_give(rows: RowReader, limit: int) -> tuple[tuple[IdentifiedResult, ...], tuple[bytes, ...]]:
    """Own results that the server lost, and the digests of their signals."""
    alias = sync_line(rows).digest_device_alias or 0
    found = list(
        rows.select(
            "result",
            "WHERE position IN (SELECT position FROM to_give ORDER BY position LIMIT ?) ORDER BY position",
            (min(limit, MAX_GIVEN_PER_REPAIR),),
        )
    )
    results = tuple(
        IdentifiedResult(device_alias=alias, epoch=epoch_and_counter(row[0])[0], row=decode_result_row(row[2]))
        for row in found
    )
    return results, tuple(bytes(row[3]) for row in found)


def take_repair(
    rows: SqlCipherRows, request: RepairRequest, response: RepairResponse
) -> tuple[dict[int, list[Row]], Digest] | None:
    """Take over a checked answer.

    Returns:
        The own results, by epoch, that are to be given again, and the digest of the own ``RECORDS``; ``None`` if the
        answer is of no use.

    Raises:
        InputError: A row is over the protocol's limits.
    """
    check_words(response)
    bodies = encoded_results(response)
    sync = sync_line(rows)
    if sync.digest_key is None or sync.digest_device_alias is None:
        return None
    if response.cursor.shard_epoch != sync.cursor_shard_epoch:
        return None
    keys = bucket_keys(rows, sync.digest_key, sync.digest_device_alias)
    buckets = Buckets(rows, keys, sync.digest)
    found = list(bucket_rows(rows, keys, request.owner, request.kind, link_line(rows).history))
    if len(found) != buckets.digest(request.owner, request.kind).count:
        buckets.set(request.owner, request.kind, digests.add_all(digests.EMPTY, [row.share for row in found]))
    ids = [epoch_and_counter(row.position) for row in found if row.other is None]
    places = absent_places(
        request,
        response,
        shares_of(found).shares,
        np.array(ids, np.int64).reshape(-1, 2),
        [row.other for row in found if row.other is not None],
    )
    again = _settle_given(rows, request, response, buckets)
    for place in places:
        _lose(rows, request.owner, found[int(place)], buckets)
    take_rows(rows, response, bodies, buckets)
    buckets.write()
    _note_said(rows, request, response, asked=asks_for_owners(response, keys))
    return again, buckets.own


def _note_said(rows: SqlCipherRows, request: RepairRequest, response: RepairResponse, *, asked: bool) -> None:
    link, said = link_line(rows), response.digest
    total = said.total.to_bytes(SUM_BYTES, "big")
    if (request.owner, request.kind) == (sync_line(rows).digest_device_alias, BucketKind.RECORDS):
        link = link._replace(server_count=said.count, server_total=total)
    else:
        line = rows.get("bucket", (request.owner, request.kind))
        mine = (0, bytes(SUM_BYTES)) if line is None else line[2:4]
        rows.put("bucket", (request.owner, request.kind, *mine, said.count, total))
    now = link._replace(owners_asked=int(link.owners_asked or asked))
    if now != link_line(rows):
        rows.put("link", now)


def _lose(rows: SqlCipherRows, owner: int, row: BucketRow, buckets: Buckets) -> None:
    """R24: a row that the server lacks."""
    match row.other:
        case None:
            _lose_result(rows, owner, row.position, buckets)
        case AnnotationRow():
            forget_known_annotation(rows, row.other, buckets)
        case Superseded():
            remove_superseded(rows, row.other, buckets)
        case NoteRow():
            lose_note(rows, row.other, buckets.keys.own_alias, buckets)


def _lose_result(rows: SqlCipherRows, owner: int, position: int, buckets: Buckets) -> None:
    line = find_replica(rows, owner, position)
    if line is not None and line.history == link_line(rows).history:
        if owner == buckets.keys.own_alias:
            forget_known(rows, line, buckets)
        else:
            drop_replica(rows, line, line.history, buckets)
        return
    if forget_share(rows, owner, position, buckets):
        return
    result, (epoch, counter) = rows.get("result", (position,)), epoch_and_counter(position)
    lies_in = rows.get("epoch", (epoch,))
    if result is None or lies_in is None:
        return
    buckets.results(owner, [(position, result[2])], -1)
    if counter <= EpochLine(*lies_in).acknowledged:
        rows.put("to_give", (position,))
    else:
        rows.put("alert_sent", (position, 0))


def _settle_given(
    rows: SqlCipherRows, request: RepairRequest, response: RepairResponse, buckets: Buckets
) -> dict[int, list[Row]]:
    again: dict[int, list[Row]] = {}
    history = link_line(rows).history
    for given, verdict in zip(request.given, response.verdicts, strict=False):
        position = position_of(given.epoch, given.row.counter)
        result = rows.get("result", (position,))
        if rows.get("to_give", (position,)) is None or result is None:
            continue
        line = find_replica(rows, request.device_alias, position)
        if verdict in (VerdictCode.ACCEPTED, VerdictCode.DUPLICATE):
            rows.delete("to_give", (position,))
            if line is not None:
                drop_replica(rows, line, history, buckets)
            buckets.results(request.device_alias, [(position, result[2])])
        elif line is not None and line.history == history:
            rows.delete("to_give", (position,))
            again.setdefault(given.epoch, []).append(result)
        else:
            refuse_deleted(rows, position, given.epoch, given.row.counter)
    return {epoch: sorted(found) for epoch, found in sorted(again.items())}
