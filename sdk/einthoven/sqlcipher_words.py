"""Annotations in the encrypted store: as they are written, pushed, heard, deleted (``store_rules``, R3, R12, R15, R16).

One annotation is spread over three tables: ``annotation`` holds the rows, ``draft`` what is known of a push of it,
``deletion`` that it is to go. ``load`` and ``store`` put them together. Runs inside the caller's transaction.

Invariants:
    1. A row of ``annotation`` that is not own and whose deletion waits is not listed: its local body is a copy of the
       known one.
    2. Every change of what is known is told to the buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from einthoven.errors import StoreDamaged
from einthoven.sqlcipher_books import AnnotationLine
from einthoven.sqlcipher_buckets import Buckets
from einthoven.sqlcipher_row_reading import Row, RowReader
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_rules import annotation_row_bytes
from einthoven.store_rules_feed import (
    Bases,
    DeletionState,
    Overtaken,
    annotation_name,
    news,
    next_bases,
    overtaken,
    refused_names,
    said,
    said_again,
    says_anything,
    spared,
    to_push,
    until,
    without_pushed,
)
from einthoven_protocol.canonical import decode_annotation_row, decode_superseded_row
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    ExchangeRequest,
    ExchangeResponse,
    ResultId,
    RowKind,
    Superseded,
    Tombstone,
)

LISTED_ANNOTATIONS = f"""(own OR NOT EXISTS (SELECT 1 FROM deletion WHERE kind = {int(RowKind.ANNOTATION)} AND NOT state
    AND deletion.device_alias = annotation.device_alias AND deletion.epoch = annotation.epoch
    AND deletion.counter = annotation.counter AND deletion.author = annotation.author))"""  # noqa: S608 - a number of our own
"""R15."""
_OF_TARGET = "WHERE device_alias = ? AND epoch = ? AND counter = ?"

Key = tuple[int, int, int, str]


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation, whole.

    Attributes:
        local: As it is listed; ``None`` if it is deleted here, or not there at all.
        known: As the server is known to hold it.
        own: Whether it was written here.
        bases: R12.
        refused: Why the server refused it, or 0.
        deleted: Whether its deletion waits.
        overtaken: R12.
    """

    local: AnnotationRow | None = None
    known: AnnotationRow | None = None
    own: bool = False
    bases: Bases = (0, 0)
    refused: int = 0
    deleted: bool = False
    overtaken: Overtaken | None = None

    def with_local(self, row: AnnotationRow) -> Annotation:
        """Another local row; one that changed, or is known to be held, is no refused one any more."""
        keeps = row == self.local and row != self.known
        return replace(self, local=row, refused=self.refused if keeps else 0)


def key_of(row: AnnotationRow) -> Key:
    """Under which a row is stored."""
    return (row.target.device_alias, row.target.epoch, row.target.counter, row.author)


def load(rows: RowReader, key: Key) -> Annotation:
    """What there is under a key."""
    found, draft = rows.get("annotation", key), rows.get("draft", key)
    deletion = rows.get("deletion", (int(RowKind.ANNOTATION), *key))
    deleted = deletion is not None and deletion[5] == DeletionState.WAITS
    bases, refused, overtaken_now = ((0, 0), 0, None) if draft is None else (draft[4:6], draft[6], _overtaken(draft))
    if found is None:
        return Annotation(bases=bases, refused=refused, deleted=deleted, overtaken=overtaken_now)
    line = AnnotationLine(*found)
    hidden = deleted and not line.own
    return Annotation(
        local=None if hidden else decode_annotation_row(line.local_body),
        known=None if line.known_body is None else decode_annotation_row(line.known_body),
        own=bool(line.own),
        bases=bases,
        refused=refused,
        deleted=deleted,
        overtaken=overtaken_now,
    )


def store(rows: SqlCipherRows, key: Key, now: Annotation, before: Annotation, buckets: Buckets | None = None) -> None:
    """Write what changed of it; what became of its deletion is the caller's."""
    if now.known != before.known and buckets is not None:
        if before.known is not None:
            buckets.annotation(before.known, -1)
        if now.known is not None:
            buckets.annotation(now.known)
    local = now.local or now.known
    if (now.local, now.known, now.own) != (before.local, before.known, before.own):
        if local is None:
            rows.delete("annotation", key)
        else:
            known = None if now.known is None else annotation_row_bytes(now.known)
            rows.put("annotation", (*key, annotation_row_bytes(local), known, int(now.own)))
    draft = _draft(now)
    if draft == _draft(before):
        return
    if any(draft):
        rows.put("draft", (*key, *draft))
    else:
        rows.delete("draft", key)


def _draft(word: Annotation) -> tuple[int, int, int, int, int, bytes | None]:
    held = word.overtaken
    if held is None:
        return (*word.bases, word.refused, 0, 0, None)
    return (*word.bases, word.refused, *held.bases, annotation_row_bytes(held.row))


def _overtaken(draft: Row) -> Overtaken | None:
    return None if draft[9] is None else Overtaken(decode_annotation_row(draft[9]), draft[7:9])


def put_local_annotation(rows: SqlCipherRows, row: AnnotationRow) -> AnnotationRow:
    """Merge a row into the local one; return the merged row."""
    before = load(rows, key_of(row))
    merged = merged_with(before.local, row)
    bases = next_bases(before.bases, before.local, None if before.deleted else before.known, merged)
    store(rows, key_of(row), replace(before.with_local(merged), own=True, bases=bases), before)
    return merged


def learn(rows: SqlCipherRows, row: AnnotationRow, buckets: Buckets) -> None:
    """R3: merge a row that the server holds into what it is known to hold, and that into the local row."""
    before = load(rows, key_of(row))
    known = merged_with(before.known, row)
    now = replace(before, known=known)
    if not before.deleted:
        local = merged_with(before.local, known)
        if before.own:
            held = overtaken(before.overtaken, before.local, before.known, local, before.bases)
            now = replace(now, overtaken=held)
        now = now.with_local(local)
    store(rows, key_of(row), now, before, buckets)


def push_of(word: Annotation) -> tuple[AnnotationRow, Bases]:
    """R12: what goes up of an annotation that waits, and its base marks.

    Raises:
        StoreDamaged: It is not there.
    """
    if word.local is None:
        raise StoreDamaged("an annotation that waits is not there", "run a repair of the store")
    known = None if word.deleted else word.known
    return to_push(word.local, known, word.bases, word.overtaken, refused=bool(word.refused))


def take_pushed(rows: SqlCipherRows, request: ExchangeRequest, response: ExchangeResponse, buckets: Buckets) -> None:
    """R3 and R12: pushed annotations are held as they are, or refused."""
    refused = refused_names(response)
    for row in request.annotations:
        reason = refused.get(annotation_name(row.target, row.author))
        before = load(rows, key_of(row))
        left = replace(before, overtaken=without_pushed(before.overtaken, row))
        if left != before:
            again = said_again(left.overtaken, superseded_of(rows, key_of(row)), before.overtaken)
            left = replace(left, overtaken=again)
        store(rows, key_of(row), left, before)
        if reason is None:
            learn(rows, row, buckets)
            continue
        before = left
        if before.own and before.local is not None and said(row, before.local):
            store(rows, key_of(row), replace(before, refused=reason), before)


def superseded_of(rows: RowReader, key: Key) -> list[tuple[Superseded, bool]]:
    """Superseded writes under the name of an annotation, and whether the server is known to hold them."""
    found = [(decode_superseded_row(row[5]), bool(row[4])) for row in rows.select("superseded", _OF_TARGET, key[:3])]
    return [(write, known) for write, known in found if write.author == key[3]]


def say_superseded_again(rows: SqlCipherRows) -> None:
    """R21: own superseded writes, none of which is known to be held."""
    writes = [decode_superseded_row(row[5]) for row in rows.select("superseded")]
    for target, author in sorted({(write.target, write.author) for write in writes}):
        key = (target.device_alias, target.epoch, target.counter, author)
        before = load(rows, key)
        if before.own:
            again = said_again(before.overtaken, superseded_of(rows, key))
            store(rows, key, replace(before, overtaken=again), before)


def remove_annotation(rows: SqlCipherRows, key: Key, buckets: Buckets | None) -> Annotation:
    """Leave nothing of an annotation; return what there was."""
    before = load(rows, key)
    store(rows, key, Annotation(), before, buckets)
    rows.delete("deletion", (int(RowKind.ANNOTATION), *key))
    return before


def remove_annotations_of(rows: SqlCipherRows, target: ResultId, buckets: Buckets) -> None:
    """R16: a result goes with all that was said of it."""
    name = (target.device_alias, target.epoch, target.counter)
    for row in list(rows.select("annotation", _OF_TARGET, name)):
        remove_annotation(rows, (*name, row[3]), buckets)
    rows.delete_where("draft", _OF_TARGET, name)
    rows.delete_where("deletion", f"{_OF_TARGET} AND kind = ?", (*name, int(RowKind.ANNOTATION)))


def bury_annotation(rows: SqlCipherRows, key: Key, hlc: int, buckets: Buckets) -> None:
    """R16: what the server was known to hold of it, up to a time, goes."""
    before, name = load(rows, key), (int(RowKind.ANNOTATION), *key)
    deletion = rows.get("deletion", name)
    if before.known is None:
        if deletion is not None and deletion[6] <= hlc:
            rows.delete("deletion", name)
        if before.local is not None and not before.own:
            _bury_unknown(rows, key, before, spared(before.local, hlc), buckets)
        return
    known = spared(before.known, hlc)
    waiting = None if before.local is None else news(before.local, before.known)
    remove_annotation(rows, key, buckets)
    goes_on = before.deleted and deletion is not None and deletion[6] > hlc
    if deletion is not None and goes_on:
        rows.put("deletion", deletion)
    stays = known is not None and not goes_on
    now = Annotation(known=known, local=known if stays else None, deleted=goes_on, own=before.own and stays)
    if before.own and waiting is not None and says_anything(waiting):
        now = replace(now, own=True, local=merged_with(now.local, waiting))
    lost = None if before.overtaken is None else spared(before.overtaken.row, hlc)
    if before.own and lost is not None and now.local is not None:
        now = replace(now, own=True, overtaken=Overtaken(lost, (0, 0)))
    store(rows, key, now, Annotation(), buckets)


def _bury_unknown(
    rows: SqlCipherRows, key: Key, before: Annotation, left: AnnotationRow | None, buckets: Buckets
) -> None:
    """What others said, and came down in another history."""
    if left is None:
        remove_annotation(rows, key, buckets)
    else:
        store(rows, key, before.with_local(left), before, buckets)


def forget_known(rows: SqlCipherRows, row: AnnotationRow, buckets: Buckets) -> None:
    """R24: the server lacks an annotation that it was known to hold."""
    before = load(rows, key_of(row))
    if before.own:
        store(rows, key_of(row), replace(before, known=None, bases=(0, 0)), before, buckets)
    else:
        remove_annotation(rows, key_of(row), buckets)


def settle_deletion(rows: SqlCipherRows, key: Key, reason: int | None, pushed: Tombstone, buckets: Buckets) -> None:
    """R15: what became of a pushed deletion that waited."""
    before = load(rows, key)
    name = (int(RowKind.ANNOTATION), *key)
    if reason is None:
        rows.delete("deletion", name)
        left = spared(before.known, until(pushed))
        now = replace(before, known=left, deleted=False)
        if left is not None:
            now = now.with_local(merged_with(before.local, left))
        store(rows, key, now, before, buckets)
        return
    rows.put("deletion", (*name, reason, pushed.hlc))
    if before.known is not None:
        local = merged_with(before.local, before.known)
        now = replace(before, own=True).with_local(local)
        store(rows, key, now, before, buckets)


def waiting_annotations(rows: RowReader, clause: str, parameters: Sequence[int | str] = ()) -> list[Annotation]:
    """R12: own annotations that the server is not known to hold as they are, and did not refuse.

    Args:
        rows: Reads.
        clause: Continues ``WHERE ...``.
        parameters: Of it.
    """
    found = rows.select("annotation", f"{WAITING_ANNOTATIONS} {clause}", parameters)
    waiting = []
    for row in list(found):
        line = AnnotationLine(*row)
        waiting.append(load(rows, (line.device_alias, line.epoch, line.counter, line.author)))
    return waiting


WAITING_ANNOTATIONS = """WHERE rowid IN (
    SELECT rowid FROM annotation AS word WHERE own AND local_body IS NOT known_body AND NOT EXISTS (
        SELECT 1 FROM draft WHERE refused AND draft.device_alias = word.device_alias AND draft.epoch = word.epoch
        AND draft.counter = word.counter AND draft.author = word.author)
    UNION SELECT word.rowid FROM draft JOIN annotation AS word USING (device_alias, epoch, counter, author)
        WHERE overtaken_body IS NOT NULL AND own)"""
"""Of table ``annotation``."""


def merged_with(mine: AnnotationRow | None, theirs: AnnotationRow) -> AnnotationRow:
    """Both, or the other one where there is none yet."""
    return theirs if mine is None else merge_annotation(mine, theirs)
