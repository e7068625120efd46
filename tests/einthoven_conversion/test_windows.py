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
from einthoven_conversion.windows import Augmentation, WindowCache, build_cache, draw_epoch, normalize_windows

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
    np.testing.assert_array_equal(epochs[0][0], epochs[1][0])
    assert (epochs[0][0] != epochs[2][0]).any()


def test_noise_reaches_its_share_of_the_windows(conditioned: WindowCache) -> None:
    noise = np.random.default_rng(0).normal(0, 100, 10_000).astype(np.float32)
    positions = np.arange(400) % 8
    noisy = Augmentation(window_s=7, flip=False, rate_jitter=False, noise_probability=0.25, noise_max_fraction=0.5)
    plain, _ = draw_epoch(conditioned, positions, CALM, NO_NOISE, np.random.default_rng(3))
    with_noise, _ = draw_epoch(conditioned, positions, noisy, noise, np.random.default_rng(3))
    changed = (plain != with_noise).any(axis=(1, 2)).mean()
    assert 0.15 < changed < 0.35


def test_short_records_are_padded_and_masked(conditioned: WindowCache) -> None:
    windows, mask = draw_epoch(
        conditioned, np.arange(8), Augmentation(window_s=20, rate_jitter=False), NO_NOISE, np.random.default_rng(0)
    )
    assert windows.shape == (8, 20, 128)
    assert set(mask.sum(axis=1)) <= {7.0, 8.0, 9.0, 10.0}
    assert not windows[mask == 0].any()


def test_half_of_the_windows_are_upside_down(conditioned: WindowCache) -> None:
    flipped = Augmentation(window_s=7, rate_jitter=False)
    windows, _ = draw_epoch(conditioned, np.zeros(200, np.int64), flipped, NO_NOISE, np.random.default_rng(0))
    upside_down = (windows.max(axis=(1, 2)) < -windows.min(axis=(1, 2))).mean()
    assert 0.35 < upside_down < 0.65
