"""The integer parts under the quality index: sines, measures, network, raw flags, each against an oracle."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.errors import ModelCorrupt
from einthoven.packed_integers import pack_integers
from einthoven.ports import MISSING_UV
from einthoven.quality_measures import MATCHES, N_MEASURES, SecondMeasures, log2_q8
from einthoven.quality_network import AHEAD_S, BEHIND_S, QualityNetwork, read_tables, shipped_network
from einthoven.quality_raw import MAINS_MIN_UV, RawSeconds
from einthoven.quality_tables import BANDS_HZ, integer_sine, second_projection, windowed_waves
from einthoven.results import Quality
from einthoven_models import read_resource


@given(st.fractions(-3, 3, max_denominator=10_000), st.integers(4, 20))
def test_integer_sine_is_the_sine(turns: Fraction, bits: int) -> None:
    assert abs(integer_sine(turns, bits) - 2**bits * math.sin(2 * math.pi * float(turns))) <= 1


def test_every_projection_lets_a_constant_vanish() -> None:
    waves, groups = second_projection()
    assert not waves.sum(axis=0).any()
    assert (groups.sum(axis=1) == 1).all()
    assert not windowed_waves((Fraction(50),), Fraction("511.422"), 512).sum(axis=0).any()


def test_a_slow_ramp_does_not_reach_the_fast_bands() -> None:
    waves, groups = second_projection()
    energy = (np.linspace(0, 10_000, len(waves)).round() @ waves) ** 2 @ groups
    assert energy[len(BANDS_HZ) - 4] < 1e-5 * energy[0]


@given(st.integers(1, 2**53 - 1))
def test_log2_is_within_a_tenth_of_an_octave(value: int) -> None:
    assert abs(int(log2_q8(np.array([float(value)]))[0]) / 256 - math.log2(value)) < 0.1


def measured(samples: np.ndarray) -> np.ndarray:
    meter = SecondMeasures()
    return np.concatenate([meter.push(samples), meter.finish()])


def test_sign_and_offset_change_no_measure() -> None:
    samples = np.cumsum(np.random.default_rng(1).integers(-300, 300, 128 * 7))
    np.testing.assert_array_equal(measured(samples), measured(-samples))
    np.testing.assert_array_equal(measured(samples), measured(samples + 123_456))


def test_a_band_holds_the_wave_of_its_frequency() -> None:
    seconds = np.arange(128 * 4) / 128
    for band, members in enumerate(BANDS_HZ):
        wave = np.rint(500 * np.sin(2 * np.pi * members[len(members) // 2] * seconds + 1)).astype(np.int64)
        assert measured(wave)[1, : len(BANDS_HZ)].argmax() == band


def test_equal_complexes_match_and_noise_does_not() -> None:
    beat = np.zeros(128, np.int64)
    beat[60:67] = [100, 400, 900, 1_000, 300, -200, -50]
    matches = measured(np.tile(beat, 8))[4:, -MATCHES:]
    assert (matches >= 250).all()
    assert (matches <= 256).all()
    noise = measured(np.random.default_rng(2).integers(-500, 500, 128 * 200))[:, -MATCHES:]
    assert abs(noise.mean()) < 0.7 * 256
    assert noise.mean() < matches.mean() - 40


def test_measures_stay_under_their_limit() -> None:
    samples = np.tile(np.array([2**20, -(2**20)]), 64 * 5) * 2
    assert np.abs(measured(samples)).max() < 2**14
    assert measured(samples).shape == (10 // 2 * 1, N_MEASURES)


def shipped() -> dict:
    return json.loads(read_resource("quality.json"))


def integers(packed: dict) -> list:
    """Unpacked without the code under test."""
    values = np.frombuffer(base64.b64decode(packed["base64"]), np.dtype(packed["type"]).newbyteorder("<"))
    return values.reshape(packed["shape"]).tolist()


def rewritten(layer: dict, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    layer[name] = msgspec.to_builtins(pack_integers(change(np.array(integers(layer[name]), np.int64))))


def test_the_network_is_what_its_integers_say() -> None:
    tables = shipped()
    rows = np.random.default_rng(3).integers(0, 6_000, (BEHIND_S + AHEAD_S + 5, N_MEASURES))
    index, scores = shipped_network().run(rows)
    assert len(index) == 5
    for k in range(5):
        x = [int(value) for value in rows[k : k + BEHIND_S + 1 + AHEAD_S].reshape(-1)]
        for i, layer in enumerate(tables["layers"]):
            x = x if i == 0 else [max(value, 0) for value in x]
            columns = zip(*integers(layer["weights"]), strict=True)
            sums = [
                sum(a * b for a, b in zip(x, column, strict=True)) + bias
                for column, bias in zip(columns, integers(layer["bias"]), strict=True)
            ]
            x = [value >> layer["shift"] for value in sums]
        assert index[k] == sum(x[0] >= limit for limit in tables["index_limits"])
        assert scores[k].tolist() == x[1:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda tables: tables.update(schema=1),
        lambda tables: tables["layers"].pop(),
        lambda tables: tables["layers"].clear(),
        lambda tables: rewritten(tables["layers"][0], "weights", lambda rows: rows[:-1]),
        lambda tables: rewritten(tables["layers"][0], "weights", lambda rows: rows[:, :-1]),
        lambda tables: rewritten(tables["layers"][0], "weights", lambda rows: rows.T),
        lambda tables: rewritten(tables["layers"][1], "bias", lambda row: row[None]),
        lambda tables: tables["layers"][1]["bias"].update(shape=[], base64=""),
        lambda tables: tables["layers"][1]["bias"].update(base64="?"),
        lambda tables: tables["layers"][0].update(weights=[[1]]),
        lambda tables: rewritten(tables["layers"][0], "weights", lambda rows: np.full_like(rows, 2**44)),
        lambda tables: tables["layers"][0].update(shift=-1),
        lambda tables: tables["index_limits"].pop(),
        lambda tables: tables["index_limits"].reverse(),
        lambda tables: tables.pop("layers"),
    ],
)
def test_damaged_tables_are_refused(damage) -> None:
    tables = shipped()
    damage(tables)
    with pytest.raises(ModelCorrupt, match="install the package again"):
        QualityNetwork(read_tables(json.dumps(tables).encode()))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"schema": 1}', b"[" * 100_000])
def test_what_is_no_table_is_refused(content: bytes) -> None:
    with pytest.raises(ModelCorrupt):
        read_tables(content)


RATES = [Fraction(100), Fraction(128), Fraction(300), Fraction("511.422"), Fraction(1000)]


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("hz", [50, 60])
def test_mains_is_flagged_from_its_threshold_on(rate: Fraction, hz: int) -> None:
    if 2 * hz == rate:
        return  # at half the rate the amplitude can't be told from the phase
    wave = np.sin(2 * np.pi * hz * np.arange(int(rate * 5)) / float(rate) + 1)

    def flags(amplitude_uv: float) -> list[int]:
        return RawSeconds(rate).push(np.rint(amplitude_uv * wave + 300_000).astype(np.int32)).tolist()

    assert flags(MAINS_MIN_UV * 0.93) == [0] * (5 if rate.denominator == 1 else 4)
    assert set(flags(MAINS_MIN_UV * 1.07)) == {int(Quality.MAINS)}


def test_mains_at_half_the_rate_is_seen() -> None:
    wave = np.tile(np.array([400, -400], np.int32), 250)
    assert set(RawSeconds(Fraction(100)).push(wave).tolist()) == {int(Quality.MAINS)}


@pytest.mark.parametrize("hz", [45, 55, 65, 40])
def test_another_frequency_is_no_mains(hz: int) -> None:
    wave = np.rint(1_000 * np.sin(2 * np.pi * hz * np.arange(1_500) / 300)).astype(np.int32)
    assert not RawSeconds(Fraction(300)).push(wave).any()


def test_a_large_slow_baseline_is_no_mains() -> None:
    wave = np.rint(20_000 * np.sin(2 * np.pi * 0.4 * np.arange(3_000) / 300)).astype(np.int32)
    assert not (RawSeconds(Fraction(300)).push(wave) & int(Quality.MAINS)).any()


def test_a_few_missing_samples_hide_no_mains_and_make_none() -> None:
    seconds = np.arange(600) / 300
    for amplitude, expected in ((400, int(Quality.MAINS)), (20, 0)):
        samples = np.rint(amplitude * np.sin(2 * np.pi * 50 * seconds)).astype(np.int32)
        samples[100:106] = MISSING_UV
        assert RawSeconds(Fraction(300)).push(samples).tolist() == [expected] * 2


@pytest.mark.parametrize("least_s", [1, 2, 5])
def test_waiting_for_seconds_changes_none(least_s: int) -> None:
    rng = np.random.default_rng(7)
    samples = (rng.integers(-30, 30, 300 * 9 + 17) * rng.choice([0, 1, 100])).astype(np.int32)
    samples[700:900] = MISSING_UV
    whole = RawSeconds(Fraction(300)).push(samples)
    meter = RawSeconds(Fraction(300), least_s=least_s)
    parts = [meter.push(part) for part in np.split(samples, range(0, len(samples), 77))] + [meter.finish()]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
