"""How `einthoven status` shows a store: one JSON document, and the same for people.

Pure but for the printing. It deliberately shows no content of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console

from einthoven.cli_store_events import events_document, show_events
from einthoven.cli_sync_render import counted, identity_document, show_state, state_document, utc
from einthoven.identity import Identity
from einthoven.ports import SyncState
from einthoven.store_events import StoreEvent
from einthoven.store_values import AuditEntry, StoreStats
from einthoven.sync_policy import Lane
from einthoven.sync_waiting import Bucket, Waiting, compared_buckets, waiting_rows
from einthoven_protocol.messages import BucketKind, Capability

Document = dict[str, Any]

_LANE_TEXT: Final = {
    Lane.ALERT: "urgent results",
    Lane.RESULT: "results",
    Lane.WORDS: "annotations, notes and deletions",
    Lane.SIGNAL: "raw signals",
}


def status_document(
    identity: Identity | None,
    stats: StoreStats,
    state: SyncState,
    events: Sequence[StoreEvent],
    forks: Sequence[AuditEntry] = (),
    now_ms: int | None = None,
) -> Document:
    """Return what a store holds, where it stands, and what happened to it.

    Args:
        identity: Its enrolment.
        stats: What it holds.
        state: Where it stands.
        events: What happened since it was opened.
        forks: ``FORKED`` entries of its audit trail.
        now_ms: Now, UTC, for ages.
    """
    return {
        "device": None if identity is None else identity_document(identity),
        "store": {
            "results": stats.results,
            "annotations": stats.annotations,
            "segments": stats.segments,
            "segment_bytes": stats.segment_bytes,
            "file_bytes": stats.file_bytes,
        },
        "sync": {
            **state_document(state),
            "waiting_by_lane": _waiting_document(waiting_rows(state, stats)),
            "oldest_waiting_s": _age_s(state.oldest_waiting_ms, now_ms),
            "buckets": [_bucket_document(identity, one) for one in compared_buckets(identity, state)],
            "server": _server_document(state),
            "epochs": [{"began": utc(entry.at_ms), **_fork(entry.subject)} for entry in forks],
        },
        "events": events_document(events),
    }


def show_status(out: Console, document: Document) -> None:
    """Show a store's status in a few lines."""
    device, store, sync = document["device"], document["store"], document["sync"]
    show_events(out, document["events"])
    out.print(f"Device: {device['device_id']} at {device['server']}" if device else "Device: not enrolled")
    out.print(
        f"Store: {store['results']} results, {store['annotations']} annotations, "
        f"{store['segments']} signal segments ({store['segment_bytes']:,} B), {store['file_bytes']:,} B encrypted file"
    )
    show_state(out, sync)
    lanes = [f"{n} {_LANE_TEXT[Lane[lane.upper()]]}" for lane, n in sync["waiting_by_lane"].items() if n]
    if lanes:
        oldest = sync["oldest_waiting_s"]
        out.print(f"Waiting by lane: {'; '.join(lanes)}" + ("" if oldest is None else f"; oldest {age_text(oldest)}"))
    _show_server(out, sync)
    for one in sync["epochs"]:
        out.print(f"Epoch {one['epoch']} began {one['began']}: {one['why'].replace('_', ' ')}", markup=False)


def age_text(seconds: float) -> str:
    """Return an age in the unit that suits it."""
    for unit, length_s in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length_s:
            return f"{counted(int(seconds // length_s), unit)} old"
    return f"{int(seconds)} s old"


def _show_server(out: Console, sync: Document) -> None:
    for one in sync["buckets"]:
        verdict = "equal" if one["equal"] else f"NOT equal ({one['here']} here, {one['there']} there)"
        if not one["equal"] or one["here"]:
            out.print(f"  {one['kind']} of {one['owner']}: {one['here']} rows, {verdict}", markup=False)
    server = sync["server"]
    if server["capabilities"]:
        asks = ", ".join(f"{name} {value}" for name, value in server["limits"].items() if value)
        out.print(f"Server: {', '.join(server['capabilities'])}" + (f"; asks for {asks}" if asks else ""))
    elif sync["last_exchange"] is not None:
        out.print("Server: of the first version; notes, deletions and words in the patient's name wait for a newer one")


def _waiting_document(waiting: Waiting) -> Document:
    return {
        "alert": waiting.alerts,
        "result": waiting.results,
        "words": waiting.words,
        "signal": waiting.signals,
    }


def _bucket_document(identity: Identity | None, bucket: Bucket) -> Document:
    own = identity is not None and bucket.owner == identity.device_alias
    return {
        "owner": "this device" if own else "the clinic" if bucket.owner == 0 else f"device {bucket.owner}",
        "kind": {BucketKind.RECORDS: "records", BucketKind.WORDS: "words"}.get(
            BucketKind(bucket.kind) if bucket.kind in list(BucketKind) else BucketKind.WORDS, "rows"
        ),
        "here": bucket.here.count,
        "there": bucket.there.count,
        "digest": f"{bucket.here.count}:{bucket.here.total:032x}",
        "equal": bucket.here == bucket.there,
    }


def _server_document(state: SyncState) -> Document:
    return {
        "capabilities": [one.name.lower() for one in Capability if state.capabilities & one and one.name],
        "limits": {
            "max_results": state.limits.max_results,
            "max_annotations": state.limits.max_annotations,
            "min_interval_s": state.limits.min_interval_s,
        },
    }


def _fork(subject: str) -> Document:
    """What ``store_rules.fork_subject`` wrote."""
    parts = subject.split(" ")
    return {"epoch": int(parts[1]), "why": parts[2]} if len(parts) == 3 else {"epoch": 0, "why": subject}


def _age_s(at_ms: int | None, now_ms: int | None) -> float | None:
    return None if at_ms is None or now_ms is None else max(0, now_ms - at_ms) / 1000
