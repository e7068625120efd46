"""`einthoven-bench signal`: measures part by part and gathers one document.

It deliberately computes no figure itself and prints nothing: progress goes through a function that the caller gives. A
part whose data are not there is left out with one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from einthoven_bench.annotations import Reference, read_references
from einthoven_bench.constructed_ecg import constructed_ecg
from einthoven_bench.datasets import Dataset, check_root, open_dataset, read_signals
from einthoven_bench.figures import Document, Figure
from einthoven_bench.machine import machine
from einthoven_bench.signal_beats import RecordOutcome, RecordTask, assess_record, beat_figures, record_row
from einthoven_bench.signal_compression import CompressionTask, Sizes, compress_batch, compression_figures
from einthoven_bench.signal_cost import DAY_S, RATE_HZ, CostTask, cost_figures, measure_cost
from einthoven_bench.signal_detectors import installed_peers
from einthoven_bench.signal_digest import DEFAULT_HOURS, Digests, combined, digest_one, signals
from einthoven_bench.signal_exactness import ExactnessTask, check_exactness
from einthoven_bench.signal_noise import SNRS_DB, NoisePieces, noise_figures
from einthoven_bench.signal_quality import QualityTask, quality_figures, score_batch
from einthoven_bench.workers import batches, results_in_order

BEAT_SETS: Final = ("mitdb", "qtdb")
NOISE_SET: Final = "nstdb_noise"
NOISY_BEAT_SET: Final = "mitdb"
QUALITY_SET: Final = "cinc2017"
COMPRESSION_SETS: Final = ("mitdb", "cinc2017")
BATCH: Final = 64
"""Short recordings a task."""
COST_SIGNAL_S: Final = 3_600
"""Different signal in the cost measurement, before it repeats."""
QUICK_RECORDS: Final = 3
QUICK_HOURS: Final = 0.1
QUICK_DAY_S: Final = 600
ONE_SAMPLE_S: Final = 120
QUICK_ONE_SAMPLE_S: Final = 10
EC57_NOTE: Final = "ANSI/AAMI EC57, 150 ms, flutter left out, from the first sample on (no learning period)"


Task = TypeVar("Task")
Result = TypeVar("Result")


class Progress(Protocol):
    """Told what is going on; ``done`` and ``total`` are 0 where nothing is counted."""

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        """Say it."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure.

    Attributes:
        records: At most this many of each data set; all, if ``None``.
        quick: A run of a minute or so, to see that all of it works; its figures rest on little.
        peers: Peers on the same records as well.
        thorough: Push all of the exactness recordings sample by sample as well.
        workers: Processes; 0 for none but this one, ``None`` for what the machine bears.
    """

    records: int | None = None
    quick: bool = False
    peers: bool = False
    thorough: bool = False
    workers: int | None = None

    @property
    def limit(self) -> int | None:
        """Records of a data set."""
        return QUICK_RECORDS if self.quick and self.records is None else self.records


class SignalRun:
    """One run.

    Args:
        root: Folder of data sets.
        options: What to measure.
        progress: Told what is going on.

    Raises:
        DatasetNotFound: No such folder.
    """

    def __init__(self, root: Path, options: Options, progress: Progress) -> None:
        check_root(root)
        self._root, self._options, self._progress = root, options, progress
        self.document = Document(machine())

    def measure(self) -> Document:
        """Everything that can be measured with what is there.

        Raises:
            DatasetCorrupt: A data set is damaged.
            MeasurementFailed: The SDK refused a record.
        """
        self._cost()
        for name in BEAT_SETS:
            self._beats(name)
        self._quality()
        self._exactness()
        for name in COMPRESSION_SETS:
            self._compression(name)
        if self._options.peers:
            self._peers()
        return self.document

    def digest(self) -> Digests:
        """Digests of what goes in and what comes out."""
        tasks = signals(self._root, QUICK_HOURS if self._options.quick else DEFAULT_HOURS, self._options.limit)
        return combined(list(self._results(digest_one, tasks)))

    def _results(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        return results_in_order(function, tasks, self._options.workers)

    def _open(self, name: str, what: str) -> Dataset | None:
        dataset = open_dataset(self._root, name)
        if dataset is None or not dataset.records:
            self._leave_out(f"no data set {name} there: {what} left out")
            return None
        return dataset.first(self._options.limit)

    def _leave_out(self, line: str) -> None:
        self.document.left_out.append(line)
        self._progress(line)

    def _cost(self) -> None:
        duration_s = QUICK_DAY_S if self._options.quick else DAY_S
        self._progress("cost: second by second, then in large chunks")
        samples, source = self._cost_signal()
        alone = 0 if self._options.workers == 0 else 1
        for outcome in results_in_order(measure_cost, [CostTask(samples, duration_s)], alone):
            self.document.add(cost_figures(outcome, source))

    def _cost_signal(self) -> tuple[NDArray[np.int32], str]:
        dataset = open_dataset(self._root, QUALITY_SET)
        pieces, length = [], 0
        for record, channels in read_signals(dataset) if dataset else ():
            if record.sampling_rate_hz == RATE_HZ:
                pieces.append(channels[0])
                length += channels.shape[1]
            if length >= COST_SIGNAL_S * RATE_HZ:
                break
        if pieces:
            return np.concatenate(pieces), f"{QUALITY_SET}, an hour of recordings again and again"
        self._leave_out(f"no data set {QUALITY_SET} at {RATE_HZ} Hz there: cost measured on a constructed signal")
        return constructed_ecg(COST_SIGNAL_S, RATE_HZ, seed=0)[0], "a constructed signal"

    def _beats(self, name: str) -> None:
        dataset = self._open(name, "its beat figures are")
        if dataset is None:
            return
        references = read_references(dataset)
        noise = self._noise() if name == NOISY_BEAT_SET else None
        outcomes = self._detect(dataset, references, "sdk", noise)
        if not outcomes:
            self._leave_out(f"no record of {name} has reference beats: its beat figures are left out")
            return
        self.document.add(beat_figures(f"signal.{name}", outcomes, EC57_NOTE))
        self.document.records += [record_row(name, outcome) for outcome in outcomes]
        if noise is not None:
            self.document.add(noise_figures(f"signal.{name}", outcomes))

    def _noise(self) -> NoisePieces | None:
        dataset = open_dataset(self._root, NOISE_SET)
        pieces = NoisePieces(dataset) if dataset else None
        if not pieces:
            self._leave_out(f"no electrode-motion noise ({NOISE_SET}) there: figures under noise are left out")
            return None
        return pieces

    def _detect(
        self, dataset: Dataset, references: dict[str, Reference], detector: str, noise: NoisePieces | None
    ) -> Sequence[RecordOutcome]:
        known = [record for record in dataset.records if record.record_id in references]

        def tasks() -> Iterator[RecordTask]:
            for record, channels in read_signals(Dataset(dataset.name, dataset.folder, known)):
                yield RecordTask(
                    record_id=record.record_id,
                    sampling_rate_hz=record.sampling_rate_hz,
                    samples_uv=channels[0],
                    reference=references[record.record_id],
                    detector=detector,
                    noise_uv=noise.for_record(record, channels.shape[1]) if noise else None,
                    snrs_db=SNRS_DB,
                )

        outcomes = []
        for outcome in self._results(assess_record, tasks()):
            outcomes.append(outcome)
            self._progress(f"{dataset.name}, {detector}: records", len(outcomes), len(known))
        return outcomes

    def _quality(self) -> None:
        dataset = self._open(QUALITY_SET, "signal.quality_auc is")
        if dataset is None:
            return
        labels: list[str] = []

        def tasks() -> Iterator[QualityTask]:
            for batch in batches(read_signals(dataset), BATCH):
                labels.extend(record.columns.get("label") or "" for record, _ in batch)
                yield QualityTask([(channels[0], record.sampling_rate_hz) for record, channels in batch])

        scores: list[float | None] = []
        for batch in self._results(score_batch, tasks()):
            scores += batch
            self._progress(f"{QUALITY_SET}: recordings scored", len(scores), len(dataset.records))
        found = quality_figures(scores, labels)
        if not found:
            self._leave_out(f"{QUALITY_SET} lacks noisy recordings or others here: signal.quality_auc is left out")
        self.document.add(found)

    def _exactness(self) -> None:
        options = self._options
        one_sample_s = QUICK_ONE_SAMPLE_S if options.quick else ONE_SAMPLE_S
        hours = QUICK_HOURS if options.quick else DEFAULT_HOURS

        def tasks() -> Iterator[ExactnessTask]:
            for seed, (samples, rate) in enumerate(signals(self._root, hours, options.limit)):
                part_s = int(len(samples) / rate) + 1 if options.thorough else one_sample_s
                yield ExactnessTask(samples, rate, seed, part_s)

        outcomes = []
        minutes = int(hours * 60)
        for outcome in self._results(check_exactness, tasks()):
            outcomes.append(outcome)
            done = int(sum(one.seconds for one in outcomes) / 60)
            self._progress("exactness: minutes of ECG", min(done, minutes - 1), minutes)
        self._progress("exactness: minutes of ECG", minutes, minutes)
        digests = self.digest()
        differing = [outcome.differing_bits for outcome in outcomes]
        note = (
            f"of {sum(one.compared_bits for one in outcomes)} bits that come out of {digests.hours:.2f} h of ECG "
            f"(n: seconds), {len(outcomes)} recordings, {sum(one.pushes for one in outcomes)} pushes, "
            f"{sum(one.one_sample_seconds for one in outcomes):.0f} s of it sample by sample; spread: a recording; "
            f"on {digests.architecture}: input sha256 {digests.input_sha256}, output sha256 {digests.output_sha256}"
        )
        seconds = max(1, int(sum(one.seconds for one in outcomes)))
        spread = (float(min(differing)), float(max(differing)))
        self.document.add([Figure("signal.exactness_differing_bits", sum(differing), "1", seconds, spread, note)])

    def _compression(self, name: str) -> None:
        dataset = self._open(name, "its bits a sample are")
        if dataset is None:
            return
        per_task = BATCH if name == QUALITY_SET else 1
        tasks = (
            CompressionTask([(channels, record.sampling_rate_hz) for record, channels in batch])
            for batch in batches(read_signals(dataset), per_task)
        )
        sizes: list[Sizes] = []
        for batch in self._results(compress_batch, tasks):
            sizes += batch
            self._progress(f"{name}: recordings compressed", len(sizes), len(dataset.records))
        self.document.add(compression_figures(f"signal.{name}", sizes))

    def _peers(self) -> None:
        here, missing = installed_peers()
        for package in missing:
            self._leave_out(f"{package} is not installed: its figures are left out")
        for name in BEAT_SETS:
            dataset = self._open(name, "peers on it are")
            references = read_references(dataset) if dataset else {}
            for peer in here if dataset else ():
                assert dataset is not None
                outcomes = self._detect(dataset, references, peer, None)
                if not outcomes:
                    continue
                speed = sum(one.duration_s for one in outcomes) / sum(one.clean.wall_s for one in outcomes)
                note = f"{EC57_NOTE}; {speed:.0f} x real time, offline, whole record at once"
                self.document.add(beat_figures(f"signal.{name}.{peer}", outcomes, note))
                self.document.records += [record_row(name, outcome, peer) for outcome in outcomes]
