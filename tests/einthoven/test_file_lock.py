"""One holder at a time, and no lock file left behind."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from einthoven.errors import StoreIOError
from einthoven.file_lock import FileLock


def test_a_lock_is_released_once_and_can_be_taken_again(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "x")
    with pytest.raises(StoreIOError, match="open elsewhere"):
        FileLock(tmp_path / "x")
    lock.release()
    again = FileLock(tmp_path / "x")
    lock.release()

    with pytest.raises(StoreIOError):
        FileLock(tmp_path / "x")
    again.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_can_not_be_removed_does_not_keep_the_lock(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    lock = FileLock(folder / "x")
    folder.rename(tmp_path / "moved")
    folder.touch()  # the lock's name now leads through a file, so that removing it fails

    lock.release()

    FileLock(tmp_path / "moved" / "x").release()


def test_a_lock_file_that_can_not_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "x.lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreIOError, match="can't be made"):
        FileLock(tmp_path / "x")


def test_however_often_it_is_taken_and_given_back_there_is_one_holder(tmp_path: Path) -> None:
    """The lock file is removed with each release: a waiter must not hold one that has no name any more."""
    holders: list[int] = []
    most: list[int] = []
    wanted = 2_000
    end_s = time.monotonic() + 30  # a bound for a stuck lock, not a measure of speed

    def take_turns() -> None:
        while len(most) < wanted and time.monotonic() < end_s:
            try:
                lock = FileLock(tmp_path / "x")
            except StoreIOError:
                time.sleep(0.0002)  # lets the holder get on, however few cores there are
                continue
            holders.append(1)
            most.append(len(holders))
            time.sleep(0)
            most.append(len(holders))
            holders.pop()
            lock.release()

    threads = [threading.Thread(target=take_turns) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(most) >= wanted
    assert max(most) == 1
