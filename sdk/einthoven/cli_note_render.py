"""How `einthoven note` shows the diary: one JSON document, and the same for people.

Pure but for the printing. Only here does the command show what a patient wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from einthoven.cli_sync_render import utc
from einthoven.identity import Identity
from einthoven.noting import note_name
from einthoven_protocol.messages import NoteRow

Document = dict[str, Any]


def notes_document(notes: Sequence[NoteRow], identity: Identity) -> Document:
    """Return notes of the diary, each with the name that deletes it."""
    return {
        "notes": [
            {
                "name": note_name(note),
                "at": utc(note.at_ms),
                "text": note.text,
                "mine": note.device_alias == identity.device_alias,
                "by_patient": note.author == identity.patient_id,
            }
            for note in notes
        ]
    }


def show_notes(out: Console, document: Document) -> None:
    """Show notes, a line each."""
    table = Table(box=None, pad_edge=False)
    for name in ("time (UTC)", "name", "note"):
        table.add_column(name, overflow="fold")
    for note in document["notes"]:
        by = "" if note["by_patient"] else "[clinic] "
        table.add_row(note["at"][:16].replace("T", " "), note["name"], _plain(by + note["text"]))
    out.print(table if document["notes"] else "There are no notes.")


def _plain(text: str) -> str:
    """Text without what a terminal or rich would act on."""
    return "".join(character if character.isprintable() else " " for character in text).replace("[", r"\[")
