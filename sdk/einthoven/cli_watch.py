"""The `einthoven sync --watch` command: a store kept in step with its server, and a line for each thing that happens.

It deliberately decides nothing: ``watching`` does. A line holds counts and causes, no content of a row.

Invariants:
    1. Ctrl-C and SIGTERM end it within a second, with status 0 (``cli_stopping``); an exchange that they cut off is
       done again the next time.
    2. The store is open only while it is needed.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from einthoven.cli_options import open_store
from einthoven.cli_stopping import stopped_by_signal
from einthoven.cli_store_events import events_document, show_events
from einthoven.cli_sync_render import moved_text, signals_document, signals_text, sync_document
from einthoven.clock import SystemClock
from einthoven.ports import Clock, Store
from einthoven.power_sysfs import read_surroundings
from einthoven.store_events import StoreEvent
from einthoven.transport_https import HttpsTransport
from einthoven.wake_line import LoopTimer
from einthoven.wake_websocket import WebSocketWake
from einthoven.watch_events import LineLost, LineOpened, SignalsSent, Synced, SyncFailed, WatchEvent, Woken
from einthoven.watch_parts import WatchParts
from einthoven.watching import Watcher

Say = Callable[[dict[str, Any], str], None]


def keep_watching(
    home: Path, *, metered: bool, as_json: bool, out: Console, leave: Callable[[int], object] = os._exit
) -> None:
    """Watch the store of a home folder until a signal comes.

    Args:
        home: The folder.
        metered: Whether the network counts bytes.
        as_json: Say documents instead of lines.
        out: Where lines go.
        leave: Ends a process that does not end in time.

    Raises:
        InputError: There is no store.
        NotEnrolled: It belongs to no server yet.
        StoreError: It can't be used.
    """
    stop, runner = asyncio.Event(), asyncio.Runner()
    loop = runner.get_loop()

    def ask() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)

    # Closing the runner waits for its threads, so the signals count until that is done.
    with stopped_by_signal(ask, leave), runner:
        runner.run(_watch_home(home, stop, metered=metered, as_json=as_json, out=out))


async def _watch_home(home: Path, stop: asyncio.Event, *, metered: bool, as_json: bool, out: Console) -> None:
    clock = SystemClock()

    def say(event: dict[str, Any], line: str) -> None:
        if as_json:
            sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
            sys.stdout.flush()
        else:
            out.print(f"{_clock(clock)}  {line}", markup=False, soft_wrap=True)

    def told(events: list[StoreEvent]) -> None:
        if not as_json:
            show_events(out, events_document(events))

    parts = WatchParts(
        borrow=lambda: _borrowed(home, told),
        connect=lambda identity: HttpsTransport(identity, clock=clock),
        line=lambda identity: WebSocketWake(identity, clock=clock),
        clock=clock,
        timer=LoopTimer(),
        surroundings=lambda: read_surroundings(metered=metered),
        chance=random.SystemRandom().random,
        take=lambda event: say(*describe(event)),
    )
    await Watcher(parts).run(stop)


def describe(event: WatchEvent) -> tuple[dict[str, Any], str]:
    """Return an event as a document and as a line."""
    match event:
        case Synced(report):
            document = sync_document(report, ())
            up, down = moved_text(document)
            equal = {True: "both sides equal", False: "both sides NOT equal", None: "not compared"}
            verdict = equal[report.state.last_digest_equal]
            refused = f"; {report.refused} refused" if report.refused else ""
            waiting = f"; {report.state.waiting} wait" if report.state.waiting else ""
            return {"event": "synced", **document}, f"synced: {up} up, {down} down; {verdict}{refused}{waiting}"
        case SyncFailed(error, failures):
            kind = type(error).__name__
            said = {"event": "failed", "error": kind, "problem": error.problem, "failures": failures}
            return said, f"not synced ({failures} in a row): {error.problem}"
        case SignalsSent(report):
            return {"event": "signals", **signals_document(report)}, signals_text(signals_document(report))
        case LineOpened():
            return {"event": "listening"}, "listening: the server says when there is something"
        case LineLost(error):
            said = {"event": "not_listening", "error": type(error).__name__, "problem": error.problem}
            return said, f"not listening, looking now and then instead: {error.problem}"
        case Woken():
            return {"event": "woken"}, "woken: there is something"


@contextmanager
def _borrowed(home: Path, told: Callable[[list[StoreEvent]], None]) -> Iterator[Store]:
    with open_store(home, create=False) as store:
        try:
            yield store
        finally:
            events = store.take_events()
            if events:
                told(events)


def _clock(clock: Clock) -> str:
    return datetime.fromtimestamp(clock.now_ms() / 1000, UTC).strftime("%H:%M:%S")
