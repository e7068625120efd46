"""Stores that lose, double or leak on purpose: what the crash points must find out. Started behind the library.

``python -m tests.einthoven.crash_doubles --behind-shim FOLDER``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from einthoven.errors import StoreIOError
from einthoven.ports import KeyProvider, Segment, Store
from einthoven.results import WindowResult
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import BeatRun
from einthoven_bench.crash_points import main
from einthoven_bench.crash_script import Hands, Step
from einthoven_bench.crash_steps import CLOSE, OPEN, append, append_batch, put_setting
from einthoven_bench.crash_workloads import INSERT, REKEY, Workload, open_store


class Double:
    """A real store, with one method that is not what it should be."""

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class Early(Double):
    """Acknowledges a window before it is stored."""

    def __init__(self, path: Path, store: Store) -> None:
        super().__init__(path, store)
        self.late: list[tuple[WindowResult, Segment]] = []

    def append_window(self, result: WindowResult, segment: Segment, beats: BeatRun | None = None) -> WindowResult:
        if beats is not None:
            return self.store.append_window(result, segment, beats)
        self.late.append((result, segment))
        return replace(result, counter=len(self.store.results(limit=1_000)) + len(self.late))

    def __getattr__(self, name: str) -> Any:
        self.store.append_windows(self.late)
        self.late = []
        return getattr(self.store, name)


class Half(Double):
    """Stores several windows one by one."""

    def append_windows(self, windows: list[tuple[WindowResult, Segment]]) -> list[WindowResult]:
        return [self.store.append_window(*window) for window in windows]


def touch_disk(path: Path) -> None:
    """Write to the store's folder, as a store's own bookkeeping would."""
    for number in range(8):
        scratch = path.with_name(f"scratch-{number}")
        scratch.write_bytes(b"x" * 4_096)
        scratch.unlink()


class Doubling(Double):
    """Says that a window could not be stored though it was."""

    def append_window(self, result: WindowResult, segment: Segment, beats: BeatRun | None = None) -> WindowResult:
        stored = self.store.append_window(result, segment, beats)
        try:
            touch_disk(self.path)
        except OSError as error:
            raise StoreIOError("the window was not stored", "try again") from error
        return stored


class Leaky(Double):
    """Lets the disk's own errors through."""

    def append_window(self, result: WindowResult, segment: Segment, beats: BeatRun | None = None) -> WindowResult:
        touch_disk(self.path)
        return self.store.append_window(result, segment, beats)


class Unsynced(Double):
    """Commits without syncing."""

    def __init__(self, path: Path, store: Store) -> None:
        super().__init__(path, store)
        cast(SqlCipherStore, store)._writer.rows.connection.execute("PRAGMA synchronous = OFF")


def replaced_unsafely(hands: Hands) -> None:
    """What a rekeying must not be: the old file goes before the new one has its name."""
    prepared = hands.path.with_name("prepared")
    prepared.write_bytes(hands.path.read_bytes())
    hands.path.unlink()
    prepared.rename(hands.path)


def doubled(name: str, double: Callable[[Path, Store], Double]) -> Workload:
    """A few insertions, played with a double."""

    def opener(path: Path, key_provider: KeyProvider, create: bool) -> Store:
        return cast(Store, double(path, open_store(path, key_provider, create)))

    steps = (OPEN, append(10), append_batch(20, 3), append(11), put_setting("note", b"n"), CLOSE)
    return Workload(name, INSERT.prepare, steps, opener=opener)


DOUBLES = {"early": Early, "half": Half, "doubling": Doubling, "leaky": Leaky, "unsynced": Unsynced}
GAP = Workload("gap", REKEY.prepare, (OPEN, CLOSE, Step("replace", replaced_unsafely), OPEN, CLOSE), may_fork=True)

if __name__ == "__main__":
    main([GAP, *(doubled(name, double) for name, double in DOUBLES.items())])
