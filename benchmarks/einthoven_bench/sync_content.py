"""What the figures of sync are measured with: results as the shipped model gives them, and words that people write.

Verdicts of real windows are drawn at random with a time of their own each, so that nothing in a message repeats but
what repeats in life. It deliberately measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from einthoven import MemoryStore, Session
from einthoven.clock import SystemClock
from einthoven.results import WindowResult
from einthoven_bench.model_outputs import loaded
from einthoven_bench.store_content import RATE_HZ, WINDOW_S, signal_pieces

MODEL_WINDOWS: Final = 2_000
"""Windows that the model judges; others are drawn from them."""
_WINDOW_MS: Final = 1_000 * WINDOW_S
_WORDS: Final = ("dizzy", "palpitations", "short of breath", "after coffee", "climbing stairs", "could not sleep")


def judged_windows(root: Path | None, n: int = MODEL_WINDOWS) -> list[WindowResult]:
    """Verdicts of the shipped model on ``n`` windows of real signal; of constructed signal without a data set."""
    model, _ = loaded()
    store = MemoryStore()
    size = int(WINDOW_S * RATE_HZ)
    with Session.open(model, store, sampling_rate_hz=RATE_HZ) as session:
        held = 0
        for piece in signal_pieces(root):
            whole = piece[: len(piece) // size * size]
            session.push(whole)
            held += len(whole) // size
            if held >= n:
                break
    return list(store.results(limit=n))


def drawn_results(judged: Sequence[WindowResult], n: int, seed: int = 0) -> list[WindowResult]:
    """``n`` results of consecutive windows that end about now, each with the verdict of one of ``judged``."""
    rng = np.random.Generator(np.random.PCG64(seed))
    chosen = rng.integers(0, len(judged), n).tolist()
    segments = rng.bytes(32 * n)
    first_ms = SystemClock().now_ms() - (n + 1) * _WINDOW_MS
    return [
        replace(
            judged[place],
            counter=0,
            started_at_ms=first_ms + i * _WINDOW_MS,
            segment_digest=segments[32 * i : 32 * i + 32],
        )
        for i, place in enumerate(chosen)
    ]


def words(seed: int = 0) -> Iterator[str]:
    """Short remarks without end."""
    rng = np.random.Generator(np.random.PCG64(seed))
    while True:
        yield _WORDS[int(rng.integers(len(_WORDS)))]
