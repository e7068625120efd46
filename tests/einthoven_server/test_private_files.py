"""The data folder and its private files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from einthoven_server.errors import DataFolderBusy, DataFolderUnsafe, KeyUnavailable
from einthoven_server.private_files import held, make_data_folder, read_or_make, read_private, write_atomically


def test_a_new_data_folder_is_closed_to_others(tmp_path: Path) -> None:
    make_data_folder(tmp_path / "deep" / "data")
    assert (tmp_path / "deep" / "data").stat().st_mode & 0o777 == 0o700


def test_an_open_data_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(DataFolderUnsafe, match="chmod 700"):
        make_data_folder(tmp_path)


def test_a_file_or_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderUnsafe):
        make_data_folder(tmp_path / "file")
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(DataFolderUnsafe):
        make_data_folder(tmp_path / "link")


def test_one_process_holds_a_folder(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(DataFolderBusy, match="another server"), held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_a_private_file_is_0600_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        write_atomically(path, b"one")
        write_atomically(path, b"two")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_private(path) == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_others_may_touch_is_not_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    write_atomically(path, b"secret")
    path.chmod(mode)
    with pytest.raises(KeyUnavailable, match="chmod 600") as refused:
        read_private(path)
    assert "secret" not in str(refused.value)


def test_a_link_a_folder_and_nothing_are_not_read(tmp_path: Path) -> None:
    write_atomically(tmp_path / "key", b"x")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder", "missing"):
        with pytest.raises(KeyUnavailable):
            read_private(tmp_path / name)
    with pytest.raises(KeyUnavailable):
        read_or_make(tmp_path / "link", lambda: b"never")


def test_it_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert read_or_make(path, lambda: b"first") == b"first"
    assert read_or_make(path, lambda: b"second") == b"first"


def test_what_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataFolderUnsafe, match="can't write ready"):
        write_atomically(tmp_path / "nowhere" / "ready", b"")
    (tmp_path / "lock").mkdir()
    with pytest.raises(DataFolderUnsafe, match="can't lock"), held(tmp_path):
        pass
