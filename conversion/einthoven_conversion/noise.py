"""Electrode noise for augmentation: ``nstdb_noise`` of the data folder through the front end's conditioning."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.frontend import Conditioner
from einthoven.resampling import FrontEndCoefficients, ResamplerTable
from einthoven_conversion.datasets import UNREADABLE
from einthoven_conversion.errors import DatasetCorrupt


def read_noise(root: Path, coefficients: FrontEndCoefficients) -> NDArray[np.float32]:
    """All channels of all pieces, one after the other, float32 [n] at 128 Hz.

    Args:
        root: Folder of data sets; without ``nstdb_noise`` in it there is no noise, and the result is empty.
        coefficients: The front end's.

    Raises:
        DatasetCorrupt: The folder is there, but can't be read.
    """
    folder = root / "nstdb_noise"
    if not (folder / "index.csv").is_file():
        return np.zeros(0, np.float32)
    pieces = []
    try:
        with (folder / "index.csv").open(newline="", encoding="utf-8") as lines:
            rates = {line["record_id"]: Fraction(line["fs_hz"]) for line in csv.DictReader(lines)}
        for shard in sorted(folder.glob("records_*.npz")):
            with shard.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                for i, name in enumerate(content["record_id"]):
                    start, stop = content["start"][i : i + 2]
                    channels = content["delta"][start:stop].reshape(content["channels"][i], content["samples"][i])
                    table = ResamplerTable(coefficients, rates[str(name)])
                    pieces += [
                        Conditioner(table).push(channel.astype(np.int32)).astype(np.float32)
                        for channel in np.cumsum(channels, axis=1, dtype=np.int16)
                    ]
    except UNREADABLE as error:
        raise DatasetCorrupt(f"{folder} can't be read", "fetch the data set again") from error
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
