"""How `einthoven store` shows things: one JSON document each, and the same for people.

Pure but for the printing. A document is made first and shown second, so that both say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from einthoven.cli_store_events import DAMAGE_TEXT, counted, events_document, show_events
from einthoven.ports import SyncState
from einthoven.store_erase import ErasureReport
from einthoven.store_events import StoreEvent
from einthoven.store_export import ExportReport
from einthoven.store_values import CheckReport, Quarantined, StoreStats

Document = dict[str, Any]

SHOWN_FINDINGS: Final = 20
"""Findings and losses listed for people; the rest are counted."""
# ---- check -----------------------------------------------------------------------------------------------------------


def check_document(
    report: CheckReport, quarantined: Sequence[Quarantined], events: Sequence[StoreEvent], *, repaired: bool
) -> Document:
    """Return what reading everything found; after a repair, what is left."""
    return {
        "sound": report.sound,
        "repaired": repaired,
        "pages": report.pages,
        "rows": report.rows,
        "findings": [
            {"reason": found.reason.name.lower(), "place": found.place, "said": DAMAGE_TEXT[found.reason]}
            for found in report.findings
        ],
        "quarantined": [
            {
                "kind": one.kind.name.lower(),
                "place": one.place,
                "reason": one.reason.name.lower(),
                "found_at": _utc(one.found_at_ms),
            }
            for one in quarantined
        ],
        "events": events_document(events),
    }


def show_check(out: Console, document: Document) -> None:
    """Show what was looked at, and what was found."""
    show_events(out, document["events"])
    looked = f"{counted(document['pages'], 'page')} and {counted(document['rows'], 'row')}"
    if document["sound"]:
        out.print(f"Sound: {looked} are as they were written.", soft_wrap=True)
    else:
        out.print(f"DAMAGED: {len(document['findings'])} findings in {looked}.", style="red", soft_wrap=True)
        _list(out, [f"{found['place'] or 'store'}: {found['said']}" for found in document["findings"]])
        out.print(
            "Run `einthoven store check --repair`: what is whole is kept, what was lost is listed.", soft_wrap=True
        )
    if document["quarantined"]:
        out.print(f"Lost to damage, now or before: {len(document['quarantined'])}", soft_wrap=True)
        _list(out, [f"{one['kind']} {one['place']} ({one['reason']})" for one in document["quarantined"]])


# ---- rekey, export, erase --------------------------------------------------------------------------------------------


def rekey_document(events: Sequence[StoreEvent], *, new_key_file: bool) -> Document:
    """Return what rekeying did."""
    return {"rekeyed": True, "new_key_file": new_key_file, "events": events_document(events)}


def show_rekey(out: Console, document: Document) -> None:
    """Show that it was done."""
    show_events(out, document["events"])
    other = " and another key file" if document["new_key_file"] else ""
    out.print(
        f"The store has a new data key{other}; copies of the old file do not open with what is written now.",
        soft_wrap=True,
    )


def export_document(report: ExportReport) -> Document:
    """Return what an export wrote."""
    return {
        "folder": str(report.folder),
        "results": report.results,
        "annotations": report.annotations,
        "beats": report.beats,
        "audit_entries": report.audit_entries,
        "quarantined": report.quarantined,
        "signals": [
            {
                "name": file.name,
                "started_at": _utc(file.started_at_ms),
                "ended_at": _utc(file.ended_at_ms),
                "summary": file.summary,
            }
            for file in report.signals
        ],
        "lost_signals": [
            {
                "epoch": one.epoch,
                "first_counter": one.first_counter,
                "last_counter": one.last_counter,
                "reason": one.reason.value,
            }
            for one in report.lost
        ],
        "files": [{"name": file.name, "bytes": file.n_bytes, "sha256": file.sha256.hex()} for file in report.files],
    }


def show_export(out: Console, document: Document) -> None:
    """Show what was written, and what is missing."""
    total = sum(file["bytes"] for file in document["files"])
    out.print(
        f"Exported to {document['folder']}: {counted(document['results'], 'result')}, "
        f"{counted(document['annotations'], 'annotation')}, {counted(document['beats'], 'beat')}, "
        f"{counted(len(document['signals']), 'recording')}, {total:,} B.",
        markup=False,
        soft_wrap=True,
    )
    lost = sum(one["last_counter"] - one["first_counter"] + 1 for one in document["lost_signals"])
    if lost or document["quarantined"]:
        out.print(
            f"Not in it: the signal of {counted(lost, 'result')}, {document['quarantined']} lost to damage before; "
            "lost.csv says which and why.",
            soft_wrap=True,
        )
    out.print("Nothing in that folder is encrypted: keep it safe, and delete it when it has served.", soft_wrap=True)


def erase_document(report: ErasureReport, home: Path) -> Document:
    """Return what was destroyed."""
    return {
        "home": str(home),
        "destroyed": list(report.destroyed),
        "copies_unreadable": report.copies_unreadable,
    }


def show_erase(out: Console, document: Document) -> None:
    """Show what was destroyed, and what that means for copies."""
    if not document["destroyed"]:
        out.print("There was nothing to erase.", soft_wrap=True)
        return
    out.print(f"Destroyed, in this order: {', '.join(document['destroyed'])}.", markup=False, soft_wrap=True)
    if document["copies_unreadable"]:
        out.print("Copies of the store can't be opened any more, unless somebody copied its key file.", soft_wrap=True)
    else:
        out.print("Copies of the store made before may still be opened by who has its key.", soft_wrap=True)


# ---- stats -----------------------------------------------------------------------------------------------------------


def stats_document(stats: StoreStats, state: SyncState, disk_free_bytes: int, events: Sequence[StoreEvent]) -> Document:
    """Return what a store holds, how large it is, and what could go."""
    return {
        "rows": {
            "results": stats.results,
            "annotations": stats.annotations,
            "segments": stats.segments,
            "beats": stats.beats,
            "audit_entries": stats.audit_entries,
            "quarantined": stats.quarantined,
        },
        "bytes": {
            "files": stats.file_bytes,
            "signal": stats.segment_bytes,
            "free_in_file": stats.free_bytes,
            "free_on_disk": disk_free_bytes,
        },
        "oldest": None if stats.oldest_ms is None else _utc(stats.oldest_ms),
        "newest": None if stats.newest_ms is None else _utc(stats.newest_ms),
        "epoch": state.epoch,
        "epochs": stats.epochs,
        "waiting": state.waiting,
        "segments_only_here": stats.unacknowledged_segments,
        "segments_that_may_go": stats.segments - stats.unacknowledged_segments,
        "events": events_document(events),
    }


def show_stats(out: Console, document: Document) -> None:
    """Show a store's figures in a few lines."""
    show_events(out, document["events"])
    rows, sizes = document["rows"], document["bytes"]
    out.print(
        f"Holds {counted(rows['results'], 'result')}, {counted(rows['beats'], 'beat')}, "
        f"{counted(rows['annotations'], 'annotation')}, {counted(rows['segments'], 'raw signal')}, "
        f"{counted(rows['audit_entries'], 'audit entry', 'audit entries')}",
        soft_wrap=True,
    )
    if document["oldest"]:
        out.print(f"From {document['oldest']} to {document['newest']}", soft_wrap=True)
    out.print(
        f"Takes {sizes['files']:,} B: raw signal {sizes['signal']:,} B, free within {sizes['free_in_file']:,} B; "
        f"free on the disk {sizes['free_on_disk']:,} B",
        soft_wrap=True,
    )
    out.print(
        f"Waiting for the server: {counted(document['waiting'], 'row')}; raw signals on no server: "
        f"{document['segments_only_here']:,}, those that a retention policy may drop: "
        f"{document['segments_that_may_go']:,}",
        soft_wrap=True,
    )
    turned = "" if document["epochs"] == 1 else f" (number {document['epoch']}; it was turned back or repaired)"
    out.print(f"Epochs: {document['epochs']}{turned}; lost to damage: {rows['quarantined']}", soft_wrap=True)


def _list(out: Console, lines: Sequence[str]) -> None:
    for line in lines[:SHOWN_FINDINGS]:
        out.print(f"  {line}", markup=False, soft_wrap=True)
    if len(lines) > SHOWN_FINDINGS:
        out.print(f"  ... and {len(lines) - SHOWN_FINDINGS} more (--json lists them all)", soft_wrap=True)


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
