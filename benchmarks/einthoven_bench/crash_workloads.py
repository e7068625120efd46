"""The scripts that are broken: what a store does in its life, from its making to its end.

Each has a store to begin with, made in peace, and steps that are played where they may be cut off. It deliberately
breaks nothing (``crash_sweep``) and judges nothing (``crash_verifying``).

Invariants:
    1. Where nothing fails, a script plays to its end and leaves the same content each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from einthoven.ports import KeyProvider, Store
from einthoven.private_files import create_private_file, make_private_folder
from einthoven.sqlcipher_connection import PAGE_BYTES
from einthoven.store_erase import erase_store
from einthoven.store_rekey import rekey_store
from einthoven.store_rules import MAX_SETTING_BYTES
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import AuditAction, RetentionPolicy
from einthoven_bench.crash_script import Hands, Step
from einthoven_bench.crash_steps import (
    CLOSE,
    OPEN,
    SYNC_KEY,
    annotate,
    annotation,
    append,
    append_batch,
    ignore,
    put_setting,
)
from einthoven_bench.crash_verifying import exchange
from einthoven_bench.crash_windows import BEGAN_AT_MS, WINDOW_MS, beats, window

VERSION_1_FOLDER: Final = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "stores"
"""Stores of version 1, in a checkout."""


OpenStore = Callable[[Path, KeyProvider, bool], Store]


def open_store(path: Path, key_provider: KeyProvider, create: bool) -> Store:
    """The store as everybody opens it."""
    return SqlCipherStore.open(path, key_provider, create=create)


@dataclass(frozen=True)
class Workload:
    """One script.

    Attributes:
        name: For a report.
        prepare: Makes what is there before; leaves no store open.
        steps: What is played.
        makes_store: Whether the store is made by the script itself.
        ends_store: Whether the script's last step is the store's end.
        leaves_open: Whether ``prepare`` leaves the store open, to be killed there.
        may_fork: Whether it goes into a new epoch by rights.
        opener: How its store is opened; a double's in the harness's own tests.
    """

    name: str
    prepare: Callable[[Hands], None]
    steps: tuple[Step, ...]
    makes_store: bool = False
    ends_store: bool = False
    leaves_open: bool = False
    may_fork: bool = False
    opener: OpenStore = open_store


def _filled(count: int) -> Callable[[Hands], None]:
    def prepare(hands: Hands) -> None:
        store = hands.opened()
        store.put_setting("sync_key", SYNC_KEY)
        store.append_windows([window(seed) for seed in range(count)])
        store.annotate(annotation(1, "p1", "before", 10))
        hands.closed()

    return prepare


def _filled_with_server(hands: Hands) -> None:
    _filled(6)(hands)
    hands.server.write(annotation(2, "clinician", "seen", 20))


INSERT: Final = Workload(
    "insert",
    _filled(3),
    (
        OPEN,
        append(10),
        append(11),
        append_batch(20, 5),
        put_setting("note", b"n" * 9_000),
        annotate(2, "a comment", 11),
        Step("append beats", lambda hands: hands.opened().append_beats(beats(30))),
        Step(
            "append window with beats",
            lambda hands: ignore(hands.opened().append_window(*window(31), beats(31))),
        ),
        Step("append results", lambda hands: ignore(hands.opened().append_results([window(40)[0], window(41)[0]]))),
        Step(
            "record",
            lambda hands: ignore(hands.opened().record(AuditAction.VIEWED, "result 1", at_ms=BEGAN_AT_MS)),
        ),
        append(12),
        CLOSE,
    ),
)

SYNC: Final = Workload(
    "sync",
    _filled_with_server,
    (
        OPEN,
        Step("exchange 1", lambda hands: exchange(hands, at_ms=BEGAN_AT_MS + 1)),
        annotate(1, "after", 30),
        append(10),
        Step("exchange 2", lambda hands: exchange(hands, at_ms=BEGAN_AT_MS + 2)),
        Step(
            "acknowledge segments",
            lambda hands: ignore(
                hands.opened().acknowledge_segments([window(seed)[0].segment_digest for seed in range(3)])
            ),
        ),
        append(11),
        Step("exchange 3", lambda hands: exchange(hands, at_ms=BEGAN_AT_MS + 3)),
        CLOSE,
    ),
)


def _filled_and_synced(hands: Hands) -> None:
    _filled(8)(hands)
    store = hands.opened()
    for number in range(4):
        exchange(hands, at_ms=BEGAN_AT_MS + 8 * WINDOW_MS + number)
    store.acknowledge_segments([window(seed)[0].segment_digest for seed in range(6)])
    store.append_beats(beats(0))
    hands.closed()


def _retain(policy: RetentionPolicy) -> Callable[[Hands], None]:
    return lambda hands: ignore(hands.opened().retain(policy, at_ms=BEGAN_AT_MS + 12 * WINDOW_MS))


RETENTION: Final = Workload(
    "retention",
    _filled_and_synced,
    (
        OPEN,
        Step("drop old signals", _retain(RetentionPolicy(signal_max_age_ms=9 * WINDOW_MS))),
        append(10),
        Step(
            "drop old results and beats", _retain(RetentionPolicy(results_max_age_ms=9 * WINDOW_MS, beats_max_age_ms=1))
        ),
        Step("drop large signals", _retain(RetentionPolicy(signal_max_bytes=4_000))),
        append(11),
        CLOSE,
    ),
)

CREATE: Final = Workload(
    "create",
    lambda hands: None,
    (OPEN, put_setting("note", b"n"), append(10), CLOSE, OPEN, append(11), CLOSE),
    makes_store=True,
)

_LARGE_SETTINGS: Final = 36
"""So many of ``MAX_SETTING_BYTES`` fill the log until a thread moves it into the file."""
CHECKPOINT: Final = Workload(
    "checkpoint",
    _filled(2),
    (
        OPEN,
        *(put_setting("other", bytes([number]) * MAX_SETTING_BYTES) for number in range(_LARGE_SETTINGS)),
        append(10),
        append(11),
        CLOSE,
    ),
)


def _left_open(hands: Hands) -> None:
    store = hands.opened()
    store.put_setting("sync_key", SYNC_KEY)
    for seed in range(3):
        store.append_window(*window(seed))


RECOVER: Final = Workload("recover", _left_open, (OPEN, append(10), CLOSE, OPEN, CLOSE), leaves_open=True)


def _version_1(name: str) -> Callable[[Hands], None]:
    """A store of version 1 as its own SDK left it, and its key as that SDK kept it."""

    def prepare(hands: Hands) -> None:
        for suffix in ("", "-wal"):
            source = VERSION_1_FOLDER / f"{name}.db{suffix}"
            if source.exists():
                create_private_file(hands.path.with_name(hands.path.name + suffix), source.read_bytes())
        key = json.loads((VERSION_1_FOLDER / f"{name}.json").read_text(encoding="utf-8"))["key"]
        make_private_folder(hands.key_path.parent)
        create_private_file(hands.key_path, bytes.fromhex(key))

    return prepare


_AFTER_MIGRATION: Final = (OPEN, append(10), CLOSE, OPEN, append(11), CLOSE)
MIGRATE: Final = Workload("migrate", _version_1("version-1"), _AFTER_MIGRATION)
MIGRATE_LOG: Final = Workload("migrate with log", _version_1("version-1-log"), _AFTER_MIGRATION)


def _rekey_closed(hands: Hands) -> None:
    hands.events += rekey_store(hands.path, hands.key_provider)


def _open_store(hands: Hands) -> SqlCipherStore:
    store = hands.opened()
    assert isinstance(store, SqlCipherStore)
    return store


REKEY: Final = Workload(
    "rekey",
    _filled(4),
    (
        OPEN,
        append(10),
        Step("rekey", lambda hands: _open_store(hands).rekey(hands.key_provider)),
        append(11),
        Step("rewrap", lambda hands: _open_store(hands).rewrap(hands.key_provider)),
        append(12),
        CLOSE,
        Step("rekey closed", _rekey_closed),
        OPEN,
        append(13),
        CLOSE,
    ),
)


def _damaged(hands: Hands) -> None:
    """A store whose first page is not whole, so that it can't be opened, and another page that holds rows."""
    _filled(12)(hands)
    content = bytearray(hands.path.read_bytes())
    for page in (0, len(content) // PAGE_BYTES // 2):
        content[page * PAGE_BYTES + 1_000] ^= 1
    hands.path.write_bytes(content)


REPAIR: Final = Workload("repair", _damaged, (OPEN, append(30), CLOSE, OPEN, append(31), CLOSE), may_fork=True)
ERASE: Final = Workload(
    "erase",
    _filled(3),
    (OPEN, append(10), CLOSE, Step("erase", lambda hands: ignore(erase_store(hands.path, hands.key_provider)))),
    ends_store=True,
)


def workloads() -> tuple[Workload, ...]:
    """All that can be played here: those of version 1 need its files, which lie with the tests."""
    migrating = (MIGRATE, MIGRATE_LOG) if VERSION_1_FOLDER.is_dir() else ()
    return (INSERT, SYNC, RETENTION, CHECKPOINT, CREATE, RECOVER, REKEY, REPAIR, ERASE, *migrating)


WORKLOADS: Final = workloads()
