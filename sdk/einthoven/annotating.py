"""A patient's own words on a result: written on the device, merged with the clinicians', sent with the next sync.

It deliberately writes as the patient, or as the device, only; what others wrote is theirs to change.

Invariants:
    1. A later write on this device wins over an earlier one, whatever the wall clock did in between (hybrid logical
       clock).
    2. A field that is not given keeps its value.
    3. The patient's words are one row, whichever of the patient's devices they are written on. With a server that knows
       no other author than the device, and where the device already spoke in its own name, it goes on to.
"""

from __future__ import annotations

import msgspec

from einthoven.clock import SystemClock
from einthoven.errors import InputError
from einthoven.identity import Identity, load_identity
from einthoven.ports import Clock, Store
from einthoven_protocol import hlc, limits
from einthoven_protocol.messages import AnnotationRow, Capability, Register, ResultId

RHYTHM_CODES = ("", "N", "A", "O", "~")
"""What an annotation may call a rhythm; the empty text takes it back."""


def annotate(
    store: Store,
    counter: int,
    *,
    epoch: int | None = None,
    device_alias: int | None = None,
    rhythm: str | None = None,
    comment: str | None = None,
    clock: Clock | None = None,
) -> AnnotationRow:
    """Say something of one result.

    Args:
        store: An enrolled device's store.
        counter: The result.
        epoch: The one it was written in (``StoredResult.epoch``); the current one, if not given.
        device_alias: Whose result it is, if not this device's: another of the patient's devices (``Store.replicas``).
            Needs ``epoch``.
        rhythm: One of ``RHYTHM_CODES``; kept as it is, if not given.
        comment: Free text; kept as it is, if not given.
        clock: Tells now; the system's, if not given.

    Returns:
        The row as it is now; it waits for the next sync.

    Raises:
        NotEnrolled: The store belongs to no server yet, so the author has no name.
        InputError: No such result, nothing said, not a rhythm, or a comment that is too long or can't be kept.
        StoreError: The store can't keep it.
    """
    identity = load_identity(store)
    if rhythm is None and comment is None:
        raise InputError("neither rhythm nor comment is given", "give at least one")
    if rhythm is not None and rhythm not in RHYTHM_CODES:
        raise InputError(f"{rhythm[:8]!r} is no rhythm", "give N, A, O, ~ or the empty text")
    if comment is not None and not _can_be_kept(comment):
        raise InputError(
            "the comment is too long or holds characters that can't be kept",
            f"use at most {limits.MAX_COMMENT_CHARACTERS} characters of text",
        )
    target = _target(store, identity, counter, epoch, device_alias)
    author, before = _words_so_far(store, identity, target)
    now = hlc.tick(max(before.rhythm.hlc, before.comment.hlc), (clock or SystemClock()).now_ms())
    return store.annotate(
        msgspec.structs.replace(
            before,
            author=author,
            rhythm=before.rhythm if rhythm is None else Register(rhythm, now),
            comment=before.comment if comment is None else Register(comment, now),
        )
    )


def _target(store: Store, identity: Identity, counter: int, epoch: int | None, device_alias: int | None) -> ResultId:
    """The result that is spoken of, which must be here."""
    if device_alias is not None and epoch is None:
        raise InputError("another device's result is named by its epoch as well", "give the epoch")
    if epoch is None:
        epoch = store.sync_state().epoch
    target = ResultId(identity.device_alias if device_alias is None else device_alias, epoch, counter)
    own = target.device_alias == identity.device_alias
    if not (own and store.result(counter, epoch=epoch) is not None) and store.replica(target) is None:
        raise InputError(f"there is no result {counter}", "see `einthoven status` for how many there are")
    return target


def _words_so_far(store: Store, identity: Identity, target: ResultId) -> tuple[str, AnnotationRow]:
    """Who speaks (invariant 3), and what was said until now."""
    rows = {row.author: row for row in store.annotations(target)}
    as_patient = store.sync_state().capabilities & Capability.FEED and identity.device_id not in rows
    author = identity.patient_id if as_patient else identity.device_id
    empty = AnnotationRow(target=target, author=author, rhythm=Register("", 0), comment=Register("", 0))
    return author, rows.get(author, empty)


def _can_be_kept(comment: str) -> bool:
    surrogate = any("\ud800" <= character <= "\udfff" for character in comment)
    return len(comment) <= limits.MAX_COMMENT_CHARACTERS and "\0" not in comment and not surrogate
