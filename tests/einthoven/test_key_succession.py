"""One key file takes another's place: whatever was cut off, one of them opens the store, and the right one is kept."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from einthoven.errors import KeyUnavailable, WrongKey
from einthoven.key_provider_file import FileKeyProvider
from einthoven.key_slots import KeySlot, KeySlots, write_slots
from einthoven.key_succession import SucceedingKeyProvider, key_provider, settle_succession, successor_path

STORE_ID, DATA_KEY = secrets.token_bytes(16), secrets.token_bytes(32)


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    """A key file, and beside it its successor."""
    for name in ("store.key", "store.key.next"):
        FileKeyProvider(tmp_path / name, create=True).load()
    assert successor_path(tmp_path / "store.key") == tmp_path / "store.key.next"
    return tmp_path / "store.key"


def slots_by(key_path: Path, *names: str) -> Path:
    """Key slots of a store, wrapped by these key files."""
    store = key_path.with_name("store.db")
    wraps = [FileKeyProvider(key_path.with_name(name)).wrap(DATA_KEY, STORE_ID) for name in names]
    write_slots(store, KeySlots(STORE_ID, tuple(KeySlot(wrap, secrets.token_bytes(16)) for wrap in wraps)))
    return store


def test_both_are_tried(key_path: Path) -> None:
    present, successor = FileKeyProvider(key_path), FileKeyProvider(successor_path(key_path))
    both = key_provider(key_path)
    assert isinstance(both, SucceedingKeyProvider)
    assert both.load() == present.load()
    for one in (present, successor, both):
        assert both.unwrap(one.wrap(DATA_KEY, STORE_ID), STORE_ID) == DATA_KEY
    assert present.unwrap(both.wrap(DATA_KEY, STORE_ID), STORE_ID) == DATA_KEY
    with pytest.raises(WrongKey):
        both.unwrap(present.wrap(DATA_KEY, STORE_ID), secrets.token_bytes(16))
    assert present.load().hex() not in repr(both)
    both.destroy()
    both.destroy()
    assert list(key_path.parent.iterdir()) == []


def test_without_a_successor_there_is_one_key_file(tmp_path: Path) -> None:
    one = key_provider(tmp_path / "store.key", create=True)
    assert isinstance(one, FileKeyProvider)
    with pytest.raises(KeyUnavailable):
        key_provider(tmp_path / "store.key").unwrap(b"x", STORE_ID)
    assert one.unwrap(one.wrap(DATA_KEY, STORE_ID), STORE_ID) == DATA_KEY


@pytest.mark.parametrize(("opens", "kept"), [("store.key", "store.key"), ("store.key.next", "store.key.next")])
def test_the_one_that_opens_the_store_stays(key_path: Path, opens: str, kept: str) -> None:
    expected = key_path.with_name(kept).read_bytes()
    store = slots_by(key_path, opens)
    settle_succession(store, key_path)
    assert key_path.read_bytes() == expected
    assert not successor_path(key_path).exists()
    settle_succession(store, key_path)
    assert key_path.read_bytes() == expected


def test_nothing_is_settled_while_a_store_has_no_slots(key_path: Path) -> None:
    settle_succession(key_path.with_name("store.db"), key_path)
    assert key_path.exists()
    assert successor_path(key_path).exists()


def test_a_successor_that_lost_its_forerunner_takes_the_name(key_path: Path) -> None:
    expected = successor_path(key_path).read_bytes()
    key_path.unlink()
    assert isinstance(key_provider(key_path), FileKeyProvider)
    assert key_path.read_bytes() == expected
    assert not successor_path(key_path).exists()


def test_a_successor_that_can_not_take_the_name_is_said(key_path: Path) -> None:
    store = slots_by(key_path, "store.key.next")
    new = successor_path(key_path).read_bytes()
    key_path.unlink()
    key_path.mkdir()  # something else has the name
    with pytest.raises(KeyUnavailable):
        settle_succession(store, key_path)
    assert successor_path(key_path).read_bytes() == new, "the only key that opens the store must stay"


def test_a_successor_that_others_can_read_is_refused_and_nothing_is_destroyed(key_path: Path) -> None:
    store = slots_by(key_path, "store.key")
    successor_path(key_path).chmod(0o644)
    with pytest.raises(KeyUnavailable):
        settle_succession(store, key_path)
    assert key_path.exists()
