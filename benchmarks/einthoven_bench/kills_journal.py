"""What a device noted while it lived (``kills_device``), without what went with a store that was put back.

It deliberately judges nothing. Beside the device's lines, ``r OFFSET`` says that its store was put back to where it was
when the journal was so many bytes long.

Invariants:
    1. What was kept since then and nobody acknowledged may be gone; all else that a journal names must be at the
       server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Journal:
    """What a device noted, without what went with a store that was put back.

    Attributes:
        kept: Results by serial.
        begun: Results that were about to be kept with their signal; there they are, or they are not.
        signals: Of them, those that were.
        notes: Notes by serial.
        acknowledged: Results that the server acknowledged.
        notes_acknowledged: Notes that it did.
        signals_acknowledged: Digests of the signals that it did, in hex.
        given_back: Results that the server had acknowledged and lost, as often as they were given back to it.
        repairs: Requests of repairs.
        resumed: Uploads that went on.
    """

    kept: set[int] = field(default_factory=set)
    begun: set[int] = field(default_factory=set)
    signals: set[int] = field(default_factory=set)
    notes: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    notes_acknowledged: set[int] = field(default_factory=set)
    signals_acknowledged: set[str] = field(default_factory=set)
    given_back: int = 0
    repairs: int = 0
    resumed: int = 0


def read_journal(path: Path) -> Journal:
    """Read a device's journal (``kills_device``, and ``r OFFSET`` where its store was put back)."""
    found, at = Journal(), 0
    kept = {"a": found.kept, "s": found.signals, "n": found.notes}
    said = {"t": found.begun, "k": found.acknowledged, "m": found.notes_acknowledged}
    since: list[tuple[int, str, int]] = []
    for line in _lines(path):
        kind, _, what = line.strip().partition(" ")
        if kind in kept:
            since.append((at, kind, int(what)))
            kept[kind].add(int(what))
        elif kind in said:
            said[kind].add(int(what))
        elif kind == "u":
            found.signals_acknowledged.add(what)
        elif kind == "r":
            back = int(what)
            for _, which, serial in (one for one in since if one[0] >= back):
                kept[which].discard(serial)
            since = [one for one in since if one[0] < back]
        found.given_back += int(what) if kind == "g" else 0
        found.repairs += kind == "f"
        found.resumed += kind == "p"
        at += len(line)
    return found


def _lines(journal: Path) -> list[str]:
    """Whole lines; a process killed while it wrote leaves at most one that is not."""
    if not journal.exists():
        return []
    return [line for line in journal.read_text(encoding="ascii").splitlines(keepends=True) if line.endswith("\n")]
