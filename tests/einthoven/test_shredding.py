"""Shredding: overwritten, gone, and nothing else touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from einthoven.shredding import MAX_SHREDDED_BYTES, shred

SECRET = b"an old wrapped key, " * 10


def test_a_file_is_overwritten_before_its_name_goes(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    with path.open("rb") as held:
        shred(path)

        left = held.read()

    assert not path.exists()
    assert len(left) == len(SECRET)
    assert all(SECRET[i : i + 4] not in left for i in range(20))


def test_one_that_is_not_there_is_no_error_nor_is_its_folder(tmp_path: Path) -> None:
    shred(tmp_path / "none")
    shred(tmp_path / "none" / "none")

    assert list(tmp_path.iterdir()) == []


def test_a_link_goes_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(SECRET)
    (tmp_path / "link").symlink_to(tmp_path / "photo")

    shred(tmp_path / "link")

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("photo", SECRET)]


def test_a_pipe_goes_without_being_waited_for_and_a_folder_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()

    shred(tmp_path / "pipe")
    with pytest.raises(OSError, match="folder"):
        shred(tmp_path / "folder")

    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_no_more_than_the_limit_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * (MAX_SHREDDED_BYTES + 100))
    with path.open("rb") as held:
        shred(path)

        left = held.read()

    assert left[MAX_SHREDDED_BYTES:] == b"x" * 100
    assert left[:MAX_SHREDDED_BYTES].count(b"x") < MAX_SHREDDED_BYTES // 50
