"""The patient's diary: notes written on this device, sent with the next sync, seen on the patient's other devices.

A note is added, never changed, and gone only when it is deleted where it was written. It deliberately judges nothing of
what is said, and keeps no text outside the store.

Invariants:
    1. A note is the patient's, not the device's: its author is the patient's opaque id, so that it reads the same on
       every device.
    2. A note keeps its name from the moment it is written.
    3. ``note_name`` and ``parse_note_name`` are each other's inverse.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from einthoven.clock import SystemClock
from einthoven.errors import InputError
from einthoven.identity import Identity, load_identity
from einthoven.ports import Clock, Store
from einthoven_protocol import limits
from einthoven_protocol.messages import NoteRow, RowKind, Tombstone

_NAME: Final = re.compile(r"(0|[1-9][0-9]{0,9})-([1-9][0-9]{0,9})-([1-9][0-9]{0,9})", re.ASCII)


def add_note(store: Store, text: str, *, at_ms: int | None = None, clock: Clock | None = None) -> NoteRow:
    """Write a note of the diary; it waits for the next sync with a server that takes notes.

    Args:
        store: An enrolled device's store.
        text: At most ``limits.MAX_NOTE_CHARACTERS`` characters.
        at_ms: What moment it speaks of, UTC, ms since 1970; now, if not given.
        clock: Tells now; the system's, if not given.

    Raises:
        NotEnrolled: The store belongs to no server yet, so the patient has no name.
        InputError: No text, text that is too long or can't be kept, or a moment that can't be.
        StoreError: The store can't keep it.
    """
    identity = load_identity(store)
    if not text.strip() or "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError("the note is empty or holds characters that can't be kept", "write some text")
    if len(text) > limits.MAX_NOTE_CHARACTERS:
        raise InputError("the note is too long", f"use at most {limits.MAX_NOTE_CHARACTERS} characters")
    moment_ms = (clock or SystemClock()).now_ms() if at_ms is None else at_ms
    if not 0 <= moment_ms <= limits.MAX_TIME_MS:
        raise InputError("the note speaks of a moment that can't be", "give one since 1970")
    return _under_own_alias(store, identity, store.add_note(identity.patient_id, text, at_ms=moment_ms))


def list_notes(store: Store, first_ms: int, last_ms: int, *, limit: int = 1_000) -> list[NoteRow]:
    """Return notes of all the patient's devices that speak of [first_ms, last_ms], in order of that moment.

    Raises:
        NotEnrolled: The store belongs to no server yet.
        StoreError: They can't be read.
    """
    identity = load_identity(store)
    return [_under_own_alias(store, identity, note) for note in store.notes(first_ms, last_ms, limit=limit)]


def delete_note(store: Store, name: str) -> None:
    """Remove a note that was written on this device, here and with the next sync everywhere.

    Args:
        store: An enrolled device's store.
        name: Which one, as ``note_name`` gave it.

    Raises:
        NotEnrolled: The store belongs to no server yet.
        InputError: There is no such note here, or it was written elsewhere.
        StoreError: The store can't remove it.
    """
    identity = load_identity(store)
    row = parse_note_name(name)
    if row.device_alias != identity.device_alias:
        raise InputError("that note was not written on this device", "delete it where it was written")
    store.delete(row if _alias_is_known(store) else msgspec.structs.replace(row, device_alias=0))


def note_name(note: NoteRow) -> str:
    """Return what to call a note: device, epoch and counter."""
    return f"{note.device_alias}-{note.epoch}-{note.counter}"


def parse_note_name(name: str) -> Tombstone:
    """Return what a note's name stands for.

    Raises:
        InputError: It is no such name.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise InputError("that is no note's name", "see `einthoven note list` for their names")
    alias, epoch, counter = (int(part) for part in found.groups())
    if max(alias, epoch, counter) > limits.MAX_COUNTER:
        raise InputError("that is no note's name", "see `einthoven note list` for their names")
    return Tombstone(RowKind.NOTE, alias, epoch, counter)


def _alias_is_known(store: Store) -> bool:
    """A store learns its own alias with the first exchange; until then its notes have none."""
    return store.sync_state().last_exchange_ms is not None


def _under_own_alias(store: Store, identity: Identity, note: NoteRow) -> NoteRow:
    if note.device_alias or _alias_is_known(store):
        return note
    return msgspec.structs.replace(note, device_alias=identity.device_alias)
