"""What every ``Store`` holds a caller and a response to. Pure: no SQL, no file, no clock.

The adapters share the checks and the names here, and nothing else: how they keep their books is their own, so that the
in-memory store can stand as the oracle of the encrypted one.

A result *waits* if it is here and its counter is above the acknowledged mark of its epoch. Of those of the current
epoch none is missing; a closed epoch may have holes (rows lost to damage), and any epoch one at its beginning (rows
dropped by retention, which were acknowledged).

Applying an exchange (``Store.apply_exchange``), rule by rule:
    R1. A counter's fate is decided once, when the acknowledged mark passes it: refused if the response has a verdict
        for it that is neither accepted nor duplicate (but see R7), held by the server otherwise. The mark passes a
        result only if this very request pushed it: what a server says of its own accord that it holds under a counter
        may be another row. The mark moves back only by R6.
    R2. If the server acknowledges more of the current epoch than was ever given here, this store was turned back: it
        forks (``StoreForked``, ``SERVER_AHEAD``), and goes on in a new epoch. Of a closed epoch that is what to
        expect. An epoch that this store never had: ``SyncError``, and nothing is changed.
    R3. An annotation that was pushed or pulled is known to be held by the server, as the merge of all that was. It is
        merged into the local one. One that was ever written here waits exactly as long as local and known differ, so
        one that was changed again while the exchange was under way goes on waiting.
    R4. The cursor becomes the response's if the request went out from where the store stands; a pair that comes late
        or twice can only move it forward, and not if it was asked from further on. In an exchange of an epoch that is
        not (or, by R2 and R7, no longer) the current one it stays, or goes to the beginning of a new history (R6): a
        server does not send a device what it wrote itself in the same epoch, and a store that was turned back has to
        hear that again. Where a server first announces ``FEED`` to a store that had exchanges without, it goes to the
        beginning: what came before is to be heard as well.
    R5. The digest covers the results that the server holds by R1, of all epochs, and the annotations of R3 as the
        server is known to hold them. A result that retention dropped stays in it, until another sync key or alias
        makes it be computed anew.
    R6. A response from a new shard epoch is from a server that lost part of its history and says so. What it no longer
        acknowledges of the request's epoch waits again with its fate undecided, and so do all results of the other
        epochs, of which it did not speak (it will call those that it has duplicates). Of annotations it is known to
        hold only what this exchange and later ones say. Words of others that it lost stay here, and are not this
        device's to send back. A store that lost its cursor can't tell which history an answer is from: one that
        acknowledges less than a mark is from a new one, and whatever else was lost is found by comparing buckets.
    R7. A result refused as ``CONFLICTS_WITH_STORED`` was written under a counter that had been used before the store
        was turned back. If that epoch is current, the store forks (``COUNTER_REUSED``). The result is given again: it
        leaves its place and gets the next counter of the current epoch. This device's own annotations of it that the
        server did not know before this exchange go with it; such a one that was pushed in this very request stays at
        the old place too, for there the server has it now. The refusal is not kept. If an own row that came down
        (R11) is equal to it but for epoch and counter, it was given again before: it only leaves its place, and own
        words go to that row. Where a result of which nothing is decided stands at that row's place, the store was
        turned back to before that row: it is given again as well, as if it had been refused. So do notes, but
        that what stands there waits for its own refusal. An answer that does not show all that the server has
        (``more``, or R17) can't say whether a result was given again before: the store forks, but the mark stays below
        the first such result, which is pushed once more when the rest was heard. The rest is heard in the current
        epoch, of which a server does not send what it has: if anything that was given there is undecided, a former
        life may have written there too, and the store forks again. The same holds for R8.
    R8. Where the result above the mark is missing and later ones wait, nothing can be pushed: a server takes no gap.
        ``pending`` is then an empty question in that epoch. If the answer covers the hole, the mark moves to the end
        of the hole, and what follows is pushed. If it does not (and is not from before the mark: R4's late pairs),
        the server has nothing beyond the hole, and what waits in that epoch is given again as in R7, at most
        ``MAX_GIVEN_AGAIN`` at a time, after a fork (``SERVER_BEHIND``) if the epoch is the current one.
    R9. ``pending`` holds back an annotation of a result that waits itself: should its counter turn out to have been
        used before (R7), the words would stand at a stranger's result. It costs a round trip.
    R10. A device that is enrolled anew, which another sync key is the sign of, speaks to a server that knows nothing of
        it. In the transaction that keeps the key everything begins anew: the marks of all epochs are 0, nothing is
        refused, no annotation and no signal is known to be held, cursor, digest and last exchange are those of a fresh
        store. What retention dropped is a hole (R8). Words that were written here stay, but are no longer this
        device's to send: they have its former name as their author, and its former alias. Whoever keeps the new name
        says them again under it (``identity.save_identity``).

What came with version 1.1 of the protocol (*own* is what has this device's alias):
    R11. A *replica* is a result that came down and that this store does not hold by R1: another device's, or an own
        one that was lost here. Where an own result stands at its place whose fate is undecided or that is refused, it
        stands beside that one, and goes when that one is found to be held. It is never pushed.
    R12. The server is told only what it is not known to have: of an annotation that waits, ``pending`` gives the
        registers that differ from those known, and for each the base mark of the register that was known when it
        began to differ (later writes before the push do not change that: their writer had seen nothing newer). A
        register that waits, or was refused, and is overtaken by what comes down is pushed once all the same, as what it
        was: the server keeps it as superseded, or refuses it again, and then it is gone. An annotation that was refused
        waits no more until it is changed here; it stays readable, and among ``refused_words``.
    R13. Notes have a log of their own for each epoch, with counters and a mark like results; R1, R2, R6, R7 and R8
        hold for it in the same way, whatever comes first forks. A server that announced no ``FEED`` says nothing of
        notes. ``pending`` speaks of the oldest epoch in which a note waits only if no result waits anywhere. An own
        note that comes down is treated as a result is in R11.
    R14. An urgent result that waits, and stands behind those of a push, goes ahead (``alerts``) once in a history:
        when the exchange that carried it is applied. If it was not refused, the server holds it from then on, above
        the mark. Beyond a hole (R8) none goes ahead. If it is given again, what the server has of it becomes a
        replica, which is where it was given before (R7).
    R15. What ``delete`` removes is not listed from then on. Its deletion waits: that of a note until the note is
        settled (a log has no holes, so an unsent note is sent first), that of an annotation while its result waits
        (R9); what is written again there meanwhile waits for the deletion. An annotation of an own result that itself
        waits was never sent and is simply gone. Once the deletion was pushed and not refused, the server holds the
        row no more; of a note its place is kept, without its text. A refused deletion brings the row back. Those of
        notes are remembered: if the server begins a new history (R6), or sends the note again, they wait again. The
        deletion of an annotation goes as far as its latest register here: later ones stay, and so do superseded
        writes that are later.
    R16. Tombstones are taken in before all else that came with them. A result goes with all annotations and
        superseded writes on it; an own one stays readable as refused (``REJECTED``, ``DELETED``), if its fate was
        decided. Of an annotation what the server is known to hold goes, with superseded writes of that author, as far
        as the tombstone's time, and so does what was never written here; registers that are later stay, and so do those
        that were written here and differ from what is known: they stay this device's to send (R6). A settled or foreign
        note goes; of an own one the place is kept. Unknown kinds do nothing.
    R17. A response that was asked from elsewhere than where the store stands, and whose cursor is before it, is late:
        of it only the fate of what was pushed counts (and not even what annotations it shows to be known), for what
        came down in it may have been removed since.
    R18. Superseded writes are added. A document replaces one of its name with a lower version. Owners that came
        replace all that were known.
    R19. A *bucket* is what the server is known to hold of one owner: ``RECORDS`` its results and all annotations on
        them, ``WORDS`` the notes that it wrote down and the superseded writes on its results, as shares under its
        key; own ones, and notes of alias 0, under this device's sync key. (R5 is the own ``RECORDS``.) Rows of an
        owner whose key is not known are kept and in no bucket, and the store then says that it knows no owners, so
        that it is told again. With another key of an owner, its buckets are computed anew.
    R20. Of a result that retention drops, own or replica, the share is kept: it stays in its bucket, does not come
        back when it is sent again, and takes part in repairs. Replicas go by age like acknowledged results.
    R21. A new history (R6) makes undecided, or unknown to be held, in the same way: replicas, notes, superseded
        writes, base marks (0), refused words, results that were to be given back or went ahead. What is not heard
        again stays readable. Shares of dropped replicas are forgotten. Superseded writes under the names of annotations
        that were ever written here are pushed once more, as overtaken ones are (R12): of each register one at a time,
        the latest first, after what stands.
    R22. A new enrolment (R10) drops replicas, superseded writes, documents, owners, deletions and what others wrote
        down; own notes become those of the former alias: readable, nobody's to send, and ``delete`` removes them at
        once. One that comes down is the server's from then on; the rest, once all that the server has was heard, is
        said again under the new name (``say_former_notes``). The log of notes begins anew. A store that never had an
        exchange keeps its notes as they are: they have no alias yet.
    R23. ``rebaseline`` is kept until all buckets equal the server's, after an exchange without ``more`` or a repair.
        The caller compares the buckets meanwhile; ``pending`` is as ever.
    R24. A repair's answer from another shard epoch than the cursor's changes nothing. Rows that came become known to
        be held, as in R11 to R19. Of rows that the server says it lacks: an own result that it was thought to hold is
        to be given back and out of the digest until then; an own note counts as refused (``DELETED``); an own
        annotation is no longer known and waits; a share of R20 goes; all else goes, but for own replicas, which stay
        readable. A result that was given back is held again, or if it was refused counts as such (``REJECTED``,
        ``DELETED``); if another row stands at its place there (R11), it is given again as in R7.

Counters that were given are never given twice. ``pending`` speaks of the oldest epoch in which a result waits, of the
current one if none does (but see R13), or if that is asked for: while a caller has yet to hear all that the server has,
a closed epoch's results are not pushed (R7), and what waits in the current one is not held up by them.

A store puts on its audit trail by itself: ``CREATED`` (the first entry), ``FORKED``, ``DROPPED`` (one for each kind
and reason), ``SETTING_CHANGED``, ``ANNOTATED`` (also for notes and deletions), and ``SYNCED`` for an exchange that
changed anything but its own time. All else is for a caller to ``record``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from einthoven.errors import InputError, NotEnrolled, StoreIOError, SyncError
from einthoven.ports import Segment, SyncState
from einthoven.result_rows import to_row
from einthoven.results import WindowResult
from einthoven.segments import segment_digest
from einthoven.store_events import ForkReason
from einthoven.store_values import ContentKind, DropReason
from einthoven_protocol.canonical import encode_annotation_row, encode_result_row
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.limits import MAX_EPOCH, SYNC_KEY_BYTES
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    ExchangeRequest,
    ExchangeResponse,
    RejectReason,
    ResultId,
    RowVerdict,
    VerdictCode,
)

FIRST_EPOCH: Final = 1
"""Epoch of a fresh store."""
SYNC_KEY_SETTING: Final = "sync_key"
"""Setting under which enrolment leaves the key of the digests."""
MAX_SETTING_NAME_CHARS: Final = 64
"""Characters of a setting's name."""
MAX_SETTING_BYTES: Final = 65_536
"""Bytes of a setting's value: settings are small, signals are segments."""
MAX_ROWS_PER_CALL: Final = 100_000
"""Results or annotations that one call may ask for."""
MAX_GIVEN_AGAIN: Final = 10_000
"""Results that one exchange gives again by R8; the rest follows with the next."""
EPOCH_STEP_RANGE: Final = 2**20
"""A new epoch lies at most so many above the highest known: two restores of one backup hardly meet."""

Draw = Callable[[int], int]
"""Draws an integer of 0 to its argument - 1, like ``secrets.randbelow``."""

_HELD_BY_SERVER: Final = (VerdictCode.ACCEPTED, VerdictCode.DUPLICATE)


def check_window(result: WindowResult, segment: Segment) -> None:
    """Hold a verdict to its signal.

    Raises:
        ValueError: The verdict does not belong to the segment, or the segment is over a limit.
    """
    if result.segment_digest != segment_digest(segment):
        raise ValueError("result.segment_digest is not that of the segment")


def result_row_bytes(result: WindowResult) -> bytes:
    """Canonical bytes of a verdict's row.

    Raises:
        ValueError: It has a value that does not fit.
    """
    try:
        return encode_result_row(to_row(result))
    except ProtocolError as error:
        raise ValueError(f"the result does not fit its row: {error}") from error


def annotation_row_bytes(row: AnnotationRow) -> bytes:
    """Canonical bytes of an annotation.

    Raises:
        InputError: It is longer than the protocol allows, or has a value that does not fit.
    """
    try:
        return encode_annotation_row(row)
    except ProtocolError as error:
        raise InputError(f"the annotation can't be kept ({error})", "shorten or correct it") from error


def check_setting(name: str, value: bytes = b"") -> None:
    """Hold a setting to its limits.

    Raises:
        ValueError: Name or value is over its limit, the name is empty, or a sync key has the wrong length.
    """
    if not 0 < len(name) <= MAX_SETTING_NAME_CHARS or not name.isascii():
        raise ValueError(f"a setting's name has 1 to {MAX_SETTING_NAME_CHARS} ASCII characters")
    if len(value) > MAX_SETTING_BYTES:
        raise ValueError(f"a setting has at most {MAX_SETTING_BYTES} bytes, not {len(value)}")
    if name == SYNC_KEY_SETTING and len(value) not in (0, SYNC_KEY_BYTES):
        raise ValueError(f"a sync key has {SYNC_KEY_BYTES} bytes, not {len(value)}")


def check_limit(limit: int) -> None:
    """Hold a page size to its limit.

    Raises:
        ValueError: Negative, or over ``MAX_ROWS_PER_CALL``.
    """
    if not 0 <= limit <= MAX_ROWS_PER_CALL:
        raise ValueError(f"limit must be 0 to {MAX_ROWS_PER_CALL}, not {limit}")


def is_enrolled_anew(name: str, value: bytes, *former_keys: bytes | None) -> bool:
    """R10.

    Args:
        name: Of the setting that is to be kept.
        value: Its value.
        former_keys: The sync key until now, and that of the last exchange.
    """
    return name == SYNC_KEY_SETTING and bool(value) and any(former not in (None, b"", value) for former in former_keys)


def checked_sync_key(value: bytes | None) -> bytes:
    """The sync key, which an enrolled store has.

    Raises:
        NotEnrolled: There is none.
    """
    if not value:
        raise NotEnrolled("this store has no sync key", "enrol the device first")
    return value


def unknown_epoch() -> SyncError:
    """R2: what to raise for an exchange of an epoch that this store never had."""
    return SyncError("the exchange is of an epoch that this store never had", "sync again with the store as it is now")


def server_is_ahead(response: ExchangeResponse, last_counter: int) -> bool:
    """R2.

    Args:
        response: What the server said of the current epoch.
        last_counter: Highest counter ever given in it.
    """
    return response.acknowledged > last_counter


def next_epoch(highest_known: int, draw: Draw) -> int:
    """Return the epoch that follows a fork.

    Args:
        highest_known: Highest epoch that this store, or its anchor, knows of.
        draw: Source of chance.

    Raises:
        StoreIOError: There is none left.
    """
    room = min(EPOCH_STEP_RANGE, MAX_EPOCH - highest_known)
    if room < 1:
        raise StoreIOError("the store was turned back too often: no epoch is left", "export it and make a new one")
    return highest_known + 1 + draw(room)


def fork_subject(old_epoch: int, new_epoch: int, reason: ForkReason) -> str:
    """Subject of the audit entry that a fork leaves."""
    return f"{old_epoch} {new_epoch} {reason.value}"


def annotated_subject(target: ResultId) -> str:
    """Subject of the audit entry that an annotation leaves."""
    return f"{target.device_alias}:{target.epoch}:{target.counter}"


def synced_subject(request: ExchangeRequest, response: ExchangeResponse) -> str:
    """Subject of the audit entry that an exchange leaves."""
    return f"{request.epoch}:{response.acknowledged}"


def changed_anything(before: SyncState, after: SyncState) -> bool:
    """Whether an exchange is worth an audit entry."""
    return replace(after, last_exchange_ms=before.last_exchange_ms) != before


def dropped_subject(kind: ContentKind, reason: DropReason, count: int) -> str:
    """Subject of the audit entry that dropped content leaves."""
    return f"{kind.name.lower()} {reason.name.lower()} {count}"


def begins_new_history(
    stored: Cursor, request: ExchangeRequest, response: ExchangeResponse, mark: int, notes_mark: int
) -> bool:
    """R6; once its cursor is stored, the same history does not begin again, and the first one heard of is none.

    Args:
        stored: Where the store stands.
        request: What was asked.
        response: What was answered.
        mark: Of the request's epoch.
        notes_mark: Of that epoch's notes; 0 for a server that says nothing of notes.
    """
    if stored.shard_epoch:
        return stored.shard_epoch < response.cursor.shard_epoch
    lost = response.acknowledged < mark or response.notes_acknowledged < notes_mark
    return request.cursor == stored and lost


def refused_verdicts(response: ExchangeResponse) -> Mapping[int, RowVerdict]:
    """R1: the verdicts by which a row is not held by the server, R7's among them."""
    return {verdict.counter: verdict for verdict in response.verdicts if verdict.code not in _HELD_BY_SERVER}


def is_reused(verdict: RowVerdict) -> bool:
    """R7: whether the server holds another row under this counter."""
    return verdict.code == VerdictCode.REJECTED and verdict.reason == RejectReason.CONFLICTS_WITH_STORED


def next_cursor(
    stored: Cursor, request: ExchangeRequest, response: ExchangeResponse, *, current: bool, upgraded: bool = False
) -> Cursor:
    """R4.

    Args:
        stored: Where the store stands.
        request: What was asked.
        response: What was answered.
        current: Whether the request's epoch is the current one, after all that the response made happen.
        upgraded: Whether the server has begun to feed more than it did.
    """
    if upgraded:
        return Cursor(max(stored.shard_epoch, response.cursor.shard_epoch), 0)
    if not current:
        newer = response.cursor.shard_epoch > stored.shard_epoch
        return Cursor(response.cursor.shard_epoch, 0) if newer else stored
    if request.cursor == stored:
        return response.cursor
    # What was asked from further on leaves something out that is yet to be heard.
    return max(stored, response.cursor) if request.cursor < stored else stored


def check_result_count(results: Sequence[object]) -> None:
    """Hold one ``append_results`` to its limit.

    Raises:
        ValueError: Over ``MAX_ROWS_PER_CALL``.
    """
    if len(results) > MAX_ROWS_PER_CALL:
        raise ValueError(f"at most {MAX_ROWS_PER_CALL} results fit one call, not {len(results)}")
