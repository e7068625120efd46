"""The key file: whole or absent, one for all who create it, and refused if others can read it."""

from __future__ import annotations

import multiprocessing
import os
import resource
import stat
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from einthoven.errors import KeyUnavailable, WrongKey
from einthoven.file_lock import FileLock
from einthoven.key_provider_file import FileKeyProvider
from einthoven.keys import StaticKeyProvider, associated_data, raw_key_literal

DATA_KEY = bytes(range(100, 132))
STORE_ID = bytes(range(16))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_is_made_once_private_and_alone_in_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"
    previous = os.umask(0)
    try:
        key = FileKeyProvider(path, create=True).load()
    finally:
        os.umask(previous)

    assert path.read_bytes() == key
    assert FileKeyProvider(path, create=True).load() == key
    assert FileKeyProvider(path).load() == key
    assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)
    assert list(path.parent.iterdir()) == [path]


def test_two_files_get_two_keys(tmp_path: Path) -> None:
    assert FileKeyProvider(tmp_path / "a", create=True).load() != FileKeyProvider(tmp_path / "b", create=True).load()


def test_without_leave_to_create_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailable, match="there is no key file"):
        FileKeyProvider(tmp_path / "new" / "key").load()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601])
def test_a_file_that_others_reach_is_refused_and_left(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    key = FileKeyProvider(path, create=True).load()
    path.chmod(mode)

    with pytest.raises(KeyUnavailable, match="chmod 600"):
        FileKeyProvider(path, create=True).load()

    assert (path.read_bytes(), mode_of(path)) == (key, mode)


@pytest.mark.parametrize("length", [0, 31, 33, 100_000])
def test_a_file_of_another_length_is_refused_and_left(tmp_path: Path, length: int) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(b"x" * length)

    with pytest.raises(KeyUnavailable, match=f"{length} bytes"):
        FileKeyProvider(path, create=True).load()

    assert path.stat().st_size == length


def test_a_symbolic_link_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    FileKeyProvider(tmp_path / "key", create=True).load()
    (tmp_path / "link").symlink_to(tmp_path / "key")
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)

    for name, why in (("link", "symbolic link"), ("folder", "not a regular file"), ("pipe", "not a regular file")):
        for create in (True, False):
            with pytest.raises(KeyUnavailable, match=why):
                FileKeyProvider(tmp_path / name, create=create).load()


def test_a_dangling_link_does_not_make_a_key_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(KeyUnavailable):
        FileKeyProvider(tmp_path / "link", create=True).load()

    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    FileKeyProvider(tmp_path / "key", create=True).load()
    os.chown(tmp_path / "key", 12345, 12345)

    with pytest.raises(KeyUnavailable, match="another user"):
        FileKeyProvider(tmp_path / "key").load()


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(KeyUnavailable):
        FileKeyProvider(tmp_path / "file" / "key", create=True).load()


def test_what_a_power_cut_left_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "key.new").write_bytes(b"half")
    (tmp_path / "key.lock").touch()

    key = FileKeyProvider(tmp_path / "key", create=True).load()

    assert (tmp_path / "key").read_bytes() == key
    assert list(tmp_path.iterdir()) == [tmp_path / "key"]


def _load(path: Path) -> bytes:
    return FileKeyProvider(path, create=True).load()


def test_processes_that_create_at_once_end_with_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        keys = pool.map(_load, [tmp_path / "key"] * 16, chunksize=1)

    assert set(keys) == {(tmp_path / "key").read_bytes()}


def test_somebody_who_holds_the_lock_for_ever_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "key")
    try:
        with pytest.raises(KeyUnavailable, match="can't be made"):
            FileKeyProvider(tmp_path / "key", create=True).load()
    finally:
        lock.release()


def test_the_literal_is_hexadecimal_only() -> None:
    assert raw_key_literal(b"\"';" + bytes(range(29))) == "x'22273b" + bytes(range(29)).hex() + "'"


def test_the_first_wrap_makes_the_file_and_unwrapping_never_does(tmp_path: Path) -> None:
    wrapped = FileKeyProvider(tmp_path / "key", create=True).wrap(DATA_KEY, STORE_ID)
    assert FileKeyProvider(tmp_path / "key").unwrap(wrapped, STORE_ID) == DATA_KEY
    (tmp_path / "key").unlink()

    with pytest.raises(KeyUnavailable, match="there is no key file"):
        FileKeyProvider(tmp_path / "key", create=True).unwrap(wrapped, STORE_ID)
    with pytest.raises(KeyUnavailable, match="there is no key file"):
        FileKeyProvider(tmp_path / "key").wrap(DATA_KEY, STORE_ID)

    assert list(tmp_path.iterdir()) == []


def test_a_key_file_of_version_1_wraps_but_its_bytes_are_not_the_cipher_s_key(tmp_path: Path) -> None:
    """They encrypted the store itself; one key, one purpose."""
    key = FileKeyProvider(tmp_path / "key", create=True).load()
    wrapped = FileKeyProvider(tmp_path / "key").wrap(DATA_KEY, STORE_ID)
    header, nonce, ciphertext = wrapped[:2], wrapped[2:14], wrapped[14:]

    with pytest.raises(InvalidTag):
        AESGCM(key).decrypt(nonce, ciphertext, associated_data(header, STORE_ID))
    with pytest.raises(WrongKey):
        StaticKeyProvider(DATA_KEY).unwrap(wrapped, STORE_ID)
    assert StaticKeyProvider(key).unwrap(wrapped, STORE_ID) == DATA_KEY


def test_a_destroyed_key_is_overwritten_and_gone_with_what_a_crash_left(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = FileKeyProvider(path, create=True).load()
    prepared = tmp_path / "key.new"
    prepared.write_bytes(b"half a key")
    with path.open("rb") as first, prepared.open("rb") as second:
        FileKeyProvider(path).destroy()

        left = first.read() + second.read()

    assert list(tmp_path.iterdir()) == []
    assert key not in left
    assert b"half" not in left


def test_a_destroyed_key_is_made_again_by_a_new_provider_only(tmp_path: Path) -> None:
    provider = FileKeyProvider(tmp_path / "key", create=True)
    key = provider.load()
    provider.destroy()

    with pytest.raises(KeyUnavailable, match="was destroyed"):
        provider.load()

    assert FileKeyProvider(tmp_path / "key", create=True).load() != key


def test_a_key_that_others_could_read_can_be_destroyed(tmp_path: Path) -> None:
    path = tmp_path / "key"
    FileKeyProvider(path, create=True).load()
    path.chmod(0o644)

    FileKeyProvider(path).destroy()

    assert list(tmp_path.iterdir()) == []


def test_a_slip_in_the_name_destroys_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_bytes(b"years of work")
    (tmp_path / "folder").mkdir()
    FileKeyProvider(tmp_path / "key", create=True).load()
    (tmp_path / "link").symlink_to(tmp_path / "key")
    (tmp_path / "key.new").write_bytes(b"somebody else's, and longer than a key is")

    for name, why in (("thesis", "13 bytes"), ("folder", "regular file"), ("link", "symbolic link"), ("key", "bytes")):
        with pytest.raises(KeyUnavailable, match=why):
            FileKeyProvider(tmp_path / name).destroy()

    assert (tmp_path / "thesis").read_bytes() == b"years of work"
    assert (tmp_path / "key.new").read_bytes().startswith(b"somebody")
    assert not (tmp_path / "key").exists()


def test_there_is_nothing_to_destroy_where_there_is_no_folder(tmp_path: Path) -> None:
    FileKeyProvider(tmp_path / "none" / "key").destroy()

    assert list(tmp_path.iterdir()) == []


def test_a_key_that_can_not_be_overwritten_is_said_to_be_there_still(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = FileKeyProvider(path, create=True).load()
    provider = FileKeyProvider(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(KeyUnavailable, match="can't be destroyed"):
            provider.destroy()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert provider.load() == key
