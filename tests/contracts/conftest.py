"""Stores and rows for the Store port's acceptance suite."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from einthoven.keys import StaticKeyProvider
from einthoven.ports import Segment, Store
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.segments import segment_digest
from einthoven.store_memory import MemoryStore

ADAPTERS = ("memory", "sqlcipher")


@dataclass(frozen=True)
class StoreMaker:
    """Opens fresh stores of one adapter in a folder."""

    adapter: str
    folder: Path

    def __call__(self) -> Store:
        if self.adapter == "memory":
            return MemoryStore()
        from einthoven.store_sqlcipher import SqlCipherStore

        path = self.folder / f"{secrets.token_hex(8)}.db"
        return SqlCipherStore.open(path, StaticKeyProvider(secrets.token_bytes(32)))


@pytest.fixture(params=ADAPTERS)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreMaker:
    return StoreMaker(request.param, tmp_path)


@pytest.fixture
def store(open_store: StoreMaker) -> Iterator[Store]:
    opened = open_store()
    yield opened
    opened.close()


def window(seed: int, n_samples: int = 128) -> tuple[WindowResult, Segment]:
    rng = np.random.default_rng(seed)
    segment = Segment(Fraction(128), rng.integers(-2_000, 2_000, n_samples, dtype=np.int32))
    result = WindowResult(
        counter=0,
        started_at_ms=1_700_000_000_000 + 30_000 * seed,
        duration_ms=30_000,
        n_steps=30,
        usable_s=29,
        quality=Quality.GAP | Quality.CLIPPED,
        rhythm=Rhythm(seed % 4),
        confidence_permille=871,
        logits=(-(2**31), 0, seed, 2**31 - 1),
        tier=RiskTier.ELEVATED,
        reason=InconclusiveReason.NONE,
        model_digest=b"m" * 32,
        front_end_version=1,
        segment_digest=segment_digest(segment),
    )
    return result, segment


@pytest.fixture(scope="session")
def make_window() -> Callable[..., tuple[WindowResult, Segment]]:
    return window
