"""Noise at a stated ratio on a record: the ratio is right, and the same record always gets the same noise."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from einthoven.models import load_model
from einthoven.resampling import MAX_AMPLITUDE_UV
from einthoven_conversion.datasets import open_dataset, read_signals
from einthoven_conversion.errors import DatasetNotFound
from einthoven_conversion.noisy_records import TEST_PIECES, TRAINING_PIECES, TRAINING_SNR_DB, electrode_motion
from einthoven_conversion.recipe import RHYTHM_RECIPE

COEFFICIENTS = load_model().coefficients
NAMES = ("em_0", "em_1", "em_2", "em_3", "em_4")


@pytest.fixture(scope="module")
def root(make_dataset: Callable[..., Path]) -> Path:
    """Records, and five pieces of noise; the last is a square wave."""
    root = make_dataset(8, seconds=20.0)
    folder = root / "nstdb_noise"
    folder.mkdir()
    rng = np.random.default_rng(8)
    signals = [np.rint(rng.normal(0, 100 + 50 * i, 360 * 70)).astype(np.int16) for i in range(4)]
    signals.append(np.tile(np.repeat([300, -300], 18), 700).astype(np.int16))
    np.savez(
        folder / "records_000.npz",
        record_id=np.array(NAMES),
        channels=np.ones(5, np.int16),
        samples=np.array([len(one) for one in signals], np.int32),
        start=np.cumsum([0, *(len(one) for one in signals)]).astype(np.int64),
        delta=np.concatenate([np.diff(one, prepend=np.int16(0)) for one in signals]).astype(np.int16),
    )
    lines = ["record_id,shard,row,fs_hz", *(f"{name},records_000.npz,{i},360" for i, name in enumerate(NAMES))]
    (folder / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.mark.parametrize("snr_db", [12, 6, 0])
def test_the_ratio_is_the_one_that_was_asked_for(root: Path, snr_db: int) -> None:
    """A QRS of height h is a sine's of power h squared over 8 (Moody et al. 1984), and noise has its variance."""
    folder, records = open_dataset(root, "cinc2017")
    alter = electrode_motion(root, records, COEFFICIENTS, TEST_PIECES, snr_db)
    for position, samples_uv in read_signals(folder, records):
        if records[position].label == 3:
            continue
        added = (alter(position, samples_uv) - samples_uv).astype(float)
        found = 10 * np.log10(800**2 / 8 / added.var())
        assert abs(found - snr_db) < 1


def test_a_record_always_gets_the_same_noise_and_others_get_other(root: Path) -> None:
    folder, records = open_dataset(root, "cinc2017")
    signals = dict(read_signals(folder, records))
    first, again = (electrode_motion(root, records, COEFFICIENTS, TRAINING_PIECES, 6) for _ in range(2))
    added = {}
    for position, samples_uv in signals.items():
        noisy = first(position, samples_uv)
        np.testing.assert_array_equal(noisy, again(position, samples_uv))
        assert noisy.dtype == np.int32
        assert np.abs(noisy).max() < MAX_AMPLITUDE_UV * 2
        added[position] = (noisy - samples_uv)[:3_000]
    assert not np.array_equal(added[0], added[1])


def test_training_ratios_are_spread_over_their_range(root: Path) -> None:
    _, records = open_dataset(root, "cinc2017")
    pulses = np.zeros(6_000)
    for place in range(100, 5_900, 270):
        pulses[place - 8 : place + 8] += 800 * np.hanning(16)
    samples_uv = np.rint(pulses).astype(np.int32)
    some = [records[0].__class__(**{**_fields(records[0]), "record_id": f"T{i:05d}"}) for i in range(60)]
    alter = electrode_motion(root, some, COEFFICIENTS, TEST_PIECES, None)
    ratios = [10 * np.log10(800**2 / 8 / (alter(i, samples_uv) - samples_uv).astype(float).var()) for i in range(60)]
    weak, strong = TRAINING_SNR_DB
    assert strong - 1 < min(ratios) < strong + 4
    assert weak - 4 < max(ratios) < weak + 1


def _fields(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__class__.__dataclass_fields__}  # type: ignore[attr-defined]


def test_tests_get_noise_that_no_training_got() -> None:
    assert not set(TEST_PIECES) & set(TRAINING_PIECES)
    assert set(TEST_PIECES) <= set(RHYTHM_RECIPE.noise_left_out)


def test_without_noise_it_says_so(make_dataset: Callable[..., Path]) -> None:
    root = make_dataset(2)
    _, records = open_dataset(root, "cinc2017")
    assert records[0].sampling_rate_hz == Fraction(300)
    with pytest.raises(DatasetNotFound, match="nstdb_noise"):
        electrode_motion(root, records, COEFFICIENTS, TEST_PIECES, 6)
