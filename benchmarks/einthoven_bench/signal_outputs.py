"""Runs the SDK's signal path over a record in any chunking and keeps everything that comes out. numpy and the SDK only.

Invariants:
    1. Every array of every chunk is kept, by the path of its name, so that a field added to the SDK is compared too.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from einthoven.models import load_model
from einthoven.resampling import FrontEndCoefficients, ResamplerTable
from einthoven.signal_path import SignalPath

Outputs = Mapping[str, NDArray[np.generic]]
"""Every array that came out, by name (``beats.r_peaks``, ``seconds.flags`` ...), whole record."""


@lru_cache(maxsize=1)
def coefficients() -> FrontEndCoefficients:
    """The shipped model's low-pass."""
    return load_model().coefficients


@lru_cache(maxsize=8)
def _table(sampling_rate_hz: Fraction) -> ResamplerTable:
    return ResamplerTable(coefficients(), sampling_rate_hz)


def new_path(sampling_rate_hz: Fraction) -> SignalPath:
    """A path at its beginning; tables are shared among paths of one rate."""
    return SignalPath(coefficients(), sampling_rate_hz, table=_table(sampling_rate_hz))


def run_path(samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction, cuts: Iterable[int] = ()) -> Outputs:
    """Push a record and finish.

    Args:
        samples_uv: int32 [n], microvolts.
        sampling_rate_hz: Exact.
        cuts: Ascending indices where one push ends and the next begins; none for a single push.
    """
    path = new_path(sampling_rate_hz)
    chunks = []
    start = 0
    for stop in (*cuts, len(samples_uv)):
        chunks.append(path.push(samples_uv[start:stop]))
        start = stop
    chunks.append(path.finish())
    return gathered(chunks)


def gathered(chunks: Iterable[object]) -> Outputs:
    """Concatenate the arrays of chunks, name by name."""
    parts: dict[str, list[NDArray[np.generic]]] = {}
    empty: dict[str, NDArray[np.generic]] = {}
    for chunk in chunks:
        for name, array in _arrays(chunk, ""):
            kept = parts.setdefault(name, [])
            if len(array):
                kept.append(array)
            else:
                empty.setdefault(name, array)
    return {name: np.concatenate(kept) if kept else empty[name] for name, kept in parts.items()}


def _arrays(value: object, prefix: str) -> Iterator[tuple[str, NDArray[np.generic]]]:
    if isinstance(value, np.ndarray):
        yield prefix, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            name = f"{prefix}.{field.name}" if prefix else field.name
            yield from _arrays(getattr(value, field.name), name)


def differing_bits(left: Outputs, right: Outputs) -> int:
    """Bits that differ; of an array that is longer, every bit of the rest."""
    total = 0
    for name in left.keys() | right.keys():
        a, b = (_bytes(side[name]) if name in side else np.zeros(0, np.uint8) for side in (left, right))
        common = min(len(a), len(b))
        total += int(np.unpackbits(a[:common] ^ b[:common]).sum()) + 8 * abs(len(a) - len(b))
    return total


def output_bits(outputs: Outputs) -> int:
    """How many bits came out."""
    return sum(8 * array.nbytes for array in outputs.values())


def digest(outputs: Outputs) -> bytes:
    """SHA-256 of all arrays with their names and types, little endian: equal on every machine if the bits are."""
    whole = hashlib.sha256()
    for name in sorted(outputs):
        array = outputs[name]
        whole.update(f"{name} {array.dtype.kind}{array.dtype.itemsize} {array.size}\n".encode())
        whole.update(_bytes(array).tobytes())
    return whole.digest()


def _bytes(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    little = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(little).view(np.uint8).ravel()
