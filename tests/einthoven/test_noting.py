"""The patient's diary: what is kept, under which name, and what is refused in one line."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven.test_sync_feed import CLOCK, a_device, a_server, run
from tests.einthoven.test_syncing import IDENTITY, NOW

from einthoven.errors import InputError, NotEnrolled
from einthoven.noting import add_note, delete_note, list_notes, note_name, parse_note_name
from einthoven.store_memory import MemoryStore
from einthoven_protocol import limits
from einthoven_protocol.messages import NoteRow, RowKind, Tombstone


def test_a_note_is_the_patients_and_keeps_its_name_from_the_moment_it_is_written() -> None:
    store = a_device()
    note = add_note(store, "slept badly", clock=CLOCK)
    assert (note.author, note.at_ms, note.text) == (IDENTITY.patient_id, NOW, "slept badly")
    assert note_name(note) == "7-1-1"
    assert list_notes(store, 0, NOW) == [note]
    assert note_name(add_note(store, "felt dizzy", at_ms=5)) == "7-1-2"


async def test_a_name_is_the_same_after_the_first_sync() -> None:
    store, server = a_device(), a_server()
    note = add_note(store, "slept badly", clock=CLOCK)
    await run(store, server)
    assert list_notes(store, 0, NOW) == [note]


@pytest.mark.parametrize("synced", [False, True])
async def test_a_note_is_deleted_by_its_name_before_and_after_it_was_sent(synced: bool) -> None:
    store, server = a_device(), a_server()
    note = add_note(store, "slept badly", clock=CLOCK)
    if synced:
        await run(store, server)
    delete_note(store, note_name(note))
    assert list_notes(store, 0, NOW) == []
    with pytest.raises(InputError):
        delete_note(store, note_name(note))


async def test_a_note_of_another_device_is_deleted_there() -> None:
    store, server = a_device(), a_server()
    theirs = NoteRow(device_alias=8, epoch=1, counter=1, author="p", at_ms=NOW, text="mine")
    server.put(8, 1, theirs)
    await run(store, server)
    with pytest.raises(InputError, match="not written on this device") as caught:
        delete_note(store, note_name(theirs))
    assert "mine" not in str(caught.value)
    assert list_notes(store, 0, NOW) == [theirs]


@pytest.mark.parametrize(
    "text", ["", "  \n", "null\0byte", "\ud800", "x" * (limits.MAX_NOTE_CHARACTERS + 1)], ids=range(5)
)
def test_what_can_not_be_kept_is_refused(text: str) -> None:
    store = a_device()
    with pytest.raises(InputError):
        add_note(store, text, clock=CLOCK)
    assert list_notes(store, 0, NOW) == []


def test_the_longest_note_is_kept() -> None:
    store = a_device()
    assert len(add_note(store, "x" * limits.MAX_NOTE_CHARACTERS, clock=CLOCK).text) == limits.MAX_NOTE_CHARACTERS


@pytest.mark.parametrize("at_ms", [-1, limits.MAX_TIME_MS + 1])
def test_a_moment_that_can_not_be_is_refused(at_ms: int) -> None:
    with pytest.raises(InputError, match="moment"):
        add_note(a_device(), "slept badly", at_ms=at_ms)


def test_without_an_enrolment_the_patient_has_no_name() -> None:
    for act in (
        lambda store: add_note(store, "slept badly"),
        lambda store: delete_note(store, "7-1-1"),
        lambda store: list_notes(store, 0, 1),
    ):
        with pytest.raises(NotEnrolled):
            act(MemoryStore())


numbers = st.integers(1, limits.MAX_COUNTER)


@given(st.integers(0, limits.MAX_DEVICE_ALIAS), numbers, numbers)
def test_a_name_reads_back(alias: int, epoch: int, counter: int) -> None:
    note = NoteRow(device_alias=alias, epoch=epoch, counter=counter, author="p", at_ms=0, text="")
    assert parse_note_name(note_name(note)) == Tombstone(RowKind.NOTE, alias, epoch, counter)


@pytest.mark.parametrize(
    "name", ["", "7-1", "7-1-1-1", "7-0-1", "07-1-1", "7-1-x", "7--1-1", f"7-1-{2**31}", "7-1-1\n", "\N{SNOWMAN}"]
)
def test_what_is_no_name_is_said_to_be_none(name: str) -> None:
    with pytest.raises(InputError, match="no note's name"):
        parse_note_name(name)


@given(st.text(max_size=30))
def test_no_text_is_worse_than_no_name(text: str) -> None:
    try:
        row = parse_note_name(text)
    except InputError:
        return
    assert msgspec.structs.astuple(row)[0] == RowKind.NOTE
