"""Digests of what the shipped model says of recordings, so that two machines can be compared bit for bit.

``python -m einthoven_bench.model_digest --data DIR`` needs numpy and the SDK, no other package. Two machines agree if
``input_sha256``, ``model`` and ``output_sha256`` are equal; where they are not, ``parts`` says in which hundreds of
recordings. Everything of an analysis counts: logits of each second, pooled logits, verdict, confidence, reason,
quality. Without a data folder the signal is made of integers (``constructed_ecg``).

It deliberately measures nothing and takes records in the order of the index.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Sequence
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
from einthoven_bench.model_outputs import loaded, outputs_of, whole
from einthoven_bench.signal_outputs import digest
from einthoven_bench.workers import batches, results_in_order

DATASET: Final = "cinc2017"
PART_RECORDS: Final = 100
CONSTRUCTED_RECORDS: Final = 20
CONSTRUCTED_RATES_HZ: Final = (Fraction(300), Fraction(250), Fraction(360), Fraction(130), Fraction(512_617, 1_000))
CONSTRUCTED_RECORD_S: Final = 45

Recording = tuple[NDArray[np.int32], Fraction]
"""A lead, int32 [n] in microvolts, and its rate."""


@dataclass(frozen=True, slots=True)
class ModelDigests:
    """What a run over recordings gave.

    Attributes:
        architecture: Of this machine.
        model: Digest that results of this model name, hexadecimal.
        records: Their number.
        hours: Of ECG.
        steps: Seconds that went through the model.
        input_sha256: Over all samples, hexadecimal.
        output_sha256: Over everything that came out.
        parts: The same over each ``PART_RECORDS`` recordings, eight digits each.
    """

    architecture: str
    model: str
    records: int
    hours: float
    steps: int
    input_sha256: str
    output_sha256: str
    parts: list[str]


@dataclass(frozen=True, slots=True)
class PartDigest:
    """Of some recordings: digests of samples and outputs, seconds of ECG, steps and their number."""

    inputs: bytes
    outputs: bytes
    seconds: float
    steps: int
    records: int


def recordings(root: Path | None, limit: int | None) -> Iterator[Recording]:
    """First leads of ``DATASET``; constructed ones where there is no such set.

    Args:
        root: Folder of data sets, or None.
        limit: At most this many.

    Raises:
        DatasetCorrupt: The data set is damaged.
    """
    dataset = open_dataset(root, DATASET) if root else None
    if dataset is not None and dataset.records:
        for record, channels in read_signals(dataset.first(limit)):
            yield channels[0], record.sampling_rate_hz
        return
    for seed in range(min(CONSTRUCTED_RECORDS, limit or CONSTRUCTED_RECORDS)):
        rate = CONSTRUCTED_RATES_HZ[seed % len(CONSTRUCTED_RATES_HZ)]
        yield constructed_ecg(CONSTRUCTED_RECORD_S, rate, seed)[0], rate


def digest_part(batch: Sequence[Recording]) -> PartDigest:
    """Digest some recordings and what the model says of each, as a whole record and window by window."""
    inputs, outputs = hashlib.sha256(), hashlib.sha256()
    seconds, steps = 0.0, 0
    for samples, rate in batch:
        inputs.update(f"{rate} {len(samples)}\n".encode() + samples.astype("<i4").tobytes())
        analysis = whole(samples, rate)
        outputs.update(digest(outputs_of(analysis)))
        seconds += float(len(samples) / rate)
        steps += sum(len(window.steps) for window in analysis.windows)
    return PartDigest(inputs.digest(), outputs.digest(), seconds, steps, len(batch))


def combined(parts: Sequence[PartDigest]) -> ModelDigests:
    """One pair of digests over all parts, in order."""
    return ModelDigests(
        architecture=platform.machine(),
        model=loaded()[0].digest.hex(),
        records=sum(part.records for part in parts),
        hours=round(sum(part.seconds for part in parts) / 3_600, 4),
        steps=sum(part.steps for part in parts),
        input_sha256=hashlib.sha256(b"".join(part.inputs for part in parts)).hexdigest(),
        output_sha256=hashlib.sha256(b"".join(part.outputs for part in parts)).hexdigest(),
        parts=[part.outputs.hex()[:8] for part in parts],
    )


def main(arguments: list[str] | None = None) -> int:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description="Digest what the model says of recordings, to compare two machines.")
    parser.add_argument(
        "--data", type=Path, help=f"folder of data sets with {DATASET}; constructed signals, if not given"
    )
    parser.add_argument("--records", type=int, help="only the first N")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 for this one alone")
    given = parser.parse_args(arguments)
    try:
        if given.data is not None:
            check_root(given.data)
        parts: list[PartDigest] = []
        for part in results_in_order(
            digest_part, batches(recordings(given.data, given.records), PART_RECORDS), given.workers
        ):
            parts.append(part)
            print(f"{sum(one.records for one in parts)} recordings", file=sys.stderr, flush=True)
        print(json.dumps(asdict(combined(parts))))
    except (BenchError, EinthovenError) as error:
        print(f"einthoven-bench: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
