"""A script of store calls, played in a process that may be killed or starved, and told step by step.

What was acknowledged is what a call returned from: only then is a step told as done. It deliberately knows no fault and
no folder's layout; what fails is decided by the library in front of the process, what must hold afterwards in
``crash_verifying``.

Invariants:
    1. A step is told as done after its call returned, never before.
    2. A step that raised ``StoreError`` is tried again once the fault is gone, as a user would; every other error
       ends the script and is told.
"""

from __future__ import annotations

import pickle  # our own values, between our own processes
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from einthoven.errors import StoreError
from einthoven.ports import KeyProvider, Store
from einthoven.store_events import StoreEvent
from einthoven_bench.crash_server import HonestServer
from einthoven_bench.crash_shim import CallKind


@dataclass
class Hands:
    """What a script works with.

    Attributes:
        path: Of the store.
        key_path: Where its wrapping key lies.
        key_provider: Of its keys, in that file.
        open_store: How a store is opened; a double in the tests of the harness.
        store: The one that is open.
        server: Its server; lives on when this process does not.
        events: What the store said of itself so far.
    """

    path: Path
    key_path: Path
    key_provider: KeyProvider
    open_store: Callable[[Path, KeyProvider], Store]
    server: HonestServer
    store: Store | None = None
    events: list[StoreEvent] = field(default_factory=list)
    tell_server: Callable[[HonestServer], None] = lambda server: None

    def opened(self) -> Store:
        """The open store; opened if it is not."""
        if self.store is None:
            self.store = self.open_store(self.path, self.key_provider)
        return self.store

    def closed(self) -> None:
        """Take the events and close the store, if it is open."""
        if self.store is not None:
            store, self.store = self.store, None
            self.events += store.take_events()
            store.close()


@dataclass(frozen=True)
class Step:
    """One call that a user makes.

    Attributes:
        name: For a report.
        do: The call; may be made again after it failed.
    """

    name: str
    do: Callable[[Hands], None]


@dataclass(frozen=True)
class Told:
    """What a process told of the script it played.

    Attributes:
        done: Steps that returned.
        failed: Steps that raised ``StoreError`` at first, with the error's class and message.
        broke: Why the script could not go on; ``None`` if it could.
        ended: Whether it came to its end.
        server: The server as it stood last; ``None`` if it was not talked to.
        events: What the store said of itself.
        calls: Calls counted, and whether the chosen one was reached.
    """

    done: int = 0
    failed: tuple[str, ...] = ()
    broke: str | None = None
    ended: bool = False
    server: HonestServer | None = None
    events: tuple[StoreEvent, ...] = ()
    calls: tuple[CallKind, ...] = ()
    fired: bool = False


def play(
    steps: tuple[Step, ...],
    hands: Hands,
    tell: Callable[[bytes], None],
    *,
    lift: Callable[[], None],
    mark: Callable[[str], None],
    tries_under_fault: int,
) -> None:
    """Play a script to its end, or as far as it goes.

    Args:
        steps: The calls.
        hands: What they work with.
        tell: Takes a line for whoever watches; it must reach it even if this process is killed right after.
        lift: Makes the fault go away.
        mark: Notes in a recording which step returned.
        tries_under_fault: Calls of a failing step before the fault goes away.
    """
    hands.tell_server = lambda server: tell(b"S" + pickle.dumps(server))
    try:
        for number, step in enumerate(steps, 1):
            for attempt in range(tries_under_fault + 1):
                try:
                    step.do(hands)
                    break
                except StoreError as error:
                    if attempt == tries_under_fault:
                        raise
                    tell(b"F" + f"{step.name}: {type(error).__name__}: {error}".encode())
                    if attempt == tries_under_fault - 1:
                        lift()
            mark(str(number))
            tell(b"D" + str(number).encode())
        tell(b"E" + pickle.dumps(hands.events))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the harness looks for
        frames = reversed(traceback.extract_tb(error.__traceback__))
        place = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
        tell(b"B" + f"{step.name}: {type(error).__name__}: {error} at {place}".encode())


def read_told(lines: list[bytes]) -> Told:
    """Understand what ``play`` told, and the count of calls that may follow it."""
    told = Told()
    for line in lines:
        kind, content = line[:1], line[1:]
        match kind:
            case b"D":
                told = replace(told, done=int(content))
            case b"F":
                told = replace(told, failed=(*told.failed, content.decode()))
            case b"B":
                told = replace(told, broke=content.decode())
            case b"S":
                told = replace(told, server=pickle.loads(content))  # noqa: S301 - from our own child
            case b"E":
                told = replace(told, ended=True, events=tuple(pickle.loads(content)))  # noqa: S301
            case b"C":
                told = replace(told, fired=bool(content[0]), calls=tuple(CallKind(call) for call in content[1:]))
    return told
