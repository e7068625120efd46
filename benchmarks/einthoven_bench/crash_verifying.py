"""What must hold of a store after a crash: opened, read whole, compared with what was acknowledged, and used again.

Every call of a store is one transaction. So after a crash the store must hold exactly what it held after the calls that
returned, or after one more (the one under way), and nothing between or beside. It deliberately compares through the
public face of the store, and then looks at the file itself with the key from its slots.

Invariants:
    1. What was acknowledged and is missing, changed or doubled is a problem, and so is a store that does not open, that
       cannot go on, that is not sound by its own check and SQLite's, or whose slots do not end with exactly one key.
    2. Nothing is compared that a fork may change: epochs are compared by rank, marks only while no fork happened.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlcipher3 import dbapi2

from einthoven.key_slots import read_slots
from einthoven.keys import raw_key_literal
from einthoven.ports import KeyProvider, Store
from einthoven.results import WindowResult
from einthoven.store_events import AnchorFailed, ContentDropped, StoreEvent, StoreForked
from einthoven.store_values import AuditAction, BeatRun, ContentKind
from einthoven_bench.crash_script import Hands
from einthoven_bench.crash_windows import window
from einthoven_protocol.messages import AnnotationRow, Cursor, Digest, ExchangeRequest, RowVerdict

LATEST_MS: Final = 2**48
"""Later than any result here."""
LIMIT: Final = 10_000
"""Rows that one look asks for; no store here holds as many."""
SETTINGS: Final = ("sync_key", "note", "other")
"""Names of settings that scripts write."""
OWN_ACTIONS: Final = (AuditAction.VIEWED, AuditAction.EXPORTED)
"""Audit entries that scripts write; the store writes others."""
MAX_EXCHANGES: Final = 12
"""Exchanges in which what waits in a store of this size must have drained."""
PROBE_SEED: Final = 9_999
"""Of the window that proves that a store goes on."""


@dataclass(frozen=True)
class Observation:
    """All that a store shows, in a form that can be compared.

    Attributes:
        results: Epoch by rank, and verdict.
        segments: Digests of the signals that read back.
        annotations: In the store's order.
        settings: By name.
        beats: In the store's order.
        audit: Action and subject of what scripts recorded.
        waiting: Rows not acknowledged.
        books: Cursor, digest, last exchange.
        refused: Verdicts of the server.
    """

    results: tuple[tuple[int, WindowResult], ...]
    segments: frozenset[bytes]
    annotations: tuple[AnnotationRow, ...]
    settings: tuple[tuple[str, bytes | None], ...]
    beats: tuple[BeatRun, ...]
    audit: tuple[tuple[AuditAction, str], ...]
    waiting: int
    books: tuple[Cursor, Digest, int | None, bool | None]
    refused: tuple[RowVerdict, ...]


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        problem: What must not be; ``None`` if all is well.
        key: Which of the keys opens the store: ``"same"`` as before, ``"new"``, ``"none"`` if not exactly one does or
            the store is gone by rights, ``"?"`` if that was not looked at any more.
        forked: Whether the store went into a new epoch.
        after: Steps whose effect is there.
    """

    problem: str | None
    key: str
    forked: bool
    after: int | None


class Lost(Exception):
    """Something that must hold does not."""


class NotOneKey(Lost):
    """No key opens the store, or more than one may."""


def observe(store: Store) -> Observation:
    """Read everything through the public face.

    Raises:
        StoreError: It can't be read.
    """
    stored = store.results_between(0, LATEST_MS, limit=LIMIT)
    ranks = {epoch: rank for rank, epoch in enumerate(sorted({row.epoch for row in stored}))}
    digests = {row.result.segment_digest for row in stored}
    state = store.sync_state()
    return Observation(
        results=tuple(sorted(((ranks[row.epoch], row.result) for row in stored), key=_by_counter)),
        segments=frozenset(digest for digest in digests if store.segment(digest) is not None),
        annotations=tuple(store.annotations()),
        settings=tuple((name, store.setting(name)) for name in SETTINGS),
        beats=tuple(store.beats(0, LATEST_MS, limit=LIMIT)),
        audit=tuple(
            (entry.action, entry.subject) for entry in store.audit_trail(limit=LIMIT) if entry.action in OWN_ACTIONS
        ),
        waiting=state.waiting,
        books=(state.cursor, state.digest, state.last_exchange_ms, state.last_digest_equal),
        refused=state.refused,
    )


def _by_counter(row: tuple[int, WindowResult]) -> tuple[int, int]:
    return row[0], row[1].counter


def check_observation(
    seen: Observation, allowed: list[tuple[int, Observation]], *, forked: bool, dropped_segments: int
) -> int:
    """Find the allowed state that this is and return its number.

    Args:
        seen: What the store shows.
        allowed: States that it may be in, by number of steps.
        forked: Marks of the current epoch may differ.
        dropped_segments: Signals that the store said it dropped to make room.

    Raises:
        Lost: It is none of them; says in what it differs from the first.
    """
    for number, state in allowed:
        if not _differences(seen, state, forked=forked, dropped_segments=dropped_segments):
            return number
    number, state = allowed[0]
    differs = "; ".join(_differences(seen, state, forked=forked, dropped_segments=dropped_segments))
    raise Lost(f"not the state after step {' or '.join(str(n) for n, _ in allowed)}: {differs} (against {number})")


def _differences(seen: Observation, state: Observation, *, forked: bool, dropped_segments: int) -> list[str]:
    found = []
    rows = [Counter(replace(row, counter=0) if forked else row for _, row in each.results) for each in (seen, state)]
    if rows[0] != rows[1]:
        found.append(f"results {_named(rows[1] - rows[0])} missing, {_named(rows[0] - rows[1])} too much")
    if max(rows[0].values(), default=1) > max(rows[1].values(), default=1):
        found.append("a result is doubled")
    missing = state.segments - seen.segments
    if seen.segments - state.segments or len(missing) > dropped_segments:
        found.append(f"{len(missing)} segments missing, {len(seen.segments - state.segments)} too much")
    if seen.waiting != state.waiting:
        found.append(f"{seen.waiting} rows wait and not {state.waiting}")
    compared = ("annotations", "settings", "beats", "audit", "books")
    found += [f"{name} differ" for name in compared if getattr(seen, name) != getattr(state, name)]
    if not forked and seen.refused != state.refused:
        found.append("refusals differ")
    return found


def _named(rows: Counter[WindowResult]) -> str:
    return str(sorted((row.counter, row.started_at_ms) for row in rows.elements())[:3]) if rows else "none"


def check_sound(store: Store) -> None:
    """Counters of each epoch have no hole, and the store's own check finds nothing.

    Raises:
        Lost: There is something.
    """
    counters: dict[int, list[int]] = {}
    for row in store.results_between(0, LATEST_MS, limit=LIMIT):
        counters.setdefault(row.epoch, []).append(row.result.counter)
    for epoch, given in counters.items():
        expected = list(range(min(given), min(given) + len(given)))
        if sorted(given) != expected:
            raise Lost(f"counters of epoch {epoch} are {sorted(given)}, not without holes")
    if not (report := store.check()).sound:
        raise Lost(f"its own check finds {report.findings[:3]}")


def exchange(hands: Hands, *, at_ms: int) -> None:
    """One exchange with the honest server, which is told of as soon as it took something."""
    store = hands.opened()
    waiting, state = store.pending(limit=4), store.sync_state()
    request = ExchangeRequest(
        device_alias=hands.server.device_alias,
        epoch=waiting.epoch,
        results=waiting.results,
        annotations=waiting.annotations,
        cursor=state.cursor,
    )
    response = hands.server.exchange(request)
    hands.tell_server(hands.server)
    store.apply_exchange(request, response, at_ms=at_ms)


def check_converges(hands: Hands) -> None:
    """Exchange until nothing waits: then device and server must hold the same.

    Raises:
        Lost: They do not.
    """
    store = hands.opened()
    for number in range(MAX_EXCHANGES):
        exchange(hands, at_ms=2_000_000_000_000 + number)
        state = store.sync_state()
        if state.waiting == 0 and state.last_digest_equal:
            break
    else:
        raise Lost(
            f"after {MAX_EXCHANGES} exchanges {state.waiting} rows wait, digests equal: {state.last_digest_equal}"
        )
    here = Counter(row.result.started_at_ms for row in store.results_between(0, LATEST_MS, limit=LIMIT))
    there = Counter(row.started_at_ms for row in hands.server.results.values())
    if here != there:
        raise Lost(f"the server holds {there.total()} results and the device {here.total()}")


def check_goes_on(store: Store, before: Observation) -> None:
    """One more window is kept under a new counter.

    Raises:
        Lost: It is not, or reads back as another.
    """
    result, segment = window(PROBE_SEED)
    kept = store.append_window(result, segment)
    if kept.counter < 1 or store.result(kept.counter) != kept or store.segment(result.segment_digest) is None:
        raise Lost("a window that was just kept does not read back")
    if len(store.results_between(0, LATEST_MS, limit=LIMIT)) != len(before.results) + 1:
        raise Lost("keeping one more window did not add one result")


def check_file(path: Path, key_provider: KeyProvider) -> bytes:
    """Look at a closed store's file with the one key of its slots, and return that key.

    Raises:
        NotOneKey: There is not exactly one, or it does not open the file.
        Lost: The file is not sound.
        StoreError: The slots can't be read.
    """
    slots = read_slots(path)
    if slots is None or len(slots.slots) != 1:
        raise NotOneKey(f"the store has {len(slots.slots) if slots else 'no'} key slots after it was opened and closed")
    key = key_provider.unwrap(slots.slots[0].wrapped, slots.store_id)
    uri = f"file:{quote(str(path))}?mode=ro"
    with closing(dbapi2.connect(uri, uri=True, isolation_level=None)) as connection:
        connection.execute("PRAGMA cipher_log_level = NONE")
        connection.execute(f'PRAGMA key = "{raw_key_literal(key)}"')
        try:
            wrong = connection.execute("PRAGMA cipher_integrity_check").fetchall()
            structure = connection.execute("PRAGMA integrity_check").fetchall()
        except dbapi2.Error as error:
            raise NotOneKey(f"the key of the only slot does not open the file ({error})") from error
    if wrong or structure != [("ok",)]:
        raise Lost(f"SQLite finds the file damaged: {len(wrong)} pages, {structure[:1]}")
    return key


def dropped_segments(events: list[StoreEvent]) -> int:
    """How many signals a store said it dropped."""
    return sum(
        event.count for event in events if isinstance(event, ContentDropped) and event.kind is ContentKind.SEGMENT
    )


def has_forked(events: list[StoreEvent]) -> bool:
    """Whether a store said it went into a new epoch."""
    return any(isinstance(event, StoreForked) for event in events)


def has_lost_anchor(events: list[StoreEvent]) -> bool:
    """Whether a store said that its anchor could not be written: then it may fork, for doubt forks."""
    return any(isinstance(event, AnchorFailed) for event in events)


def one_line(error: BaseException) -> str:
    """An error as a report has it."""
    kind = "" if isinstance(error, Lost) else f"{type(error).__name__}: "
    cause = f" (from {error.__cause__!r})" if error.__cause__ is not None else ""
    return f"{kind}{error}{cause}".replace("\n", " ")
