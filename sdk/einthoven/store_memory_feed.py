"""What comes down in an exchange or a repair, taken into the books of ``MemoryStore`` (``store_rules``, R11 to R24).

The oracle of ``sqlcipher_feed`` and ``sqlcipher_bucket_repair``.

Invariants:
    1. Everything works on books that the caller throws away if it raises.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from einthoven.result_rows import to_row
from einthoven.store_memory_books import AnnotationName, Books, KeptNote, OwnNote, Place, Replica
from einthoven.store_memory_buckets import BucketRow, all_digests, bucket_rows, holds_note, other_digests, shares
from einthoven.store_memory_words import (
    bury_overtaken,
    forget_annotation,
    hear_note,
    is_deleted,
    keep_overtaken,
    learn,
    merged_with,
    set_local,
    superseded_of,
)
from einthoven.store_rules_feed import (
    DELETED_RESULT,
    SERVER_ALIAS,
    DeletionState,
    Known,
    Overtaken,
    ServerSays,
    Shown,
    all_equal,
    annotation_name,
    feeds,
    news,
    note_name,
    said_again,
    says_anything,
    spared,
    until,
    without_text,
)
from einthoven_protocol import digests
from einthoven_protocol.limits import MAX_GIVEN_PER_REPAIR
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketDigest,
    BucketKind,
    Digest,
    ExchangeResponse,
    IdentifiedResult,
    NoteRow,
    RejectReason,
    RepairRequest,
    RepairResponse,
    ResultId,
    RowKind,
    RowVerdict,
    Superseded,
    Tombstone,
    VerdictCode,
)
from einthoven_protocol.repair import absent_places


def note_server(books: Books, response: ExchangeResponse) -> None:
    """What the server says of itself, and who the owners are."""
    books.server_says = ServerSays(response.capabilities, response.limits)
    if response.owners:
        former, books.owners = books.owners, {owner.device_alias: owner.sync_key for owner in response.owners}
        books.owners_asked = False
        other = {alias for alias, key in former.items() if books.owners.get(alias, key) != key}
        for name in [name for name in books.dropped if name.device_alias in other and not _is_own(books, name)]:
            del books.dropped[name]


def note_digests(books: Books, response: ExchangeResponse) -> None:
    """What the server says of the buckets."""
    said = {(one.device_alias, one.kind): one for one in response.digests} if feeds(response.capabilities) else {}
    books.server_digests = {name: _digest(one) for name, one in said.items() if one.count or one.total}
    books.server_digests[books.own_alias, BucketKind.RECORDS] = response.digest


def hear(books: Books, response: ExchangeResponse) -> None:
    """R16 to R18: the feed."""
    for gone in response.tombstones:
        _bury(books, gone)
    take_rows(books, response)
    for document in response.documents:
        held = books.documents.get(document.name)
        if held is None or held.version < document.version:
            books.documents[document.name] = document
    if feeds(response.capabilities):
        books.owners_asked = books.owners_asked or _is_unknown(books, response)


def take_rows(books: Books, answer: ExchangeResponse | RepairResponse) -> None:
    """Rows that the server holds."""
    for annotation in answer.annotations:
        learn(books, annotation)
    for result in answer.results:
        _hear_result(books, result)
    for note in answer.notes:
        hear_note(books, note)
    for superseded in answer.superseded:
        books.superseded[superseded] = True


def _hear_result(books: Books, result: IdentifiedResult) -> None:
    name, place = ResultId(result.device_alias, result.epoch, result.row.counter), (result.epoch, result.row.counter)
    if name in books.dropped:
        return
    if _is_own(books, name) and place in books.results:
        if place in books.lost and to_row(books.results[place]) == result.row:
            books.lost.discard(place)
        if books.holds(place):
            return
    books.replicas[name] = Replica(result.row)


def _bury(books: Books, gone: Tombstone) -> None:
    """R16."""
    name = ResultId(gone.device_alias, gone.epoch, gone.counter)
    if gone.kind == RowKind.RESULT:
        _bury_result(books, name)
    elif gone.kind == RowKind.ANNOTATION:
        _bury_annotation(books, name, gone.author, until(gone))
    elif gone.kind == RowKind.NOTE:
        _bury_note(books, name)


def _bury_result(books: Books, name: ResultId) -> None:
    place = (name.epoch, name.counter)
    if _is_own(books, name):
        if name.counter > books.acknowledged.get(name.epoch, 0):
            if place in books.alerts:
                books.alerts[place] = False
        elif place in books.results and place not in books.refused:
            _refuse(books, place)
    books.replicas.pop(name, None)
    books.dropped.pop(name, None)
    for annotation in {held for held in (*books.local, *books.known) if held[0] == name}:
        forget_annotation(books, annotation)
    books.deletions = {
        row: state
        for row, state in books.deletions.items()
        if row.kind != RowKind.ANNOTATION or ResultId(row.device_alias, row.epoch, row.counter) != name
    }
    books.superseded = {row: known for row, known in books.superseded.items() if row.target != name}


def _refuse(books: Books, place: Place) -> None:
    code, reason = DELETED_RESULT
    books.refused[place] = RowVerdict(place[1], code, reason)
    books.lost.discard(place)


def _bury_annotation(books: Books, target: ResultId, author: str, hlc: int) -> None:
    name = (target, author)
    bury_overtaken(books, target, author, hlc)
    known, local = books.known.get(name), books.local.get(name)
    deletion, deleted = annotation_name(target, author), is_deleted(books, name)
    if known is None:
        if books.deletion_times.get(deletion, 0) <= hlc:
            books.deletions.pop(deletion, None)
        if local is not None and name not in books.own:
            _bury_unknown(books, name, spared(local, hlc))
        return
    kept_known = spared(known, hlc)
    waiting = None if local is None else news(local, known)
    own, lost = name in books.own, books.overtaken.get(name)
    state, time = books.deletions.get(deletion), books.deletion_times.get(deletion, 0)
    forget_annotation(books, name)
    if kept_known is not None:
        books.known[name] = kept_known
    if deleted and state is not None and time > hlc:
        books.deletions[deletion], books.deletion_times[deletion] = state, time
    elif kept_known is not None:
        set_local(books, name, kept_known)
        if own:
            books.own.add(name)
    if own and waiting is not None and says_anything(waiting):
        books.own.add(name)
        set_local(books, name, merged_with(books.local.get(name), waiting))
    if own and lost is not None and (left := spared(lost.row, hlc)) is not None and name in books.local:
        books.own.add(name)
        books.overtaken[name] = Overtaken(left, (0, 0))


def _bury_unknown(books: Books, name: AnnotationName, left: AnnotationRow | None) -> None:
    """What others said, and came down in another history."""
    if left is None:
        forget_annotation(books, name)
    else:
        set_local(books, name, left)


def _bury_note(books: Books, name: ResultId) -> None:
    place, full = (name.epoch, name.counter), (name.device_alias, name.epoch, name.counter)
    own = books.own_notes.get(place) if name.device_alias == books.own_alias else None
    if own is not None:
        if name.counter > books.notes_acknowledged.get(name.epoch, 0):
            return
        books.own_notes[place] = OwnNote(without_text(own.row), Shown.GONE)
    books.notes.pop(full, None)
    if books.deletions.get(note_name(*full)) == DeletionState.WAITS:
        books.deletions[note_name(*full)] = DeletionState.DONE


def begin_new_history(books: Books, spoken_of: int, notes_acknowledged: int) -> None:
    """R21."""
    for epoch in books.notes_given:
        mark = books.notes_acknowledged.get(epoch, 0)
        books.notes_acknowledged[epoch] = min(mark, notes_acknowledged) if epoch == spoken_of else 0
    for place, note in books.own_notes.items():
        if place[1] > books.notes_acknowledged.get(place[0], 0):
            shown = Shown.DELETED if note.shown is Shown.GONE else note.shown
            books.own_notes[place] = OwnNote(note.row, shown)
            if note.shown is Shown.GONE:
                books.deletions[note_name(books.own_alias, *place)] = DeletionState.WAITS
    for row, state in books.deletions.items():
        if row.kind == RowKind.NOTE and state == DeletionState.DONE:
            books.deletions[row] = DeletionState.WAITS
    books.replicas = {name: Replica(kept.row, known=False) for name, kept in books.replicas.items()}
    books.superseded = dict.fromkeys(books.superseded, False)
    for name, kept in books.notes.items():
        if kept.known is Known.HELD:
            books.notes[name] = replace(kept, known=Known.NOT_HEARD)
    books.dropped = {name: share for name, share in books.dropped.items() if _is_own(books, name)}
    for held in (books.bases, books.refused_words, books.alerts, books.lost):
        held.clear()
    books.overtaken = {name: Overtaken(held.row, (0, 0)) for name, held in books.overtaken.items()}
    for words in books.own & {(row.target, row.author) for row in books.superseded}:
        keep_overtaken(books, words, said_again(books.overtaken.get(words), superseded_of(books, words)))


def begin_enrolment(books: Books) -> None:
    """R22; the alias is still the former one."""
    for held in (
        books.replicas,
        books.superseded,
        books.documents,
        books.owners,
        books.dropped,
        books.alerts,
        books.lost,
        books.bases,
        books.refused_words,
        books.overtaken,
        books.deletion_times,
        books.server_digests,
    ):
        held.clear()
    books.owners_asked = books.rebaseline = False
    books.server_says = ServerSays()
    books.notes_acknowledged.clear()
    books.notes = {name: kept for name, kept in books.notes.items() if kept.known is Known.FORMER}
    if books.keyed_with is None:
        books.own_notes = {place: replace(note, refused=0) for place, note in books.own_notes.items()}
        books.deletions = {row: 0 for row in books.deletions if row.kind == RowKind.NOTE}
        return
    for note in books.own_notes.values():
        if note.shown is Shown.LISTED:
            row = books.signed(note.row)
            books.notes[row.device_alias, row.epoch, row.counter] = KeptNote(row, Known.FORMER)
    for emptied in (books.own_notes, books.notes_given, books.deletions):
        emptied.clear()


def rename_own_deletions(books: Books, former: int, alias: int) -> None:
    """What was deleted before this device had its alias gets it."""
    renamed = {}
    for row, state in books.deletions.items():
        own = row.kind == RowKind.NOTE and row.device_alias == former
        renamed[note_name(alias, row.epoch, row.counter) if own else row] = state
    books.deletions = renamed


# ---- repairs ---------------------------------------------------------------------------------------------------------


def apply_repair(books: Books, request: RepairRequest, response: RepairResponse) -> list[Place]:
    """R24; return own results that are to be given again."""
    if books.keyed_with is None or response.cursor.shard_epoch != books.cursor.shard_epoch:
        return []
    rows = bucket_rows(books, request.owner, request.kind)
    ids = [(row.name.epoch, row.name.counter) for row in rows if isinstance(row.name, ResultId)]
    others = [row.other for row in rows if row.other is not None]
    places = absent_places(
        request,
        response,
        shares(books, request.owner, request.kind).shares,
        np.array(ids, np.int64).reshape(-1, 2),
        others,
    )
    again = _settle_given(books, request, response)
    for place in places:
        _lose(books, rows[int(place)])
    take_rows(books, response)
    books.owners_asked = books.owners_asked or _is_unknown(books, response)
    books.server_digests[request.owner, request.kind] = response.digest
    return again


def _lose(books: Books, row: BucketRow) -> None:
    """R24: a row that the server lacks."""
    match row.name, row.other:
        case ResultId() as name, _:
            _lose_result(books, name)
        case (ResultId() as target, str() as author), AnnotationRow():
            if (target, author) in books.own:
                del books.known[target, author]
                books.bases.pop((target, author), None)
            else:
                forget_annotation(books, (target, author))
        case Superseded() as name, _:
            del books.superseded[name]
        case _, NoteRow() as note:
            _lose_note(books, note)


def _lose_result(books: Books, name: ResultId) -> None:
    place = (name.epoch, name.counter)
    if name in books.replicas and books.replicas[name].known:
        if _is_own(books, name):
            books.replicas[name] = replace(books.replicas[name], known=False)
        else:
            del books.replicas[name]
    elif name in books.dropped:
        del books.dropped[name]
    elif place[1] <= books.acknowledged[name.epoch]:
        books.lost.add(place)
    else:
        books.alerts[place] = False


def _lose_note(books: Books, row: NoteRow) -> None:
    place, name = (row.epoch, row.counter), (row.device_alias, row.epoch, row.counter)
    if row.device_alias == books.own_alias and holds_note(books, place):
        books.own_notes[place] = replace(books.own_notes[place], refused=int(RejectReason.DELETED))
        if books.own_notes[place].shown is Shown.DELETED:
            books.own_notes[place] = OwnNote(without_text(row), Shown.GONE)
            books.deletions[note_name(*name)] = DeletionState.DONE
    else:
        del books.notes[name]


def _settle_given(books: Books, request: RepairRequest, response: RepairResponse) -> list[Place]:
    again = []
    for given, verdict in zip(request.given, response.verdicts, strict=False):
        place = (given.epoch, given.row.counter)
        if place not in books.lost:
            continue
        name = ResultId(request.device_alias, *place)
        if verdict in (VerdictCode.ACCEPTED, VerdictCode.DUPLICATE):
            books.lost.discard(place)
            books.replicas.pop(name, None)
        elif name in books.replicas and books.replicas[name].known:
            books.lost.discard(place)
            again.append(place)
        else:
            _refuse(books, place)
    return again


def to_give(books: Books, limit: int) -> tuple[tuple[IdentifiedResult, ...], tuple[bytes, ...]]:
    """Own results that the server lost."""
    places = sorted(books.lost)[: min(limit, MAX_GIVEN_PER_REPAIR)]
    results = [books.results[place] for place in places]
    return (
        tuple(
            IdentifiedResult(device_alias=books.own_alias, epoch=place[0], row=to_row(result))
            for place, result in zip(places, results, strict=True)
        ),
        tuple(result.segment_digest for result in results),
    )


def listed_replicas(books: Books, first_ms: int, last_ms: int, limit: int) -> list[IdentifiedResult]:
    """R11: those beside no own result, in order of (start, name)."""
    found = [
        (kept.row.started_at_ms, name)
        for name, kept in books.replicas.items()
        if first_ms <= kept.row.started_at_ms <= last_ms
        and not (_is_own(books, name) and (name.epoch, name.counter) in books.results)
    ]
    return [_identified(books, name) for _, name in sorted(found)[:limit]]


def replica(books: Books, target: ResultId) -> IdentifiedResult | None:
    """One of them, also if it stands beside another."""
    return _identified(books, target) if target in books.replicas else None


def equal_throughout(books: Books) -> bool:
    """R19: whether all buckets are those of which the server spoke last."""
    own, held = (books.own_alias, BucketKind.RECORDS), all_digests(books)
    said = [BucketDigest(*name, one.count, one.total) for name, one in books.server_digests.items() if name != own]
    return all_equal(held.get(own, digests.EMPTY), books.server_digests[own], other_digests(books, held), said)


def _identified(books: Books, name: ResultId) -> IdentifiedResult:
    return IdentifiedResult(device_alias=name.device_alias, epoch=name.epoch, row=books.replicas[name].row)


def _is_own(books: Books, name: ResultId) -> bool:
    return name.device_alias == books.own_alias


def _is_unknown(books: Books, answer: ExchangeResponse | RepairResponse) -> bool:
    aliases = {row.target.device_alias for row in answer.annotations}
    aliases |= {row.target.device_alias for row in answer.superseded}
    aliases |= {row.device_alias for row in answer.results} | {row.device_alias for row in answer.notes}
    return not aliases <= {SERVER_ALIAS, books.own_alias, *books.owners}


def _digest(one: BucketDigest) -> Digest:
    return Digest(one.count, one.total)
