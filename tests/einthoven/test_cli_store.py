"""`einthoven store` through the real command on real files: what it says, what it leaves, and how it ends."""

from __future__ import annotations

import io
import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest
from fhir.resources.R4B.bundle import Bundle
from rich.console import Console
from tests.einthoven.stored_windows import STARTED_AT_MS, beats, signal, verdict

from einthoven.cli import main
from einthoven.cli_options import KEY_FILE, STORE_FILE, open_store
from einthoven.cli_store import PROGRESS_RESULTS
from einthoven.cli_store_events import event_line, events_document
from einthoven.cli_store_render import SHOWN_FINDINGS, check_document, erase_document, show_check, show_erase
from einthoven.errors import StoreError
from einthoven.key_provider_file import FileKeyProvider
from einthoven.key_succession import successor_path
from einthoven.plaintext_scan import files_of_store
from einthoven.store_erase import ErasureReport
from einthoven.store_events import (
    AnchorFailed,
    ContentDropped,
    DamageQuarantined,
    ForkReason,
    StoreForked,
    StoreMigrated,
)
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import CheckReport, ContentKind, DamageReason, DropReason, Finding, Quarantined
from einthoven_protocol.limits import MAX_TIME_MS

N_WINDOWS = 40
"""Enough for several pages of rows, and of signal."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a store of some windows and beats."""
    home = tmp_path_factory.mktemp("made") / "home"
    with open_store(home, create=True) as store:
        for n in range(N_WINDOWS):
            segment = signal(seed=n)
            at_ms = STARTED_AT_MS + 30_000 * n
            store.append_window(verdict(segment, at_ms), segment, beats(at_ms + 400, at_ms + 1_200))
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """That folder, to be changed; the first opening knows that it is a copy, which no test here is about."""
    home = tmp_path / "home"
    shutil.copytree(made, home)
    with open_store(home, create=False) as store:
        store.take_events()
    return home


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> Any:
    found, out, err = run(capsys, *arguments, "--json")
    assert found == status, err
    return json.loads(out)


def assert_one_clear_line(err: str) -> None:
    assert err.startswith("einthoven: ")
    assert err.count("\n") == 1
    assert ";" in err, "a message says what to do"


def results_of(home: Path) -> list[int]:
    with open_store(home, create=False) as store:
        return [one.result.counter for one in store.results_between(0, MAX_TIME_MS)]


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def damage(home: Path) -> None:
    """Flip a bit in a page in the middle of the file."""
    path = home / STORE_FILE
    flip(path, path.stat().st_size // 2 // 4096 * 4096 + 2_000)


# ---- stats -----------------------------------------------------------------------------------------------------------


def test_stats_say_what_is_there(capsys, home):
    found = run_json(capsys, "store", "stats", "--home", home)
    assert found["rows"]["results"] == found["rows"]["segments"] == found["waiting"] == N_WINDOWS
    assert found["rows"]["beats"] == 2 * N_WINDOWS
    assert found["segments_only_here"] == N_WINDOWS
    assert found["segments_that_may_go"] == 0
    assert found["bytes"]["files"] >= found["bytes"]["signal"] > 0
    assert found["bytes"]["free_on_disk"] > 0
    assert found["oldest"] == "2025-11-22T10:00:00.000+00:00"
    assert found["newest"] == "2025-11-22T10:19:30.000+00:00"
    status, out, err = run(capsys, "store", "stats", "--home", home)
    assert (status, err) == (0, "")
    assert f"Holds {N_WINDOWS} results, {2 * N_WINDOWS} beats" in out
    assert "From 2025-11-22T10:00:00.000+00:00" in out


def test_stats_of_an_empty_store(capsys, tmp_path):
    open_store(tmp_path / "home", create=True).close()
    found = run_json(capsys, "store", "stats", "--home", tmp_path / "home")
    assert (found["rows"]["results"], found["oldest"]) == (0, None)
    assert run(capsys, "store", "stats", "--home", tmp_path / "home")[0] == 0


@pytest.mark.parametrize("command", [["check"], ["rekey"], ["export", "x"], ["erase", "--yes"], ["stats"]])
def test_without_a_store_it_says_so_and_makes_none(capsys, tmp_path, command):
    home = tmp_path / "home"
    status, out, err = run(capsys, "store", *command, "--home", home)
    assert (status, out) == (2, "")
    assert_one_clear_line(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["check"], ["rekey"], ["export", "x"], ["stats"]])
def test_a_lost_key_is_said_and_changes_nothing(capsys, home, command):
    (home / KEY_FILE).unlink()
    before = (home / STORE_FILE).read_bytes()
    status, _, err = run(capsys, "store", *command, "--home", home)
    assert status == 5
    assert_one_clear_line(err)
    assert (home / STORE_FILE).read_bytes() == before
    assert not (home / KEY_FILE).exists()


# ---- check -----------------------------------------------------------------------------------------------------------


def test_a_sound_store_is_said_to_be_sound(capsys, home):
    found = run_json(capsys, "store", "check", "--home", home)
    assert (found["sound"], found["repaired"], found["findings"]) == (True, False, [])
    assert found["pages"] > 50
    assert found["rows"] >= 3 * N_WINDOWS
    status, out, _ = run(capsys, "store", "check", "--home", home)
    assert status == 0
    assert out.startswith("Sound: ")


def test_damage_is_found_then_repaired_and_what_was_lost_is_listed(capsys, home):
    damage(home)
    before = (home / STORE_FILE).read_bytes()
    found = run_json(capsys, "store", "check", "--home", home, status=5)
    assert not found["sound"]
    assert found["findings"]
    assert (home / STORE_FILE).read_bytes() == before, "a check changes nothing"
    status, out, _ = run(capsys, "store", "check", "--home", home)
    assert status == 5
    assert "DAMAGED" in out
    assert "check --repair" in out

    found = run_json(capsys, "store", "check", "--repair", "--home", home)
    assert (found["sound"], found["repaired"]) == (True, True)
    assert found["quarantined"]
    assert [event["event"] for event in found["events"]].count("store_forked") == 1
    kept = run_json(capsys, "store", "stats", "--home", home)["rows"]
    assert N_WINDOWS - 5 <= kept["segments"] <= N_WINDOWS
    status, out, _ = run(capsys, "store", "check", "--home", home)
    assert status == 0
    assert "Lost to damage, now or before:" in out
    assert any(".damaged-" in path.name for path in home.iterdir()), "the damaged file is set aside"


def test_repairing_what_is_sound_changes_nothing(capsys, home):
    found = run_json(capsys, "store", "check", "--repair", "--home", home)
    assert (found["sound"], found["repaired"]) == (True, False)
    assert found["events"] == []


def test_a_file_that_can_not_be_opened_is_an_error_without_repair(capsys, home):
    flip(home / STORE_FILE, 100)  # the first page: nothing opens without it
    status, _, err = run(capsys, "store", "check", "--home", home)
    assert status == 5
    assert_one_clear_line(err)
    found = run_json(capsys, "store", "check", "--repair", "--home", home)
    assert (found["sound"], found["repaired"]) == (True, True)
    assert results_of(home) == [] or max(results_of(home)) <= N_WINDOWS


# ---- rekey -----------------------------------------------------------------------------------------------------------


def test_rekey_changes_every_page_and_loses_no_row(capsys, home):
    before = (home / STORE_FILE).read_bytes()
    slots = (home / f"{STORE_FILE}.keys").read_bytes()
    key = (home / KEY_FILE).read_bytes()
    found = run_json(capsys, "store", "rekey", "--home", home)
    assert found == {"rekeyed": True, "new_key_file": False, "events": []}
    after = (home / STORE_FILE).read_bytes()
    assert (home / f"{STORE_FILE}.keys").read_bytes() != slots
    assert (home / KEY_FILE).read_bytes() == key
    pages = {before[at : at + 4096] for at in range(0, len(before), 4096)}
    assert not any(after[at : at + 4096] in pages for at in range(0, len(after), 4096))
    assert results_of(home) == list(range(1, N_WINDOWS + 1))
    assert run_json(capsys, "store", "check", "--home", home)["sound"]
    status, out, _ = run(capsys, "store", "rekey", "--home", home)
    assert status == 0
    assert "new data key" in out


def test_a_new_key_file_takes_the_place_of_the_old(capsys, home):
    old = (home / KEY_FILE).read_bytes()
    assert run_json(capsys, "store", "rekey", "--new-key-file", "--home", home)["new_key_file"]
    assert (home / KEY_FILE).read_bytes() != old
    assert stat.S_IMODE((home / KEY_FILE).stat().st_mode) == 0o600
    assert not successor_path(home / KEY_FILE).exists()
    assert results_of(home) == list(range(1, N_WINDOWS + 1))
    (home / KEY_FILE).write_bytes(old)
    assert run(capsys, "store", "stats", "--home", home)[0] == 5


@pytest.mark.parametrize("cut_off", ["before rekeying", "after rekeying", "after the old one is gone"])
def test_a_new_key_file_that_was_cut_off_is_settled_by_the_next_command(capsys, home, cut_off):
    old = (home / KEY_FILE).read_bytes()
    successor = FileKeyProvider(successor_path(home / KEY_FILE), create=True)
    new = successor.load()
    if cut_off != "before rekeying":
        with (
            open_store(home, create=False)
            if False
            else SqlCipherStore.open(home / STORE_FILE, FileKeyProvider(home / KEY_FILE), create=False) as store
        ):
            store.rekey(successor)
    if cut_off == "after the old one is gone":
        (home / KEY_FILE).unlink()
    assert run_json(capsys, "store", "stats", "--home", home)["rows"]["results"] == N_WINDOWS
    assert (home / KEY_FILE).read_bytes() == (old if cut_off == "before rekeying" else new)
    assert not successor_path(home / KEY_FILE).exists()
    assert results_of(home) == list(range(1, N_WINDOWS + 1))


def test_erasing_takes_a_successor_along(capsys, home):
    FileKeyProvider(successor_path(home / KEY_FILE), create=True).load()
    run_json(capsys, "store", "erase", "--yes", "--home", home)
    assert list(home.iterdir()) == []


# ---- export ----------------------------------------------------------------------------------------------------------


def test_export_writes_everything(capsys, home, tmp_path):
    found = run_json(capsys, "store", "export", tmp_path / "out", "--home", home)
    assert (found["results"], found["beats"]) == (N_WINDOWS, 2 * N_WINDOWS)
    assert found["lost_signals"] == []
    assert {file["name"] for file in found["files"]} == {path.name for path in (tmp_path / "out").iterdir()}
    recording = edfio.read_edf(tmp_path / "out" / "ecg-001.edf")
    expected = np.concatenate([signal(seed=n).samples_uv for n in range(N_WINDOWS)])
    assert np.array_equal(recording.signals[0].digital, expected)
    Bundle.model_validate_json((tmp_path / "out" / "bundle.json").read_bytes())
    status, out, _ = run(capsys, "store", "export", tmp_path / "again", "--pseudonym", "P-7", "--home", home)
    assert status == 0
    assert "40 results" in out
    assert "Not in it" not in out
    assert "Nothing in that folder is encrypted" in out
    assert edfio.read_edf(tmp_path / "again" / "ecg-001.edf").patient.code == "P-7"


def test_a_long_export_says_how_far_it_is(capsys, home, tmp_path):
    with open_store(home, create=False) as store:
        store.append_results([verdict(signal(10), STARTED_AT_MS + n) for n in range(PROGRESS_RESULTS)])
    status, out, err = run(capsys, "store", "export", tmp_path / "out", "--home", home)
    assert status == 0
    assert err == f"{PROGRESS_RESULTS:,} results ...\n"
    assert "Not in it: the signal of 2,000 results, 0 lost to damage before; lost.csv says which and why." in out


def test_export_never_touches_what_is_there(capsys, home, tmp_path):
    (tmp_path / "out").mkdir()
    status, _, err = run(capsys, "store", "export", tmp_path / "out", "--home", home)
    assert status == 2
    assert_one_clear_line(err)
    assert list((tmp_path / "out").iterdir()) == []


def test_export_goes_around_damage_and_says_what_is_missing(capsys, home, tmp_path):
    damage(home)
    found = run_json(capsys, "store", "export", tmp_path / "out", "--home", home)
    assert found["lost_signals"], "the flipped bit is in a signal"
    assert {one["reason"] for one in found["lost_signals"]} <= {"damaged", "not held"}
    recording = edfio.read_edf(tmp_path / "out" / "ecg-001.edf").signals[0].digital
    lost = sum(one["last_counter"] - one["first_counter"] + 1 for one in found["lost_signals"])
    assert (recording != -32_768).sum() == (found["results"] - lost) * 7_500
    status, out, _ = run(capsys, "store", "export", tmp_path / "again", "--home", home)
    assert status == 0
    assert "lost.csv says which and why" in out


# ---- erase -----------------------------------------------------------------------------------------------------------


def test_erase_leaves_nothing_and_a_copy_does_not_open(capsys, home, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    (copy / KEY_FILE).unlink()  # a backup of the store, which rightly left its key out
    found = run_json(capsys, "store", "erase", "--yes", "--home", home)
    assert found["destroyed"][:2] == ["key slots", "wrapping key"]
    assert STORE_FILE in found["destroyed"]
    assert found["copies_unreadable"]
    assert list(home.iterdir()) == []
    FileKeyProvider(copy / KEY_FILE, create=True).load()
    with pytest.raises(StoreError):
        open_store(copy, create=False)


def test_erase_asks_for_the_word(home):
    def answered(words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "einthoven.cli", "store", "erase", "--home", str(home)],
            input=words,
            capture_output=True,
            text=True,
            check=False,
        )

    for words, status in (("yes\n", 2), ("erase\n", 2), ("", 130)):
        done = answered(words)
        assert done.returncode == status, done.stderr
        assert (home / KEY_FILE).exists()
        assert (home / STORE_FILE).exists()
    done = answered("ERASE\n")
    assert done.returncode == 0, done.stderr
    assert "Destroyed, in this order: key slots, wrapping key" in done.stdout
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(("typed", "status"), [("ERASE", 0), ("no", 2), ("", 130)])
def test_erase_takes_the_word_and_nothing_else(capsys, monkeypatch, home, typed, status):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{typed}\n" if typed else ""))
    found, _, err = run(capsys, "store", "erase", "--home", home)
    assert found == status
    assert "destroys the store" in err
    assert (home / KEY_FILE).exists() == (status != 0)


def test_erase_with_json_needs_yes(capsys, home):
    found = run_json(capsys, "store", "erase", "--home", home, status=2)
    assert found["error"] == "InputError"
    assert (home / KEY_FILE).exists()


def test_erase_works_on_what_can_not_be_opened_and_again(capsys, home):
    (home / STORE_FILE).write_bytes(b"noise" * 1_000)
    found = run_json(capsys, "store", "erase", "--yes", "--home", home)
    assert "wrapping key" in found["destroyed"]
    assert files_of_store(home / STORE_FILE) == []
    status, _, err = run(capsys, "store", "erase", "--yes", "--home", home)
    assert status == 2
    assert_one_clear_line(err)


def test_a_store_that_is_open_is_not_erased(capsys, home):
    with open_store(home, create=False):
        status, _, err = run(capsys, "store", "erase", "--yes", "--home", home)
        assert status == 5
        assert_one_clear_line(err)
    assert results_of(home) == list(range(1, N_WINDOWS + 1))


# ---- what happened to the store is said ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["status"], ["store", "stats"], ["store", "check"]])
def test_a_store_that_was_turned_back_is_said_in_one_line(capsys, home, tmp_path, command):
    old = (home / STORE_FILE).read_bytes()
    with open_store(home, create=False) as store:
        segment = signal(seed=99)
        store.append_window(verdict(segment, STARTED_AT_MS + 10**8), segment)
    for leftover in files_of_store(home / STORE_FILE):
        if leftover.name.startswith(STORE_FILE + "-"):
            leftover.unlink()
    (home / STORE_FILE).write_bytes(old)
    status, out, _ = run(capsys, *command, "--home", home)
    assert status == 0
    (line,) = [line for line in out.splitlines() if "epoch" in line and "goes on" in line]
    assert "restored from a backup?" in line
    assert run_json(capsys, *command, "--home", home)["events"] == [], "it is said once"


def test_long_lists_are_cut_for_people():
    findings = tuple(Finding(DamageReason.PAGE_UNREADABLE, f"page {n}") for n in range(SHOWN_FINDINGS + 7))
    losses = [
        Quarantined(kind=ContentKind.SEGMENT, place=f"page {n}", reason=DamageReason.PAGE_UNREADABLE, found_at_ms=0)
        for n in range(SHOWN_FINDINGS)
    ]
    document = check_document(CheckReport(pages=99, rows=1, findings=findings), losses, [], repaired=False)
    shown = Console(file=io.StringIO())
    show_check(shown, document)
    text = shown.file.getvalue()
    assert "DAMAGED: 27 findings in 99 pages and 1 row." in text
    assert text.count("page 1:") == 1
    assert "page 20:" not in text
    assert "... and 7 more (--json lists them all)" in text
    assert f"Lost to damage, now or before: {SHOWN_FINDINGS}" in text
    assert text.count(" more (--json") == 1


def test_an_erasure_says_what_it_means_for_copies():
    def shown(*destroyed: str, copies_unreadable: bool) -> str:
        out = Console(file=io.StringIO())
        show_erase(out, erase_document(ErasureReport(destroyed, copies_unreadable), Path("home")))
        return out.file.getvalue()

    assert "may still be opened by who has its key" in shown("key slots", copies_unreadable=False)
    assert "can't be opened any more" in shown("key slots", copies_unreadable=True)
    assert shown(copies_unreadable=True) == "There was nothing to erase.\n"


def test_every_event_has_its_line():
    events = [
        *(StoreForked(1, 77, reason) for reason in ForkReason),
        *(
            ContentDropped(kind=kind, count=3, dropped_bytes=1_234, unacknowledged=2, reason=reason)
            for kind in ContentKind
            for reason in DropReason
        ),
        *(DamageQuarantined(ContentKind.RESULT, "1:5-7", reason) for reason in DamageReason),
        StoreMigrated(1, 2),
        AnchorFailed("read-only file system"),
    ]
    documents = events_document(events)
    assert json.loads(json.dumps(documents)) == documents
    for event, document in zip(events, documents, strict=True):
        assert document["said"] == event_line(event)
        assert "\n" not in document["said"]
        assert document["said"].endswith(".")
    assert "3 raw signals (1,234 B), 2 of them on no server, because the disk was full" in event_line(
        ContentDropped(
            kind=ContentKind.SEGMENT, count=3, dropped_bytes=1_234, unacknowledged=2, reason=DropReason.DISK_FULL
        )
    )
    assert documents[0]["event"] == "store_forked"
    assert documents[0]["reason"] == "turned_back"
