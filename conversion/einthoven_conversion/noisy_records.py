"""Records with electrode motion added at a stated signal-to-noise ratio, as the Noise Stress Test does.

The definition is in ``signal_quality.noise_cases``; QRS heights are measured at the beats that the SDK finds in the
clean record. Which stretch of which noise a record gets follows from its name.

It deliberately draws nothing at random.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.resampling import FrontEndCoefficients, ResamplerTable
from einthoven.signal_path import ticks_to_samples
from einthoven.window_beats import look_at_window
from einthoven_conversion.datasets import Record, find_folder, read_channels
from einthoven_conversion.errors import DatasetNotFound
from einthoven_conversion.signal_quality.noise_cases import looped, mixed, qrs_height_uv, scaled_to_snr
from einthoven_conversion.verdict.collecting import Alter

TRAINING_PIECES = ("em_0", "em_1", "em_2", "em_3")
TEST_PIECES = ("em_4",)
"""Electrode noise that neither the network nor the verdict is trained with (``recipe.RHYTHM_RECIPE``)."""
TRAINING_SNR_DB = (18, 0)
"""Copies for training get from one to the other, evenly."""


def electrode_motion(
    root: Path,
    records: Sequence[Record],
    coefficients: FrontEndCoefficients,
    pieces: Sequence[str],
    snr_db: float | None,
) -> Alter:
    """Adds noise to records.

    Args:
        root: Folder of data sets, with ``nstdb_noise`` in it.
        records: Those that will be altered, by position.
        coefficients: The front end's, to find beats behind.
        pieces: Which noise.
        snr_db: How strong; ``None`` for ``TRAINING_SNR_DB``.

    Raises:
        DatasetNotFound: There is no noise.
    """
    folder = find_folder(root, "nstdb_noise")
    if folder is None:
        raise DatasetNotFound("the folder of data sets has no nstdb_noise", "fetch it, or measure without --noise")
    noise = [
        channel.astype(np.float64)
        for line, channels in read_channels(folder)
        if line["record_id"] in pieces
        for channel in channels
    ]

    def alter(position: int, samples_uv: NDArray[np.int32]) -> NDArray[np.int32]:
        record = records[position]
        chance = zlib.crc32(record.record_id.encode())
        rate = round(record.sampling_rate_hz)
        table = ResamplerTable(coefficients, record.sampling_rate_hz)
        found = look_at_window(table, samples_uv, record.sampling_rate_hz)
        beats = ticks_to_samples(found.at_ticks, record.sampling_rate_hz)
        strong, weak = TRAINING_SNR_DB[1], TRAINING_SNR_DB[0]
        snr = snr_db if snr_db is not None else strong + (chance >> 8) % 1000 / 999 * (weak - strong)
        piece = looped(noise[chance % len(noise)], rate, len(samples_uv), chance % (60 * rate))
        return mixed(samples_uv, scaled_to_snr(piece, qrs_height_uv(samples_uv, beats, rate), rate, snr))

    return alter
