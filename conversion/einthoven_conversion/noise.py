"""Electrode noise for augmentation: ``nstdb_noise`` of the data folder through the front end's conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.frontend import Conditioner
from einthoven.resampling import FrontEndCoefficients, ResamplerTable
from einthoven_conversion.datasets import find_folder, read_channels
from einthoven_conversion.errors import DatasetCorrupt

KEPT_FOR_TESTS = "em_4"
"""Electrode noise that the shipped network is not trained with, so that figures under noise mean something."""


def read_noise(root: Path, coefficients: FrontEndCoefficients, left_out: Sequence[str] = ()) -> NDArray[np.float32]:
    """All channels of all pieces, one after the other, float32 [n] at 128 Hz.

    Args:
        root: Folder of data sets; without ``nstdb_noise`` in it there is no noise, and the result is empty.
        coefficients: The front end's.
        left_out: Pieces that are not read, by id.

    Raises:
        DatasetCorrupt: The folder is there, but can't be read.
    """
    folder = find_folder(root, "nstdb_noise")
    if folder is None:
        return np.zeros(0, np.float32)
    pieces = []
    try:
        for line, channels in read_channels(folder):
            if line["record_id"] in left_out:
                continue
            table = ResamplerTable(coefficients, Fraction(line["fs_hz"]))
            pieces += [Conditioner(table).push(channel).astype(np.float32) for channel in channels]
    except (ValueError, KeyError, ZeroDivisionError) as error:
        raise DatasetCorrupt(f"the rates in {folder} can't be read", "fetch the data set again") from error
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
