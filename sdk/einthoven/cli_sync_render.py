"""How `einthoven sync` shows what it did, and where a store stands: one JSON document, and the same for people.

Pure but for the printing. A document is made first and shown second, so that both say the same. It deliberately shows
no content of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final

from rich.console import Console

from einthoven.cli_store_events import events_document, show_events
from einthoven.identity import Identity
from einthoven.ports import SyncState
from einthoven.signal_upload import SignalReport
from einthoven.store_events import StoreEvent
from einthoven.sync_report import SyncReport
from einthoven_protocol.messages import (
    RejectReason,
    RowKind,
    VerdictCode,
)

Document = dict[str, Any]

REASON_TEXT: Final = {
    RejectReason.NONE: "no reason was given",
    RejectReason.OUT_OF_RANGE: "its values contradict each other",
    RejectReason.CONFLICTS_WITH_STORED: "the server holds another one under its name",
    RejectReason.UNKNOWN_TARGET: "it speaks of a result that the server does not hold",
    RejectReason.BAD_SEAL: "its signature does not hold",
    RejectReason.CLOCK_SKEW: "it was written with a clock more than 5 minutes ahead",
    RejectReason.DELETED: "it was deleted",
    RejectReason.NOT_ALLOWED: "it is not this device's to say",
    RejectReason.FULL: "the server has no room for it",
}


def state_document(state: SyncState) -> Document:
    """Return where a store stands with its server."""
    return {
        "epoch": state.epoch,
        "acknowledged": state.acknowledged,
        "waiting": state.waiting,
        "refused": [
            {
                "counter": one.counter,
                "verdict": _name(VerdictCode, one.code),
                "reason": _name(RejectReason, one.reason),
                "why": reason_text(one.reason),
            }
            for one in state.refused
        ],
        "refused_words": [
            {
                "kind": _name(RowKind, one.kind),
                "of": f"{one.device_alias}-{one.epoch}-{one.counter}",
                "reason": _name(RejectReason, one.reason),
                "why": reason_text(one.reason),
            }
            for one in state.refused_words
        ],
        "last_exchange": None if state.last_exchange_ms is None else utc(state.last_exchange_ms),
        "digest": f"{state.digest.count}:{state.digest.total:032x}",
        "digests_equal": state.last_digest_equal,
        "rebaseline_due": state.rebaseline,
        "to_give_back": state.waiting_given,
    }


def sync_document(report: SyncReport, events: Sequence[StoreEvent]) -> Document:
    """Return what a sync did, and what happened to the store."""
    return {
        "round_trips": report.round_trips,
        "results_up": report.results_up,
        "alerts_ahead": report.alerts_up,
        "annotations_up": report.annotations_up,
        "notes_up": report.notes_up,
        "deletions_up": report.deletions_up,
        "results_down": report.results_down,
        "annotations_down": report.annotations_down,
        "notes_down": report.notes_down,
        "superseded_down": report.superseded_down,
        "tombstones_down": report.tombstones_down,
        "documents_down": report.documents_down,
        "repaired_rows": report.repaired_rows,
        "repair_round_trips": report.repair_round_trips,
        "refused": report.refused,
        "body_bytes_up": report.bytes_up,
        "body_bytes_down": report.bytes_down,
        "body_bytes_per_result": report.bytes_per_result,
        "traffic": {
            one.purpose.value: {
                "round_trips": one.round_trips,
                "body_bytes_up": one.bytes_up,
                "body_bytes_down": one.bytes_down,
            }
            for one in report.traffic
        },
        "state": state_document(report.state),
        "events": events_document(events),
    }


def signals_document(report: SignalReport) -> Document:
    """Return what an upload of raw signals did."""
    return {
        "chunks": report.chunks,
        "segments": report.segments,
        "signal_bytes": report.signal_bytes,
        "body_bytes_up": report.bytes_up,
        "refused": report.refused,
        "unproven": report.unproven,
        "stopped": report.stopped.value,
    }


def signals_text(document: Document) -> str:
    """Return what an upload did, in words."""
    refused = f"; {document['refused']} refused" if document["refused"] else ""
    return f"{counted(document['segments'], 'raw signal')} up: {document['body_bytes_up']:,} B{refused}."


def show_sync(out: Console, document: Document) -> None:
    """Show a sync in a few lines."""
    each = document["body_bytes_per_result"]
    per_row = "" if each is None else f", {each:.1f} B a result"
    trips = document["round_trips"]
    show_events(out, document["events"])
    up, down = moved_text(document)
    out.print(
        f"{up} up, {down} down in {trips} round trip{'s' if trips > 1 else ''}: "
        f"{document['body_bytes_up']} B up{per_row}, {document['body_bytes_down']} B down."
    )
    if document["repair_round_trips"]:
        out.print(
            f"Both sides differed: {document['repaired_rows']} rows were mended "
            f"in {document['repair_round_trips']} of the round trips."
        )
    if document.get("signals") and document["signals"]["segments"]:
        out.print(signals_text(document["signals"]))
    show_state(out, document["state"])


def moved_text(document: Document) -> tuple[str, str]:
    """Return what went up and what came down, in words: the usual kinds always, others where there were any."""
    up = [counted(document["results_up"], "result"), counted(document["annotations_up"], "annotation")]
    up += _some(document, {"notes_up": "note", "deletions_up": "deletion"})
    down = [counted(document["annotations_down"], "annotation")]
    more = {"results_down": "result", "notes_down": "note", "tombstones_down": "deletion"}
    down += _some(document, {**more, "superseded_down": "overtaken write", "documents_down": "document"})
    return _listed(up), _listed(down)


def show_state(out: Console, state: Document) -> None:
    """Show what waits, whether both sides agree, and what was refused."""
    equal = {True: "equal on both sides", False: "NOT equal: sync again", None: "not compared yet"}
    out.print(f"Waiting: {state['waiting']}; last exchange: {state['last_exchange'] or 'never'}")
    out.print(f"Digest {state['digest']}: {equal[state['digests_equal']]}")
    for one in state["refused"]:
        out.print(f"Refused: result {one['counter']} ({one['verdict']}, {one['reason']}): {one['why']}", markup=False)
    for one in state["refused_words"]:
        out.print(f"Refused: {one['kind']} {one['of']} ({one['reason']}): {one['why']}", markup=False)
    if state["rebaseline_due"]:
        out.print("Due: all that came down is compared with the server before words are sent again")
    if state["to_give_back"]:
        out.print(f"Due: {state['to_give_back']} results that the server lost are given back")


def identity_document(identity: Identity) -> Document:
    """Return what may be shown of an enrolment: no key."""
    return {"device_id": identity.device_id, "device_alias": identity.device_alias, "server": identity.url}


def reason_text(reason: int) -> str:
    """Return why a row was refused, in words; a newer server may send a reason that this version does not know."""
    return (
        REASON_TEXT.get(RejectReason(reason), "") if reason in list(RejectReason) else "for a reason of a newer server"
    )


def utc(at_ms: int) -> str:
    """Return a moment as text."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def counted(n: int, what: str) -> str:
    """Return a count with its noun."""
    return f"{n} {what}" + ("" if n == 1 else "s")


def _some(document: Document, names: dict[str, str]) -> list[str]:
    return [counted(document[key], what) for key, what in names.items() if document[key]]


def _listed(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _name(kind: type[IntEnum], value: int) -> str:
    """Return an enum's name; a newer server may send one that this version does not know."""
    try:
        return kind(value).name.lower()
    except ValueError:
        return f"unknown_{value}"
