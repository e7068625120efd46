"""Training windows are the device's own, plus what augmentation says and nothing more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from einthoven.frontend import FrontEnd
from einthoven.models import load_model
from einthoven.resampling import ResamplerTable
from einthoven_conversion.datasets import open_dataset, read_signals
from einthoven_conversion.errors import DatasetCorrupt
from einthoven_conversion.noise import KEPT_FOR_TESTS, read_noise
from einthoven_conversion.windows import (
    LEAD_OFF_MAX_S,
    Augmentation,
    WindowCache,
    build_cache,
    draw_epoch,
    normalize_windows,
)

COEFFICIENTS = load_model().coefficients
NO_NOISE = np.zeros(0, np.float32)
CALM = Augmentation(window_s=7, flip=False, rate_jitter=False)


@pytest.fixture(scope="module")
def conditioned(make_dataset: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> WindowCache:
    folder, records = open_dataset(make_dataset(8), "cinc2017")
    work = tmp_path_factory.mktemp("work")
    built = build_cache(folder, records, COEFFICIENTS, work)
    again = build_cache(folder, records, COEFFICIENTS, work)
    for one, other in zip(built.signals, again.signals, strict=True):
        np.testing.assert_array_equal(one, other)
    return built


def test_without_augmentation_a_window_is_the_devices(make_dataset: Callable[..., Path], tmp_path: Path) -> None:
    folder, records = open_dataset(make_dataset(8), "cinc2017")
    cache = build_cache(folder, records, COEFFICIENTS, tmp_path)
    for position, samples_uv in read_signals(folder, records):
        device = FrontEnd(ResamplerTable(COEFFICIENTS, records[position].sampling_rate_hz)).push(samples_uv)
        signal = cache.record(position).astype(np.float32)
        whole = signal[: len(device) * 128].reshape(1, -1, 128)
        difference = np.abs(normalize_windows(whole)[0] - device)
        assert difference.max() <= 1
        assert difference.mean() < 1e-3  # exact ties only


def test_the_same_seed_gives_the_same_epoch(conditioned: WindowCache) -> None:
    augmentation = Augmentation(window_s=7, scale_jitter=0.2, noise_probability=0.5, noise_max_fraction=0.5)
    noise = np.random.default_rng(0).normal(0, 100, 10_000).astype(np.float32)
    epochs = [
        draw_epoch(conditioned, np.arange(8), augmentation, noise, np.random.default_rng(seed)) for seed in (1, 1, 2)
    ]
    for one, other in zip(epochs[0], epochs[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert (epochs[0].windows != epochs[2].windows).any()


def test_noise_reaches_its_share_of_the_windows(conditioned: WindowCache) -> None:
    noise = np.random.default_rng(0).normal(0, 100, 10_000).astype(np.float32)
    positions = np.arange(400) % 8
    noisy = Augmentation(window_s=7, flip=False, rate_jitter=False, noise_probability=0.25, noise_max_fraction=0.5)
    plain = draw_epoch(conditioned, positions, CALM, NO_NOISE, np.random.default_rng(3))
    drawn = draw_epoch(conditioned, positions, noisy, noise, np.random.default_rng(3))
    changed = (plain.windows != drawn.windows).any(axis=(1, 2)).mean()
    assert 0.15 < changed < 0.35
    np.testing.assert_array_equal(plain.windows, drawn.clean)


def test_without_noise_the_clean_windows_are_the_windows(conditioned: WindowCache) -> None:
    jittered = Augmentation(window_s=7, scale_jitter=0.3)
    drawn = draw_epoch(conditioned, np.arange(8), jittered, NO_NOISE, np.random.default_rng(4))
    np.testing.assert_array_equal(drawn.windows, drawn.clean)
    assert drawn.windows.dtype == drawn.mask.dtype == drawn.clean.dtype == np.float32
    assert np.abs(drawn.windows).max() <= 128


def test_the_clean_windows_are_cut_and_turned_like_the_noisy_ones(conditioned: WindowCache) -> None:
    """A teacher that sees them must see the same beats, the same way up."""
    noise = np.random.default_rng(0).normal(0, 100, 10_000).astype(np.float32)
    positions = np.arange(64) % 8
    noisy = Augmentation(window_s=7, scale_jitter=0.2, noise_probability=1.0, noise_max_fraction=0.1)
    drawn = draw_epoch(conditioned, positions, noisy, noise, np.random.default_rng(5))
    assert (drawn.windows != drawn.clean).any(axis=(1, 2)).mean() > 0.9  # some noise is next to none
    pulses = np.flatnonzero(np.array([position // 2 % 4 != 3 for position in positions]))  # others are noise already
    likeness = [np.corrcoef(drawn.windows[i].ravel(), drawn.clean[i].ravel())[0, 1] for i in pulses]
    assert min(likeness) > 0.8


def test_lifted_electrodes_flatten_a_few_seconds_of_their_share(conditioned: WindowCache) -> None:
    positions = np.arange(400) % 8
    lifted = Augmentation(window_s=7, flip=False, rate_jitter=False, lead_off_probability=0.3)
    drawn = draw_epoch(conditioned, positions, lifted, NO_NOISE, np.random.default_rng(6))
    changed = (drawn.windows != drawn.clean).any(axis=(1, 2))
    assert 0.2 < changed.mean() < 0.4
    flat = (drawn.windows == 0).reshape(400, -1)
    for row in flat[changed]:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
        longest = int((edges[1::2] - edges[::2]).max())
        # Padding may follow; without it no stretch is longer than an electrode is off.
        assert longest >= 1
        assert longest <= LEAD_OFF_MAX_S * 128 + 32
    np.testing.assert_array_equal(drawn.windows[~changed], drawn.clean[~changed])


def test_short_records_are_padded_and_masked(conditioned: WindowCache) -> None:
    windows, mask, clean = draw_epoch(
        conditioned, np.arange(8), Augmentation(window_s=20, rate_jitter=False), NO_NOISE, np.random.default_rng(0)
    )
    assert windows.shape == (8, 20, 128)
    assert set(mask.sum(axis=1)) <= {7.0, 8.0, 9.0, 10.0}
    assert not windows[mask == 0].any()
    assert not clean[mask == 0].any()


def test_half_of_the_windows_are_upside_down(conditioned: WindowCache) -> None:
    flipped = Augmentation(window_s=7, rate_jitter=False)
    windows = draw_epoch(conditioned, np.zeros(200, np.int64), flipped, NO_NOISE, np.random.default_rng(0)).windows
    upside_down = (windows.max(axis=(1, 2)) < -windows.min(axis=(1, 2))).mean()
    assert 0.35 < upside_down < 0.65


def write_noise(root: Path) -> None:
    """Three pieces of electrode noise in a data folder, each of its own height."""
    rng = np.random.default_rng(8)
    folder = root / "nstdb_noise"
    folder.mkdir()
    signals = [np.rint(rng.normal(0, level, 360 * 12)).astype(np.int16) for level in (50, 100, 900)]
    np.savez(
        folder / "records_000.npz",
        record_id=np.array(["em_0", "em_1", "em_4"]),
        channels=np.ones(3, np.int16),
        samples=np.array([len(one) for one in signals], np.int32),
        start=np.cumsum([0, *(len(one) for one in signals)]).astype(np.int64),
        delta=np.concatenate([np.diff(one, prepend=np.int16(0)) for one in signals]).astype(np.int16),
    )
    lines = [
        "record_id,shard,row,fs_hz",
        *(f"{name},records_000.npz,{i},360" for i, name in enumerate(("em_0", "em_1", "em_4"))),
    ]
    (folder / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_noise_that_is_left_out_is_not_read(tmp_path: Path) -> None:
    assert len(read_noise(tmp_path, COEFFICIENTS)) == 0
    write_noise(tmp_path)
    everything = read_noise(tmp_path, COEFFICIENTS)
    training = read_noise(tmp_path, COEFFICIENTS, (KEPT_FOR_TESTS,))
    assert len(everything) == len(training) * 3 // 2
    np.testing.assert_array_equal(everything[: len(training)], training)
    assert np.abs(training).max() < np.abs(everything).max() / 3
    assert len(read_noise(tmp_path, COEFFICIENTS, ("em_0", "em_1", "em_4"))) == 0


def test_noise_without_a_rate_is_one_line(tmp_path: Path) -> None:
    write_noise(tmp_path)
    index = tmp_path / "nstdb_noise" / "index.csv"
    index.write_text(index.read_text(encoding="utf-8").replace(",360", ",fast"), encoding="utf-8")
    with pytest.raises(DatasetCorrupt, match="rates"):
        read_noise(tmp_path, COEFFICIENTS)
