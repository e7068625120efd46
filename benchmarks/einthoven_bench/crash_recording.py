"""What ``crash_shim.c`` wrote down of a script: every change of the folder, in order, with its bytes. Pure.

It deliberately draws no conclusion; what a disk may hold of it is worked out in ``crash_disk_states``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from einthoven_bench.crash_shim import CallKind

_HEAD: Final = struct.Struct("<IIQqIII")


@dataclass(frozen=True)
class Change:
    """One line of a recording.

    Attributes:
        kind: What was done.
        inode: To which file or folder.
        offset: Of a write; new size of a truncation; end of an allocation.
        name: First name, absolute.
        other_name: New name of a rename, absolute.
        content: What was written; the text of a mark.
    """

    kind: CallKind
    inode: int
    offset: int
    name: str
    other_name: str
    content: bytes


def read_changes(recording: bytes) -> list[Change]:
    """Understand what ``crash_shim.c`` recorded; a last line that was cut off is left out."""
    changes, at = [], 0
    while at + _HEAD.size <= len(recording):
        kind, _, inode, offset, *lengths = _HEAD.unpack_from(recording, at)
        at += _HEAD.size
        parts = []
        for length in lengths:
            parts.append(recording[at : at + length])
            at += length
        if at > len(recording):
            break
        changes.append(Change(CallKind(kind), inode, offset, parts[0].decode(), parts[1].decode(), parts[2]))
    return changes
