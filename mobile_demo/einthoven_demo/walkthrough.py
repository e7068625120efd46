"""The demo's seven steps, each one real: a server process, TLS, SQLCipher, the int8 model, PostgreSQL.

It deliberately contains no part of the product: it does what an app, an administrator and a clinician would do, checks
that each step did what it shows, and ends with an error otherwise.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from einthoven import (
    EinthovenError,
    Event,
    FileKeyProvider,
    Model,
    ReplayOutcome,
    RiskChanged,
    Session,
    SignalTally,
    SqlCipherStore,
    SystemClock,
    WindowAnalyzed,
    WindowResult,
    enroll,
    load_model,
    replay_all,
    summarize_heart,
    sync,
)
from einthoven.account import Account
from einthoven.native_stderr import native_stderr_silenced
from einthoven.plaintext_scan import DATABASE_HEADER, files_of_store, find_plaintext, signal_needles, text_needles
from einthoven.ports import Source, Store
from einthoven.results import Rhythm
from einthoven.runner_litert import LiteRtRunner
from einthoven_demo.clinic import Clinic
from einthoven_demo.errors import DemoError
from einthoven_demo.findings import Findings, write_report
from einthoven_demo.server_process import ServerProcess

COMMENT: Final = "Seen on the strip; please repeat in the clinic."
"""What the clinician writes; also a needle that must not be found in the device's file."""
_EVENT_LINES_MAX: Final = 8
_NEEDLE_RUNS: Final = 4
"""Places in each window to take known signal from."""
_WORDS: Final = ("CREATE TABLE", "segment", "annotation", "sync_key", "BEGIN CERTIFICATE", "https://127.0.0.1")
"""Words that lie in the store's file if it is not encrypted."""
_LABELS: Final = {Rhythm.NORMAL: "N", Rhythm.AF: "A", Rhythm.OTHER: "O", Rhythm.NOISE: "~"}
_NEVER: Final = "this must never happen; please report it"


class Walkthrough:
    """Runs the steps in order.

    Args:
        console: Where to show progress.
        folder: An empty private folder for everything the demo makes.
        source: The ECG.
        report: Where to write the report.
    """

    def __init__(self, console: Console, folder: Path, source: Source, report: Path) -> None:
        self._console = console
        self._folder = folder
        self._source = source
        self._report = report
        self._device = folder / "device" / "store.db"
        self._found = Findings(SignalTally(source.sampling_rate_hz))
        self._needles: list[bytes] = []
        self._began = time.monotonic()

    async def run(self) -> None:
        """Run all steps.

        Raises:
            EinthovenError: A step failed; everything that was started is stopped.
        """
        model = load_model()
        with native_stderr_silenced():
            self._runner = LiteRtRunner(model)
        with ServerProcess(self._folder / "server") as server:
            ready_s = server.start()
            self._say(1, f"server ready in {ready_s:.1f} s: PostgreSQL, own authority, TLS 1.3 with AES-256-GCM")
            with self._store() as store:
                patient_id, clinician = await self._enroll(server, store)
                self._record(server, store, model)
            self._prove_encrypted()
            with self._store() as store:
                await self._sync_after_outage(server, store)
                async with Clinic(server.url, server.ca_file, clinician) as clinic:
                    await self._annotate(clinic, store, patient_id)
                    await self._read_back(clinic, store, model, patient_id)
                write_report(self._report, self._source, model, self._runner, store, self._found)
        self._detail(f"report: {self._report}")
        self._console.print(f"done in {time.monotonic() - self._began:.1f} s; all that was started is stopped")

    def _store(self) -> SqlCipherStore:
        return SqlCipherStore.open(self._device, FileKeyProvider(self._device.with_suffix(".key"), create=True))

    async def _enroll(self, server: ServerProcess, store: SqlCipherStore) -> tuple[str, Account]:
        async with Clinic(server.url, server.ca_file, server.admin) as admin:
            patient_id = await admin.admit_patient()
            code = await admin.enrolment_code(patient_id)
            clinician = await admin.clinician(patient_id)
        identity = await enroll(store, code)
        device = identity.device_id[:8]
        self._say(2, f"device {device}… enrolled by one-time code: own Ed25519 key, pinned authority, one patient")
        return patient_id, clinician

    def _record(self, server: ServerProcess, store: SqlCipherStore, model: Model) -> None:
        """Stream second by second; halfway, the server dies without warning."""
        seconds = _in_seconds(self._source)
        self._found.seconds = seconds
        self._say(
            3,
            f"{self._source.name}, {float(self._source.sampling_rate_hz):g} Hz, {len(seconds)} s, second by second: "
            "front end -> int8 model -> risk events",
        )
        spent_s = 0.0
        began_at_ms = self._source.started_at_ms
        if began_at_ms is None:  # as if it ended now, so that nothing is dated in the future
            began_at_ms = SystemClock().now_ms() - 1000 * len(seconds)
        rate = self._source.sampling_rate_hz
        session = Session.open(model, store, sampling_rate_hz=rate, started_at_ms=began_at_ms, runner=self._runner)
        with self._progress() as progress:
            task = progress.add_task("recording", total=len(seconds))
            for index, samples in enumerate(seconds):
                if index == len(seconds) // 2:
                    server.kill()
                    progress.console.print("    server killed (SIGKILL); recording goes on", markup=False)
                began = time.perf_counter()
                events = session.push(samples)
                spent_s += time.perf_counter() - began
                self._take(events, progress.console)
                progress.advance(task)
            self._take(session.close(), progress.console)
        self._found.assessment = session.assessment
        self._needles = [needle for result in self._found.results for needle in _signal_needles(store, result)]
        self._found.ms_per_second = 1000 * spent_s / max(1, len(seconds))
        if not any(result.usable_s for result in self._found.results):
            raise DemoError("the record has no usable second", "try another record")
        conclusive = self._found.assessment.conclusive
        self._detail(
            f"{len(self._found.results)} windows, {conclusive} conclusive; {self._found.ms_per_second:.2f} ms a second "
            f"of ECG, stored (mean, n = {len(seconds)})"
        )
        heart = summarize_heart(self._found.signal.signal, rate)
        bpm = "no heart rate" if heart.mean_bpm is None else f"{heart.mean_bpm:.0f} beats/min"
        self._detail(f"{heart.beats} beats, {bpm}; {heart.usable_s} of {heart.seconds} s of usable signal")

    def _take(self, events: list[Event], console: Console) -> None:
        self._found.signal.take(events)
        for event in events:
            if isinstance(event, WindowAnalyzed):
                self._found.results.append(event.result)
            elif isinstance(event, RiskChanged):
                self._found.changes.append(event)
                if len(self._found.changes) <= _EVENT_LINES_MAX:
                    why = event.evidence[0].statement if event.evidence else "nothing conclusive"
                    change = f"{event.previous.name.lower()} -> {event.tier.name.lower()}"
                    console.print(f"    risk {change}: {why}", markup=False, soft_wrap=True)

    def _prove_encrypted(self) -> None:
        """Look in the closed store's files for what is known to have been put in."""
        needles = [DATABASE_HEADER, *text_needles(_WORDS), *self._needles]
        paths = files_of_store(self._device)
        found = find_plaintext(paths, needles)
        if found:
            raise DemoError(f"plaintext found in {found[0].path.name}", _NEVER)
        self._found.needles, self._found.plaintexts_found = len(needles), len(found)
        self._found.file_bytes = sum(path.stat().st_size for path in paths)
        self._say(
            4,
            f"signal, results and outbox in {self._found.file_bytes:,} B of SQLCipher (AES-256): "
            f"{len(needles)} known plaintexts looked for, {len(found)} found",
        )

    async def _sync_after_outage(self, server: ServerProcess, store: SqlCipherStore) -> None:
        try:
            await sync(store)
        except EinthovenError as problem:
            outage = problem.problem
        else:
            raise DemoError("the server was killed but still answers", _NEVER)
        waiting = store.sync_state().waiting
        self._say(5, f"without the server: {outage}; {waiting} rows wait")
        again_s = server.start()
        report = await sync(store)
        self._found.sync = report
        if not report.state.last_digest_equal or report.state.waiting:
            raise DemoError("device and server do not agree after a sync", _NEVER)
        each = "" if report.bytes_per_result is None else f" ({report.bytes_per_result:.1f} B a result, seal included)"
        self._detail(
            f"server back in {again_s:.1f} s: {report.results_up} results in {report.round_trips} round trip, "
            f"{report.bytes_up} B up{each}, {report.bytes_down} B down; digests equal"
        )

    async def _annotate(self, clinic: Clinic, store: SqlCipherStore, patient_id: str) -> None:
        listed = await clinic.results(patient_id)
        chosen = _most_telling(self._found.results)
        result_id = next(one["id"] for one in listed if one["counter"] == chosen.counter)
        await clinic.annotate(result_id, rhythm=_LABELS[chosen.rhythm], comment=COMMENT)
        report = await sync(store)
        down = [row for row in store.annotations() if row.comment.value == COMMENT]
        if len(down) != 1 or not report.state.last_digest_equal:
            raise DemoError("the clinician's note did not reach the device", _NEVER)
        self._found.annotations = tuple(down)
        self._say(
            6, f"clinician annotated result {chosen.counter}; pulled down in {report.bytes_down} B, digests equal"
        )

    async def _read_back(self, clinic: Clinic, store: SqlCipherStore, model: Model, patient_id: str) -> None:
        assessments = await clinic.fhir_search(f"RiskAssessment?subject=Patient/{patient_id}")
        chosen = _most_telling(self._found.results)
        listed = {one["counter"]: one for one in await clinic.results(patient_id)}
        mine = listed[chosen.counter]
        self._found.fhir = (
            await clinic.fhir(f"RiskAssessment/{mine['risk_assessment_id']}"),
            await clinic.fhir(f"Observation/{mine['observation_id']}"),
        )
        if len(assessments) != len(self._found.results):
            raise DemoError(f"{len(assessments)} of {len(self._found.results)} results came back as FHIR", _NEVER)
        replays = tuple(replay_all(model, store, runner=self._runner))
        same = sum(one.outcome is ReplayOutcome.SAME for one in replays)
        if same != len(replays) or not replays:
            raise DemoError(f"{len(replays) - same} of {len(replays)} results do not replay", "please report it")
        self._found.replays = replays
        self._say(
            7,
            f"FHIR R4: {len(assessments)} RiskAssessments, each on its Observation; "
            f"{same} of {len(replays)} results replayed from their segments, bit for bit",
        )

    def _say(self, step: int, text: str) -> None:
        self._console.print(f"[bold]{step}[/] ", end="")
        self._console.print(text, markup=False, soft_wrap=True)

    def _detail(self, text: str) -> None:
        self._console.print(f"    {text}", markup=False, soft_wrap=True)

    def _progress(self) -> Progress:
        columns = (TextColumn("    {task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} s"))
        return Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True)


def _in_seconds(source: Source) -> list[NDArray[np.int32]]:
    """Cut a source into whole seconds (the last may be shorter), as a sensor would deliver it."""
    samples = np.concatenate([np.empty(0, dtype=np.int32), *source.chunks()])
    whole = int(len(samples) / source.sampling_rate_hz)
    edges = [int(second * source.sampling_rate_hz) for second in range(1, whole + 1)]
    return [part for part in np.split(samples, edges) if len(part)]


def _signal_needles(store: Store, result: WindowResult) -> list[bytes]:
    """Pieces of one window's signal, taken while the store is open, looked for when it is closed."""
    segment = store.segment(result.segment_digest)
    return signal_needles(segment, runs=_NEEDLE_RUNS) if segment is not None else []


def _most_telling(results: list[WindowResult]) -> WindowResult:
    """The result that a clinician would look at first: highest tier, then highest confidence."""
    return max(results, key=lambda result: (result.tier, result.rhythm is Rhythm.AF, result.confidence_permille))
