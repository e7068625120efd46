"""A store's file is damaged, its repair sets aside what can't be read, and the next sync has it all back."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.contracts.conftest import window
from tests.e2e.conftest import Admin

from einthoven import FileKeyProvider, SqlCipherStore, annotate, enroll, sync
from einthoven.identity import load_identity
from einthoven.key_slots import read_slots
from einthoven.sqlcipher_page_file import PageFile
from einthoven.sqlite_btree import Row, walk
from einthoven.sqlite_schema_pages import schema_of
from einthoven.store_unlocking import unlock
from einthoven_protocol.limits import MAX_TIME_MS
from einthoven_protocol.messages import IdentifiedResult, ResultId

PAGE_BYTES = 4_096
N_RESULTS = 400
"""Results of each device; some twenty fill a page."""
SAID_EVERY = 7


def key_of(home: Path) -> FileKeyProvider:
    return FileKeyProvider(home / "store.key", create=True)


def open_store(home: Path) -> SqlCipherStore:
    return SqlCipherStore.open(home / "store.db", key_of(home))


@dataclass
class Home:
    """A device's folder."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "store.db"


def results_known(store: SqlCipherStore) -> list[tuple[int, int, int, int]]:
    """Owner, epoch, counter and start of all results that can be read, own ones and others'."""
    alias = load_identity(store).device_alias
    own = [
        (alias, one.epoch, one.result.counter, one.result.started_at_ms)
        for one in store.results_between(0, MAX_TIME_MS, limit=10_000)
    ]
    replicas = store.replicas(0, MAX_TIME_MS, limit=10_000)
    return sorted(own + [_named(one) for one in replicas])


def words_known(store: SqlCipherStore) -> list[tuple[ResultId, str, str]]:
    """What was said of which result, and by whom."""
    return sorted((row.target, row.author, row.comment.value) for row in store.annotations())


def _named(one: IdentifiedResult) -> tuple[int, int, int, int]:
    return (one.device_alias, one.epoch, one.row.counter, one.row.started_at_ms)


def pages_of(home: Home, table: str) -> list[int]:
    """Pages that rows of a table lie on."""
    slots = read_slots(home.path)
    assert slots is not None
    salt = slots.slots[0].salt
    key = unlock(home.path, slots, salt, key_of(home.folder)).key
    with PageFile(home.path) as file, file.pages(key) as pages:
        entered: set[int] = set()
        entries, _ = schema_of(pages, entered)
        (root,) = [entry.root for entry in entries if entry.name == table]
        return sorted({row.page for row in walk(pages, root, entered) if isinstance(row, Row)})


def damage(home: Home, pages: list[int]) -> None:
    """Turn a bit of each page round."""
    content = bytearray(home.path.read_bytes())
    for number in pages:
        content[(number - 1) * PAGE_BYTES + 1_000] ^= 4
    home.path.write_bytes(content)


@pytest.fixture
async def homes(admin: Admin, tmp_path: Path) -> tuple[Home, Home]:
    """Two devices of a patient that know all of each other, with words on some results; closed."""
    patient = await admin.patient()
    async with AsyncExitStack() as stack:
        folders = [tmp_path / name for name in ("first", "second")]
        stores = [stack.enter_context(open_store(folder)) for folder in folders]
        for number, store in enumerate(stores):
            await enroll(store, await admin.code(patient))
            starts = range(number * N_RESULTS, (number + 1) * N_RESULTS)
            store.append_results(
                [replace(window(1)[0], started_at_ms=1_780_000_000_000 + 30_000 * at) for at in starts]
            )
            for counter in range(1, N_RESULTS, SAID_EVERY):
                annotate(store, counter, comment=f"word {counter}")
        for store in (*stores, *stores):
            assert (await sync(store)).state.last_digest_equal
        known = [results_known(store) for store in stores]
        assert known[0] == known[1]
    first, second = map(Home, folders)
    return first, second


@pytest.mark.parametrize("table", ["result", "replica", "annotation"])
async def test_what_a_damaged_file_lost_comes_back_from_the_server(homes: tuple[Home, Home], table: str) -> None:
    home, other = homes
    with open_store(other.folder) as store:
        everything, said = results_known(store), words_known(store)
    assert len(everything) == 2 * N_RESULTS
    pages = pages_of(home, table)
    assert len(pages) >= 4
    damage(home, pages[1:-1:2])

    with open_store(home.folder) as store:
        assert not store.repair().sound
        assert store.check().sound
        lost = len(everything) - len(results_known(store))
        words_lost = len(said) - len(words_known(store))
        assert (lost > 10, words_lost > 10) == (table != "annotation", table == "annotation")
        state = store.sync_state()
        assert state.waiting == 0  # nothing of what is left is sent again

        report = await sync(store)
        assert report.state.last_digest_equal
        assert report.results_up == 0
        assert results_known(store) == everything
        assert words_known(store) == said
        again = await sync(store)
        assert (again.round_trips, again.state.last_digest_equal) == (1, True)
        assert store.check().sound

        # Life goes on, in a new epoch.
        store.append_results([replace(window(2)[0], started_at_ms=1_790_000_000_000)])
        assert (await sync(store)).results_up == 1
    with open_store(other.folder) as store:
        assert (await sync(store)).state.last_digest_equal
        assert len(results_known(store)) == len(everything) + 1
