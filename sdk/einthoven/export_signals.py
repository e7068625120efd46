"""The signals of a store as EDF files: which windows go where, what is said of them, and what could not be written.

The samples go through ``edf_tracks`` (which windows make up a recording) and ``edf_writing`` (its bytes). Every segment
is read twice, once to plan and once to write, so a recording of any length takes the memory of its list of windows.

It deliberately takes no signal that does not match its digest: the store refuses it, and it is listed as lost.

Invariants:
    1. Every result is in one file, or in ``lost`` with the reason.
    2. Damaged, dropped and unwritable signals end no export.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Final

from einthoven.edf_tals import Tal
from einthoven.edf_tracks import Track, Tracks
from einthoven.edf_writing import EdfPlan, Stretch, edf_bytes
from einthoven.errors import InputError, RecordFormatError, StoreDamaged
from einthoven.export_folder import ExportFolder
from einthoven.fhir_bundle import SignalFile
from einthoven.fhir_results import note_text, result_text, rhythm_text, tier_text
from einthoven.ports import Segment, Store
from einthoven.result_rows import to_row
from einthoven.results import BeatClass
from einthoven.store_paging import all_beats, all_results
from einthoven.store_values import BeatRun, StoredResult
from einthoven_protocol.messages import AnnotationRow, ResultId

EDF_TYPE: Final = "application/x-edf"
"""Media type of EDF and BDF; none is registered."""
_BEAT_TEXT: Final = {
    BeatClass.NORMAL: "Beat N",
    BeatClass.SUPRAVENTRICULAR: "Beat S",
    BeatClass.VENTRICULAR: "Beat V",
    BeatClass.UNKNOWN: "Beat not classified",
}


class LostReason(Enum):
    """Why a result's signal is in no file."""

    NOT_HELD = "not held"
    """It was never kept, or was dropped by the retention policy."""
    DAMAGED = "damaged"
    """Its stored bytes are not what was written."""
    EMPTY = "no sample"
    """Not one sample of it was received."""
    UNWRITABLE = "does not fit EDF"
    """Its sampling rate or amplitude is beyond the format."""


@dataclass(frozen=True, slots=True)
class LostSignal:
    """Results, one after the other, whose signal is in no file.

    Attributes:
        epoch: Of the results.
        first_counter: The first of them.
        last_counter: The last, inclusive.
        reason: Why.
        started_at_ms: UTC of the first one's signal, ms since 1970.
    """

    epoch: int
    first_counter: int
    last_counter: int
    reason: LostReason
    started_at_ms: int


class ResultPlaces:
    """In which file each result's signal is; consecutive results of one file take one line."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, int, int, int]] = []
        self._sorted = True

    def add(self, epoch: int, counter: int, file: int) -> None:
        """Note a result."""
        if self._runs and self._runs[-1][0] == epoch and self._runs[-1][2:] == (counter - 1, file):
            self._runs[-1] = (epoch, self._runs[-1][1], counter, file)
        else:
            self._runs.append((epoch, counter, counter, file))
            self._sorted = False

    def file_of(self, epoch: int, counter: int) -> int | None:
        """Number of the file."""
        if not self._sorted:
            self._runs.sort()
            self._sorted = True
        index = bisect_right(self._runs, (epoch, counter, 2**63, 0)) - 1
        if index < 0:
            return None
        of_epoch, first, last, file = self._runs[index]
        return file if of_epoch == epoch and first <= counter <= last else None


class SignalExport:
    """Writes the EDF files of one export.

    Args:
        store: Whose signals.
        out: Where to.
        device_alias: Of this device, 0 if it was never enrolled.
        notes: Annotations by result.
        pseudonym: What to call the patient, see ``edf_writing``.
        max_signal_bytes: Bytes of samples in one file.
        progress: Called with the number of results looked at.
    """

    def __init__(
        self,
        store: Store,
        out: ExportFolder,
        *,
        device_alias: int,
        notes: Mapping[ResultId, Sequence[AnnotationRow]],
        pseudonym: str | None,
        max_signal_bytes: int,
        progress: Callable[[int], None],
    ) -> None:
        self.files: list[SignalFile] = []
        self.places = ResultPlaces()
        self.lost: list[LostSignal] = []
        self._store, self._out = store, out
        self._device_alias, self._notes = device_alias, notes
        self._pseudonym, self._progress = pseudonym, progress
        self._tracks = Tracks(max_signal_bytes)

    def run(self) -> None:
        """Write all signals.

        Raises:
            InputError: The pseudonym can't be written.
            StoreError: The store can't be read, or the disk says no.
        """
        for count, stored in enumerate(all_results(self._store), 1):
            self._progress(count)
            segment = self._segment_or_lost(stored)
            if segment is None:
                continue
            try:
                finished = self._tracks.add(stored, segment)
            except InputError:
                self._lose(stored, LostReason.UNWRITABLE)
                continue
            for track in finished:
                self._write(track)
        for track in self._tracks.finish():
            self._write(track)

    def _segment_or_lost(self, stored: StoredResult) -> Segment | None:
        try:
            segment = self._store.segment(stored.result.segment_digest)
        except (StoreDamaged, RecordFormatError):
            self._lose(stored, LostReason.DAMAGED)
            return None
        if segment is None:
            self._lose(stored, LostReason.NOT_HELD)
        return segment

    def _lose(self, stored: StoredResult, reason: LostReason) -> None:
        counter, last = stored.result.counter, self.lost[-1] if self.lost else None
        if last is not None and (last.epoch, last.last_counter, last.reason) == (stored.epoch, counter - 1, reason):
            self.lost[-1] = LostSignal(last.epoch, last.first_counter, counter, reason, last.started_at_ms)
        else:
            self.lost.append(LostSignal(stored.epoch, counter, counter, reason, stored.result.started_at_ms))

    def _write(self, track: Track) -> None:
        plan = track.planner.plan()
        if plan is None:
            for window in track.windows:
                self._lose(window.stored, LostReason.EMPTY)
            return
        number = len(self.files) + 1
        name = f"ecg-{number:03d}{plan.suffix}"
        tals = chain(self._verdicts(track, plan), self._beats(track, plan))
        with self._out.file(name) as file:
            for piece in edf_bytes(plan, self._stretches(track), tals, pseudonym=self._pseudonym):
                file.write(piece)
        written = file.finished
        self.files.append(
            SignalFile(
                name=name,
                content_type=EDF_TYPE,
                n_bytes=written.n_bytes,
                sha1=written.sha1,
                sha256=written.sha256,
                started_at_ms=track.started_at_ms,
                ended_at_ms=track.ended_at_ms,
                summary=_summary(track, plan),
            )
        )
        for window in track.windows:
            self.places.add(window.stored.epoch, window.stored.result.counter, number - 1)

    def _stretches(self, track: Track) -> Iterator[Stretch]:
        for window in track.windows:
            try:
                segment = self._store.segment(window.stored.result.segment_digest)
            except (StoreDamaged, RecordFormatError):
                segment = None
            if segment is None:  # it was there a moment ago: a retention policy at work, or a failing disk
                self._lose(window.stored, LostReason.DAMAGED)
            else:
                yield Stretch(window.first, segment.samples_uv)

    def _verdicts(self, track: Track, plan: EdfPlan) -> Iterator[Tal]:
        for window in track.windows:
            row = to_row(window.stored.result)
            result = ResultId(self._device_alias, window.stored.epoch, row.counter)
            onset_us = plan.onset_us(window.first)
            duration_us = plan.onset_us(window.first + window.n_samples) - onset_us
            sure = "" if row.reason else f", probability {row.confidence_permille / 1000:.3f}"
            said = f"Result {result_text(result)}: {rhythm_text(row)}{sure}. {tier_text(row)}"
            yield Tal(onset_us, said, duration_us)
            for note in self._notes.get(result, ()):
                yield Tal(onset_us, f"Note by {note.author} on result {result_text(result)}: {note_text(note)}")

    def _beats(self, track: Track, plan: EdfPlan) -> Iterator[Tal]:
        runs = all_beats(self._store, first_ms=track.started_at_ms, last_ms=track.ended_at_ms)
        for at_ms, beat_class in beats_of(runs):
            sample = track.sample_at(at_ms)
            if sample is not None:
                yield Tal(plan.onset_us(sample), _BEAT_TEXT[beat_class])


def beats_of(runs: Iterable[BeatRun]) -> Iterator[tuple[int, BeatClass]]:
    """Each beat's UTC in ms and its class."""
    for run in runs:
        for at_ms, beat_class in zip(run.at_ms.tolist(), run.classes.tolist(), strict=True):
            yield at_ms, BeatClass(beat_class)


def _summary(track: Track, plan: EdfPlan) -> str:
    kind = "with pauses" if plan.interrupted else "continuous"
    parts = [f"Single-lead ECG, {len(track.windows)} windows, {kind}, {plan.n_samples} samples received"]
    parts.append(f"{track.rate_hz} Hz exactly")
    if plan.layout.rate_error:
        parts.append(f"the file states a rate that is off by {float(plan.layout.rate_error):.1e} of it")
    if track.drift_ms:
        parts.append(f"times within the file are off from the device's clock by up to {abs(track.drift_ms)} ms")
    return "; ".join(parts)
