"""What `einthoven sync`, `status` and `note` say: documents and lines, without a network."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from tests.contracts.conftest import window
from tests.contracts.test_transport import issue, pem
from tests.einthoven.test_sync_feed import CLOCK, a_device, a_server, run
from tests.einthoven.test_syncing import IDENTITY, NOW, SYNC_KEY, HonestServer, ScriptedTransport

from einthoven import cli_sync_render as render
from einthoven.cli import main
from einthoven.cli_note_render import notes_document, show_notes
from einthoven.cli_options import open_store
from einthoven.cli_status_render import age_text, show_status, status_document
from einthoven.cli_sync_progress import LINE_EVERY_S, ProgressLines, progress_shown
from einthoven.cli_watch import describe, keep_watching
from einthoven.errors import ServerUnreachable
from einthoven.identity import save_identity
from einthoven.noting import add_note, list_notes
from einthoven.ports import SyncState
from einthoven.signal_upload import SignalReport
from einthoven.store_values import AuditAction, AuditEntry
from einthoven.sync_report import SyncProgress
from einthoven.syncing import sync
from einthoven.watch_events import LineLost, LineOpened, SignalsSent, Synced, SyncFailed, Woken
from einthoven_protocol.messages import (
    AnnotationVerdict,
    BucketDigest,
    NoteRow,
    RejectReason,
    RowKind,
    RowVerdict,
    ServerLimits,
    VerdictCode,
)


def shown(show: Any, *arguments: Any) -> str:
    page = StringIO()
    show(Console(file=page, width=200, highlight=False), *arguments)
    return page.getvalue()


def status_of(state: SyncState, stats: Any, **more: Any) -> tuple[dict[str, Any], str]:
    document = status_document(IDENTITY, stats, state, (), now_ms=NOW, **more)
    json.dumps(document)
    return document, shown(show_status, document)


async def test_a_status_says_what_waits_by_lane_and_for_how_long() -> None:
    store, server = a_device(3), a_server(2)
    await run(store, server)
    for seed in (10, 11, 12):
        store.append_window(*window(seed))
    add_note(store, "slept badly", at_ms=NOW - 7_200_000)
    state = replace(store.sync_state(), waiting_alerts=1, oldest_waiting_ms=NOW - 3 * 86_400_000)
    document, text = status_of(state, store.stats())
    assert document["sync"]["waiting_by_lane"] == {"alert": 1, "result": 2, "words": 1, "signal": 6}
    assert document["sync"]["oldest_waiting_s"] == 3 * 86_400
    assert "1 urgent results; 2 results; 1 annotations, notes and deletions; 6 raw signals; oldest 3 days old" in text
    assert "Server: feed, repair" in text
    assert "slept" not in text
    assert "slept" not in json.dumps(document)


async def test_a_status_compares_the_buckets_of_every_owner() -> None:
    store, server = a_device(3), a_server(2)
    await run(store, server)
    document, text = status_of(store.sync_state(), store.stats())
    owners = [(one["owner"], one["kind"], one["here"], one["equal"]) for one in document["sync"]["buckets"]]
    assert owners == [("this device", "records", 3, True), ("device 8", "records", 2, True)]
    unequal = replace(store.sync_state(), server_digests=(BucketDigest(7, 1, 3, 1), BucketDigest(0, 2, 4, 5)))
    document, text = status_of(unequal, store.stats())
    assert "records of this device: 3 rows, NOT equal (3 here, 3 there)" in text
    assert "words of the clinic: 0 rows, NOT equal (0 here, 4 there)" in text


async def test_a_status_says_in_words_why_a_row_was_refused() -> None:
    store = a_device(3)
    state = replace(
        store.sync_state(),
        refused=(RowVerdict(2, VerdictCode.QUARANTINED, RejectReason.BAD_SEAL), RowVerdict(3, 77, 88)),
        refused_words=(AnnotationVerdict(RowKind.NOTE, 7, 1, 4, "", RejectReason.DELETED),),
        rebaseline=True,
        waiting_given=5,
        limits=ServerLimits(max_results=500, min_interval_s=60),
        capabilities=1,
        last_exchange_ms=NOW,
    )
    document, text = status_of(state, store.stats())
    assert document["sync"]["refused"][0]["why"] == "its signature does not hold"
    assert "Refused: result 2 (quarantined, bad_seal): its signature does not hold" in text
    assert "Refused: result 3 (unknown_77, unknown_88): for a reason of a newer server" in text
    assert "Refused: note 7-1-4 (deleted): it was deleted" in text
    assert "Due: all that came down is compared" in text
    assert "Due: 5 results that the server lost are given back" in text
    assert "asks for max_results 500, min_interval_s 60" in text


@pytest.mark.parametrize("reason", [*RejectReason, 99])
def test_every_reason_has_words(reason: int) -> None:
    assert len(render.reason_text(reason)) > 10


async def test_a_status_tells_a_server_of_before_and_the_epochs() -> None:
    store = a_device(2)
    add_note(store, "slept badly", clock=CLOCK)
    await sync(store, transport=ScriptedTransport(HonestServer()), clock=CLOCK)
    forks = [
        AuditEntry(seq=9, at_ms=NOW, action=AuditAction.FORKED, subject="1 5577 server_ahead", entry_hash=bytes(32)),
        AuditEntry(seq=10, at_ms=NOW, action=AuditAction.FORKED, subject="garbled", entry_hash=bytes(32)),
    ]
    document, text = status_of(store.sync_state(), store.stats(), forks=forks)
    assert document["sync"]["epochs"][0]["epoch"] == 5577
    assert "Epoch 5577 began 2026-05-28T20:26:40.000+00:00: server ahead" in text
    assert "Server: of the first version; notes" in text
    assert document["sync"]["server"]["capabilities"] == []


def test_a_store_without_enrolment_has_a_status_too() -> None:
    store = a_device()
    document = status_document(None, store.stats(), store.sync_state(), ())
    assert (document["device"], document["sync"]["buckets"]) == (None, [])
    assert "not enrolled" in shown(show_status, document)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s old"), (59.9, "59 s old"), (60, "1 minute old"), (7_300, "2 hours old"), (10**7, "115 days old")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


async def test_a_sync_says_what_moved_and_what_was_mended() -> None:
    store, server = a_device(3), a_server(2)
    add_note(store, "slept badly", clock=CLOCK)
    document = render.sync_document(await run(store, server), ())
    json.dumps(document)
    text = shown(render.show_sync, document)
    assert "3 results, 0 annotations and 1 note up, 0 annotations and 2 results down in 2 round trips" in text
    assert "equal on both sides" in text
    server.lose(7, 1, 2)
    document = render.sync_document(await run(store, server), ())
    assert document["traffic"]["repair"]["round_trips"] == document["repair_round_trips"]
    assert "Both sides differed:" in shown(render.show_sync, document)
    document["signals"] = render.signals_document(SignalReport(chunks=1, segments=2, bytes_up=300, refused=1))
    assert "2 raw signals up: 300 B; 1 refused." in shown(render.show_sync, document)


async def test_each_event_of_a_watch_is_one_line_and_one_document() -> None:
    store, server = a_device(3), a_server(2)
    store_report = await run(store, server)
    error = ServerUnreachable("the server can't be reached", "later")
    events = (
        Synced(store_report),
        SyncFailed(error, 3),
        SignalsSent(SignalReport(segments=1, bytes_up=5)),
        LineOpened(),
        LineLost(error),
        Woken(),
    )
    for event in events:
        document, line = describe(event)
        json.dumps(document)
        assert line
        assert "\n" not in line
    assert describe(events[0])[1] == (
        "synced: 3 results and 0 annotations up, 0 annotations and 2 results down; both sides equal"
    )
    assert describe(events[1])[1] == "not synced (3 in a row): the server can't be reached"
    unequal = replace(store_report, state=replace(store_report.state, last_digest_equal=False, waiting=2), refused=1)
    assert describe(Synced(unequal))[1].endswith("both sides NOT equal; 1 refused; 2 wait")


async def test_notes_are_listed_with_names_and_without_what_a_terminal_would_act_on() -> None:
    store, server = a_device(), a_server()
    add_note(store, "[red]slept\x1b[2J badly", clock=CLOCK)
    server.put(8, 1, NoteRow(device_alias=8, epoch=1, counter=1, author="staff", at_ms=NOW + 1, text="call us"))
    await run(store, server)
    document = notes_document(list_notes(store, 0, NOW * 2), IDENTITY)
    assert [(one["name"], one["mine"], one["by_patient"]) for one in document["notes"]] == [
        ("7-1-1", True, True),
        ("8-1-1", False, False),
    ]
    text = shown(show_notes, document)
    assert "[red]slept [2J badly" in text
    assert "\x1b" not in text
    assert "[clinic] call us" in text
    assert "There are no notes." in shown(show_notes, {"notes": []})


class Ticks:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_progress_is_a_line_now_and_then_with_rate_and_time_left() -> None:
    ticks = Ticks()
    lines = ProgressLines(ticks)
    assert lines.line(SyncProgress(10, 1_000, 1)) is None
    ticks.now_s = LINE_EVERY_S
    assert lines.line(SyncProgress(5_000, 20_000, 2)) == (
        "syncing: 5,000 of 20,000 rows, 1,000 rows/s, about 15 s left"
    )
    assert lines.line(SyncProgress(6_000, 20_000, 3)) is None
    ticks.now_s = 3 * LINE_EVERY_S
    assert lines.line(SyncProgress(20_000, 20_000, 4)) is None
    assert (lines.line(SyncProgress(0, 20_000, 4, repairing=True)) or "").startswith("comparing: 0 of")


def test_progress_goes_to_a_bar_a_log_or_nowhere() -> None:
    ticks = Ticks()
    for terminal, quiet in ((True, False), (False, False), (False, True)):
        page = StringIO()
        console = Console(file=page, force_terminal=terminal, width=120)
        ticks.now_s = 0.0
        with progress_shown(console, quiet=quiet, now_s=ticks) as say:
            ticks.now_s = LINE_EVERY_S
            say(SyncProgress(5_000, 20_000, 2))
            say(SyncProgress(20_000, 20_000, 3))
        if quiet:
            assert page.getvalue() == ""
        else:
            assert "20,000" in page.getvalue() or "/20000" in page.getvalue()
        if not terminal and not quiet:
            assert page.getvalue().count("\n") == 1


# ---- the command itself, on an encrypted store ---------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An enrolled device that never met its server."""
    unreachable = msgspec.structs.replace(IDENTITY, url="https://localhost:9", ca_pem=pem(issue("x")[0]))
    with open_store(tmp_path / "home", create=True) as store:
        save_identity(store, unreachable, SYNC_KEY)
        store.append_window(*window(1))
    return tmp_path / "home"


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_notes_are_added_listed_and_deleted(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    status, out, _ = command(capsys, "note", "add", "slept badly", "--at", "2026-05-01T08:00", "--home", home)
    assert (status, out) == (0, "Note 7-1-1 is kept.\n")
    status, out, _ = command(capsys, "note", "add", "felt dizzy", "--at", "2026-05-02", "--home", home, "--json")
    assert json.loads(out)["at"] == "2026-05-02T00:00:00.000+00:00"
    status, out, _ = command(capsys, "note", "list", "--home", home)
    assert status == 0
    assert out.index("slept badly") < out.index("felt dizzy")
    _, out, _ = command(capsys, "note", "list", "--from", "2026-05-02", "--to", "2026-05-03", "--home", home, "--json")
    assert [one["text"] for one in json.loads(out)["notes"]] == ["felt dizzy"]
    status, out, _ = command(capsys, "note", "delete", "7-1-1", "--home", home)
    assert (status, out) == (0, "Note 7-1-1 is deleted.\n")
    _, out, _ = command(capsys, "note", "list", "--home", home, "--json")
    assert [one["name"] for one in json.loads(out)["notes"]] == ["7-1-2"]
    status, out, _ = command(capsys, "status", "--home", home, "--json")
    # A log of notes has no holes: one that was deleted before it was sent goes up, and is then deleted there.
    assert json.loads(out)["sync"]["waiting_by_lane"]["words"] == 3
    assert "dizzy" not in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["note", "add", ""],
        ["note", "add", "x" * 2_001],
        ["note", "add", "x", "--at", "yesterday"],
        ["note", "list", "--from", "soon"],
        ["note", "delete", "7-1-9"],
        ["note", "delete", "nonsense"],
    ],
    ids=lambda arguments: " ".join(arguments)[:30],
)
def test_bad_notes_get_one_line(capsys: pytest.CaptureFixture[str], home: Path, arguments: list[str]) -> None:
    status, out, err = command(capsys, *arguments, "--home", home)
    assert (status, out) == (2, "")
    assert err.startswith("einthoven: ")
    assert err.count("\n") == 1


def test_a_sync_without_a_network_says_so_and_keeps_everything(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    status, _, err = command(capsys, "sync", "--home", home)
    assert status == 7
    assert "nothing is lost" in err
    _, out, _ = command(capsys, "status", "--home", home)
    assert "Waiting by lane: 1 results" in out


class SignalOnceItSpoke(threading.Thread):
    """Sends this process a signal once the command takes it and has said something, or has had long enough to."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(daemon=True)
        self._number = number
        self._before = signal.getsignal(number)
        self.start()

    def run(self) -> None:
        while signal.getsignal(self._number) is self._before:
            time.sleep(0.005)
        until_s = time.monotonic() + 20
        while not sys.stdout.getvalue() and time.monotonic() < until_s:  # type: ignore[attr-defined]
            time.sleep(0.005)
        os.kill(os.getpid(), self._number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_watch_ends_well_by_a_signal_and_lets_go_of_the_store(
    capsys: pytest.CaptureFixture[str], home: Path, number: signal.Signals, as_json: bool
) -> None:
    sender = SignalOnceItSpoke(number)
    # As the command does, but for a process that would end if this took its time.
    keep_watching(home, metered=False, as_json=as_json, out=Console(highlight=False), leave=lambda status: None)
    sender.join(20)
    out, err = capsys.readouterr()
    assert err == ""
    assert out
    for line in out.splitlines():
        if as_json:
            assert json.loads(line)["event"] == "failed"
        else:
            assert "not synced (" in line
    with open_store(home, create=False) as store:
        assert store.sync_state().waiting == 1


def test_a_watch_without_a_store_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = command(capsys, "sync", "--watch", "--home", tmp_path / "absent")
    assert status == 2
    assert err.count("\n") == 1
