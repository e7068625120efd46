"""Digests of what goes into the signal path and of what comes out, so that two machines can be compared.

``python -m einthoven_bench.signal_digest --data DIR`` needs numpy and the SDK, no other package. Two machines agree if
both lines are equal. Without a data folder the signal is made of integers (``constructed_ecg``).

It deliberately measures nothing, and orders records as the indices do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import EinthovenError
from einthoven_bench.constructed_ecg import constructed_ecg
from einthoven_bench.datasets import check_root, open_dataset, read_signals
from einthoven_bench.errors import BenchError
from einthoven_bench.signal_outputs import digest, run_path

DEFAULT_HOURS: Final = 10.0
DATASETS: Final = ("mitdb", "qtdb", "cinc2017")
"""Taken in this order until there are enough hours."""
CONSTRUCTED_RATES_HZ: Final = (Fraction(300), Fraction(250), Fraction(360), Fraction(130), Fraction(512_617, 1_000))
CONSTRUCTED_RECORD_S: Final = 1_800
UNUSUAL_RATES_HZ: Final = CONSTRUCTED_RATES_HZ[3:]
"""A strap's and a watch's; no data set has them, so a constructed recording of each is always added."""
UNUSUAL_RECORD_S: Final = 300


@dataclass(frozen=True, slots=True)
class Digests:
    """What a run of the path gave.

    Attributes:
        architecture: Of this machine.
        hours: Of ECG.
        records: Their number.
        input_sha256: Over all samples, hexadecimal.
        output_sha256: Over everything that came out.
    """

    architecture: str
    hours: float
    records: int
    input_sha256: str
    output_sha256: str


def signals(root: Path | None, hours: float, limit: int | None = None) -> Iterator[tuple[NDArray[np.int32], Fraction]]:
    """First channels of recordings, until they add up to ``hours``, the last one whole; then the unusual rates.

    Args:
        root: Folder of data sets; ``None``, or one without any of ``DATASETS``, gives constructed signals.
        hours: How much, at least; less if there is no more.
        limit: At most this many records a data set.

    Raises:
        DatasetNotFound: No such folder.
        DatasetCorrupt: A data set is damaged.
    """
    yield from _recorded(root, hours, limit) if root and _any_there(root) else _constructed(hours)
    for seed, rate in enumerate(UNUSUAL_RATES_HZ):
        yield constructed_ecg(UNUSUAL_RECORD_S, rate, seed)[0], rate


def _any_there(root: Path) -> bool:
    return any((dataset := open_dataset(root, name)) and dataset.records for name in DATASETS)


def _recorded(root: Path, hours: float, limit: int | None) -> Iterator[tuple[NDArray[np.int32], Fraction]]:
    left_s = hours * 3_600
    for name in DATASETS:
        dataset = open_dataset(root, name)
        for record, channels in read_signals(dataset.first(limit)) if dataset and left_s > 0 else ():
            yield channels[0], record.sampling_rate_hz
            left_s -= float(channels.shape[1] / record.sampling_rate_hz)
            if left_s <= 0:
                return


def _constructed(hours: float) -> Iterator[tuple[NDArray[np.int32], Fraction]]:
    left_s = int(hours * 3_600)
    for seed, start_s in enumerate(range(0, left_s, CONSTRUCTED_RECORD_S)):
        rate = CONSTRUCTED_RATES_HZ[seed % len(CONSTRUCTED_RATES_HZ)]
        yield constructed_ecg(min(CONSTRUCTED_RECORD_S, left_s - start_s), rate, seed)[0], rate


def digest_one(task: tuple[NDArray[np.int32], Fraction]) -> tuple[bytes, bytes, float]:
    """Digest of a recording's samples, of what comes out of one push, and its seconds."""
    samples_uv, rate = task
    plain = f"{rate} {len(samples_uv)}\n".encode() + samples_uv.astype("<i4").tobytes()
    return hashlib.sha256(plain).digest(), digest(run_path(samples_uv, rate)), float(len(samples_uv) / rate)


def combined(parts: list[tuple[bytes, bytes, float]]) -> Digests:
    """One pair of digests over all recordings, in order."""
    inputs = hashlib.sha256(b"".join(part[0] for part in parts)).hexdigest()
    outputs = hashlib.sha256(b"".join(part[1] for part in parts)).hexdigest()
    return Digests(platform.machine(), round(sum(part[2] for part in parts) / 3_600, 4), len(parts), inputs, outputs)


def main(arguments: list[str] | None = None) -> int:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description="Digest what the signal path gives, to compare two machines.")
    parser.add_argument("--data", type=Path, help="folder of data sets; a constructed signal, if not given")
    parser.add_argument("--hours", type=float, default=DEFAULT_HOURS, help="of ECG")
    given = parser.parse_args(arguments)
    try:
        if given.data is not None:
            check_root(given.data)
        parts = []
        for task in signals(given.data, given.hours):
            parts.append(digest_one(task))
            print(f"{sum(part[2] for part in parts) / 3_600:.1f} of {given.hours:g} h", file=sys.stderr)
    except (BenchError, EinthovenError) as error:
        print(f"einthoven-bench: {error}", file=sys.stderr)
        return error.exit_status
    print(json.dumps(asdict(combined(parts))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
