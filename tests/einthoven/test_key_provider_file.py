"""The key file: whole or absent, one for all who create it, and refused if others can read it."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from einthoven.errors import KeyUnavailable
from einthoven.file_lock import FileLock
from einthoven.key_provider_file import FileKeyProvider
from einthoven.keys import raw_key_literal


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
        with pytest.raises(KeyUnavailable, match=why):
            FileKeyProvider(tmp_path / name, create=True).load()


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
