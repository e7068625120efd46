"""The outbox and an exchange inside the encrypted store: the rules of ``store_rules``, written as SQL.

Runs inside the caller's transaction and deliberately begins and commits none; every row goes through
``sqlcipher_rows``. Marks and given-again results are in ``sqlcipher_settling``, the digest in ``sqlcipher_books``.

Invariants:
    1. Nothing is written by ``read_pending`` and ``read_sync_state``: a reader's connection will do.
"""

from __future__ import annotations

from einthoven import sqlcipher_feed as feed
from einthoven import sqlcipher_words as words
from einthoven.sqlcipher_books import EpochLine, SyncLine, link_line, note_log, sync_line
from einthoven.sqlcipher_bucket_repair import take_repair
from einthoven.sqlcipher_buckets import Buckets, bucket_keys, other_digests, said_digests
from einthoven.sqlcipher_former_notes import rename_own_deletions
from einthoven.sqlcipher_notes import fork_to_hear, own_alias, settle_note_deletion, settle_notes
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.sqlcipher_settling import (
    begin_enrolment,
    begin_new_history,
    fork_if_current,
    give_again,
    settle_alerts,
    settle_hole,
    settle_pushed,
)
from einthoven.store_events import ForkReason
from einthoven.store_rules import (
    SYNC_KEY_SETTING,
    annotation_row_bytes,
    begins_new_history,
    checked_sync_key,
    is_enrolled_anew,
    next_cursor,
    server_is_ahead,
    unknown_epoch,
)
from einthoven.store_rules_feed import (
    DeletionState,
    all_equal,
    check_words,
    encoded_results,
    feeds,
    identity_of,
    is_late,
    may_be_given_again,
    refused_names,
    until,
)
from einthoven_protocol import digests
from einthoven_protocol.limits import SUM_BYTES
from einthoven_protocol.messages import (
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    RepairRequest,
    RepairResponse,
    RowKind,
)


def put_setting(rows: SqlCipherRows, name: str, value: bytes) -> None:
    """Keep a setting; with another sync key, begin anew (R10).

    Raises:
        StoreDamaged: A line that is to be changed is not what was written.
    """
    if name == SYNC_KEY_SETTING:
        setting = rows.get("setting", (name,))
        former = None if setting is None else setting[1]
        if is_enrolled_anew(name, value, former, sync_line(rows).digest_key):
            begin_enrolment(rows)
    rows.put("setting", (name, value))


def take_over(rows: SqlCipherRows, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int) -> None:
    """Apply a checked response; a fork's event is among ``rows.events``.

    Raises:
        NotEnrolled: There is no sync key.
        SyncError: The exchange is of an epoch that this store never had.
        InputError: An annotation, or another row, is over the protocol's limits.
        StoreDamaged: A line that is to be changed is not what was written.
    """
    setting = rows.get("setting", (SYNC_KEY_SETTING,))
    key = checked_sync_key(None if setting is None else setting[1])
    asked = rows.get("epoch", (request.epoch,))
    if asked is None:
        raise unknown_epoch()
    for row in request.annotations:
        annotation_row_bytes(row)
    check_words(response)
    bodies = encoded_results(response)
    before = sync_line(rows)
    fed_before = feeds(link_line(rows).capabilities) or before.last_exchange_ms is None
    rename_own_deletions(rows, own_alias(rows), request.device_alias)
    buckets = _buckets(rows, before, key, request.device_alias, response)
    notes_mark = note_log(rows, request.epoch).acknowledged if feeds(response.capabilities) else 0
    if begins_new_history(before.cursor, request, response, EpochLine(*asked).acknowledged, notes_mark):
        begin_new_history(rows, request.epoch, response, buckets)
    if request.epoch == before.epoch:
        _fork_if_behind(rows, response, at_ms=at_ms)
    whole = may_be_given_again(before.cursor, request, response)
    _settle_results(rows, request, response, buckets, at_ms=at_ms, whole=whole)
    settle_notes(rows, request, response, buckets, at_ms=at_ms, whole=whole)
    _settle_deletions(rows, request, response, buckets)
    owners_asked = False
    if not is_late(before.cursor, request, response):
        words.take_pushed(rows, request, response, buckets)
        feed.hear(rows, response, bodies, buckets)
        owners_asked = feeds(response.capabilities) and feed.asks_for_owners(response, buckets.keys)
    buckets.write()
    feed.note_said(rows, response, request.device_alias, asked=owners_asked)
    now = sync_line(rows)
    cursor = next_cursor(
        before.cursor,
        request,
        response,
        current=request.epoch == now.epoch,
        upgraded=feeds(response.capabilities) and not fed_before,
    )
    now = now._replace(
        cursor_shard_epoch=cursor.shard_epoch,
        cursor_commit_seq=cursor.commit_seq,
        digest_key=key,
        digest_device_alias=request.device_alias,
        last_exchange_ms=at_ms,
    )
    _compare(rows, now, buckets.own, more=response.more or response.rebaseline)


def take_over_repair(rows: SqlCipherRows, request: RepairRequest, response: RepairResponse, *, at_ms: int) -> None:
    """Apply a checked answer to a repair (R24).

    Raises:
        InputError: A row is over the protocol's limits.
        StoreDamaged: A line that is to be changed is not what was written.
    """
    taken = take_repair(rows, request, response)
    if taken is None:
        return
    again, own = taken
    alias = own_alias(rows)
    for epoch, results in again.items():
        asked = ExchangeRequest(device_alias=alias, epoch=epoch)
        fork_if_current(rows, epoch, ForkReason.COUNTER_REUSED, at_ms=at_ms)
        give_again(rows, results, asked, (), at_ms=at_ms)
    _compare(rows, sync_line(rows), own, more=False)


def _buckets(rows: SqlCipherRows, line: SyncLine, key: bytes, alias: int, response: ExchangeResponse) -> Buckets:
    """The stored digests; those that were keyed with something else are computed anew."""
    changed = feed.take_owners(rows, response, key, alias)
    keys = bucket_keys(rows, key, alias)
    same = (line.digest_key, line.digest_device_alias) == (key, alias)
    if not same:
        rows.delete_where("bucket", "")
        changed = {alias, 0, *keys.owners}
    buckets = Buckets(rows, keys, line.digest if same else digests.EMPTY)
    for owner in sorted(changed):
        buckets.compute(owner, link_line(rows).history)
    return buckets


def _fork_if_behind(rows: SqlCipherRows, response: ExchangeResponse, *, at_ms: int) -> None:
    """R2 and R13."""
    epoch, last_counter, *_ = rows.current_epoch()
    if server_is_ahead(response, last_counter) or response.notes_acknowledged > note_log(rows, epoch).last_counter:
        rows.fork(ForkReason.SERVER_AHEAD, at_ms=at_ms)


def _settle_results(
    rows: SqlCipherRows,
    request: ExchangeRequest,
    response: ExchangeResponse,
    buckets: Buckets,
    *,
    at_ms: int,
    whole: bool,
) -> None:
    """R1, R7, R8 and R14."""
    line = EpochLine(*(rows.get("epoch", (request.epoch,)) or ()))
    if request.results:
        again, reason = settle_pushed(rows, line, request, response, buckets, whole=whole), ForkReason.COUNTER_REUSED
    else:
        again, reason = settle_hole(rows, line, response), ForkReason.SERVER_BEHIND
    if again and not whole:
        fork_to_hear(rows, request, at_ms=at_ms)
    if again and (whole or request.results):
        fork_if_current(rows, request.epoch, reason, at_ms=at_ms)
    if whole:
        give_again(rows, again, request, response.results, at_ms=at_ms)
    settle_alerts(rows, request, response, buckets)


def _settle_deletions(
    rows: SqlCipherRows, request: ExchangeRequest, response: ExchangeResponse, buckets: Buckets
) -> None:
    """R15: what became of pushed deletions."""
    refused = refused_names(response)
    for row in request.deletions:
        name = (row.kind, row.device_alias, row.epoch, row.counter, row.author)
        found = rows.get("deletion", name)
        if found is None or found[5] != DeletionState.WAITS or found[6] != row.hlc:
            continue
        reason = refused.get(identity_of(row))
        if row.kind == RowKind.ANNOTATION:
            words.settle_deletion(rows, name[1:], reason, row, buckets)
            if reason is None:
                feed.bury_overtaken(rows, name[1:], until(row), buckets)
        else:
            settle_note_deletion(rows, row, reason, buckets)


def _compare(rows: SqlCipherRows, now: SyncLine, own: Digest, *, more: bool) -> None:
    """R19 and R23, and write the line."""
    link = link_line(rows)
    theirs = Digest(link.server_count or 0, int.from_bytes(link.server_total or b"", "big"))
    equal = all_equal(own, theirs, other_digests(rows), said_digests(rows))
    if equal and not more and link.rebaseline:
        rows.put("link", link._replace(rebaseline=0))
    total = own.total.to_bytes(SUM_BYTES, "big")
    rows.put("sync", now._replace(digest_count=own.count, digest_total=total, last_digest_equal=int(equal)))
