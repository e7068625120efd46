"""What happens to a store, as the command says it: a line each. Pure but for the printing."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from rich.console import Console

from einthoven.store_events import (
    AnchorFailed,
    ContentDropped,
    DamageQuarantined,
    ForkReason,
    StoreEvent,
    StoreForked,
    StoreMigrated,
)
from einthoven.store_values import ContentKind, DamageReason, DropReason

Document = dict[str, Any]

_FORKED: Final = {
    ForkReason.TURNED_BACK: "its file is older than what was written last (restored from a backup?)",
    ForkReason.DIVERGED: "its file is not the one that was written last (restored from a backup?)",
    ForkReason.ANCHOR_MISSING: "the anchor that tells its age is gone",
    ForkReason.ANCHOR_UNREADABLE: "the anchor that tells its age is not this store's own",
    ForkReason.COPIED: "its file is a copy, and the other may be in use",
    ForkReason.FOREIGN: "the anchor beside it belongs to another store",
    ForkReason.SERVER_AHEAD: "the server holds results that are no longer here",
    ForkReason.SERVER_BEHIND: "the server lacks results that are no longer here",
    ForkReason.COUNTER_REUSED: "the server holds other results under the same numbers",
    ForkReason.REPAIRED: "rows were lost to damage",
}
_DROPPED: Final = {
    DropReason.AGE: "it was older than the policy keeps it",
    DropReason.SIZE: "the store reached its ceiling",
    DropReason.DISK_FULL: "the disk was full",
}
_KINDS: Final = {
    ContentKind.RESULT: "result",
    ContentKind.SEGMENT: "raw signal",
    ContentKind.BEATS: "run of beats",
    ContentKind.ANNOTATION: "annotation",
    ContentKind.SETTING: "setting",
    ContentKind.SYNC: "place in the sync",
    ContentKind.AUDIT: "audit entry",
    ContentKind.NOTE: "note",
    ContentKind.REPLICA: "result of another device",
    ContentKind.DOCUMENT: "document",
}
DAMAGE_TEXT: Final = {
    DamageReason.PAGE_UNREADABLE: "its bytes were changed",
    DamageReason.PAGE_TURNED_BACK: "an old page was put in its place",
    DamageReason.STRUCTURE: "the tables do not hold together",
    DamageReason.TAG_WRONG: "it is not the row that was written there",
    DamageReason.ROW_MISSING: "it is not there",
    DamageReason.ROW_UNREADABLE: "it can't be decoded",
    DamageReason.SUM_WRONG: "rows vanished or came back",
    DamageReason.CHAIN_BROKEN: "it does not follow from the entry before",
    DamageReason.ANCHOR_WRONG: "the file is not the one that was written last",
}


def events_document(events: Sequence[StoreEvent]) -> list[Document]:
    """Return what happened to a store."""
    return [
        {"event": _snake(type(event).__name__)}
        | {field.name: _plain(getattr(event, field.name)) for field in fields(event)}
        | {"said": event_line(event)}
        for event in events
    ]


def event_line(event: StoreEvent) -> str:
    """Say in one line what happened to a store, and what to do where something is to be done."""
    match event:
        case StoreForked():
            return (
                f"The store goes on in epoch {event.new_epoch} after {event.old_epoch}: {_FORKED[event.reason]}. "
                "Sync soon."
            )
        case ContentDropped():
            lost = f", {event.unacknowledged} of them on no server" if event.unacknowledged else ""
            return (
                f"Dropped: {counted(event.count, _KINDS[event.kind])} ({event.dropped_bytes:,} B){lost}, because "
                f"{_DROPPED[event.reason]}."
            )
        case DamageQuarantined():
            return f"Lost to damage: {_KINDS[event.kind]} {event.place}: {DAMAGE_TEXT[event.reason]}."
        case StoreMigrated():
            return (
                f"The store was brought from format {event.from_version} to {event.to_version}; older versions of this "
                "software can't open it any more."
            )
        case AnchorFailed():
            return f"The store's anchor can't be written ({event.problem}), so nothing is sent; see to its folder."


def show_events(out: Console, document: Sequence[Document]) -> None:
    """Show what happened, a line each."""
    for event in document:
        out.print(event["said"], markup=False, soft_wrap=True)


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _plain(value: object) -> object:
    return value.name.lower() if isinstance(value, enum.Enum) else value


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("_")
