"""What really happened, as nobody in the simulated world knows it: who wrote what, and what was promised to whom.

Rules, of which ``judging`` holds the end of a history to each:
    T1. What a server acknowledged to a device, and has in the history that survived its fail-overs, it holds exactly
        once by what it says, unless somebody had it deleted.
    T2. What a device holds at the end, and did not give up as refused, the server holds exactly once. So a row is lost
        only if no server acknowledged it in the history that survived, and every device that had it was destroyed or
        turned back to before it was written.
    T3. Words that were said on a device stand on the server at the end, or are kept there as overtaken, or were
        deleted, refused by name, or said anew before they were acknowledged: on the same device, or by their author
        on another that showed them, if those later words stand or are kept; unless the device was destroyed, turned
        back or enrolled anew before they were acknowledged in the history that survived.

It deliberately reads no store: it hears what passed between an app and its store, and between app and server.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field

import msgspec

from einthoven.results import RiskTier
from einthoven.store_rules import is_reused
from einthoven_bench.simulation.content import note_serial, serial_of
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    ExchangeRequest,
    ExchangeResponse,
    NoteRow,
    ResultId,
    ResultRow,
    RowKind,
    VerdictCode,
)

_HELD = (VerdictCode.ACCEPTED, VerdictCode.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Promise:
    """An acknowledgement that a device took over.

    Attributes:
        alias: Of the device.
        serial: What was acknowledged.
        head: Where the server stood.
    """

    alias: int
    serial: int
    head: Cursor


@dataclass(slots=True)
class Words:
    """A comment that was said on a device.

    Attributes:
        device: On which.
        life: Which life of that device's files: it ends when they are turned back or gone.
        name: Of the row, as it was said.
        hlc: When it was said, as its register says.
        replaced: Whether it was said anew there.
        pushed_as: The name under which a device last pushed them: words go along with a result that is given again.
        overwritten_by: Comments that their author said in their place, on whichever device, while it showed them.
    """

    device: int
    life: int
    name: tuple[ResultId, str]
    hlc: int
    replaced: bool = False
    pushed_as: tuple[ResultId, str] | None = None
    overwritten_by: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Truth:
    """Everything.

    Attributes:
        serials: Given so far; results, notes and comments share them.
        requests: Given so far, to requests.
        results: Promises on results.
        notes: On notes.
        comments: On comments.
        deletions: On deletions of notes.
        note_names: Serials of notes that somebody deletes, by identity.
        words: Comments by serial.
        urgent: Serials of urgent results.
        written_notes: By serial, the device that wrote them.
        deleted_targets: Results that somebody had deleted.
        deleted_serials: Results, notes and comments that may be gone because of it.
        taken_back: Up to when words under a name were deleted.
        ahead: Urgent results that went ahead, or in their turn, with an answer that was taken over; and where the
            server stood then.
        again: Those of them that may go ahead once more, for their device can't know that they did: it was turned back
            or enrolled anew since, or the server failed over.
        unheard: Where results were sent while device or server spoke as the first version did, and how often the device
            had been turned back by then.
        not_ahead: Urgent results that stayed behind in a request in which they could have gone ahead.
        repairs: Requests to compare a bucket.
        forks: At each fail-over: the shard epoch before it, and how far the replica had got.
        seen: What happened at all (``occurring``).
    """

    serials: int = 0
    requests: int = 0
    results: list[Promise] = field(default_factory=list)
    notes: list[Promise] = field(default_factory=list)
    comments: list[Promise] = field(default_factory=list)
    deletions: list[Promise] = field(default_factory=list)
    note_names: dict[ResultId, int] = field(default_factory=dict)
    words: dict[int, Words] = field(default_factory=dict)
    urgent: set[int] = field(default_factory=set)
    written_notes: dict[int, int] = field(default_factory=dict)
    deleted_targets: set[ResultId] = field(default_factory=set)
    deleted_serials: set[int] = field(default_factory=set)
    taken_back: dict[tuple[ResultId, str], int] = field(default_factory=dict)
    ahead: dict[int, Cursor] = field(default_factory=dict)
    again: set[int] = field(default_factory=set)
    unheard: dict[ResultId, int] = field(default_factory=dict)
    not_ahead: set[int] = field(default_factory=set)
    repairs: int = 0
    forks: list[Cursor] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def next_serial(self) -> int:
        """One that nothing has yet."""
        self.serials += 1
        return self.serials

    def next_request(self) -> int:
        """A number that no request has yet."""
        self.requests += 1
        return self.requests

    def survives(self, promise: Promise) -> bool:
        """Whether the server that made it still has the history in which it did."""
        return self._is_held(promise.head)

    def _is_held(self, head: Cursor) -> bool:
        """Whether what the server held when it stood there is in the history that survived."""
        return all(head.commit_seq <= kept.commit_seq for kept in self.forks if head.shard_epoch <= kept.shard_epoch)

    def is_ahead(self, serial: int) -> bool:
        """Whether an urgent result waits no more: it went ahead, and the server did not lose it."""
        return serial in self.ahead and self._is_held(self.ahead[serial])

    def took_over(self, request: ExchangeRequest, response: ExchangeResponse, head: Cursor) -> None:
        """A device took over an answer."""
        alias = request.device_alias
        # What is above the mark was not settled, and what is another's place is given again: both go ahead yet.
        reused = {verdict.counter for verdict in response.verdicts if is_reused(verdict)}
        settled = [row for row in request.results if row.counter <= response.acknowledged]
        went = urgent_of(request.alerts) | urgent_of(settled)
        went -= urgent_of([row for row in settled if row.counter in reused])
        self.ahead |= dict.fromkeys(went, head)
        self.again -= went
        verdicts = {verdict.counter: verdict.code for verdict in response.verdicts}
        for row in request.results:
            if row.counter <= response.acknowledged and verdicts.get(row.counter, VerdictCode.ACCEPTED) in _HELD:
                self.results.append(Promise(alias, serial_of(row), head))
        refused = {
            (verdict.kind, verdict.device_alias, verdict.epoch, verdict.counter, verdict.author)
            for verdict in response.refused
        }
        for note in request.notes:
            name = (RowKind.NOTE, alias, note.epoch, note.counter, "")
            if note.text and note.counter <= response.notes_acknowledged and name not in refused:
                self.notes.append(Promise(alias, note_serial(note), head))
        for deletion in request.deletions:
            place = ResultId(deletion.device_alias, deletion.epoch, deletion.counter)
            name = (deletion.kind, *msgspec.structs.astuple(place), deletion.author)
            if deletion.kind == RowKind.NOTE and name not in refused and place in self.note_names:
                self.deletions.append(Promise(alias, self.note_names[place], head))
        for words in request.annotations:
            target = words.target
            name = (RowKind.ANNOTATION, target.device_alias, target.epoch, target.counter, words.author)
            for serial in comment_serials([words]):
                if serial in self.words:
                    self.words[serial].pushed_as = (target, words.author)
            if name not in refused:
                self.comments += [Promise(alias, serial, head) for serial in comment_serials([words])]

    def leaves(self, request: ExchangeRequest, waiting: Sequence[ResultRow], most: int) -> None:
        """A request leaves a device that may send so many alerts, with these results of its epoch waiting."""
        urgent = sorted((row.counter, serial_of(row)) for row in waiting if row.tier == RiskTier.URGENT)
        alerts = urgent_of(request.alerts)
        once_more = sum(self.is_ahead(serial) and serial in self.again for serial in alerts)
        due = [serial for _, serial in urgent if not self.is_ahead(serial)][: max(0, most - once_more)]
        self.not_ahead |= set(due) - alerts - urgent_of(request.results)

    def took_back_note(self, note: NoteRow) -> None:
        """Somebody deletes a note."""
        self.deleted_serials.add(note_serial(note))
        self.note_names[ResultId(note.device_alias, note.epoch, note.counter)] = note_serial(note)

    def took_back_words(self, row: AnnotationRow) -> None:
        """Somebody deletes these words, and all under that name that are not later, whether or not they were seen."""
        name, until = (row.target, row.author), max(row.rhythm.hlc, row.comment.hlc)
        self.taken_back[name] = max(until, self.taken_back.get(name, 0))
        # What was said under a former enrolment stands under another name than it was said by.
        self.deleted_serials.update(comment_serials([row]))

    def may_be_there_again(self, places: Sequence[ResultId]) -> bool:
        """Whether one result may stand at these places: each was taken by another life of a device that heard of none.

        The first life that takes a second place was turned back twice: to before it lost its counter to another
        result, and to before it gave the result again.
        """
        lives = {self.unheard.get(place, -1) for place in places}
        return -1 not in lives and len(lives) == len(places) and max(lives) > 1

    def may_be_gone(self, serial: int) -> bool:
        """Whether somebody had this comment deleted, or its result."""
        words = self.words.get(serial)
        if words is None or serial in self.deleted_serials:
            return serial in self.deleted_serials
        name = words.pushed_as or words.name
        return name[0] in self.deleted_targets or words.hlc <= self.taken_back.get(name, -1)

    def was_overwritten(self, serial: int, there: Set[int]) -> bool:
        """Whether the author said something else in the place of this comment, having seen it, that is there."""
        words = self.words.get(serial)
        return words is not None and any(
            later in there or self.was_overwritten(later, there) for later in words.overwritten_by
        )

    def is_of_a_lost_history(self, cursor: Cursor) -> bool:
        """Whether the server failed over since, and the device does not know it yet."""
        return any(cursor.shard_epoch <= kept.shard_epoch for kept in self.forks)

    def failed_over(self, kept: Cursor) -> None:
        """The server goes on from there; what went ahead and was lost does so again, and what was not lost may."""
        self.forks.append(kept)
        self.forgot()

    def forgot(self) -> None:
        """A device no longer knows what went ahead."""
        self.again |= self.ahead.keys()

    def said(self, device: int, life: int, row: AnnotationRow, before: Iterable[AnnotationRow]) -> None:
        """Somebody said something on a device.

        Args:
            device: Its number.
            life: Of its files.
            row: What is there now.
            before: What was shown at that result before: words that went along with a result to another place.
        """
        (serial,) = comment_serials([row])
        name, shown = (row.target, row.author), set(comment_serials(before))
        for held, words in self.words.items():
            if words.name[1] == row.author and held in shown:
                words.overwritten_by.add(serial)
            if (words.device, words.life) == (device, life) and (words.name == name or held in shown):
                words.replaced = True
        self.words[serial] = Words(device, life, name, row.comment.hlc)


def comment_serials(rows: Iterable[AnnotationRow]) -> list[int]:
    """Which comments these are; rows without one left out."""
    return [int(row.comment.value.rpartition(" ")[2]) for row in rows if row.comment.value.startswith("comment ")]


def urgent_of(rows: Sequence[ResultRow]) -> set[int]:
    """Serials of urgent results."""
    return {serial_of(row) for row in rows if row.tier == RiskTier.URGENT}
