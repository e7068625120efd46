"""The canaries themselves: what a seed makes, in the forms in which each could show. Pure.

Two kinds of needle: bytes as a database holds them (``stored``), which a plain one shows as they are; and forms that
only memory, a temporary file or a log line would show (``unpacked``): samples and times as arrays, digests in digits.

It deliberately makes nothing that occurs by itself: every needle has 8 random bytes at least.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from einthoven.beat_runs import encode_beats
from einthoven.plaintext_scan import RUN_SAMPLES
from einthoven.ports import Segment
from einthoven.results import WindowResult
from einthoven.segments import encode_segment, segment_digest
from einthoven.store_values import BeatRun
from einthoven_bench.store_content import RATE_HZ, WINDOW_S, Window, made_results

SHARES: Final = {"settings": 0.24, "notes": 0.12, "subjects": 0.05, "windows": 0.04}
"""Of all needles: settings (two needles each), annotations (two each), audit subjects, windows (seven each)."""
BODY_AT: Final = slice(64, 96)
"""Bytes of a stored segment that lie on the same page as its row, and are no header."""


@dataclass(frozen=True, slots=True)
class Canaries:
    """What to put in, and what to look for.

    Attributes:
        settings: Values by name.
        notes: Comments by author.
        subjects: Of audit entries.
        windows: Signals, results and beats.
        stored: Needles that a plain database shows.
        unpacked: Needles that it would not.
    """

    settings: dict[str, bytes]
    notes: dict[str, str]
    subjects: list[str]
    windows: list[Window]
    stored: list[bytes]
    unpacked: list[bytes]


def made_canaries(n: int, seed: int) -> Canaries:
    """Make at least n needles' worth.

    Args:
        n: Needles, keys not counted.
        seed: The same seed makes the same in another process.
    """
    chance = random.Random(seed)  # noqa: S311 - canaries, not secrets
    counts = {what: -int(-n * share // 1) for what, share in SHARES.items()}

    def word() -> str:
        return f"canary-{chance.getrandbits(96):024x}"

    settings = {word(): chance.randbytes(24) for _ in range(counts["settings"])}
    notes = {word(): f"{word()} irregularly irregular" for _ in range(counts["notes"])}
    subjects = [word() for _ in range(counts["subjects"])]
    windows = [_window(result, chance) for result in made_results(counts["windows"], seed)]
    texts = [*settings, *notes, *notes.values(), *subjects]
    stored = [text.encode() for text in texts] + list(settings.values())
    unpacked = []
    for window in windows:
        shown, hidden = _forms(window)
        stored += shown
        unpacked += hidden
    return Canaries(settings, notes, subjects, windows, stored, unpacked)


def _window(result: WindowResult, chance: random.Random) -> Window:
    rng = np.random.Generator(np.random.PCG64(chance.getrandbits(64)))
    samples = np.cumsum(rng.integers(-400, 401, int(WINDOW_S * RATE_HZ))).astype(np.int32)
    samples.flags.writeable = False
    segment = Segment(RATE_HZ, samples)
    at_ms = result.started_at_ms + np.cumsum(rng.integers(300, 1_900, 24))
    classes = rng.integers(0, 3, 24).astype(np.uint8)
    at_ms.flags.writeable = classes.flags.writeable = False
    fields = {name: getattr(result, name) for name in result.__slots__}
    return Window(
        WindowResult(**(fields | {"segment_digest": segment_digest(segment)})), segment, BeatRun(at_ms, classes)
    )


def _forms(window: Window) -> tuple[list[bytes], list[bytes]]:
    samples, digest = window.segment.samples_uv, window.result.segment_digest
    middle = len(samples) // 2
    run = samples[middle : middle + RUN_SAMPLES]
    # A result's own bytes: its logits, as the canonical row has them.
    logits = b"".join(value.to_bytes(4, "big", signed=True) for value in window.result.logits)
    shown = [digest, encode_segment(window.segment)[BODY_AT], logits, encode_beats(window.beats)[:16]]
    hidden = [run.astype("<i4").tobytes(), window.beats.at_ms[:4].astype("<i8").tobytes(), digest.hex().encode()]
    return shown, hidden


def key_needles(keys: Mapping[str, str]) -> list[bytes]:
    """Keys, given in hexadecimal digits, as they could show: raw, in digits of either case, in base 64."""
    found: list[bytes] = []
    for digits in keys.values():
        raw = bytes.fromhex(digits)
        found += [raw, digits.lower().encode(), digits.upper().encode(), base64.b64encode(raw).rstrip(b"=")[:-1]]
    return found
