"""PMD frames for tests: constructed ones, and the captured layouts of ../shared/data where they are."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

CAPTURES = Path(__file__).parents[3] / "shared" / "data" / "formats" / "constructed"
SAMPLES_PER_FRAME = 73
FRAME_NS = round(SAMPLES_PER_FRAME * 10**9 / 130)


def encode_frame(last_sample_ns_since_2000: int, samples_uv: Iterable[int]) -> bytes:
    body = b"".join(int(uv).to_bytes(3, "little", signed=True) for uv in samples_uv)
    return struct.pack("<BQB", 0, last_sample_ns_since_2000, 0) + body


def constructed_samples(frames: int, seed: int = 1) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(-3000, 3000, frames * SAMPLES_PER_FRAME).astype(np.int32)


def constructed_frames(frames: int, seed: int = 1) -> list[bytes]:
    rows = constructed_samples(frames, seed).reshape(frames, -1)
    return [encode_frame(10**17 + index * FRAME_NS, row) for index, row in enumerate(rows)]


def captured(which: str) -> tuple[list[bytes], NDArray[np.int32]]:
    """The frames of a capture, and their samples."""
    frames = CAPTURES / f"polar_h10_pmd_ecg_{which}.hex"
    if not frames.is_file():
        pytest.skip("needs ../shared/data/formats")
    expected = json.loads(frames.with_suffix(".expected.json").read_text(encoding="utf-8"))
    return [bytes.fromhex(line) for line in frames.read_text(encoding="ascii").split()], np.array(
        expected["samples_uv"], np.int32
    )
