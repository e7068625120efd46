"""One signal of a WFDB signal file as counts, a bounded block at a time.

Signals of one file are interleaved frame by frame: the samples of the first signal in the frame, then of the second,
and so on (signal(5)). FLAC files have a channel a signal, and are decoded by soundfile.

It deliberately knows no gain, no lead and no other file of the record.

Invariants:
    1. The frames that are asked for are compared with the file's size when it is opened (``frames_held``).
    2. At most ``READ_SAMPLES`` samples of the signal, and ``MAX_BLOCK_SAMPLES`` of all, are in memory at once.
    3. A file that ends before the frames it held when it was opened is refused, never filled up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError
from einthoven.source_checks import READ_SAMPLES, library, regular_file
from einthoven.wfdb_formats import FLAC_BITS, FORMATS
from einthoven.wfdb_header import Signal

MAX_BLOCK_SAMPLES: Final = 1_000_000
"""Samples of all signals of a file in one block."""
ALIGNED_FRAMES: Final = 6
"""Every multiple of it begins with a whole unit: units are of 1, 2 or 3 samples."""
_SUBTYPE_BITS: Final = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}


@dataclass(frozen=True, slots=True)
class SignalFile:
    """A signal among those that share a file.

    Attributes:
        path: The file.
        group: All signals of the file, in its order.
        index: Which of them.
    """

    path: Path
    group: tuple[Signal, ...]
    index: int

    @property
    def signal(self) -> Signal:
        """The signal that is read."""
        return self.group[self.index]

    @property
    def invalid(self) -> int | None:
        """The count that stands for an invalid sample."""
        bits = FLAC_BITS.get(self.signal.storage_format)
        return FORMATS[self.signal.storage_format].invalid if bits is None else -(2 ** (bits - 1))

    @property
    def _frame_samples(self) -> int:
        return sum(other.samples_a_frame for other in self.group)

    def frames_held(self) -> int:
        """Whole frames in the file.

        Raises:
            RecordNotFound: It is not there.
            RecordFormatError: It is empty, or not the FLAC stream that its header claims.
        """
        held_bytes = regular_file(self.path) - self.signal.byte_offset
        if self.signal.storage_format in FLAC_BITS:
            with self._flac() as flac:
                return int(flac.frames) // self.signal.samples_a_frame
        return FORMATS[self.signal.storage_format].n_samples(max(0, held_bytes)) // self._frame_samples

    def counts(self, first: int, last: int) -> Iterator[NDArray[np.int64]]:
        """Yield the signal's counts from frame ``first`` to before frame ``last``, int64, in consecutive blocks.

        Raises:
            RecordFormatError: The file ends earlier than it did.
        """
        if self.signal.storage_format in FLAC_BITS:
            yield from self._flac_counts(first, last)
            return
        # Differences add up from the beginning; packed samples begin where a unit does.
        differences = FORMATS[self.signal.storage_format].differences
        level = self.signal.initial_value or 0
        for at, stored in self._blocks(0 if differences else first - first % ALIGNED_FRAMES, last):
            block = np.cumsum(stored) + level if differences else stored
            level = int(block[-1])
            wanted = block[max(0, first - at) * self.signal.samples_a_frame :]
            if wanted.size:
                yield wanted

    def _blocks(self, start: int, last: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield (number of the first frame, counts as they are stored) for blocks of frames."""
        form, per_frame = FORMATS[self.signal.storage_format], self.signal.samples_a_frame
        column = sum(other.samples_a_frame for other in self.group[: self.index])
        frames = min(READ_SAMPLES // per_frame, MAX_BLOCK_SAMPLES // self._frame_samples)
        step = max(ALIGNED_FRAMES, frames - frames % ALIGNED_FRAMES)
        with self.path.open("rb") as file:
            file.seek(self.signal.byte_offset + form.n_bytes(start * self._frame_samples))
            for at in range(start, last, step):
                n_samples = (min(at + step, last) - at) * self._frame_samples
                content = file.read(form.n_bytes(n_samples))
                if len(content) < form.n_bytes(n_samples):
                    raise _ends_early()
                samples = form.decode(content, n_samples).reshape(-1, self._frame_samples)
                yield at, samples[:, column : column + per_frame].ravel().astype(np.int64)

    def _flac(self) -> Any:
        """The opened FLAC stream, after what the header claims of it was checked."""
        signal = self.signal
        if signal.byte_offset or any(other.samples_a_frame != signal.samples_a_frame for other in self.group):
            raise RecordFormatError("signals of a FLAC file differ in rate or begin late", "export the record again")
        flac = library("soundfile").SoundFile(str(self.path))
        bits = _SUBTYPE_BITS.get(flac.subtype, 32)
        if flac.format != "FLAC" or flac.channels != len(self.group) or bits > FLAC_BITS[signal.storage_format]:
            flac.close()
            raise RecordFormatError("the signal file is not the FLAC stream of its header", "copy the record again")
        return flac

    def _flac_counts(self, first: int, last: int) -> Iterator[NDArray[np.int64]]:
        per_frame = self.signal.samples_a_frame
        step = max(1, min(READ_SAMPLES, MAX_BLOCK_SAMPLES // len(self.group)))
        with self._flac() as flac:
            # soundfile gives every sample in the upper bits of 32.
            shift = 32 - _SUBTYPE_BITS[flac.subtype]
            flac.seek(first * per_frame)
            for at in range(first * per_frame, last * per_frame, step):
                n_samples = min(step, last * per_frame - at)
                samples = flac.read(n_samples, dtype="int32", always_2d=True)
                if len(samples) < n_samples:
                    raise _ends_early()
                yield (samples[:, self.index] >> shift).astype(np.int64)


def _ends_early() -> RecordFormatError:
    return RecordFormatError("the signal file ends early", "copy the record again")
