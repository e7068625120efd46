"""Bits a sample of whole data sets: the SDK's stored segments beside FLAC and zstd.

Counted for the SDK: every byte of the stored form, header included, and the 32-byte SHA-256 that the store keeps with
each segment. Each recording is cut into segments of the largest size allowed, and, for a second figure, of 30 s.

FLAC (libsndfile, its default level) and zstd get what favours them: whole recordings, and samples divided by the
source's own step, found as the greatest common divisor of differences. FLAC gets the counts, zstd their first
differences as int16; both with their own checksums.

Every stored segment is decoded again and compared: what is not lossless has no figure, but an error.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from einthoven.ports import Segment
from einthoven.segments import MAX_SEGMENT_SAMPLES, SEGMENT_DIGEST_BYTES, decode_segment, encode_segment
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.figures import Figure
from einthoven_bench.uncertainty import pooled_interval

WINDOW_S: Final = 30
ZSTD_LEVELS: Final = (9, 19)
FLAC_RATE_HZ: Final = 44_100
"""Only a header field; libsndfile refuses fractions and some low rates."""


@dataclass(frozen=True, slots=True)
class CompressionTask:
    """Recordings to compress: channels int32 [channels, n] and rate."""

    recordings: Sequence[tuple[NDArray[np.int32], Fraction]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Samples of a recording's first channel and bytes a codec; ``None`` where a codec is not there."""

    samples: int
    stored: int
    windows: int
    flac: int | None
    zstd: tuple[int, ...]
    all_samples: int
    all_stored: int


def compress_batch(task: CompressionTask) -> list[Sizes]:
    """Sizes of each recording."""
    return [_sizes(channels, rate) for channels, rate in task.recordings]


def _sizes(channels: NDArray[np.int32], rate: Fraction) -> Sizes:
    first = channels[0]
    counts = _counts(first)
    stored = stored_bytes(first, rate, MAX_SEGMENT_SAMPLES)
    others = sum(stored_bytes(channel, rate, MAX_SEGMENT_SAMPLES) for channel in channels[1:])
    differences = np.diff(counts, prepend=np.int16(0)).astype("<i2").tobytes()
    return Sizes(
        samples=len(first),
        stored=stored,
        windows=stored_bytes(first, rate, int(WINDOW_S * rate)),
        flac=_flac_bytes(counts),
        zstd=tuple(
            len(zstandard.ZstdCompressor(level=level, write_checksum=True).compress(differences))
            for level in ZSTD_LEVELS
        ),
        all_samples=channels.size,
        all_stored=stored + others,
    )


def stored_bytes(samples_uv: NDArray[np.int32], rate: Fraction, segment_samples: int) -> int:
    """Bytes of a channel as the SDK stores it, digests counted.

    Raises:
        MeasurementFailed: A segment does not decode to what it was.
    """
    total = 0
    size = min(segment_samples, MAX_SEGMENT_SAMPLES)
    for start in range(0, len(samples_uv), size):
        piece = samples_uv[start : start + size]
        stored = encode_segment(Segment(sampling_rate_hz=rate, samples_uv=piece))
        if not np.array_equal(decode_segment(stored).samples_uv, piece):
            raise MeasurementFailed("a stored segment does not decode to what it was", "report this as a fault", 1)
        total += len(stored) + SEGMENT_DIGEST_BYTES
    return total


def _counts(samples_uv: NDArray[np.int32]) -> NDArray[np.int16]:
    """Samples in the source's own steps, from the middle of their range."""
    step = max(1, int(np.gcd.reduce(np.diff(samples_uv)))) if len(samples_uv) > 1 else 1
    counts = (samples_uv - samples_uv.min()) // step
    return np.asarray(counts - int(counts.max() + 1) // 2, np.int16)


def _flac_bytes(counts: NDArray[np.int16]) -> int | None:
    if importlib.util.find_spec("soundfile") is None:
        return None
    soundfile: Any = importlib.import_module("soundfile")
    target = io.BytesIO()
    soundfile.write(target, counts, FLAC_RATE_HZ, format="FLAC", subtype="PCM_16")
    return target.getbuffer().nbytes


def compression_figures(prefix: str, sizes: Sequence[Sizes]) -> list[Figure]:
    """Bits a sample of one data set, by codec."""
    first = "first channel"
    found = [
        _figure(
            f"{prefix}.bits_per_sample",
            [(one.stored, one.samples) for one in sizes],
            f"stored segments of up to {MAX_SEGMENT_SAMPLES} samples, {first}; header, SHA-256 counted; decoded equal",
        ),
        _figure(
            f"{prefix}.bits_per_sample_30s",
            [(one.windows, one.samples) for one in sizes],
            f"stored segments of {WINDOW_S} s, {first}; header, SHA-256 counted; decoded equal",
        ),
    ]
    if any(one.all_samples != one.samples for one in sizes):
        pairs = [(one.all_stored, one.all_samples) for one in sizes]
        found.append(_figure(f"{prefix}.bits_per_sample_all_channels", pairs, "as bits_per_sample, every channel"))
    flac = [(one.flac, one.samples) for one in sizes if one.flac is not None]
    if flac:
        found.append(_figure(f"{prefix}.bits_per_sample_flac", flac, f"FLAC of whole recordings in counts, {first}"))
    for i, level in enumerate(ZSTD_LEVELS):
        pairs = [(one.zstd[i], one.samples) for one in sizes]
        note = f"zstd {level} of first differences of whole recordings in counts, {first}"
        found.append(_figure(f"{prefix}.bits_per_sample_zstd{level}", pairs, note))
    return found


def _figure(name: str, bytes_and_samples: Sequence[tuple[int, int]], note: str) -> Figure:
    counts = np.array(bytes_and_samples, np.int64)
    n_bytes, samples = (int(total) for total in counts.sum(axis=0))
    spread = pooled_interval(counts, lambda drawn: 8 * drawn[:, 0] / drawn[:, 1])
    return Figure(name, 8 * n_bytes / samples, "1", samples, spread, f"{len(counts)} recordings; {note}")
