"""The PMD service's frames and control messages, by Polar's specification."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ble.polar_frames import captured, encode_frame

from einthoven.errors import SensorFrameError, SensorRefused
from einthoven.polar_pmd import (
    EPOCH_2000_NS,
    MAX_VALUE_BYTES,
    SETTINGS_REQUEST,
    START_REQUEST,
    STATUS,
    STOP_REQUEST,
    decode_frame,
    decode_response,
    offers_ecg,
    require_ecg_setting,
    require_success,
)

SETTINGS = bytes.fromhex("0001820001010e00")


@pytest.mark.data
@pytest.mark.parametrize("which", ["N", "A"])
def test_captures_decode_to_their_samples(which: str) -> None:
    frames, expected = captured(which)
    decoded = [decode_frame(frame) for frame in frames]
    assert np.array_equal(np.concatenate([frame.samples_uv for frame in decoded]), expected)
    steps = {b.last_sample_ns - a.last_sample_ns for a, b in pairwise(decoded)}
    assert steps == {561_538_461, 561_538_462}  # 73 samples at 130 Hz


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(-(2**23), 2**23 - 1), min_size=1, max_size=165))
def test_every_24_bit_value_and_every_stamp_survive(stamp_ns: int, samples: list[int]) -> None:
    frame = decode_frame(encode_frame(stamp_ns, samples))
    assert frame.last_sample_ns == EPOCH_2000_NS + stamp_ns
    assert frame.samples_uv.dtype == np.int32
    assert frame.samples_uv.tolist() == samples


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "0 bytes"),
        (bytes(10), "10 bytes"),
        (bytes(MAX_VALUE_BYTES + 1), "513 bytes"),
        (b"\x02" + bytes(12), "measurement type 2"),
        (bytes(9) + b"\x80" + bytes(9), "delta compressed"),
        (bytes(9) + b"\x01" + bytes(9), "of type 1"),
        (bytes(14), "within a sample"),
    ],
)
def test_other_frames_are_refused_clearly(value: bytes, says: str) -> None:
    with pytest.raises(SensorFrameError, match=says):
        decode_frame(value)


@settings(max_examples=500)
@given(st.binary(max_size=MAX_VALUE_BYTES + 8))
def test_any_bytes_give_a_value_or_our_error(value: bytes) -> None:
    with suppress(SensorFrameError):
        assert len(decode_frame(value).samples_uv) * 3 == len(value) - 10
    with suppress(SensorFrameError):
        offers_ecg(value)
    with suppress(SensorFrameError):
        decode_response(value)
    with suppress(SensorFrameError, SensorRefused):
        require_ecg_setting(value)


def test_the_requests_are_those_of_the_specification() -> None:
    assert SETTINGS_REQUEST.hex() == "0100"
    assert START_REQUEST.hex() == "02000001820001010e00"
    assert STOP_REQUEST.hex() == "0300"


def test_features_tell_whether_there_is_ecg() -> None:
    assert offers_ecg(bytes([0x0F, 0b101]))
    assert not offers_ecg(bytes([0x0F, 0b100]))
    for value in (b"", b"\x0f", b"\x00\x01"):
        with pytest.raises(SensorFrameError):
            offers_ecg(value)


def test_an_answer_is_read() -> None:
    response = decode_response(bytes([0xF0, 1, 0, 0, 0]) + SETTINGS)
    assert response is not None
    assert (response.request, response.status, response.parameters) == (1, 0, SETTINGS)
    assert decode_response(b"\x01\x00") is None  # the strap stopped by itself
    assert decode_response(b"") is None
    for value in (b"\xf0\x02", bytes([0xF0, 2, 5, 0])):
        with pytest.raises(SensorFrameError):
            decode_response(value)


@pytest.mark.parametrize("status", range(1, 16))
def test_a_refusal_says_why(status: int) -> None:
    response = decode_response(bytes([0xF0, 2, 0, status]))
    assert response is not None
    with pytest.raises(SensorRefused, match=STATUS[status] if status < len(STATUS) else "code of its own"):
        require_success(response)
    require_success(response, accept=(status,))


def test_the_settings_must_offer_what_is_asked_for() -> None:
    require_ecg_setting(SETTINGS)
    require_ecg_setting(bytes.fromhex("0002f401820001010e00"))  # 500 and 130 Hz
    for wrong in ("0001f40101010e00", "00018200", ""):
        with pytest.raises(SensorRefused):
            require_ecg_setting(bytes.fromhex(wrong))
    for broken in ("00", "0000", "000182000102", "0001"):
        with pytest.raises(SensorFrameError):
            require_ecg_setting(bytes.fromhex(broken))
