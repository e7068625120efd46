"""Figures of the noise stress test: F1 where quality says usable, F1 over everything, and the usable share.

It deliberately gives no figure where there is no noise data set, and none for a level that no record could be scaled
to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_bench.datasets import Dataset, Record, read_signals
from einthoven_bench.figures import Figure
from einthoven_bench.noise_stress import at_rate, tiled_noise
from einthoven_bench.signal_beats import RecordOutcome, f1_figure
from einthoven_bench.uncertainty import pooled_interval

SNRS_DB: Final = (12, 6, 0, -6)
FLAGGED_AT_DB: Final = -6
"""The level whose seconds are to be flagged."""
NOISE_KIND: Final = "em"
"""Electrode motion, which looks most like a QRS complex."""
MIN_PIECE_S: Final = 60
"""Shorter pieces would repeat too often; they are used only where there is none longer."""


class NoisePieces:
    """The noise data set's electrode-motion pieces, first channel each.

    Args:
        dataset: The set.

    Raises:
        DatasetCorrupt: A shard is damaged.
    """

    def __init__(self, dataset: Dataset) -> None:
        kind = [record for record in dataset.records if record.columns.get("kind") == NOISE_KIND]
        found = [
            (record, channels[0].astype(np.float64))
            for record, channels in read_signals(Dataset(dataset.name, dataset.folder, kind))
        ]
        long = [one for one in found if len(one[1]) >= MIN_PIECE_S * one[0].sampling_rate_hz]
        self._pieces = long or found

    def __len__(self) -> int:
        return len(self._pieces)

    def for_record(self, record: Record, n: int) -> NDArray[np.float64]:
        """Noise for a whole record at its rate, float64 [n]; the same each time."""
        pieces = [at_rate(noise, piece.sampling_rate_hz, record.sampling_rate_hz) for piece, noise in self._pieces]
        return tiled_noise(pieces, record.record_id, n)


def level_name(snr_db: int) -> str:
    """``6db``, ``minus6db``: how a level is written in an id."""
    return f"{'minus' if snr_db < 0 else ''}{abs(snr_db)}db"


def noise_figures(prefix: str, outcomes: Sequence[RecordOutcome]) -> list[Figure]:
    """Figures of all levels that were measured."""
    found: list[Figure | None] = [_usable_share(f"{prefix}.usable_share_clean", outcomes, None)]
    for snr_db in SNRS_DB:
        runs = [outcome.noisy[snr_db] for outcome in outcomes if snr_db in outcome.noisy]
        if not runs:
            continue
        name = level_name(snr_db)
        share = sum(run.usable.reference_beats for run in runs) / max(1, sum(run.beats.reference_beats for run in runs))
        note = f"electrode motion at {snr_db} dB from the first sample to the last"
        found += [
            f1_figure(
                f"{prefix}.qrs_f1_em_{name}",
                [run.usable for run in runs],
                f"{note}, in seconds without a quality flag, which hold {share:.1%} of the beats",
            ),
            f1_figure(f"{prefix}.qrs_f1_em_{name}_everywhere", [run.beats for run in runs], f"{note}, in every second"),
            _usable_share(f"{prefix}.usable_share_em_{name}", outcomes, snr_db),
        ]
        if snr_db == FLAGGED_AT_DB:
            found.append(_flagged(outcomes))
    return [figure for figure in found if figure is not None]


def _flagged(outcomes: Sequence[RecordOutcome]) -> Figure | None:
    share = _usable_share("", outcomes, FLAGGED_AT_DB)
    if share is None:
        return None
    spread = (1 - share.spread[1], 1 - share.spread[0])
    note = f"seconds with any quality flag at {FLAGGED_AT_DB} dB of electrode motion"
    return Figure("signal.quality_flagged_em_minus6db", 1 - share.value, "1", share.n, spread, note)


def _usable_share(name: str, outcomes: Sequence[RecordOutcome], snr_db: int | None) -> Figure | None:
    runs = [
        outcome.clean if snr_db is None else outcome.noisy[snr_db]
        for outcome in outcomes
        if snr_db is None or snr_db in outcome.noisy
    ]
    counts = np.array([[run.usable_seconds, run.seconds] for run in runs], np.int64).reshape(-1, 2)
    seconds = int(counts[:, 1].sum())
    if not seconds:
        return None
    spread = pooled_interval(counts, lambda drawn: drawn[:, 0] / np.maximum(drawn[:, 1], 1))
    return Figure(
        name, float(counts[:, 0].sum() / seconds), "1", seconds, spread, "share of seconds without a quality flag"
    )
