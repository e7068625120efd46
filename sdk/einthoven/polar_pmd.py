"""Frames and control messages of the Polar Measurement Data (PMD) service, ECG only. Pure: bytes in, values out.

After Polar's published "Polar Measurement Data Specification" (polarofficial/polar-ble-sdk, technical_documentation).
A notification of the data characteristic::

    0      measurement type, 0 = ECG
    1-8    uint64, time of the LAST sample, ns since 2000-01-01 by the strap's clock
    9      frame type: 0 = 3-byte samples; bit 7 set = delta compressed
    10-    samples, signed 24-bit little endian, microvolts; 73 in a full frame of an H10

The strap's clock is what an app once set it to, or runs from an epoch of its own: who needs UTC compares it with the
time of arrival (``Packet.received_at_ms``). It deliberately reads no other measurement and no compressed frame.

Invariants:
    1. Whatever the bytes, the only error is ``SensorFrameError`` (``SensorRefused`` for a status other than success),
       and no message holds any of them but a code.
    2. Memory is bounded by the input's, which is at most ``MAX_VALUE_BYTES``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import SensorFrameError, SensorRefused

PMD_SERVICE: Final = "fb005c80-02e7-f387-1cad-8acd2d8df0c8"
PMD_CONTROL: Final = "fb005c81-02e7-f387-1cad-8acd2d8df0c8"
PMD_FRAMES: Final = "fb005c82-02e7-f387-1cad-8acd2d8df0c8"
"""UUIDs of the service, of its control point and of the characteristic that notifies frames."""

ECG_RATE_HZ: Final = 130
ECG_RESOLUTION_BITS: Final = 14
MAX_VALUE_BYTES: Final = 512
"""Longest value of a characteristic, bytes (Bluetooth Core Specification 5.2, vol. 3, part F, 3.2.9)."""
EPOCH_2000_NS: Final = 946_684_800 * 10**9
"""2000-01-01 UTC, ns since 1970."""

_ECG: Final = 0
_GET_SETTINGS, _START, _STOP = 1, 2, 3
_RESPONSE: Final = 0xF0
_FEATURES: Final = 0x0F
_SETTING_RATE, _SETTING_RESOLUTION = 0, 1
_FRAME_HEADER: Final = struct.Struct("<BQB")
_SAMPLE_BYTES: Final = 3
_COMPRESSED: Final = 0x80

SETTINGS_REQUEST: Final = bytes((_GET_SETTINGS, _ECG))
STOP_REQUEST: Final = bytes((_STOP, _ECG))
START_REQUEST: Final = struct.pack(
    "<BBBBHBBH", _START, _ECG, _SETTING_RATE, 1, ECG_RATE_HZ, _SETTING_RESOLUTION, 1, ECG_RESOLUTION_BITS
)
"""Start ECG with 130 Hz and 14 bits: each setting is its type, the number of values (1) and a uint16."""

ALREADY_IN_STATE: Final = 6
STATUS: Final = (
    *("success", "unknown command", "unknown measurement", "not supported", "wrong length", "wrong parameter"),
    *("already in that state", "wrong resolution", "wrong sampling rate", "wrong range", "connection too narrow"),
    *("wrong number of channels", "not in this state", "in its charger"),
)
"""What the control point's status codes mean, by code."""


@dataclass(frozen=True, slots=True)
class EcgFrame:
    """One notification.

    Attributes:
        last_sample_ns: When the last sample was taken by the strap's clock, ns since 1970.
        samples_uv: int32 [n], n > 0, microvolts.
    """

    last_sample_ns: int
    samples_uv: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ControlResponse:
    """What the control point answered.

    Attributes:
        request: First byte of the request it answers.
        status: 0 is success, see ``STATUS``.
        parameters: What follows; for a settings request, the settings.
    """

    request: int
    status: int
    parameters: bytes


def decode_frame(value: bytes) -> EcgFrame:
    """Read a notification of the data characteristic.

    Raises:
        SensorFrameError: Not an uncompressed ECG frame.
    """
    if not _FRAME_HEADER.size + _SAMPLE_BYTES <= len(value) <= MAX_VALUE_BYTES:
        raise SensorFrameError(f"a frame has {len(value)} bytes", "restart the stream")
    measurement, stamp_ns, frame_type = _FRAME_HEADER.unpack_from(value)
    if measurement != _ECG:
        raise SensorFrameError(f"a frame is of measurement type {measurement}", "start no other measurement")
    if frame_type & _COMPRESSED:
        raise SensorFrameError("a frame is delta compressed", "use a Polar H10; only plain ECG frames are read")
    if frame_type:
        raise SensorFrameError(f"a frame is of type {frame_type}", "use a Polar H10; only plain ECG frames are read")
    body = value[_FRAME_HEADER.size :]
    if len(body) % _SAMPLE_BYTES:
        raise SensorFrameError("a frame ends within a sample", "restart the stream")
    octets = np.frombuffer(body, np.uint8).reshape(-1, _SAMPLE_BYTES).astype(np.int32)
    unsigned = octets[:, 0] | octets[:, 1] << 8 | octets[:, 2] << 16
    return EcgFrame(EPOCH_2000_NS + stamp_ns, (unsigned ^ 0x800000) - 0x800000)


def offers_ecg(value: bytes) -> bool:
    """Whether the features, read from the control point, have ECG among them.

    Raises:
        SensorFrameError: These are no features.
    """
    if len(value) < 2 or value[0] != _FEATURES:
        raise SensorFrameError("the sensor's features can't be read", "update the sensor's firmware")
    return bool(value[1] & 1 << _ECG)


def decode_response(value: bytes) -> ControlResponse | None:
    """Read an indication of the control point; ``None`` if it answers nothing, as when the sensor stops by itself.

    Raises:
        SensorFrameError: Too short, or about another measurement.
    """
    if not value or value[0] != _RESPONSE:
        return None
    if not 4 <= len(value) <= MAX_VALUE_BYTES:
        raise SensorFrameError(f"an answer of the sensor has {len(value)} bytes", "restart the sensor")
    if value[2] != _ECG:
        raise SensorFrameError(f"an answer of the sensor is about measurement type {value[2]}", "restart the sensor")
    return ControlResponse(value[1], value[3], bytes(value[5:]))  # byte 4: whether more follows; ECG fits in one


def require_success(response: ControlResponse, *, accept: tuple[int, ...] = ()) -> None:
    """Check a status.

    Raises:
        SensorRefused: It is neither success nor in ``accept``.
    """
    if response.status and response.status not in accept:
        meaning = STATUS[response.status] if response.status < len(STATUS) else "a code of its own"
        raise SensorRefused(
            f"the sensor refused with status {response.status} ({meaning})",
            "take it off for a minute, close other apps that use it, and try again",
        )


def require_ecg_setting(parameters: bytes) -> None:
    """Check that 130 Hz and 14 bits are among the settings that a sensor offers.

    Raises:
        SensorFrameError: The settings can't be read.
        SensorRefused: They are not offered.
    """
    offered: dict[int, tuple[int, ...]] = {}
    at = 0
    while at < len(parameters):
        kind, count = parameters[at], parameters[at + 1] if at + 1 < len(parameters) else 0
        end = at + 2 + 2 * count
        if not count or end > len(parameters):
            raise SensorFrameError("the sensor's settings can't be read", "update the sensor's firmware")
        offered[kind] = struct.unpack_from(f"<{count}H", parameters, at + 2)
        at = end
    if ECG_RATE_HZ not in offered.get(_SETTING_RATE, ()) or ECG_RESOLUTION_BITS not in offered.get(
        _SETTING_RESOLUTION, ()
    ):
        raise SensorRefused("the sensor does not offer ECG at 130 Hz and 14 bits", "use a Polar H10")
