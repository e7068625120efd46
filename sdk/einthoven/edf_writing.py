"""Writes one recording of one lead as EDF+ or, where 16 bits are not enough, BDF+. Pure but for ``write_edf``.

The counterpart of ``source_edf``: what is written here is read back there to the microvolt, by other readers too
(tests: edfio). By Kemp B et al. 1992, Kemp & Olivan 2003 (EDF+: annotations, interrupted recordings), and BDF+, which
is EDF+ with samples of 24 bits (https://www.teuniz.net/edfbrowser/bdfplus_format_description.html).

It is written in two passes over the samples, so that a day takes no more memory than a stretch: ``EdfPlanner``
finds where data records begin, ``edf_bytes`` fills them.

It deliberately writes nothing that identifies a patient (but a pseudonym that a caller gives), no lead's name (a store
knows none), and no filter (the samples are as they were received).

Invariants:
    1. One microvolt is one count, so every sample within +-32,767 uV (EDF+) or +-8,388,607 uV (BDF+) is kept exactly.
    2. A sample that was never received is a gap: data records without a single sample are left out (EDF+D), and within
       a data record it is the lowest count, -32,768 or -8,388,608, which is no other sample's.
    3. A data record begins with a sample that was received, and never overlaps the one before.
    4. Without data records left out, the file is continuous (EDF+C).
    5. The same recording gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from einthoven.edf_header_writing import HeaderContent, edf_header_bytes
from einthoven.edf_layout import RecordLayout, record_layout
from einthoven.edf_tals import Tal, place_tals, record_tal, record_tal_bytes, tal_bytes
from einthoven.edf_timekeeping import MAX_INTERRUPTED_RECORDS
from einthoven.errors import InputError
from einthoven.ports import MISSING_UV

MAX_RECORDS: Final = MAX_INTERRUPTED_RECORDS
"""Data records of one file, continuous or not: what ``source_edf`` takes of an interrupted one."""
MAX_EDF_UV: Final = 2**15 - 1
MAX_BDF_UV: Final = 2**23 - 1
"""Largest amplitude that samples of 16 and of 24 bits hold at 1 uV a count, microvolts."""
BLOCK_RECORDS: Final = 64
"""Data records that are put together at once."""
_US_PER_S: Final = 10**6


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Consecutive samples of a recording.

    Attributes:
        first: Number of the first one, counted at the recording's rate from its start.
        samples_uv: int32 [n] microvolts, ``MISSING_UV`` where none was received.
    """

    first: int
    samples_uv: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class EdfPlan:
    """What a file will look like; made by ``EdfPlanner``.

    Attributes:
        layout: Samples and duration of a data record.
        started_at_ms: UTC of sample 0, ms since 1970.
        firsts: int64 [records], number of each data record's first sample.
        n_samples: Samples that were received.
        sample_bytes: 2 for EDF+, 3 for BDF+.
    """

    layout: RecordLayout
    started_at_ms: int
    firsts: NDArray[np.int64]
    n_samples: int
    sample_bytes: int

    @property
    def interrupted(self) -> bool:
        """Whether data records are left out (EDF+D)."""
        return bool((np.diff(self.firsts) != self.layout.n_samples).any())

    @property
    def header_second_s(self) -> int:
        """UTC of the second that the header names, seconds since 1970."""
        return self._utc_us(int(self.firsts[0])) // _US_PER_S

    @property
    def suffix(self) -> str:
        """How such a file's name ends."""
        return ".edf" if self.sample_bytes == 2 else ".bdf"

    def onset_us(self, sample: float) -> int:
        """Time of a sample since the header's second, microseconds."""
        return self._utc_us(sample) - self.header_second_s * _US_PER_S

    def _utc_us(self, sample: float) -> int:
        since_us = sample * self.layout.record_us
        n_samples = self.layout.n_samples
        rounded_us = (
            (2 * since_us + n_samples) // (2 * n_samples) if isinstance(since_us, int) else since_us / n_samples
        )
        return self.started_at_ms * 1000 + round(rounded_us)


class EdfPlanner:
    """Finds where data records begin, stretch by stretch.

    Args:
        rate_hz: Samples a second, exact.
        started_at_ms: UTC of sample 0, ms since 1970.

    Raises:
        SamplingRateError: EDF can't state the rate.
    """

    def __init__(self, rate_hz: Fraction, started_at_ms: int) -> None:
        self._layout = record_layout(rate_hz)
        self._started_at_ms = started_at_ms
        self._firsts: list[int] = []
        self._free = self._n_samples = self._largest_uv = 0

    def size_with(self, samples_uv: NDArray[np.int32]) -> tuple[int, int]:
        """Most data records, and most bytes of their samples, that there can be when so much more was added."""
        n_records = len(self._firsts) + 1 + -(-len(samples_uv) // self._layout.n_samples)
        largest_uv = max(self._largest_uv, _largest_uv(samples_uv[samples_uv != MISSING_UV]))
        return n_records, n_records * self._layout.n_samples * _sample_bytes(largest_uv)

    def add(self, stretch: Stretch) -> None:
        """Take the next stretch; it begins where the last one ended, or later.

        Raises:
            InputError: A sample is beyond ``MAX_BDF_UV``; nothing of the stretch was taken.
        """
        received = np.flatnonzero(stretch.samples_uv != MISSING_UV)
        if not received.size:
            return
        largest_uv = _largest_uv(stretch.samples_uv[received])
        if largest_uv > MAX_BDF_UV:
            raise InputError(f"samples beyond {MAX_BDF_UV} uV fit neither EDF nor BDF", "leave them out")
        self._largest_uv = max(self._largest_uv, largest_uv)
        self._n_samples += received.size
        places = received + stretch.first
        at = int(np.searchsorted(places, self._free))
        while at < places.size:
            self._firsts.append(int(places[at]))
            self._free = self._firsts[-1] + self._layout.n_samples
            at = int(np.searchsorted(places, self._free))

    def plan(self) -> EdfPlan | None:
        """The plan of all that was added; ``None`` if not one sample was received.

        Raises:
            InputError: There are more than ``MAX_RECORDS`` data records.
        """
        if len(self._firsts) > MAX_RECORDS:
            raise InputError(f"a recording has more than {MAX_RECORDS} data records", "write it as several files")
        if not self._firsts:
            return None
        firsts = np.array(self._firsts, np.int64)
        return EdfPlan(self._layout, self._started_at_ms, firsts, self._n_samples, _sample_bytes(self._largest_uv))


def _largest_uv(samples_uv: NDArray[np.int32]) -> int:
    return max(int(samples_uv.max()), -int(samples_uv.min())) if samples_uv.size else 0


def _sample_bytes(largest_uv: int) -> int:
    return 2 if largest_uv <= MAX_EDF_UV else 3


def edf_bytes(
    plan: EdfPlan, stretches: Iterable[Stretch], tals: Iterable[Tal] = (), *, pseudonym: str | None = None
) -> Iterator[bytes]:
    """Yield the file in pieces.

    Args:
        plan: Of these very stretches. Where one has since lost samples, they are missing; others are not written.
        stretches: The same again.
        tals: Annotations, in any order.
        pseudonym: What to call the patient; nobody's name. ``X`` (unknown), if not given.

    Raises:
        InputError: The pseudonym has a character that its field can't hold.
    """
    parts = [(tal.onset_us, part) for tal in tals for part in tal_bytes(tal)]
    parts.sort(key=itemgetter(0))  # stable: what is said of one moment keeps its order
    onsets_us = _onsets_us(plan)
    targets = np.searchsorted(onsets_us, np.array([onset_us for onset_us, _ in parts], np.int64), side="right") - 1
    places = place_tals(
        [len(part) for _, part in parts],
        np.maximum(targets, 0).tolist(),
        n_records=len(onsets_us),
        head_bytes=record_tal_bytes(onsets_us),
        multiple=plan.sample_bytes,
    )
    yield edf_header_bytes(
        HeaderContent(
            sample_bytes=plan.sample_bytes,
            interrupted=plan.interrupted,
            started_at_s=plan.header_second_s,
            n_records=len(plan.firsts),
            record_text=plan.layout.record_text,
            n_samples=plan.layout.n_samples,
            note_samples=places.n_bytes // plan.sample_bytes,
            pseudonym=pseudonym,
        )
    )
    at = 0
    for start, counts in _blocks(plan, stretches):
        notes = [record_tal(onset_us) for onset_us in onsets_us[start : start + len(counts)].tolist()]
        while at < len(parts) and places.records[at] < start + len(counts):
            notes[places.records[at] - start] += parts[at][1]
            at += 1
        texts = b"".join(note.ljust(places.n_bytes, b"\0") for note in notes)
        annotations = np.frombuffer(texts, np.uint8).reshape(len(counts), -1)
        octets = counts.astype("<i4").view(np.uint8).reshape(len(counts), -1, 4)[:, :, : plan.sample_bytes]
        yield np.concatenate([octets.reshape(len(counts), -1), annotations], axis=1).tobytes()


def _onsets_us(plan: EdfPlan) -> NDArray[np.int64]:
    """Start of each data record since the header's second, int64 [records] microseconds."""
    record_us, n_samples = plan.layout.record_us, plan.layout.n_samples
    first_us = plan.onset_us(int(plan.firsts[0]))
    # A record lasts whole microseconds, so what follows without a gap is exact.
    since = plan.firsts - plan.firsts[0]
    onsets_us: NDArray[np.int64] = first_us + (2 * since * record_us + n_samples) // (2 * n_samples)
    return onsets_us


def write_edf(
    file: BinaryIO,
    stretches: Callable[[], Iterable[Stretch]],
    *,
    rate_hz: Fraction,
    started_at_ms: int,
    tals: Iterable[Tal] = (),
    pseudonym: str | None = None,
) -> EdfPlan:
    """Write a whole recording to an open file.

    Args:
        file: Open for writing bytes.
        stretches: Gives the samples from the start; called twice.
        rate_hz: Samples a second, exact.
        started_at_ms: UTC of sample 0, ms since 1970.
        tals: Annotations, in any order.
        pseudonym: As for ``edf_bytes``.

    Raises:
        InputError: Nothing was received, or as ``EdfPlanner`` and ``edf_bytes``.
        OSError: The disk says no.
    """
    planner = EdfPlanner(rate_hz, started_at_ms)
    for stretch in stretches():
        planner.add(stretch)
    plan = planner.plan()
    if plan is None:
        raise InputError("the recording has no samples", "leave it out")
    for piece in edf_bytes(plan, stretches(), tals, pseudonym=pseudonym):
        file.write(piece)
    return plan


def _blocks(plan: EdfPlan, stretches: Iterable[Stretch]) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yield (number of the first data record, counts int32 [records, samples]), all data records in order."""
    n_records, n_samples = len(plan.firsts), plan.layout.n_samples
    missing = -(2 ** (8 * plan.sample_bytes - 1))

    def empty(start: int) -> NDArray[np.int32]:
        return np.full((min(BLOCK_RECORDS, n_records - start), n_samples), missing, np.int32)

    start, block = 0, empty(0)
    for stretch in stretches:
        received = np.flatnonzero(stretch.samples_uv != MISSING_UV)
        places = received + stretch.first
        records = np.searchsorted(plan.firsts, places, side="right") - 1
        offsets = places - plan.firsts[records]
        # What the plan did not see, and what is too large for it, was not there when it was made.
        fits = (records >= start) & (offsets < n_samples) & (np.abs(stretch.samples_uv[received]) < -missing)
        received, records, offsets = received[fits], records[fits], offsets[fits]
        while records.size:
            here = records < start + len(block)
            block[records[here] - start, offsets[here]] = stretch.samples_uv[received[here]]
            received, records, offsets = received[~here], records[~here], offsets[~here]
            if records.size:
                yield start, block
                start += len(block)
                block = empty(start)
    while len(block):
        yield start, block
        start += len(block)
        block = empty(start)
