"""One batch of changes as one transaction: load what it touches, let the ledger decide, write, read the feed.

It deliberately decides nothing but replay, revocation and rotated keys, which only the transaction can know.

Invariants:
    1. A batch is all or nothing, audit entries included.
    2. Every answer shows the state after the whole batch: feed, cursor and digests belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from einthoven_protocol import digests
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketDigest,
    BucketKind,
    Capability,
    Cursor,
    Digest,
    Document,
    NoteRow,
    Owner,
    Tombstone,
)
from einthoven_server.errors import RequestRefused, Unauthorized
from einthoven_server.identity.refusals import revoked
from einthoven_server.patient_keys import is_stale, rotated
from einthoven_server.records import feed_page
from einthoven_server.records.books import Books
from einthoven_server.records.change_store import (
    SERVER_ALIAS,
    SERVER_WORDS,
    ChangeBatch,
    FedRow,
    FeedQuestion,
    NonceUse,
)
from einthoven_server.records.changes import (
    Annotate,
    Change,
    Delete,
    Give,
    Push,
    WriteNote,
    key_of,
    patient_of,
    writer_of,
)
from einthoven_server.records.commits import WHOLE_TENANT, Committed
from einthoven_server.records.ledger import Ledger, Settled
from einthoven_server.records.wanted import wanted_by


class Pushed(NamedTuple):
    """The answer to a push.

    Attributes:
        settled: What became of it.
        fed: A page of the feed, to be opened by the store.
        cursor: Where the page ends.
        digest: Of the device's own ``RECORDS``.
        digests: Of all other buckets that are not empty; none for a device that can't ``FEED``.
        owners: All, if the device knows another number of them.
        more: Whether there is more of the feed.
        rebaseline: Whether tombstones are gone that the device had not read.
    """

    settled: Settled
    fed: Sequence[FedRow]
    cursor: Cursor
    digest: Digest
    digests: tuple[BucketDigest, ...]
    owners: tuple[Owner, ...]
    more: bool
    rebaseline: bool


Outcome: TypeAlias = (
    Pushed | tuple[int, ...] | AnnotationRow | NoteRow | tuple[Tombstone, ...] | Document | RequestRefused
)


class Done(NamedTuple):
    """A batch that is written.

    Attributes:
        outcomes: One a change.
        committed: What it touched.
        last_hlc: Last hybrid logical time given.
    """

    outcomes: list[Outcome]
    committed: Committed
    last_hlc: int


async def commit(batch: ChangeBatch, changes: Sequence[Change], last_hlc: int, now_ms: int) -> Done:
    """Do everything but the COMMIT."""
    head = await batch.head()
    pushes = [change for change in changes if isinstance(change, Push)]
    fresh = await _fresh(batch, pushes, now_ms)
    wanted = wanted_by(changes, head.shard_epoch)
    books = Books(head.shard_epoch, head.commit_seq, last_hlc, await batch.load(wanted))
    books.sum_server_notes(wanted.server_words.items())
    ledger = Ledger(books)
    decided, touched = [], set()
    for change in changes:
        before = books.commit_seq
        decided.append(_barred(change, books, fresh) or _decide(ledger, change))
        if books.commit_seq > before:
            touched.add((patient_of(change) or WHOLE_TENANT, writer_of(change)))
    books.written.commit_seq = books.commit_seq
    books.written.received_at_ms = now_ms
    await batch.write(books.written)
    outcomes = await _answers(batch, books, changes, decided)
    # Refusals are written by the request's guard.
    await batch.append(
        [
            change.event
            for change, outcome in zip(changes, outcomes, strict=True)
            if not isinstance(outcome, RequestRefused)
        ]
    )
    return Done(outcomes, Committed(head.commit_seq, books.commit_seq, frozenset(touched)), books.last_hlc)


async def _fresh(batch: ChangeBatch, pushes: Sequence[Push], now_ms: int) -> dict[int, bool]:
    """Whether each push's nonce is fresh, by the push's identity."""
    if not pushes:
        return {}
    uses = [NonceUse(push.device.alias, push.nonce, push.nonce_expires_at_ms) for push in pushes]
    return dict(zip(map(id, pushes), await batch.remember(uses, now_ms), strict=True))


def _barred(change: Change, books: Books, fresh: dict[int, bool]) -> RequestRefused | None:
    key = key_of(change)
    # The shard's lock is held: a version that is there now stays until what is sealed with it is committed.
    if key is not None and is_stale(key, books.held.key_versions.get(key.patient, {})):
        return rotated()
    if not isinstance(change, Push | Give):
        return None
    if not fresh.get(id(change), True):
        return Unauthorized("this request was seen before", "sign anew", code="replayed")
    return revoked() if change.device.alias in books.held.revoked else None


def _decide(ledger: Ledger, change: Change) -> Settled | Outcome:
    if isinstance(change, Push):
        return ledger.settle(change)
    if isinstance(change, Give):
        return ledger.give(change)
    if isinstance(change, Annotate):
        return ledger.annotate(change)
    if isinstance(change, WriteNote):
        return ledger.note(change)
    if isinstance(change, Delete):
        return ledger.delete(change)
    return ledger.put_document(change)


async def _answers(
    batch: ChangeBatch, books: Books, changes: Sequence[Change], decided: Sequence[Settled | Outcome]
) -> list[Outcome]:
    settled = [
        (change, what)
        for change, what in zip(changes, decided, strict=True)
        if isinstance(change, Push) and isinstance(what, Settled)
    ]
    most = feed_page.rows_asked(len(settled))
    asked = [_question(books, push) for push, _ in settled]
    found = await batch.feed(asked, most) if asked else []
    answers = iter(
        [
            _answer(books, push, what, feed_page.cut(rows, most, books.commit_seq))
            for (push, what), rows in zip(settled, found, strict=True)
        ]
    )
    return [next(answers) if isinstance(what, Settled) else what for what in decided]


def _question(books: Books, push: Push) -> FeedQuestion:
    cursor = push.request.cursor
    # Everything again after the shard began a new history.
    since = cursor.commit_seq if cursor.shard_epoch == books.shard_epoch else 0
    return FeedQuestion(push.device, push.request.epoch, since, _can_feed(push))


def _answer(books: Books, push: Push, settled: Settled, page: feed_page.Page) -> Pushed:
    device, request = push.device, push.request
    patient, feed = books.held.patients[device.patient_id], _can_feed(push)
    cursor = request.cursor
    behind = cursor.shard_epoch != books.shard_epoch or cursor.commit_seq < patient.collected_seq
    return Pushed(
        settled=settled,
        fed=page.rows,
        cursor=Cursor(books.shard_epoch, page.end),
        digest=books.digest(device.alias, BucketKind.RECORDS),
        digests=_other_digests(books, device.alias, patient.owners) if feed else (),
        owners=patient.owners if feed and len(patient.owners) != request.owners_known else (),
        more=page.more,
        rebaseline=feed and patient.collected_seq > 0 and behind,
    )


def _other_digests(books: Books, reader: int, owners: Sequence[Owner]) -> tuple[BucketDigest, ...]:
    found = [(SERVER_ALIAS, BucketKind.WORDS, books.digest(reader, SERVER_WORDS))]
    for owner in owners:
        found += [(owner.device_alias, kind, books.digest(owner.device_alias, kind)) for kind in BucketKind]
    return tuple(
        BucketDigest(alias, kind, digest.count, digest.total)
        for alias, kind, digest in found
        if digest != digests.EMPTY and (alias, kind) != (reader, BucketKind.RECORDS)
    )


def _can_feed(push: Push) -> bool:
    return bool(push.request.capabilities & Capability.FEED)
