"""What every adapter of the ``ChangeStore`` port does, seen by devices that keep their own sums."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.contracts.shards import EVENT, NOW_MS, Phone, Shard, memory_shard, postgres_shard, turning_shard

from einthoven_protocol import hlc, merkle
from einthoven_protocol.limits import MAX_NOTES_PER_EXCHANGE
from einthoven_protocol.merge import base_mark
from einthoven_protocol.messages import (
    AnnotationVerdict,
    BucketKind,
    Cursor,
    Digest,
    Document,
    FurtherRegister,
    IdentifiedResult,
    RejectReason,
    RepairRequest,
    ResultId,
    ResultRow,
    RowKind,
    RowVerdict,
    Run,
    Superseded,
    Tombstone,
    VerdictCode,
)
from einthoven_server import postgres_embedded
from einthoven_server.database import Database, connected
from einthoven_server.envelope import PatientKey
from einthoven_server.errors import Conflict, Forbidden, Unauthorized
from einthoven_server.migrations import migrate
from einthoven_server.records.change_store import Bucket, BucketRows, Snapshot
from einthoven_server.records.change_store_memory import MemoryChangeStore
from einthoven_server.records.changes import Annotate, Delete, Give, Nonce, PutDocument, WriteNote
from einthoven_server.sync.pushed_rows import given_rows

HLC = hlc.tick(0, NOW_MS)
ADAPTERS = ("memory", "postgres", "postgres by month")


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("shards")
    folder.chmod(0o700)
    with postgres_embedded.running(folder) as url:
        yield url


async def by_month_url(database_url: str) -> str:
    """A database beside it, where results lie apart by month; the other's lie in one table."""
    connection = await asyncpg.connect(database_url)
    with contextlib.suppress(asyncpg.DuplicateDatabaseError):
        await connection.execute("CREATE DATABASE by_month")
    await connection.close()
    return database_url.replace("/postgres?", "/by_month?")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with connected(database_url) as database:
        await migrate(database, partitions=False)
        yield database


@pytest.fixture(params=ADAPTERS)
async def shard(request: pytest.FixtureRequest) -> AsyncIterator[Shard]:
    if request.param == "memory":
        async with memory_shard() as shard:
            yield shard
        return
    by_month = request.param == "postgres by month"
    url: str = request.getfixturevalue("database_url")
    async with connected(await by_month_url(url) if by_month else url) as database:
        await migrate(database, partitions=by_month)
        async with turning_shard(database) if by_month else postgres_shard(database) as shard:
            yield shard


@pytest.fixture
async def two(shard: Shard) -> tuple[Phone, Phone]:
    """Two phones of one patient, both up to date."""
    patient = shard.new_patient()
    first, second = await shard.new_phone(patient), await shard.new_phone(patient)
    for phone in (first, second):
        await phone.exchange(phone.rows(1, 3))
    for phone in (first, second):
        await phone.catch_up()
    return first, second


def at(steps: int) -> int:
    return HLC + steps


# ---- results ------------------------------------------------------------------------------------------------------


async def test_results_come_to_the_patients_other_devices_and_to_nobody_else(shard: Shard) -> None:
    patient = shard.new_patient()
    first, second, stranger = await shard.new_phone(patient), await shard.new_phone(patient), await shard.new_phone()
    await first.exchange(first.rows(1, 5))
    response = await second.exchange()
    assert [one.row for one in response.results] == list(first.rows(1, 5))
    assert {one.device_alias for one in response.results} == {first.alias}
    assert [owner.device_alias for owner in response.owners] == [first.alias, second.alias]
    second.check()
    assert (await second.exchange()).results == ()
    response = await stranger.exchange()
    assert (response.results, response.digests, len(response.owners)) == ((), (), 1)
    echo = await first.exchange()
    assert (echo.results, echo.owners) == ((), ())


async def test_a_long_backlog_comes_in_pages_and_nothing_is_skipped(shard: Shard) -> None:
    patient = shard.new_patient()
    first, second = await shard.new_phone(patient), await shard.new_phone(patient)
    for begin in (1, 401, 801):
        await first.exchange(
            first.rows(begin, 400), notes=tuple(first.note(n, f"{n}") for n in range(begin, begin + 400))
        )
    pages = 1
    while (await second.exchange()).more:
        pages += 1
    assert pages == 1_200 // MAX_NOTES_PER_EXCHANGE
    second.check()
    assert (len(second.results), len(second.notes)) == (1_200, 1_200)


async def test_a_new_epoch_hears_everything_again(two: tuple[Phone, Phone]) -> None:
    first, _ = two
    await first.exchange(notes=(first.note(1, "own"),))
    again = first.restored(epoch=2)
    await again.catch_up()
    assert (again.results, again.notes) == (first.results, first.notes)


async def test_a_replay_is_a_no_op(two: tuple[Phone, Phone], shard: Shard) -> None:
    first, second = two
    shard.stay()  # a new month moves cursors, though to no row
    request = first.request(
        first.rows(4, 2),
        notes=(first.note(1, "a"),),
        annotations=(first.words(ResultId(second.alias, 1, 1), comment=("c", at(1))),),
        annotation_bases=((0, 0),),
    )
    answers = [await first.send(request) for _ in range(3)]
    assert answers[1].digest == answers[0].digest
    assert answers[2].digests == answers[0].digests
    assert answers[2].cursor == answers[1].cursor == answers[0].cursor
    assert answers[2].notes_acknowledged == 1
    assert answers[2].verdicts == tuple(RowVerdict(n, VerdictCode.DUPLICATE, 0) for n in (4, 5))


async def test_an_alert_goes_ahead_and_is_a_duplicate_in_its_turn(two: tuple[Phone, Phone]) -> None:
    first, second = two
    alert = first.rows(9, 1, tier=3)
    response = await first.exchange(first.rows(4, 1), alerts=alert)
    assert (response.acknowledged, response.verdicts) == (4, ())
    first.check()
    response = await second.catch_up()
    assert ResultId(first.alias, 1, 9) in second.results
    response = await first.exchange((*first.rows(5, 4), *alert))
    assert (response.acknowledged, response.verdicts) == (9, (RowVerdict(9, VerdictCode.DUPLICATE, 0),))
    first.check()
    await second.catch_up()


async def test_an_alert_without_a_good_seal_waits_for_its_turn(two: tuple[Phone, Phone]) -> None:
    first, second = two
    alert = first.rows(9, 1, tier=3)
    response = await first.send(first.request(alerts=alert, seals=(second.seal(alert),)))
    assert (response.acknowledged, response.verdicts, response.digest.count) == (3, (), 3)


async def test_a_second_client_of_before_gets_what_it_got_before(shard: Shard) -> None:
    patient = shard.new_patient()
    old, new = await shard.new_phone(patient), await shard.new_phone(patient)
    old.capabilities = 0
    await new.exchange(new.rows(1, 2), notes=(new.note(1, "n"),))
    response = await old.exchange(old.rows(1, 2))
    assert (response.results, response.notes, response.digests, response.owners) == ((), (), (), ())
    assert (response.capabilities, response.digest.count) == (0, 2)
    target = ResultId(old.alias, 1, 1)
    await new.catch_up()
    await new.exchange(annotations=(new.words(target, comment=("seen", at(1))),), annotation_bases=((0, 0),))
    assert [row.comment.value for row in (await old.exchange()).annotations] == ["seen"]
    with pytest.raises(Forbidden, match="author"):
        await old.exchange(annotations=(old.words(target, comment=("x", at(1))),))
    with pytest.raises(Forbidden, match="another device"):
        await old.exchange(annotations=(old.words(ResultId(new.alias, 1, 1), comment=("x", at(1)), by="device-1"),))


async def test_what_a_newer_version_adds_is_kept_summed_and_forwarded(two: tuple[Phone, Phone]) -> None:
    first, second = two
    extra = ((64, 7), (65, b"of tomorrow"))
    row = first.rows(4, 1, extra=extra)
    note = first.note(1, "n")
    newer = note.__class__(**{name: getattr(note, name) for name in note.__struct_fields__} | {"extra": extra})
    said = first.words(ResultId(second.alias, 1, 1), comment=("c", at(1)))
    further = said.__class__(
        target=said.target,
        author=said.author,
        rhythm=said.rhythm,
        comment=said.comment,
        further=(FurtherRegister(3, at(1), b"?"),),
    )
    await first.exchange(row, notes=(newer,), annotations=(further,), annotation_bases=((0, 0),))
    first.check()
    response = await second.catch_up()
    assert [one.row.extra for one in response.results] == [extra]
    assert [one.extra for one in response.notes] == [extra]
    assert [one.further for one in response.annotations] == [further.further]


# ---- words --------------------------------------------------------------------------------------------------------


async def test_one_field_edits_do_not_echo_and_the_other_field_stays(two: tuple[Phone, Phone]) -> None:
    first, second = two
    target = ResultId(second.alias, 1, 2)
    await first.exchange(annotations=(first.words(target, rhythm=("A", at(1))),), annotation_bases=((0, 0),))
    response = await first.exchange(
        annotations=(first.words(target, comment=("x", at(2))),), annotation_bases=((base_mark(at(1)), 0),)
    )
    assert response.annotations == ()
    first.check()
    (row,) = (await second.catch_up()).annotations
    assert (row.rhythm.value, row.comment.value) == ("A", "x")
    response = await second.exchange(
        annotations=(second.words(target, rhythm=("N", at(5))),),
        annotation_bases=((base_mark(at(1)), base_mark(at(2))),),
    )
    assert (response.annotations, response.superseded) == ((), ())
    second.check()
    assert (await first.catch_up()).superseded == ()


async def test_the_loser_of_a_conflict_is_kept_and_comes_to_both(two: tuple[Phone, Phone]) -> None:
    first, second = two
    target = ResultId(first.alias, 1, 1)
    said = [phone.words(target, comment=(text, at(n))) for phone, text, n in ((first, "mine", 3), (second, "yours", 2))]
    await first.exchange(annotations=(said[0],), annotation_bases=((0, 0),))
    request = second.request(annotations=(said[1],), annotation_bases=((0, 0),))
    response = await second.send(request)
    second.take(request, response)
    lost = Superseded(target, first.device.patient_id, 2, at(2), "yours")
    assert response.superseded == (lost,)
    assert [row.comment.value for row in response.annotations] == ["mine"]
    assert (await second.send(request)).superseded == (lost,)  # a replay adds nothing
    second.check()
    assert (await first.catch_up()).superseded == (lost,)
    # An overtaken write that comes once more does not come back to life, nor does the other way round lose anything.
    third = second.words(target, comment=("later", at(9)))
    await second.exchange(annotations=(third,), annotation_bases=((0, base_mark(at(2))),))
    assert {one.value for one in (await second.exchange()).superseded} | {one.value for one in second.superseded} == {
        "yours",
        "mine",
    }
    await first.catch_up()
    second.check()


async def test_a_write_after_a_lost_answer_is_no_conflict_with_oneself(two: tuple[Phone, Phone]) -> None:
    first, _ = two
    target = ResultId(first.alias, 1, 1)
    await first.send(
        first.request(annotations=(first.words(target, comment=("a", at(1))),), annotation_bases=((0, 0),))
    )
    response = await first.send(
        first.request(annotations=(first.words(target, comment=("b", at(2))),), annotation_bases=((0, 0),))
    )
    assert (response.superseded, response.annotations) == ((), ())


async def test_history_is_kept_but_not_sent(two: tuple[Phone, Phone]) -> None:
    first, second = two
    target = ResultId(first.alias, 1, 1)
    base = 0
    for n in range(1, 4):
        await first.exchange(
            annotations=(first.words(target, comment=(f"v{n}", at(n))),), annotation_bases=((0, base_mark(base)),)
        )
        base = at(n)
    first.check()
    assert (await second.catch_up()).superseded == ()
    # A stale write that was overtaken in sequence is known, and no conflict.
    stale = second.words(target, comment=("v1", at(1)))
    response = await second.exchange(annotations=(stale,), annotation_bases=((0, 0),))
    assert response.superseded == ()
    second.check()


async def test_bad_words_are_refused_one_by_one(two: tuple[Phone, Phone], shard: Shard) -> None:
    first, second = two
    stranger = await shard.new_phone()
    ahead = hlc.tick(0, NOW_MS + 5 * 60_000 + 1_000)
    good, skewed = (ResultId(first.alias, 1, n) for n in (1, 2))
    foreign = ResultId(stranger.alias, 1, 1)
    response = await first.exchange(
        annotations=(
            first.words(good, comment=("fine", at(1))),
            first.words(skewed, comment=("ahead", ahead)),
            first.words(foreign, comment=("whose?", at(1))),
            first.words(good, comment=("forged", at(1)), by=second.device.device_id),
        ),
        annotation_bases=((0, 0),) * 4,
    )
    assert {(one.counter, one.author, one.reason) for one in response.refused} == {
        (2, first.device.patient_id, RejectReason.CLOCK_SKEW),
        (1, first.device.patient_id, RejectReason.UNKNOWN_TARGET),
        (1, second.device.device_id, RejectReason.NOT_ALLOWED),
    }
    assert response.digest.count == 4


async def test_a_clinicians_words_come_to_all(two: tuple[Phone, Phone], shard: Shard) -> None:
    first, second = two
    change = Annotate(first.device, ResultId(first.alias, 1, 1), "clinician", "N", "artefact", EVENT, NOW_MS)
    row = await shard.writer.annotate(change)
    for phone in two:
        assert (await phone.catch_up()).annotations == (row,)
    again = await shard.writer.annotate(
        Annotate(first.device, ResultId(first.alias, 1, 1), "clinician", None, "no", EVENT, NOW_MS)
    )
    assert (again.rhythm, again.comment.value) == (row.rhythm, "no")
    await second.catch_up()


# ---- notes --------------------------------------------------------------------------------------------------------


async def test_notes_have_a_log_of_their_own(two: tuple[Phone, Phone]) -> None:
    first, second = two
    notes = tuple(first.note(n, f"note {n}") for n in (1, 2))
    response = await first.exchange(notes=notes)
    assert (response.notes_acknowledged, response.acknowledged, response.notes) == (2, 3, ())
    assert (await second.catch_up()).notes == notes
    with pytest.raises(Conflict, match="notes 3 to 4"):
        await first.send(first.request(notes=(first.note(5, "gap"),)))
    response = await first.exchange(
        notes=(first.note(2, "other words"), first.note(3, "third"), first.note(4, "x", author="a stranger"))
    )
    assert response.notes_acknowledged == 4
    assert response.refused == (
        AnnotationVerdict(RowKind.NOTE, first.alias, 1, 2, "", RejectReason.CONFLICTS_WITH_STORED),
        AnnotationVerdict(RowKind.NOTE, first.alias, 1, 4, "", RejectReason.NOT_ALLOWED),
    )
    first.notes[ResultId(first.alias, 1, 2)] = notes[1]
    first.check()
    await second.catch_up()


async def test_the_servers_notes_are_summed_under_every_readers_key(two: tuple[Phone, Phone], shard: Shard) -> None:
    first, _ = two
    key = first.device.patient_key
    written = [
        await shard.writer.note(WriteNote(key.patient, key, "clinician", NOW_MS, text, EVENT, NOW_MS))
        for text in ("come on Monday", "bring the strap")
    ]
    assert [(note.device_alias, note.epoch) for note in written] == [(0, 1)] * 2
    for phone in two:
        assert (await phone.catch_up()).notes == tuple(written)
    third = await shard.new_phone(key)  # enrolled after they were written
    await third.catch_up()
    gone = Tombstone(RowKind.NOTE, 0, 1, written[0].counter)
    assert await shard.writer.delete(Delete(key.patient, key, (gone,), EVENT, NOW_MS)) == (gone,)
    for phone in (*two, third):
        assert (await phone.catch_up()).tombstones == (gone,)
        assert len(phone.notes) == 1
    stranger = await shard.new_phone()
    assert (await stranger.catch_up()).notes == ()


# ---- deletions ----------------------------------------------------------------------------------------------------


async def test_a_deleted_note_is_gone_everywhere_and_does_not_come_back(two: tuple[Phone, Phone]) -> None:
    first, second = two
    note, gone = first.note(1, "private"), Tombstone(RowKind.NOTE, first.alias, 1, 1)
    await first.exchange(notes=(note,))
    await second.catch_up()
    response = await first.exchange(deletions=(gone,))
    assert response.refused == ()
    first.check()
    await second.catch_up()
    assert second.notes == {}
    response = await first.exchange(notes=(note,), deletions=(gone,))
    assert [one.reason for one in response.refused] == [RejectReason.DELETED]
    first.check()


async def test_only_own_words_may_be_deleted(two: tuple[Phone, Phone], shard: Shard) -> None:
    first, second = two
    stranger = await shard.new_phone()
    await second.exchange(notes=(second.note(1, "hers"), second.note(2, "ours", author=second.device.patient_id)))
    await stranger.exchange(notes=(stranger.note(1, "not yours"),))
    own_result, patient_id = ResultId(first.alias, 1, 1), first.device.patient_id
    response = await first.exchange(
        deletions=(
            Tombstone(RowKind.NOTE, second.alias, 1, 1),
            Tombstone(RowKind.NOTE, second.alias, 1, 2),
            Tombstone(RowKind.NOTE, stranger.alias, 1, 1),
            Tombstone(RowKind.RESULT, own_result.device_alias, 1, 1),
            Tombstone(RowKind.ANNOTATION, first.alias, 1, 1, second.device.device_id),
            Tombstone(RowKind.ANNOTATION, stranger.alias, 1, 1, patient_id),
            Tombstone(99, first.alias, 1, 1),
        )
    )
    assert [(one.kind, one.device_alias, one.counter, one.reason) for one in response.refused] == [
        (RowKind.NOTE, second.alias, 1, RejectReason.NOT_ALLOWED),
        (RowKind.NOTE, stranger.alias, 1, RejectReason.UNKNOWN_TARGET),
        (RowKind.RESULT, first.alias, 1, RejectReason.NOT_ALLOWED),
        (RowKind.ANNOTATION, first.alias, 1, RejectReason.NOT_ALLOWED),
        (RowKind.ANNOTATION, stranger.alias, 1, RejectReason.UNKNOWN_TARGET),
        (99, first.alias, 1, RejectReason.NOT_ALLOWED),
    ]
    await first.catch_up()
    assert list(first.notes) == [ResultId(second.alias, 1, 1)]
    assert (await stranger.exchange()).tombstones == ()


async def test_deleted_words_stay_deleted_until_written_anew(two: tuple[Phone, Phone]) -> None:
    first, second = two
    target = ResultId(second.alias, 1, 1)
    gone = Tombstone(RowKind.ANNOTATION, *_parts(target), first.device.patient_id)
    early, late = (first.words(target, comment=(text, at(n))) for text, n in (("early", 1), ("late", 9)))
    for text, n in (("x", 2), ("y", 3)):  # a conflict, whose loser goes with the words
        phone = (first, second)[n - 2]
        said = phone.words(target, comment=(text, at(n)))
        await phone.exchange(annotations=(said,), annotation_bases=((0, 0),))
    await first.catch_up()
    assert first.superseded
    await first.exchange(deletions=(gone,))
    first.check()
    await second.catch_up()
    assert (second.annotations, second.superseded) == ({}, set())
    refused = (await first.exchange(annotations=(early,), annotation_bases=((0, 0),))).refused
    assert [one.reason for one in refused] == [RejectReason.DELETED]
    request = first.request(annotations=(late,), annotation_bases=((0, 0),), deletions=(gone,))
    for _ in range(2):  # the answer is lost, and it is sent again
        response = await first.send(request)
        assert response.refused == ()
    first.take(request, response)
    assert (await second.catch_up()).annotations == (late,)
    await first.catch_up()
    assert first.annotations == {(target, first.device.patient_id): late}


async def test_a_deletion_spares_the_field_that_was_written_after_it(two: tuple[Phone, Phone]) -> None:
    first, _ = two
    target = ResultId(first.alias, 1, 1)
    gone = Tombstone(RowKind.ANNOTATION, *_parts(target), first.device.patient_id)
    said = first.words(target, rhythm=("A", at(1)), comment=("a", at(7)))
    await first.exchange(annotations=(said,), annotation_bases=((0, 0),))
    later = first.words(target, comment=("b", at(5)))
    response = await first.send(first.request(annotations=(later,), annotation_bases=((0, 0),), deletions=(gone,)))
    (row,) = (await first.send(first.request())).annotations
    assert (row.rhythm.value, row.comment.value, response.refused) == ("", "a", ())


async def test_of_words_that_are_partly_deleted_the_rest_is_taken_and_comes_down(two: tuple[Phone, Phone]) -> None:
    first, _ = two
    target = ResultId(first.alias, 1, 1)
    gone = Tombstone(RowKind.ANNOTATION, *_parts(target), first.device.patient_id, at(1))
    early = first.words(target, comment=("early", at(1)))
    await first.exchange(annotations=(early,), annotation_bases=((0, 0),))
    await first.exchange(deletions=(gone,))
    request = first.request(
        annotations=(first.words(target, rhythm=("N", at(2)), comment=("early", at(1))),), annotation_bases=((0, 0),)
    )

    for _ in range(2):  # the answer is lost, and it is sent again
        response = await first.send(request)
        assert [one.reason for one in response.refused] == [RejectReason.DELETED]
        assert response.annotations == (first.words(target, rhythm=("N", at(2))),)

    first.take(request, response)
    assert (await first.exchange()).annotations == ()
    first.check()


async def test_what_was_taken_before_a_deletion_comes_down_if_its_answer_was_lost(two: tuple[Phone, Phone]) -> None:
    """The device pushes all of it again, hears that it was deleted, and yet a part of it is held."""
    first, second = two
    target, author = ResultId(first.alias, 1, 1), first.device.patient_id
    gone = Tombstone(RowKind.ANNOTATION, *_parts(target), author, at(1))
    late = first.words(target, rhythm=("N", at(2)))
    await second.exchange(annotations=(second.words(target, comment=("early", at(1))),), annotation_bases=((0, 0),))
    await second.exchange(deletions=(gone,))
    await first.send(first.request(annotations=(late,), annotation_bases=((0, 0),)))
    both = first.words(target, rhythm=("N", at(2)), comment=("mine", at(1)))

    response = await first.send(first.request(annotations=(both,), annotation_bases=((0, 0),)))

    assert [one.reason for one in response.refused] == [RejectReason.DELETED]
    assert response.annotations == (late,)


async def test_a_deletion_takes_along_what_was_overtaken_though_what_overtook_it_stays(
    two: tuple[Phone, Phone],
) -> None:
    """The patient takes back on one phone what was said anew on the other: the old words are not to stay as a loser."""
    first, second = two
    target, author = ResultId(first.alias, 1, 1), first.device.patient_id
    gone = Tombstone(RowKind.ANNOTATION, *_parts(target), author, at(2))
    early, mine, late = (first.words(target, comment=(text, at(n))) for text, n in (("a", 1), ("b", 2), ("c", 9)))
    await second.exchange(annotations=(early,), annotation_bases=((0, 0),))
    await first.exchange(annotations=(mine,), annotation_bases=((0, 0),))
    await second.exchange(annotations=(late,), annotation_bases=((base_mark(at(1)), 0),))
    await second.catch_up()
    assert {one.value for one in second.superseded} == {"a", "b"}

    for _ in range(2):
        await first.send(first.request(deletions=(gone,)))

    response = await second.catch_up()
    assert (response.tombstones, second.superseded) == ((gone,), set())
    assert second.annotations == {(target, author): late}
    second.check()
    refused = (await second.send(second.request(annotations=(early,), annotation_bases=((0, 0),)))).refused
    assert [one.reason for one in refused] == [RejectReason.DELETED]


async def test_a_deletion_that_comes_late_spares_what_was_said_since(two: tuple[Phone, Phone]) -> None:
    first, second = two
    target, author = ResultId(first.alias, 1, 1), first.device.patient_id
    early, late = (first.words(target, comment=(text, at(n))) for text, n in (("early", 1), ("late", 9)))
    gone = Tombstone(RowKind.ANNOTATION, *_parts(target), author, at(1))
    await first.exchange(annotations=(early,), annotation_bases=((0, 0),))
    await first.exchange(deletions=(gone,))
    await first.exchange(annotations=(late,), annotation_bases=((0, 0),))
    await first.send(first.request(deletions=(gone,)))
    response = await second.catch_up()
    assert (response.annotations, response.tombstones) == ((late,), (gone,))
    assert second.annotations == {(target, author): late}


async def test_a_deleted_result_takes_along_what_was_said_of_it(two: tuple[Phone, Phone], shard: Shard) -> None:
    first, second = two
    target, key = ResultId(first.alias, 1, 2), first.device.patient_key
    for phone, n in ((first, 2), (second, 3)):
        said = phone.words(target, comment=(f"{n}", at(n)))
        await phone.exchange(annotations=(said,), annotation_bases=((0, 0),))
    gone = Tombstone(RowKind.RESULT, *_parts(target))
    change = Delete(key.patient, key, (gone, Tombstone(RowKind.RESULT, first.alias, 1, 99)), EVENT, NOW_MS)
    assert await shard.writer.delete(change) == (gone,)
    assert await shard.writer.delete(change) == ()
    for phone in two:
        assert (await phone.catch_up()).tombstones == (gone,)
        assert target not in phone.results
        assert (phone.annotations, phone.superseded) == ({}, set())
    response = await first.send(first.request(first.rows(1, 3)))
    assert response.verdicts == (
        RowVerdict(1, VerdictCode.DUPLICATE, 0),
        RowVerdict(2, VerdictCode.REJECTED, RejectReason.DELETED),
        RowVerdict(3, VerdictCode.DUPLICATE, 0),
    )
    said = second.words(target, comment=("too late", at(20)))
    refused = (await second.exchange(annotations=(said,), annotation_bases=((0, 0),))).refused
    assert [one.reason for one in refused] == [RejectReason.DELETED]
    second.check()


async def test_tombstones_go_when_all_have_read_them_and_the_late_start_over(shard: Shard) -> None:
    patient = shard.new_patient()
    first, second, lost = [await shard.new_phone(patient) for _ in range(3)]
    for phone in (first, second, lost):
        await phone.exchange(notes=(phone.note(1, "n"),))
    for phone in (first, second, lost):
        await phone.catch_up()
    await first.exchange(deletions=(Tombstone(RowKind.NOTE, first.alias, 1, 1),))
    await first.catch_up()
    await first.catch_up()
    await second.catch_up()
    assert await shard.store.collect_tombstones(NOW_MS) == 0  # second has not said that it read it
    await second.catch_up()
    assert await shard.store.collect_tombstones(NOW_MS) == 0  # the third has not read it
    await shard.enrolment.revoke(lost.device)
    assert await shard.store.collect_tombstones(NOW_MS) == 1
    assert await shard.store.collect_tombstones(NOW_MS) == 0
    assert not (await second.exchange()).rebaseline
    second.cursor = Cursor(1, 1)
    response = await second.exchange()
    assert response.rebaseline
    assert not (await second.exchange()).rebaseline


async def test_old_tombstones_go_whoever_has_not_read_them(two: tuple[Phone, Phone], shard: Shard) -> None:
    first, second = two
    await first.exchange(notes=(first.note(1, "n"),))
    await second.catch_up()
    await first.exchange(deletions=(Tombstone(RowKind.NOTE, first.alias, 1, 1),))
    day_ms = 24 * 3600 * 1000
    assert await shard.store.collect_tombstones(NOW_MS + 180 * day_ms) == 0
    assert await shard.store.collect_tombstones(NOW_MS + 180 * day_ms + 1) == 1
    response = await second.exchange()
    assert response.rebaseline
    assert response.tombstones == ()


# ---- documents, refusals ------------------------------------------------------------------------------------------


async def test_documents_come_to_whom_they_are_for(two: tuple[Phone, Phone], shard: Shard) -> None:
    first, _ = two
    key, stranger = first.device.patient_key, await shard.new_phone()

    async def put(patient_id: str, name: str, version: int) -> Document:
        document = Document(name=name, version=version, issued_at_ms=NOW_MS, body=b"{}" * version, signature=b"s")
        owner = key if patient_id else None
        return await shard.writer.put_document(PutDocument(patient_id, owner, document, EVENT, NOW_MS))

    for_all, own = await put("", "settings/a", 1), await put(key.patient, "consents/b", 1)
    assert set((await first.catch_up()).documents) == {for_all, own}
    assert set((await stranger.catch_up()).documents) == {for_all}
    newer = await put("", "settings/a", 2)
    assert (await first.catch_up()).documents == (newer,)
    for version in (1, 2, 4):
        with pytest.raises(Conflict, match="version"):
            await put("", "settings/a", version)


async def test_a_documents_name_is_the_tenants_or_patients_but_never_both(
    two: tuple[Phone, Phone], shard: Shard
) -> None:
    first, _ = two
    key, other = first.device.patient_key, (await shard.new_phone()).device.patient_key

    def put(owner: PatientKey | None, name: str) -> Coroutine[Any, Any, Document]:
        document = Document(name=name, version=1, issued_at_ms=NOW_MS, body=b"{}", signature=b"s")
        whose = "" if owner is None else owner.patient
        return shard.writer.put_document(PutDocument(whose, owner, document, EVENT, NOW_MS))

    await put(key, "consents/held")
    await put(None, "settings/held")
    await put(other, "consents/held")
    for late in (put(None, "consents/held"), put(other, "settings/held")):
        with pytest.raises(Conflict, match="devices tell them apart"):
            await late
    # Of two that are put at once, in one batch, the queue says which comes first.
    for name in ("settings/new", "consents/new"):
        outcomes = await asyncio.gather(put(None, name), put(key, name), return_exceptions=True)
        assert sorted(one.code if isinstance(one, Conflict) else "" for one in outcomes) == ["", "name_taken"]


async def test_refusals_write_nothing(two: tuple[Phone, Phone], shard: Shard) -> None:
    first, second = two
    shard.stay()  # in a new month no cursor of before is ahead
    before = await first.catch_up()
    request = first.request(first.rows(4, 1))
    nonce = Nonce("the same", NOW_MS * 2)
    await shard.service.exchange(first.device, first.request(), nonce, EVENT)
    with pytest.raises(Unauthorized, match="seen before"):
        await shard.service.exchange(first.device, request, nonce, EVENT)
    with pytest.raises(Conflict, match="never pushed"):
        await first.send(first.request(first.rows(9, 1)))
    with pytest.raises(Conflict, match="further"):
        await first.send(first.request(first.rows(4, 1), cursor=Cursor(1, 2**40)))
    with pytest.raises(Forbidden):
        await first.send(first.request(device_alias=second.alias))
    await shard.enrolment.revoke(first.device)
    with pytest.raises(Unauthorized, match="revoked"):
        await first.send(request)
    response = await second.exchange()
    assert response.cursor == before.cursor
    await shard.enrolment.revoke(second.device)


# ---- repair -------------------------------------------------------------------------------------------------------


def given_request(phone: Phone, rows: tuple[IdentifiedResult, ...], signer: Phone) -> RepairRequest:
    signature = signer.private.sign(merkle.given_message(phone.alias, rows, bytes(32)))
    return RepairRequest(
        device_alias=phone.alias,
        owner=phone.alias,
        kind=BucketKind.RECORDS,
        given=rows,
        segments_root=bytes(32),
        signature=signature,
    )


async def test_what_was_deleted_does_not_come_back_though_its_tombstone_was_collected(
    two: tuple[Phone, Phone], shard: Shard
) -> None:
    first, second = two
    key, rows, note = first.device.patient_key, first.rows(1, 1), first.note(1, "n")
    await first.exchange(notes=(note,))
    gone = (Tombstone(RowKind.RESULT, first.alias, 1, 1), Tombstone(RowKind.NOTE, first.alias, 1, 1))
    await shard.writer.delete(Delete(key.patient, key, gone, EVENT, NOW_MS))
    for phone in (first, second, first, second):
        await phone.catch_up()
    assert await shard.store.collect_tombstones(NOW_MS) == 2

    request = given_request(first, (IdentifiedResult(device_alias=first.alias, epoch=1, row=rows[0]),), first)
    made = given_rows(shard.store, first.device, request, NOW_MS)
    assert await shard.writer.give(Give(first.device, made, EVENT, NOW_MS)) == (VerdictCode.REJECTED,)
    response = await first.exchange(notes=(note,))
    assert [said.reason for said in response.refused] == [RejectReason.DELETED]
    pushed = await first.send(first.request(rows))
    assert [(said.code, said.reason) for said in pushed.verdicts] == [(VerdictCode.REJECTED, RejectReason.DELETED)]
    late = await shard.new_phone(key)
    assert (await late.exchange()).tombstones == ()


async def test_what_a_device_gives_back_is_stored_once(two: tuple[Phone, Phone], shard: Shard) -> None:
    first, second = two
    key = first.device.patient_key
    # Rows are lost as no server loses them: there is a mark, and nothing under it.
    gone = tuple(Tombstone(RowKind.RESULT, first.alias, 1, n) for n in (2, 3))
    await shard.writer.delete(Delete(key.patient, key, gone, EVENT, NOW_MS))
    await first.catch_up()
    await second.catch_up()
    await first.catch_up()
    await second.catch_up()
    await shard.enrolment.lose_tombstones()

    def named(*rows: ResultRow) -> tuple[IdentifiedResult, ...]:
        return tuple(IdentifiedResult(device_alias=first.alias, epoch=1, row=row) for row in rows)

    rows = named(*first.rows(1, 3), *first.rows(7, 1))

    async def give(request: RepairRequest) -> tuple[int, ...]:
        made = given_rows(shard.store, first.device, request, NOW_MS)
        return await shard.writer.give(Give(first.device, made, EVENT, NOW_MS))

    assert await give(given_request(first, rows, second)) == (1, 2, 2, 2)
    assert await give(given_request(first, rows, first)) == (1, 0, 0, 0)
    assert await give(given_request(first, rows, first)) == (1, 1, 1, 1)
    response = await second.catch_up()
    assert [one.row.counter for one in response.results] == [2, 3, 7]
    answer = await first.exchange()
    assert (answer.digest.count, answer.acknowledged) == (4, 7), "a mark that was lost comes back with the row"


async def test_a_repair_reads_shares_and_rows_of_one_moment(two: tuple[Phone, Phone], shard: Shard) -> None:
    first, second = two
    key = first.device.patient_key
    await shard.writer.note(WriteNote(key.patient, key, "clinician", NOW_MS, "hello", EVENT, NOW_MS))
    await first.exchange(notes=tuple(first.note(n, f"{n}") for n in (1, 2)))
    for phone, n in ((first, 2), (second, 3)):
        for counter in (1, 2):
            said = phone.words(ResultId(first.alias, 1, counter), comment=(f"{n}", at(n)))
            await phone.exchange(annotations=(said,), annotation_bases=((0, 0),))
    await first.catch_up()
    await second.catch_up()

    async def look(snapshot: Snapshot) -> None:
        assert await snapshot.position() == second.cursor
        patient = await snapshot.patient(key.patient, key)
        assert {owner.device_alias: owner.sync_key for owner in patient.owners} == second.owners
        for (owner, kind), digest in (await snapshot.digests(second.device)).items():
            bucket = Bucket(second.device, owner, kind)
            shares = await snapshot.shares(bucket)
            assert digest == second.sums()[owner, kind]
            total = sum(int.from_bytes(share.tobytes(), "big") for share in shares.shares)
            assert Digest(len(shares.shares), total % 2**128) == digest
            assert len(shares.results) + len(shares.others) == len(shares.shares)
            rows = await snapshot.rows(bucket, [(1, 2), (1, 2), (9, 9)], shares.others[1:])
            assert len(rows.results) == (kind == BucketKind.RECORDS)
            assert _others(rows) == _others(await snapshot.page(bucket, 1, 100))
            assert len(_others(rows)) == max(0, len(shares.others) - 1)
        records = Bucket(second.device, first.alias, BucketKind.RECORDS)
        runs = [Run(1, 2, 3), Run(1, 1, 2), Run(2, 1, 9)]
        assert [one.row.counter for one in await snapshot.runs(records, runs, 2)] == [1, 2]
        assert [one.row.counter for one in await snapshot.runs(records, runs, 9)] == [1, 2, 3]
        others = (await snapshot.shares(Bucket(second.device, first.alias, BucketKind.WORDS))).others
        assert [key[0] for key in others] == [RowKind.NOTE, RowKind.NOTE, None, None]

    await shard.store.read(look)


async def test_a_repair_sees_no_bucket_of_another_patient(two: tuple[Phone, Phone], shard: Shard) -> None:
    first, _ = two
    stranger = await shard.new_phone()

    async def look(snapshot: Snapshot) -> None:
        for kind in BucketKind:
            bucket = Bucket(stranger.device, first.alias, kind)
            assert len((await snapshot.shares(bucket)).shares) == 0
            assert await snapshot.rows(bucket, [(1, 1)], ()) == BucketRows()
            assert await snapshot.runs(bucket, [Run(1, 1, 9)], 9) == ()

    await shard.store.read(look)


# ---- a history that was set back ----------------------------------------------------------------------------------


async def test_a_shard_that_was_set_back_says_so() -> None:
    async with memory_shard() as shard:
        store, patient = shard.store, shard.new_patient()
        assert isinstance(store, MemoryChangeStore)
        first, second = await shard.new_phone(patient), await shard.new_phone(patient)
        await first.exchange(first.rows(1, 3))
        earlier = store.saved()
        await first.exchange(first.rows(4, 3))
        await second.catch_up()
        store.fork_history(earlier)
        response = await first.exchange(first.rows(7, 1))  # a gap is no fault of the device now
        assert (response.acknowledged, response.cursor.shard_epoch) == (3, 2)
        response = await first.exchange(first.rows(4, 4))
        assert (response.acknowledged, response.verdicts) == (7, ())
        response = await second.exchange()
        assert len(response.results) == 7
        assert response.cursor.shard_epoch == 2


# ---- both at once -------------------------------------------------------------------------------------------------


def _parts(target: ResultId) -> tuple[int, int, int]:
    return target.device_alias, target.epoch, target.counter


def _others(rows: BucketRows) -> list[object]:
    return [*rows.annotations, *rows.notes, *rows.superseded]


async def _live(phones: list[Phone], steps: int, seed: int) -> list[tuple[Any, ...]]:
    """A life by chance; what the devices heard, and what they ended with."""
    chance, clock = random.Random(seed), 0
    heard: list[tuple[Any, ...]] = []
    results, notes = dict.fromkeys(range(len(phones)), 0), dict.fromkeys(range(len(phones)), 0)
    for _ in range(steps):
        place = chance.randrange(len(phones))
        phone, clock = phones[place], clock + 1
        changes: dict[str, Any] = {}
        rows: tuple[ResultRow, ...] = ()
        if chance.random() < 0.4:
            rows = phone.rows(results[place] + 1, chance.randrange(1, 4), usable_s=chance.randrange(3))
        if chance.random() < 0.4:
            changes["notes"] = (phone.note(notes[place] + 1, str(clock)),)
        if chance.random() < 0.6 and phone.results:
            target = chance.choice(sorted(phone.results)[:3])
            author = chance.choice(["", "", phone.device.device_id])
            said = phone.words(target, comment=(chance.choice("ab"), at(clock - chance.randrange(9))), by=author)
            held = phone.annotations.get((target, said.author))
            known = base_mark(held.comment.hlc) if held is not None else 0
            changes |= {"annotations": (said,), "annotation_bases": ((0, known),)}
        if chance.random() < 0.2 and phone.notes:
            changes["deletions"] = (Tombstone(RowKind.NOTE, *_parts(chance.choice(sorted(phone.notes)))),)
        elif chance.random() < 0.2 and phone.annotations:
            target, author = chance.choice(sorted(phone.annotations))
            changes["deletions"] = (Tombstone(RowKind.ANNOTATION, *_parts(target), author),)
        response = await phone.exchange(rows, **changes)
        results[place], notes[place] = max(results[place], response.acknowledged), response.notes_acknowledged
        heard.append((response.verdicts, response.refused, response.superseded, response.tombstones, response.notes))
    for phone in phones:
        phone.cursor, phone.epoch = Cursor(0, 0), phone.epoch + 1
        fresh = phone.restored(phone.epoch)
        await fresh.catch_up()
        heard.append((fresh.results, fresh.annotations, fresh.notes, fresh.superseded))
    return heard


@pytest.mark.parametrize("seed", range(8))
async def test_the_memory_store_is_the_oracle_of_the_other(database: Database, seed: int) -> None:
    told: list[list[tuple[Any, ...]]] = []
    async with memory_shard() as memory, postgres_shard(database) as postgres:
        for shard in (memory, postgres):
            patient = shard.new_patient()
            patient.patient = "p"  # names alike on both, so that what is heard compares
            told.append(await _live([await shard.new_phone(patient) for _ in range(3)], 60, seed))
    assert told[0] == told[1]
    assert any(said for _, _, said, *_ in told[0][:60]), "no conflict in this life"
