"""A folder in which a store is broken over and over: laid out from a picture, played in, looked at.

The same picture is laid out each time with the same inodes, because a store knows its file by its inode; so every file
of a picture has a second name in a folder beside, and its content is put back through that name. It deliberately knows
nothing of stores.

Invariants:
    1. What is laid out has the bytes, names, modes and inode numbers of the picture, and nothing else is in the folder.
    2. A process that was started here has ended before ``play_apart`` returns.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HANG_S: Final = 30.0
"""Seconds after which a script that has not ended is taken to hang."""
_FRAME: Final = struct.Struct("<I")


@dataclass(frozen=True)
class Picture:
    """Names and contents of a folder.

    Attributes:
        folders: Names under the folder, parents first, each with its mode.
        names: Inode of each file by its name under the folder.
        contents: Bytes of each inode.
        modes: Permissions of each inode.
    """

    folders: tuple[tuple[str, int], ...]
    names: Mapping[str, int]
    contents: Mapping[int, bytes]
    modes: Mapping[int, int]


class Arena:
    """A folder to break things in, and one beside it that keeps its inodes."""

    def __init__(self, root: Path) -> None:
        """Make both folders under ``root``, which is taken over and should be in memory (``/dev/shm``)."""
        self.folder = root / "watched"
        self.kept = root / "kept"
        self.folder.mkdir(mode=0o700)
        self.kept.mkdir(mode=0o700)

    def clear(self) -> None:
        """Remove everything, also the inodes that were kept."""
        for folder in (self.folder, self.kept):
            _empty(folder)

    def picture(self) -> Picture:
        """What is in the folder now; its inodes are kept."""
        folders, names, contents, modes = [], {}, {}, {}
        for path in sorted(self.folder.rglob("*")):
            status = path.lstat()
            name = str(path.relative_to(self.folder))
            if path.is_dir():
                folders.append((name, status.st_mode & 0o777))
                continue
            names[name] = status.st_ino
            modes[status.st_ino] = status.st_mode & 0o777
            contents[status.st_ino] = path.read_bytes()
            kept = self.kept / str(status.st_ino)
            if not kept.exists():
                os.link(path, kept)
        return Picture(tuple(folders), names, contents, modes)

    def lay_out(self, picture: Picture) -> None:
        """Make the folder what the picture shows."""
        _empty(self.folder)
        for name, mode in picture.folders:
            (self.folder / name).mkdir(mode=mode)
        for name, inode in picture.names.items():
            kept = self.kept / str(inode)
            kept.write_bytes(picture.contents[inode])
            kept.chmod(picture.modes.get(inode, 0o600))
            os.link(kept, self.folder / name)

    def play_apart(self, play: Callable[[Callable[[bytes], None]], None]) -> tuple[list[bytes], str]:
        """Call ``play`` in a process of its own with a function that tells this one something.

        Returns:
            What was told, and how the process ended: ``"ended"``, ``"killed"``, ``"hung"``, or ``"exit N"``.
        """
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _play_and_exit(play, writing)
        os.close(writing)
        received, hung = _read_to_end(reading)
        os.close(reading)
        if hung:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if hung:
            end = "hung"
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            end = "killed" if number == signal.SIGKILL else f"signal {number}"
        else:
            end = "ended" if os.WEXITSTATUS(status) == 0 else f"exit {os.WEXITSTATUS(status)}"
        return _frames(received), end


def _play_and_exit(play: Callable[[Callable[[bytes], None]], None], writing: int) -> None:
    def tell(line: bytes) -> None:
        frame = _FRAME.pack(len(line)) + line
        while frame:
            frame = frame[os.write(writing, frame) :]

    code = 1
    try:
        play(tell)
        code = 0
    finally:
        os._exit(code)


def _read_to_end(descriptor: int) -> tuple[bytes, bool]:
    received = bytearray()
    give_up_at_s = time.monotonic() + HANG_S
    while True:
        left_s = give_up_at_s - time.monotonic()
        if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
            return bytes(received), True
        part = os.read(descriptor, 1 << 16)
        if not part:
            return bytes(received), False
        received += part


def _frames(received: bytes) -> list[bytes]:
    lines, at = [], 0
    while at + _FRAME.size <= len(received):
        (size,) = _FRAME.unpack_from(received, at)
        at += _FRAME.size
        if at + size > len(received):
            break
        lines.append(received[at : at + size])
        at += size
    return lines


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
