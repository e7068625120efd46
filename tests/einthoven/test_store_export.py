"""All that a store holds as files: complete, readable by others, whole or not at all, and saying what is missing."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import resource
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle
from tests.einthoven.stored_windows import STARTED_AT_MS, beats, signal, verdict

from einthoven.clock import FixedClock
from einthoven.edf_tracks import MIN_SIGNAL_BYTES
from einthoven.errors import InputError, StoreDamaged, StoreIOError
from einthoven.export_signals import LostReason
from einthoven.identity import Identity, save_identity
from einthoven.models import load_model
from einthoven.ports import MISSING_UV, Segment
from einthoven.session import Session
from einthoven.source_edf import EdfSource
from einthoven.source_simulated import SimulatedSource
from einthoven.store_export import ExportReport, export_store
from einthoven.store_memory import MemoryStore
from einthoven.store_values import (
    AuditAction,
    BeatRun,
    ContentKind,
    DamageReason,
    Quarantined,
)
from einthoven_protocol.messages import AnnotationRow, Register, ResultId

IDENTITY = Identity(
    device_id="0b5f6c1e-93a8-4d0c-8a55-0c3d9d1f2a11",
    device_alias=7,
    url="https://clinic.example:8443",
    ca_pem="-",
    signing_key=b"k" * 32,
    tenant="tenant-1",
    patient_id="patient-1",
)
NOW = FixedClock(STARTED_AT_MS + 10**9)


def note(counter: int, author: str = "author-1", comment: str = "see ward", alias: int = 7) -> AnnotationRow:
    return AnnotationRow(
        target=ResultId(alias, 1, counter), author=author, rhythm=Register("A", 10), comment=Register(comment, 10)
    )


@pytest.fixture
def store() -> MemoryStore:
    """An enrolled store: a session of three windows, a pause, one more window at another rate, notes and beats."""
    store = MemoryStore()
    save_identity(store, IDENTITY, b"s" * 32)
    for n, missing in enumerate((slice(0), slice(1_000, 1_100), slice(0))):
        segment = signal(seed=n, missing=missing)
        started_at_ms = STARTED_AT_MS + n * 30_000
        store.append_window(
            verdict(segment, started_at_ms), segment, beats(started_at_ms + 500, started_at_ms + 1_300, classes=(0, 2))
        )
    later = signal(3_000, seed=9)
    store.append_window(verdict(later, STARTED_AT_MS + 3_600_000), later)
    apple = signal(15_378, seed=10, rate_hz=Fraction("512.617"))
    store.append_window(verdict(apple, STARTED_AT_MS + 7_200_000, reason=1, tier=0), apple)
    store.annotate(note(2))
    store.annotate(note(2, "author-2", "größer, \u2265 5"))
    store.annotate(note(55, alias=9))
    return store


def export(store: Any, folder: Path, **options: Any) -> ExportReport:
    return export_store(store, folder / "out", clock=NOW, **options)


def bundle(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "bundle.json").read_bytes())


def of_type(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle(folder)["entry"] if entry["resource"]["resourceType"] == kind]


def read(path: Path) -> np.ndarray:
    return np.concatenate(list(EdfSource.open(path).chunks()))


# ---- what is in it ---------------------------------------------------------------------------------------------------


def test_every_sample_comes_back(store, tmp_path):
    report = export(store, tmp_path)
    assert [file.name for file in report.signals] == ["ecg-001.edf", "ecg-002.edf"]
    first = read(tmp_path / "out" / "ecg-001.edf")
    expected = np.concatenate([signal(seed=n).samples_uv for n in range(3)])
    expected[8_500:8_600] = MISSING_UV
    assert np.array_equal(first[: 3 * 7_500], expected)
    assert (first[3 * 7_500 : 900_000] == MISSING_UV).all()
    assert np.array_equal(first[900_000:903_000], signal(3_000, seed=9).samples_uv)
    second = read(tmp_path / "out" / "ecg-002.edf")
    assert np.array_equal(second[:15_378], signal(15_378, seed=10).samples_uv)
    other = edfio.read_edf(tmp_path / "out" / "ecg-001.edf")
    assert other.startdate.isoformat() == "2025-11-22"
    assert other.patient.name == "X"
    assert "512617/1000 Hz exactly" in report.signals[1].summary


def test_what_was_found_stands_in_the_recording(store, tmp_path):
    export(store, tmp_path)
    found = edfio.read_edf(tmp_path / "out" / "ecg-001.edf").annotations
    said = [(one.onset, one.text) for one in found]
    assert (0.5, "Beat N") in said
    assert (1.3, "Beat V") in said
    assert sum(text.startswith("Beat") for _, text in said) == 6
    verdicts = [one for one in found if one.text.startswith("Result")]
    assert [(one.onset, one.duration) for one in verdicts] == [(0, 30), (30, 30), (60, 30), (3_600, 12)]
    assert verdicts[0].text == ("Result 7-1-1: Atrial fibrillation on ECG, probability 0.931. Elevated: review soon")
    assert (30, "Note by author-2 on result 7-1-2: rhythm A: größer, \u2265 5") in said
    (apple,) = edfio.read_edf(tmp_path / "out" / "ecg-002.edf").annotations
    assert apple.text == "Result 7-1-5: Atrial fibrillation on ECG. Inconclusive: The signal is too poor"


def test_the_bundle_is_valid_and_its_references_resolve(store, tmp_path):
    store.record(AuditAction.VIEWED, "3", at_ms=5_000)
    report = export(store, tmp_path)
    written = bundle(tmp_path)
    Bundle.model_validate(written)
    there = {f"{entry['resource']['resourceType']}/{entry['resource']['id']}" for entry in written["entry"]}
    assert len(there) == len(written["entry"])
    references = set(str(written).split("'reference': '")[1:])
    assert {text.partition("'")[0] for text in references} <= there
    assert all(entry["fullUrl"].startswith("https://clinic.example:8443/fhir/R4/") for entry in written["entry"])
    assert (report.results, report.annotations, report.beats) == (5, 3, 6)
    assert len(of_type(tmp_path, "Observation")) == len(of_type(tmp_path, "RiskAssessment")) == 5
    (patient,) = of_type(tmp_path, "Patient")
    assert set(patient) == {"resourceType", "id", "identifier"}
    (elsewhere,) = of_type(tmp_path, "Communication")
    assert elsewhere["about"][0]["identifier"]["value"] == "9-1-55"
    assert [note["text"] for note in of_type(tmp_path, "Observation")[1]["note"]] == [
        "rhythm A: see ward",
        "rhythm A: größer, \u2265 5",
    ]


def test_the_audit_trail_is_in_the_bundle_with_its_hashes(store, tmp_path):
    entries = [store.record(AuditAction.VIEWED, f"{n}", at_ms=1_000 * n) for n in range(3)]
    report = export(store, tmp_path)
    events = of_type(tmp_path, "AuditEvent")
    for event in events:
        AuditEvent.model_validate(event)
    assert report.audit_entries == len(events) >= 3
    hashes = [event["entity"][0]["detail"][1]["valueString"] for event in events]
    assert hashes[-3:] == [entry.entry_hash.hex() for entry in entries]


def test_the_bundle_names_the_files_by_content(store, tmp_path):
    report = export(store, tmp_path)
    documents = {one["content"][0]["attachment"]["url"]: one for one in of_type(tmp_path, "DocumentReference")}
    assert sorted(documents) == ["ecg-001.edf", "ecg-002.edf"]
    for name, document in documents.items():
        content = (tmp_path / "out" / name).read_bytes()
        attachment = document["content"][0]["attachment"]
        assert attachment["size"] == len(content)
        assert base64.b64decode(attachment["hash"]) == hashlib.sha1(content).digest()
        assert document["identifier"][0]["value"] == hashlib.sha256(content).hexdigest()
    first = documents["ecg-001.edf"]
    assert first["context"]["period"] == {"start": "2025-11-22T10:00:00.000Z", "end": "2025-11-22T11:00:12.000Z"}
    sources = [one["derivedFrom"][0]["reference"] for one in of_type(tmp_path, "Observation")]
    assert sources == [f"DocumentReference/{first['id']}"] * 4 + [f"DocumentReference/{documents['ecg-002.edf']['id']}"]
    assert report.signals[0].sha256.hex() == first["identifier"][0]["value"]


def test_beats_are_a_table(store, tmp_path):
    store.append_beats(beats(STARTED_AT_MS + 10**8, STARTED_AT_MS + 10**8 + 900, classes=(1, 3)))
    export(store, tmp_path)
    with (tmp_path / "out" / "beats.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["class"] for line in lines] == ["normal", "ventricular"] * 3 + ["supraventricular", "unknown"]
    assert lines[0] == {"time_utc": "2025-11-22T10:00:00.500Z", "at_ms": str(STARTED_AT_MS + 500), "class": "normal"}


def test_a_store_that_was_never_enrolled_is_exported_too(tmp_path):
    store = MemoryStore()
    segment = signal()
    store.append_window(verdict(segment), segment)
    export(store, tmp_path)
    Bundle.model_validate(bundle(tmp_path))
    (observation,) = of_type(tmp_path, "Observation")
    assert observation["identifier"][0]["value"] == "0-1-1"
    assert bundle(tmp_path)["entry"][0]["fullUrl"] == "https://einthoven.invalid/fhir/R4/Patient/local-patient"


def test_an_empty_store_gives_an_empty_export(tmp_path):
    report = export(MemoryStore(), tmp_path)
    assert (report.results, report.signals, report.lost) == (0, (), ())
    Bundle.model_validate(bundle(tmp_path))


def test_the_same_store_gives_the_same_bytes(store, tmp_path):
    export_store(store, tmp_path / "a", clock=NOW)
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    export_store(store, tmp_path / "b", clock=NOW)
    after = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    # The second export holds the audit entry of the first, and nothing else differs.
    differing = {name for name in before if before[name] != after[name]}
    assert differing == {"bundle.json", "README.txt", "SHA256SUMS"}
    entries = [json.loads(content["bundle.json"])["entry"] for content in (before, after)]
    assert entries[1][: len(entries[0])] == entries[0]
    assert entries[1][len(entries[0])]["resource"]["type"]["code"] == "exported"


def test_no_key_and_no_setting_leaves_the_store(store, tmp_path):
    store.put_setting("wifi", b"CANARY-SETTING")
    export(store, tmp_path)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    for secret in (b"CANARY-SETTING", IDENTITY.signing_key, b"s" * 32):
        assert secret not in everything
        assert secret.hex().encode() not in everything


def test_a_pseudonym_stands_in_the_files_when_it_is_given(store, tmp_path):
    export(store, tmp_path, pseudonym="Study7-012")
    assert edfio.read_edf(tmp_path / "out" / "ecg-001.edf").patient.code == "Study7-012"
    with pytest.raises(InputError, match="pseudonym"):
        export_store(store, tmp_path / "b", pseudonym="Jane Doe")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


# ---- what is not in it -----------------------------------------------------------------------------------------------


class DamagedStore(MemoryStore):
    """A memory store some of whose signals are not what was written: damage that a real file has is told like this."""

    def __init__(self, damaged: Sequence[bytes]) -> None:
        super().__init__()
        self.damaged = set(damaged)

    def segment(self, digest: bytes) -> Segment | None:
        if digest in self.damaged:
            raise StoreDamaged("a signal is damaged", "repair the store")
        return super().segment(digest)

    def quarantined(self) -> Sequence[Quarantined]:
        return [
            Quarantined(
                kind=ContentKind.RESULT, place='1-4, "x"', reason=DamageReason.TAG_WRONG, found_at_ms=STARTED_AT_MS
            )
        ]


def test_what_is_missing_is_listed_with_its_reason(tmp_path):
    signals = [signal(seed=n) for n in range(8)]
    signals[6] = signal(missing=slice(0, 7_500))
    signals[7] = Segment(Fraction(250), np.full(100, 9_000_000, np.int32))
    verdicts = [verdict(one, STARTED_AT_MS + 30_000 * n) for n, one in enumerate(signals)]
    verdicts[6] = verdict(signals[6], STARTED_AT_MS + 10**9)
    verdicts[7] = verdict(signals[7], STARTED_AT_MS + 2 * 10**9)
    store = DamagedStore([verdicts[2].segment_digest, verdicts[3].segment_digest])
    for one, segment in zip(verdicts[:5], signals[:5], strict=True):
        store.append_window(one, segment)
    store.append_results(verdicts[5:6])
    for one, segment in zip(verdicts[6:], signals[6:], strict=True):
        store.append_window(one, segment)
    report = export(store, tmp_path)
    assert [(one.first_counter, one.last_counter, one.reason) for one in report.lost] == [
        (3, 4, LostReason.DAMAGED),
        (6, 6, LostReason.NOT_HELD),
        (8, 8, LostReason.UNWRITABLE),
        (7, 7, LostReason.EMPTY),
    ]
    with (tmp_path / "out" / "lost.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines[0]["place"] == "0-1-3 to 0-1-4"
    assert lines[-1] == {
        "kind": "result",
        "place": '1-4, "x"',
        "time_utc": "2025-11-22T10:00:00.000Z",
        "reason": "damaged: tag wrong",
    }
    with_signal = ["derivedFrom" in one for one in of_type(tmp_path, "Observation")]
    assert with_signal == [True, True, False, False, True, False, False, False]
    found = read(tmp_path / "out" / "ecg-001.edf")
    assert np.array_equal(found[:15_000], np.concatenate([one.samples_uv for one in signals[:2]]))
    assert (found[15_000:30_000] == MISSING_UV).all()
    assert np.array_equal(found[30_000:37_500], signals[4].samples_uv)
    assert "the signal of 5 results, and 1 things" in (tmp_path / "out" / "README.txt").read_text()


def test_a_signal_that_vanishes_while_it_is_exported_is_listed(tmp_path):
    class Vanishing(MemoryStore):
        """Another thread drops a signal after it was planned."""

        reads = 0

        def segment(self, digest: bytes) -> Segment | None:
            self.reads += 1
            return None if self.reads == 4 else super().segment(digest)

    store = Vanishing()
    for n in range(2):
        segment = signal(seed=n)
        store.append_window(verdict(segment, STARTED_AT_MS + 30_000 * n), segment)
    report = export(store, tmp_path)
    assert [(one.first_counter, one.reason) for one in report.lost] == [(2, LostReason.DAMAGED)]
    found = read(tmp_path / "out" / "ecg-001.edf")
    assert np.array_equal(found[:7_500], signal(seed=0).samples_uv)
    assert (found[7_500:] == MISSING_UV).all()


# ---- whole or not at all ---------------------------------------------------------------------------------------------


def test_the_folder_is_private_and_checks_out(store, tmp_path):
    report = export(store, tmp_path)
    folder = tmp_path / "out"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert sorted(path.name for path in folder.iterdir()) == sorted(file.name for file in report.files)
    for file in report.files:
        content = (folder / file.name).read_bytes()
        assert (len(content), hashlib.sha256(content).digest()) == (file.n_bytes, file.sha256)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_the_audit_trail_says_that_it_was_exported(store, tmp_path):
    export(store, tmp_path)
    last = store.audit_trail(limit=1_000)[-1]
    assert last.action is AuditAction.EXPORTED
    assert last.subject == hashlib.sha256((tmp_path / "out" / "SHA256SUMS").read_bytes()).hexdigest()
    assert last.at_ms == NOW.now_ms()


def test_an_export_that_can_not_be_recorded_is_not_made(store, tmp_path):
    class Full(MemoryStore):
        """Its disk is full."""

        def record(self, action: AuditAction, subject: str = "", *, at_ms: int) -> Any:
            raise StoreIOError("the disk is full", "free some space")

    with pytest.raises(StoreIOError):
        export(Full(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "dangling link"])
def test_what_is_there_is_never_touched(store, tmp_path, kind):
    target = tmp_path / "out"
    match kind:
        case "folder":
            target.mkdir()
            (target / "precious").touch()
        case "empty folder":
            target.mkdir()
        case "file":
            target.write_text("precious")
        case _:
            target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="exists already"):
        export(store, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_that_was_cut_off_is_named_and_left(store, tmp_path):
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(InputError, match=r"remove out\.partial"):
        export(store, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]


def test_a_folder_that_can_not_be_made_is_said(store, tmp_path):
    with pytest.raises(StoreIOError, match="can't be written"):
        export_store(store, tmp_path / "absent" / "out")
    with pytest.raises(ValueError, match="max_signal_bytes"):
        export(store, tmp_path, max_signal_bytes=5)
    assert list(tmp_path.iterdir()) == []


_FULL_DISK = """
import resource, sys
from pathlib import Path
from einthoven.errors import StoreIOError
from einthoven.store_export import export_store
from einthoven.store_memory import MemoryStore
from tests.einthoven.stored_windows import signal, verdict
store = MemoryStore()
for n in range(40):
    segment = signal(seed=n)
    store.append_window(verdict(segment, 30_000 * n), segment)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
import signal as signals
signals.signal(signals.SIGXFSZ, signals.SIG_IGN)
try:
    export_store(store, Path(sys.argv[1]))
except StoreIOError as problem:
    print(problem)
    sys.exit(5)
"""


@pytest.mark.parametrize("file_bytes", [100, 5_000, 60_000, 300_000])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, file_bytes):
    """The kernel refuses to let a file grow (EFBIG), as a full disk does (ENOSPC)."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path / "out"), str(file_bytes)],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 5, done.stderr
    assert "can't be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


# ---- size ------------------------------------------------------------------------------------------------------------


class EndlessStore(MemoryStore):
    """Many windows that take no memory: each is made when it is asked for."""

    n_windows = 4_000

    def __init__(self) -> None:
        super().__init__()
        self.one = signal(3_750, rate_hz=125)
        self.verdict = verdict(self.one)

    def results_between(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Any:
        from dataclasses import replace

        from einthoven.store_values import StoredResult

        first = max(0, -((STARTED_AT_MS - first_ms) // 30_000))
        numbers = range(first, min(self.n_windows, first + limit))
        return [
            StoredResult(1, replace(self.verdict, counter=n + 1, started_at_ms=STARTED_AT_MS + 30_000 * n))
            for n in numbers
        ]

    def segment(self, digest: bytes) -> Segment | None:
        return self.one

    def beats(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[BeatRun]:
        return []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_store(tmp_path):
    peaks = []
    for n_windows in (1_000, 4_000):
        store = EndlessStore()
        store.n_windows = n_windows
        tracemalloc.start()
        try:
            report = export_store(store, tmp_path / f"{n_windows}", max_signal_bytes=MIN_SIGNAL_BYTES, clock=NOW)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert report.results == n_windows
        assert report.lost == ()
    assert peaks[1] < 1.3 * peaks[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


# ---- what a session stores -------------------------------------------------------------------------------------------


def test_a_recording_comes_out_as_it_went_in(tmp_path):
    source, store = SimulatedSource.demo(), MemoryStore()
    samples = np.concatenate(list(source.chunks()))[: int(95 * source.sampling_rate_hz)]
    with Session.open(
        load_model(), store, sampling_rate_hz=source.sampling_rate_hz, started_at_ms=STARTED_AT_MS
    ) as session:
        for part in np.array_split(samples, 40):
            session.push(part)
    report = export(store, tmp_path)
    (file,) = report.signals
    path = tmp_path / "out" / file.name
    assert path.read_bytes()[192:197] == b"EDF+C"
    assert "times within" not in file.summary
    found = read(path)
    assert np.array_equal(found[: samples.size], samples)
    assert (found[samples.size :] == MISSING_UV).all()
    kept = np.concatenate([run.at_ms for run in store.beats(0, 2**47)])
    onsets = [one.onset for one in edfio.read_edf(path).annotations if one.text.startswith("Beat")]
    assert len(onsets) == len(kept) == report.beats > 90
    assert np.abs(np.array(onsets) * 1_000 - (kept - STARTED_AT_MS)).max() <= 1.1
    rate_hz = float(source.sampling_rate_hz)
    peaks_uv = [np.abs(samples[round(onset * rate_hz) - 5 :][:11]).max() for onset in onsets]
    assert np.median(peaks_uv) > 400, "an annotated beat stands at its R peak"


def test_a_sensor_that_is_slower_than_it_says_comes_out_without_gaps(tmp_path):
    source, store = SimulatedSource.demo(), MemoryStore()
    rate_hz = source.sampling_rate_hz
    samples = np.concatenate(list(source.chunks()))[: int(200 * rate_hz)]
    with Session.open(load_model(), store, sampling_rate_hz=rate_hz) as session:
        for n, part in enumerate(np.array_split(samples, 200)):
            session.push(part, at=STARTED_AT_MS + 1_008 * n)
    (file,) = export(store, tmp_path).signals
    found = read(tmp_path / "out" / file.name)
    assert np.array_equal(found[: samples.size], samples)
    assert "off from the device's clock by up to" in file.summary
    kept = np.concatenate([run.at_ms for run in store.beats(0, 2**47)])
    recording = edfio.read_edf(tmp_path / "out" / file.name)
    assert recording.is_continuous
    onsets = [one.onset for one in recording.annotations if one.text.startswith("Beat")]
    assert abs(len(onsets) - len(kept)) <= 1
    peaks_uv = [np.abs(samples[max(0, round(onset * float(rate_hz)) - 5) :][:11]).max() for onset in onsets]
    assert np.median(peaks_uv) > 400, "although its clock runs off, an annotated beat stands at its R peak"
