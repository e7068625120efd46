"""What a store may drop, and in which order: by age, by size, and to make room. Pure: rows in, keys out.

It deliberately drops nothing itself and knows no SQL, no file and no clock. What it is given is in the order in which
it was written, oldest first: that order can be trusted where times can't, because a device's clock may have been a
year off for a while, either way.

Invariants:
    1. By age or by size, nothing goes that the server has not acknowledged. To make room it goes, but only after
       everything acknowledged did.
    2. By age, what goes was written before the first row that is known to be young enough: a row stamped too early
       (by a clock that was behind, or imported) goes no sooner than what was written before it, and one stamped in the
       future stays until something written after it is old enough. With nothing to compare it to, it stays.
    3. A clock is believed no further than ``MAX_UNWITNESSED_MS`` beyond the last moment it is known to have been right
       (``credible_now``). One that jumps ahead by a year makes content go a week early, not all of it at once; one
       that jumps back makes it stay longer. Content of a device that saw no exchange for longer ages on after the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MAX_UNWITNESSED_MS: Final = 7 * 24 * 3600 * 1000
"""How far past the last witnessed moment a clock is believed: a holiday without network; less than any useful age."""


@dataclass(frozen=True, slots=True)
class Droppable:
    """Something that is kept and could go.

    Attributes:
        key: Names it to the caller.
        started_at_ms: When what it holds began, UTC by the device's clock, ms since 1970.
        stored_bytes: Bytes that it takes.
        acknowledged: Whether the server holds it, or it is none of the server's business (beats).
    """

    key: int
    started_at_ms: int
    stored_bytes: int
    acknowledged: bool


def credible_now(at_ms: int, *, last_exchange_ms: int | None, newest_ms: int | None) -> int:
    """Return the time by which ages are counted: the clock's, unless it ran away from what is known of it.

    Args:
        at_ms: What the clock says, UTC ms since 1970.
        last_exchange_ms: Clock at the last exchange; a server answers only if the clock is right (five minutes).
        newest_ms: Start of the newest content: stands in on a device that never had an exchange. ``None`` if there is
            none, and then there is nothing to age.
    """
    witnessed_ms = newest_ms if last_exchange_ms is None else last_exchange_ms
    return at_ms if witnessed_ms is None else min(at_ms, witnessed_ms + MAX_UNWITNESSED_MS)


def over_age(held: Iterable[Droppable], max_age_ms: int | None, now_ms: int) -> list[Droppable]:
    """Return what is older than ``max_age_ms`` and may go, oldest first.

    Args:
        held: In the order in which it was written; read no further than to the first that is young enough.
        max_age_ms: ``None`` for no limit.
        now_ms: See ``credible_now``.

    Raises:
        ValueError: A negative limit.
    """
    if max_age_ms is None:
        return []
    _check(max_age_ms)
    dropped: list[Droppable] = []
    undated: list[Droppable] = []
    for row in held:
        if row.started_at_ms > now_ms:
            undated.append(row)
            continue
        if row.started_at_ms >= now_ms - max_age_ms:
            break
        dropped += [*undated, row]
        undated = []
    return [row for row in dropped if row.acknowledged]


def over_size(held: Iterable[Droppable], max_bytes: int | None) -> list[Droppable]:
    """Return what has to go so that the rest takes ``max_bytes`` at most, oldest first, as far as it may go.

    Args:
        held: In the order in which it was written.
        max_bytes: ``None`` for no limit.

    Raises:
        ValueError: A negative limit.
    """
    if max_bytes is None:
        return []
    _check(max_bytes)
    rows = list(held)
    over_bytes = sum(row.stored_bytes for row in rows) - max_bytes
    return _until(over_bytes, (row for row in rows if row.acknowledged))


def to_make_room(held: Iterable[Droppable], wanted_bytes: int) -> list[Droppable]:
    """Return what has to go so that ``wanted_bytes`` become free: acknowledged first, then the rest, each oldest first.

    Args:
        held: In the order in which it was written.
        wanted_bytes: None is wanted if it is 0 or less.

    Returns:
        Everything, if it is not enough.
    """
    rows = list(held)
    return _until(wanted_bytes, sorted(rows, key=lambda row: not row.acknowledged))


def check_ceiling(max_bytes: int) -> None:
    """Hold a ceiling to what it can be.

    Raises:
        ValueError: It is negative.
    """
    _check(max_bytes)


def _until(wanted_bytes: int, rows: Iterable[Droppable]) -> list[Droppable]:
    taken: list[Droppable] = []
    for row in rows:
        if wanted_bytes <= 0:
            break
        taken.append(row)
        wanted_bytes -= row.stored_bytes
    return taken


def _check(limit: int) -> None:
    if limit < 0:
        raise ValueError("a policy's limits are not negative")
