"""Damaged files for every reader: truncated at each 1 %, with flipped bytes; and the one rule they must keep.

The rule: a reader either yields int32 samples within its file's means, or raises one of our own input errors, in one
line that quotes nothing of the file; it never hangs, and never claims more memory than ``PEAK_BYTES``.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from einthoven.errors import InputError
from einthoven.ports import Source

PEAK_BYTES = 256 * 2**20
"""Memory that one damaged file may claim at most."""


def truncations(blob: bytes, steps: int = 100) -> Iterator[bytes]:
    """The file cut off at every 1/``steps`` of its length, from nothing to all but the last piece."""
    for step in range(steps):
        yield blob[: len(blob) * step // steps]


def flips(blob: bytes, count: int, seed: int, *, most: int = 4) -> Iterator[bytes]:
    """The file ``count`` times with one to ``most`` bytes replaced; a third of them within the first 512 bytes."""
    chance = random.Random(seed)
    for _ in range(count):
        damaged = bytearray(blob)
        reach = min(len(blob), 512) if chance.random() < 1 / 3 else len(blob)
        for _ in range(chance.randint(1, most)):
            damaged[chance.randrange(reach)] = chance.randrange(256)
        yield bytes(damaged)


def read_or_refuse(open_source: Callable[[Path], Source], path: Path, blob: bytes) -> str:
    """Write ``blob`` to ``path`` and read it; return "" if it was read, else the one-line refusal."""
    path.write_bytes(blob)
    try:
        source = open_source(path)
        for chunk in source.chunks():
            assert (chunk.dtype, chunk.ndim) == (np.int32, 1)
    except InputError as refusal:
        message = str(refusal)
        assert "\n" not in message
        assert str(path) not in message
        assert len(message) < 300
        return message
    return ""


def peak_bytes(action: Callable[[], object]) -> int:
    """Most memory that ``action`` held at once, as tracemalloc saw it."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
