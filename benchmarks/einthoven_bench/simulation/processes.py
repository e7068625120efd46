"""A device's process: the store as the app sees it, until it is killed or the disk is full.

It deliberately keeps nothing: what was committed is in the store behind it, and that is what the next process finds.

Invariants:
    1. A killed process does nothing more: each further call of it ends it again.
    2. It dies between two commits, never within one; a commit that was done stays done, whether or not it was told.
    3. On a full disk, what would change the store raises ``StoreIOError`` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from einthoven.errors import StoreIOError
from einthoven.ports import Store

WRITING: Final = frozenset(
    {
        "append_window",
        "append_windows",
        "append_results",
        "append_beats",
        "acknowledge_segments",
        "annotate",
        "apply_exchange",
        "apply_repair",
        "add_note",
        "delete",
        "put_setting",
        "retain",
        "record",
    }
)
"""Methods that change a store."""
Saw = Callable[[str, tuple[Any, ...]], None]


class Killed(BaseException):
    """kill -9. Deliberately no ``Exception``: nothing in a process can catch it."""


class Process:
    """One life of an app on a device.

    Args:
        store: What it opened.

    Attributes:
        behind: What it opened.
        store: The store as the process has it.
        dead: Whether it was killed.
        disk_full: Whether nothing can be written.
        saw: Told of each call that changed something: the method's name and its arguments.
    """

    def __init__(self, store: Store) -> None:
        self.behind = store
        self._moments = self._dies_at = self._fills_at = 0
        self.dead = False
        self.disk_full = False
        self.saw: Saw | None = None
        self.store = cast("Store", _Seen(self))

    def arm(self, dies_at: int, fills_at: int) -> None:
        """Be killed at so manieth moment from now, have the disk full from so manieth on; 0 for never."""
        self._moments, self._dies_at, self._fills_at = 0, dies_at, fills_at

    def moment(self) -> None:
        """A moment at which the process can be killed."""
        self._moments += 1
        if self._moments == self._dies_at:
            self.dead = True
        if self.dead:
            raise Killed

    def call(self, name: str, args: tuple[Any, ...], more: dict[str, Any]) -> Any:
        """Have the store do something."""
        self.moment()
        full = self.disk_full or 0 < self._fills_at <= self._moments
        if name in WRITING and full:
            raise StoreIOError("the disk is full", "free some space, then try again")
        value = getattr(self.behind, name)(*args, **more)
        if self.saw is not None and name in WRITING:
            self.saw(name, args)
        self.moment()
        return value


class _Seen:
    """The store as the process has it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Callable[..., Any]:
        process = self._process
        return lambda *args, **more: process.call(name, args, more)
