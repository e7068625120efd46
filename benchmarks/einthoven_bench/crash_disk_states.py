"""What a disk may hold after a power cut, worked out from a recording of what was done to it. Pure.

What was synced is there. Of what was not, any part may be: writes in any order, each torn at any multiple of 512 bytes,
a file's new size without its content, and a name made, changed or removed without its folder synced may not have been.
That is what POSIX allows and more than most file systems do (Pillai et al., "All file systems are not created equal",
OSDI 2014, section 3). It deliberately assumes that a sector is written whole or not, that a rename is atomic, and that
``fsync`` does not lie.

Invariants:
    1. Each state that is given can come about at its point; no two given for one recording are equal.
    2. The same recording and seed give the same states.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import Final

from einthoven_bench.crash_arena import Picture
from einthoven_bench.crash_recording import Change
from einthoven_bench.crash_shim import CallKind

SECTOR_BYTES: Final = 512
"""What a disk writes whole."""
MAX_ROUNDS: Final = 400
"""Samples tried at each point."""
MAX_IDLE_ROUNDS: Final = 100
"""Samples tried at each point without another state before all are taken to be found."""
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


class Part(Enum):
    """How much of what was not synced is there."""

    NONE = "none"
    ALL = "all"
    FIRST = "first"
    ANY = "any"


@dataclass(frozen=True)
class DiskState:
    """What a disk holds after a power cut.

    Attributes:
        at: Changes made before it.
        marks: Text of the last mark before it; empty before the first.
        picture: Names and contents.
        names: Which of the names that were not synced are there.
        contents: Which of the writes that were not synced are there.
    """

    at: int
    marks: str
    picture: Picture
    names: Part
    contents: Part


@dataclass(frozen=True)
class _Point:
    """The disk at one moment: what is safe, and what is under way."""

    at: int
    mark: str
    names: Mapping[str, int]
    unsynced_names: tuple[Change, ...]
    contents: Mapping[int, bytes]
    unsynced: Mapping[int, tuple[Change, ...]]
    folders: Mapping[str, int]


def disk_states(
    before: Picture, folder: str, folder_inodes: Mapping[int, str], changes: list[Change], wanted: int, seed: int
) -> Iterator[DiskState]:
    """Yield states that a power cut may leave, spread evenly over the recording.

    Args:
        before: The folder when the recording began; all of it is safe.
        folder: Its absolute name.
        folder_inodes: Names under the folder of it (empty) and the folders in it, by inode.
        changes: The recording.
        wanted: States; fewer come where fewer are found.
        seed: Of the choice.
    """
    points = list(_points(before, folder, dict(folder_inodes), changes))
    seen: set[bytes] = set()
    rng = random.Random(seed)  # noqa: S311 - a choice to be repeated, not a secret
    idle_rounds = 0
    for round_number in range(MAX_ROUNDS):
        found = len(seen)
        # In any order: where fewer are wanted than there are points, all parts of the recording have theirs.
        for number, point in enumerate(rng.sample(points, len(points)), round_number):
            if len(seen) >= wanted:
                return
            names, contents = _parts(number, rng)
            picture = _picture(point, folder, names, contents, rng)
            key = _digest(picture, point.mark)
            if key not in seen:
                seen.add(key)
                yield DiskState(point.at, point.mark, picture, names, contents)
        idle_rounds = idle_rounds + 1 if len(seen) == found else 0
        if idle_rounds == MAX_IDLE_ROUNDS:
            return


def _parts(number: int, rng: random.Random) -> tuple[Part, Part]:
    """An extreme, or anything, in turn."""
    extremes = ((Part.NONE, Part.NONE), (Part.ALL, Part.NONE), (Part.NONE, Part.ALL), (Part.ALL, Part.ANY))
    if number % 2:
        return extremes[number // 2 % len(extremes)]
    return rng.choice(list(Part)), rng.choice([Part.NONE, Part.FIRST, Part.ANY, Part.ANY])


def _points(before: Picture, folder: str, folder_inodes: dict[int, str], changes: list[Change]) -> Iterator[_Point]:
    names: dict[str, int] = {f"{folder}/{name}": inode for name, inode in before.names.items()}
    folders = {f"{folder}/{name}": mode for name, mode in before.folders}
    contents: dict[int, bytes] = dict(before.contents)
    unsynced: dict[int, tuple[Change, ...]] = {}
    unsynced_names: list[Change] = []
    folder_names = {inode: f"{folder}/{name}" if name else folder for inode, name in folder_inodes.items()}
    mark = ""
    for at, change in enumerate(changes, 1):
        match change.kind:
            case CallKind.MARK:
                mark = change.content.decode()
            case CallKind.WRITE | CallKind.TRUNCATE | CallKind.ALLOCATE:
                unsynced[change.inode] = (*unsynced.get(change.inode, ()), change)
            case CallKind.SYNC if change.inode in folder_names:
                synced = folder_names[change.inode]
                for waiting in [change for change in unsynced_names if _parent(change) == synced]:
                    _rename(names, folders, waiting)
                    unsynced_names.remove(waiting)
            case CallKind.SYNC:
                contents[change.inode] = _applied(contents.get(change.inode, b""), unsynced.pop(change.inode, ()))
            case _:
                unsynced_names.append(change)
                if change.kind is CallKind.MKDIR:
                    folder_names[change.inode] = change.name
        yield _Point(at, mark, dict(names), tuple(unsynced_names), dict(contents), dict(unsynced), dict(folders))


def _parent(change: Change) -> str:
    return str(PurePosixPath(change.other_name or change.name).parent)


def _rename(names: dict[str, int], folders: dict[str, int], change: Change) -> None:
    """Do one change of names."""
    match change.kind:
        case CallKind.CREATE | CallKind.LINK:
            names[change.name] = change.inode
        case CallKind.MKDIR:
            folders[change.name] = FOLDER_MODE
        case CallKind.RMDIR:
            folders.pop(change.name, None)
        case CallKind.UNLINK:
            names.pop(change.name, None)
        case CallKind.RENAME:
            names.pop(change.name, None)
            if change.other_name:
                names[change.other_name] = change.inode


def _applied(content: bytes, changes: tuple[Change, ...]) -> bytes:
    """All changes of a file, in order."""
    image = bytearray(content)
    for change in changes:
        _apply(image, change, change.offset, change.content)
    return bytes(image)


def _apply(image: bytearray, change: Change, offset: int, content: bytes) -> None:
    if change.kind is CallKind.TRUNCATE and offset < len(image):
        del image[offset:]
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    if change.kind is CallKind.WRITE:
        image[offset : offset + len(content)] = content


def _picture(point: _Point, folder: str, names: Part, contents: Part, rng: random.Random) -> Picture:
    """One disk that this point may leave."""
    there, folders = dict(point.names), dict(point.folders)
    for change in _some(point.unsynced_names, names, rng):
        _rename(there, folders, change)
    inodes = {
        name.removeprefix(f"{folder}/"): inode for name, inode in there.items() if _parents_there(name, folder, folders)
    }
    images = {
        inode: _partly(point.contents.get(inode, b""), point.unsynced.get(inode, ()), contents, rng)
        for inode in sorted(set(inodes.values()))
    }
    kept_folders = tuple((name.removeprefix(f"{folder}/"), mode) for name, mode in sorted(folders.items()))
    return Picture(kept_folders, inodes, images, dict.fromkeys(images, FILE_MODE))


def _parents_there(name: str, folder: str, folders: Mapping[str, int]) -> bool:
    parent = str(PurePosixPath(name).parent)
    return parent == folder or parent in folders


def _some(changes: tuple[Change, ...], part: Part, rng: random.Random) -> tuple[Change, ...]:
    match part:
        case Part.NONE:
            return ()
        case Part.ALL:
            return changes
        case Part.FIRST:
            return changes[: rng.randint(0, len(changes))]
        case Part.ANY:
            return tuple(change for change in changes if rng.random() < 0.5)


def _partly(content: bytes, changes: tuple[Change, ...], part: Part, rng: random.Random) -> bytes:
    """A file of which part of the last changes reached the disk."""
    if part is Part.ANY:
        return _any_sectors(content, changes, rng)
    chosen = _some(changes, part, rng)
    image = bytearray(_applied(content, chosen))
    if part is Part.FIRST and len(chosen) < len(changes) and changes[len(chosen)].kind is CallKind.WRITE:
        under_way = changes[len(chosen)]
        sectors = _sectors(under_way)
        for offset, piece in sectors[: rng.randint(0, len(sectors))]:
            _apply(image, under_way, offset, piece)
    return bytes(image)


def _any_sectors(content: bytes, changes: tuple[Change, ...], rng: random.Random) -> bytes:
    """Any of the changes, each whole or in any of its sectors; of two to one sector the later wins, if it is there."""
    image = bytearray(content)
    likelihood = rng.choice([0.1, 0.5, 0.9])
    for change in changes:
        if change.kind is not CallKind.WRITE:
            if rng.random() < likelihood:
                _apply(image, change, change.offset, b"")
            continue
        is_torn, is_whole = rng.random() < 0.5, rng.random() < likelihood
        for offset, piece in _sectors(change):
            if (rng.random() < likelihood) if is_torn else is_whole:
                _apply(image, change, offset, piece)
        end = change.offset + len(change.content)
        if len(image) < end and rng.random() < 0.25:
            image.extend(bytes(end - len(image)))  # the file's new size without its content
    return bytes(image)


def _sectors(change: Change) -> list[tuple[int, bytes]]:
    """A write cut where the disk's sectors end."""
    pieces, at, end = [], change.offset, change.offset + len(change.content)
    while at < end:
        until = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        pieces.append((at, change.content[at - change.offset : until - change.offset]))
        at = until
    return pieces


def _digest(picture: Picture, mark: str) -> bytes:
    state = hashlib.blake2b(mark.encode(), digest_size=16)
    state.update(repr(picture.folders).encode())
    for name, inode in sorted(picture.names.items()):
        state.update(f"{name}\0{inode}\0{len(picture.contents[inode])}\0".encode())
        state.update(picture.contents[inode])
    return state.digest()
