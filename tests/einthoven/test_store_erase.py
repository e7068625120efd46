"""What was erased can't be read again: not from what is left, and not from a full backup made before."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.einthoven.killed_children import killed_at

from einthoven.anchor_file import FileAnchor, anchor_path
from einthoven.anchor_vault import VaultAnchor
from einthoven.errors import KeyUnavailable, StoreError, StoreIOError
from einthoven.key_provider_file import FileKeyProvider
from einthoven.key_provider_passphrase import PassphraseKeyProvider
from einthoven.key_provider_vault import VaultKeyProvider
from einthoven.key_slots import slots_path
from einthoven.keys import StaticKeyProvider
from einthoven.passphrases import Argon2Cost
from einthoven.ports import Anchor, KeyProvider
from einthoven.sqlcipher_reserve import reserve_path
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_erase import erase_store, files_to_erase
from einthoven.store_opening import open_store_file
from einthoven.vault_memory import MemoryVault

CANARY = b"what nobody may read again"


def from_file(folder: Path) -> Callable[[], KeyProvider]:
    return lambda: FileKeyProvider(folder / "keys" / "store.key", create=True)


def from_vault(folder: Path) -> Callable[[], KeyProvider]:
    vault = MemoryVault()
    return lambda: VaultKeyProvider(vault, "store")


FINAL = [from_file, from_vault]
"""Providers whose ``destroy`` holds for every copy."""


def make_store(path: Path, keys: KeyProvider, anchor: Anchor | None = None) -> None:
    opened = open_store_file(path, keys, anchor=anchor)
    with closing(opened):
        rows = SqlCipherRows(opened.connection)
        with rows.transaction():
            rows.put("setting", ("canary", CANARY))


def canary(path: Path, keys: KeyProvider) -> bytes:
    opened = open_store_file(path, keys, create=False)
    with closing(opened):
        (value,) = opened.connection.execute("SELECT value FROM setting").fetchone()
        return bytes(value)


def beside(path: Path) -> list[Path]:
    """Everything that a store leaves behind in a hard life."""
    endings = ["-wal", "-shm", ".new", ".new-wal", ".reserve", ".damaged-1", ".damaged-1-wal", ".keys.new"]
    return [path.with_name(path.name + ending) for ending in endings]


@pytest.mark.parametrize("provider", FINAL)
def test_no_backup_of_any_file_opens_after_it_was_erased(
    tmp_path: Path, provider: Callable[[Path], Callable[[], KeyProvider]]
) -> None:
    """A full backup: every file of the store, made while it could be read; not the wrapping key, which lies apart."""
    keys = provider(tmp_path)
    path = tmp_path / "device" / "store.db"
    make_store(path, keys())
    shutil.copytree(path.parent, tmp_path / "backup")
    assert canary(tmp_path / "backup" / "store.db", keys()) == CANARY
    shutil.rmtree(tmp_path / "backup")
    shutil.copytree(path.parent, tmp_path / "backup")

    report = erase_store(path, keys())

    assert report.copies_unreadable
    assert report.destroyed == ("key slots", "wrapping key", "store.db.anchor", "store.db")
    assert list(path.parent.iterdir()) == []
    for folder in (tmp_path / "backup", tmp_path / "device"):
        for file in (tmp_path / "backup").iterdir():
            if folder.name == "device":
                shutil.copy(file, folder / file.name)
        with pytest.raises(StoreError):
            canary(folder / "store.db", keys())
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or CANARY not in file.read_bytes()


def test_a_provider_whose_key_is_elsewhere_makes_no_promise_for_copies(tmp_path: Path) -> None:
    path = tmp_path / "device" / "store.db"
    key = secrets.token_bytes(32)
    make_store(path, StaticKeyProvider(key))
    shutil.copytree(path.parent, tmp_path / "backup")

    assert not erase_store(path, StaticKeyProvider(key)).copies_unreadable

    assert canary(tmp_path / "backup" / "store.db", StaticKeyProvider(key)) == CANARY
    with pytest.raises(StoreError):
        canary(path, StaticKeyProvider(key))


def test_a_passphrase_says_itself_whether_copies_stay_closed(tmp_path: Path) -> None:
    path = tmp_path / "device" / "store.db"
    cheap = Argon2Cost(memory_kib=64, iterations=1, lanes=1)
    for half, final in ((MemoryVault(), True), (None, False)):
        provider = PassphraseKeyProvider("correct horse battery staple", half, half_name="half", cost=cheap)
        make_store(path, provider)
        assert erase_store(path, provider).copies_unreadable is final


def test_everything_goes_that_a_store_leaves_and_nothing_else(tmp_path: Path) -> None:
    keys = from_file(tmp_path)()
    path = tmp_path / "device" / "store.db"
    make_store(path, keys)
    for file in beside(path):
        file.write_bytes(b"x")
    strangers = [path.with_name(name) for name in ("store.dba", "store.db.txt", "other.db", "astore.db")]
    for stranger in strangers:
        stranger.write_bytes(b"x")
    anchor = VaultAnchor(MemoryVault(), "anchor")
    anchor.write(b"x", durable=True)

    report = erase_store(path, keys, anchor)

    assert sorted(path.parent.iterdir()) == sorted(strangers)
    assert anchor.read() is None
    assert report.destroyed[:4] == ("key slots", "wrapping key", "anchor", "store.db.anchor")
    assert len(report.destroyed) == 4 + 1 + len(beside(path)) - 1  # .keys.new goes with the slots
    assert files_to_erase(path) == []


def test_it_needs_no_key_and_can_be_done_again(tmp_path: Path) -> None:
    path = tmp_path / "device" / "store.db"
    make_store(path, StaticKeyProvider(secrets.token_bytes(32)))
    report = erase_store(path, None)
    assert report.destroyed == ("key slots", "store.db.anchor", "store.db")
    assert not report.copies_unreadable

    assert erase_store(path, None).destroyed == ()
    assert erase_store(tmp_path / "never" / "was.db", None).destroyed == ()
    assert not (tmp_path / "never").exists()


def test_a_store_that_is_open_is_left_alone(tmp_path: Path) -> None:
    keys = from_file(tmp_path)()
    path = tmp_path / "device" / "store.db"
    make_store(path, keys)
    opened = open_store_file(path, keys)
    with closing(opened), pytest.raises(StoreIOError, match="open elsewhere"):
        erase_store(path, keys)

    assert canary(path, keys) == CANARY


class Stubborn:
    """A provider whose key can't be destroyed."""

    destroy_is_final = True

    def __init__(self, key: bytes) -> None:
        self._keys = StaticKeyProvider(key)
        self.stubborn = True

    def wrap(self, data_key: bytes, store_id: bytes) -> bytes:
        return self._keys.wrap(data_key, store_id)

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes:
        return self._keys.unwrap(wrapped, store_id)

    def destroy(self) -> None:
        if self.stubborn:
            raise KeyUnavailable("the vault is locked", "unlock it")


def test_a_step_that_fails_keeps_no_other_back_and_is_said(tmp_path: Path) -> None:
    path = tmp_path / "device" / "store.db"
    keys = Stubborn(secrets.token_bytes(32))
    make_store(path, keys)
    with pytest.raises(KeyUnavailable, match="locked"):
        erase_store(path, keys)
    assert list(path.parent.iterdir()) == []

    keys.stubborn = False
    report = erase_store(path, keys)
    assert report.destroyed == ("wrapping key",)
    assert report.copies_unreadable


def test_a_file_that_can_not_be_removed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "device" / "store.db"
    make_store(path, StaticKeyProvider(secrets.token_bytes(32)))
    path.with_name("store.db.damaged-1").mkdir()
    with pytest.raises(StoreIOError, match=r"store\.db\.damaged-1 can't be removed"):
        erase_store(path, None)

    assert [file.name for file in path.parent.iterdir()] == ["store.db.damaged-1"]


def test_the_ballast_goes_as_well(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make_store(path, StaticKeyProvider(secrets.token_bytes(32)))
    reserve_path(path).write_bytes(b"ballast")
    assert erase_store(path, None).destroyed[-1] == "store.db.reserve"


@pytest.mark.slow
def test_cut_off_anywhere_the_store_is_whole_or_for_ever_closed_and_erasing_again_ends_it(tmp_path: Path) -> None:
    number, outcomes = 0, set()
    while True:
        number += 1
        folder = tmp_path / str(number)
        keys = from_file(folder)
        path = folder / "device" / "store.db"
        make_store(path, keys())
        reached = killed_at(number, lambda path=path, keys=keys: erase_store(path, keys()))  # type: ignore[misc]
        if not slots_path(path).exists():
            outcomes.add("closed")
            with pytest.raises(StoreError):
                canary(path, keys())
        else:
            try:
                assert canary(path, keys()) == CANARY
                outcomes.add("whole")
            except StoreError:
                # Overwritten, and cut off before the name went.
                outcomes.add("closed")
        erase_store(path, keys())
        assert list(path.parent.iterdir()) == []
        with pytest.raises(KeyUnavailable):
            FileKeyProvider(folder / "keys" / "store.key").load()
        if not reached:
            break
    assert number > 5
    assert outcomes == {"whole", "closed"}


def test_a_link_to_the_store_erases_the_store(tmp_path: Path) -> None:
    path = tmp_path / "device" / "store.db"
    make_store(path, StaticKeyProvider(secrets.token_bytes(32)))
    (tmp_path / "link.db").symlink_to(path)
    erase_store(tmp_path / "link.db", None)

    assert list(path.parent.iterdir()) == []
    assert FileAnchor(anchor_path(path)).read() is None
