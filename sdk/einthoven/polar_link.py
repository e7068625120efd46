"""One Bluetooth connection to a Polar strap: find it, start its ECG, stop it. The part of the adapter that knows bleak.

It deliberately keeps no packets and tries nothing twice: ``source_polar`` decides when to connect again.

Invariants:
    1. Only errors of ``einthoven.errors`` leave it; none names an address.
    2. Whoever opened a link can close it: ``close`` asks the strap to stop, within ``CLOSE_S``, whatever went wrong.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, Final

from einthoven.errors import (
    BluetoothUnavailable,
    EinthovenError,
    InputError,
    SensorDisconnected,
    SensorNotFound,
    SensorRefused,
)
from einthoven.polar_pmd import (
    ALREADY_IN_STATE,
    PMD_CONTROL,
    PMD_FRAMES,
    SETTINGS_REQUEST,
    START_REQUEST,
    STOP_REQUEST,
    ControlResponse,
    decode_response,
    offers_ecg,
    require_ecg_setting,
    require_success,
)

NAME_PREFIX: Final = "Polar H10"
CONTROL_S: Final = 5.0
"""Seconds that the strap may take to answer a request."""
CLOSE_S: Final = 3.0
"""Seconds for each step of letting go."""

_SWITCH_ON = "switch Bluetooth on, and allow this program to use it"
_WEAR_IT = "wear the strap with moist electrodes, near by, and close other apps that use it"


class PolarLink:
    """A connection that gives frames.

    Args:
        on_frame: Called with each notification of the data characteristic.
        on_lost: Called once when the connection breaks or the strap stops by itself.
    """

    def __init__(self, on_frame: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._client: Any = None
        self._answers: asyncio.Queue[bytes] = asyncio.Queue(maxsize=8)
        self._started = self._running = False

    async def find(self, address: str | None, name: str | None, timeout_s: float) -> Any:
        """Return bleak's device of that address or name, or the first Polar H10 in reach.

        Raises:
            SensorNotFound: There is none.
            BluetoothUnavailable: There is no radio, it is off, or this program may not use it.
        """

        def wanted(device: Any, advertised: Any) -> bool:
            called = advertised.local_name or device.name or ""
            if address is not None:
                return bool(device.address.casefold() == address.casefold())
            return called == name if name is not None else called.startswith(NAME_PREFIX)

        with _translated(SensorNotFound("the sensor can't be looked for", _WEAR_IT)):
            device = await bleak().BleakScanner.find_device_by_filter(wanted, timeout=timeout_s)
        if device is None:
            raise SensorNotFound("no sensor of that name or address is in reach", _WEAR_IT)
        return device

    async def connect(self, device: Any, timeout_s: float) -> None:
        """Connect.

        Raises:
            SensorDisconnected: It does not answer.
            SensorRefused: It has no ECG to give.
        """
        self._client = bleak().BleakClient(device, disconnected_callback=lambda _: self._on_lost(), timeout=timeout_s)
        with _translated(SensorDisconnected("the sensor does not answer", _WEAR_IT)):
            await self._client.connect()
            if not offers_ecg(bytes(await self._client.read_gatt_char(PMD_CONTROL))):
                raise SensorRefused("the sensor offers no ECG", "use a Polar H10")

    async def start(self) -> None:
        """Start the ECG stream; the first frame comes half a minute later.

        Raises:
            SensorRefused: The strap refuses.
            SensorFrameError: It answers what can't be read.
            SensorDisconnected: It does not answer.
        """
        with _translated(SensorDisconnected("the sensor does not answer", _WEAR_IT)):
            await self._client.start_notify(PMD_CONTROL, lambda _, value: self._answer(bytes(value)))
            response = await self._ask(SETTINGS_REQUEST)
            require_success(response)
            require_ecg_setting(response.parameters)
            await self._client.start_notify(PMD_FRAMES, lambda _, value: self._on_frame(bytes(value)))
            self._started = True  # from here on it has to be told to stop
            response = await self._ask(START_REQUEST)
            if response.status == ALREADY_IN_STATE:  # an app that crashed left it running
                require_success(await self._ask(STOP_REQUEST), accept=(ALREADY_IN_STATE,))
                response = await self._ask(START_REQUEST)
            require_success(response)
        self._running = True

    async def close(self) -> None:
        """Stop the stream, so that the strap may sleep, and disconnect; never raises."""
        client, self._client = self._client, None
        if client is None:
            return
        if self._started and client.is_connected:
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_S):
                    await client.write_gatt_char(PMD_CONTROL, STOP_REQUEST, response=True)
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await client.disconnect()

    def _answer(self, value: bytes) -> None:
        if self._running and decode_response(value) is None:
            self._on_lost()  # the strap stopped by itself
        with suppress(asyncio.QueueFull):
            self._answers.put_nowait(value)

    async def _ask(self, request: bytes) -> ControlResponse:
        """Write to the control point and wait for its answer."""
        async with asyncio.timeout(CONTROL_S):
            await self._client.write_gatt_char(PMD_CONTROL, request, response=True)
            while True:
                response = decode_response(await self._answers.get())
                if response is not None and response.request == request[0]:
                    return response


def bleak() -> ModuleType:
    """Import bleak when it is needed.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module("bleak")
    except ImportError as problem:
        raise InputError(
            "a Bluetooth sensor needs the library bleak", "install it: pip install 'einthoven[ble]'"
        ) from problem


@contextmanager
def _translated(silent: EinthovenError) -> Iterator[None]:
    """Let only our own errors out of bleak.

    Raises:
        BluetoothUnavailable: No radio, off, or not allowed.
        SensorNotFound: The system forgot the device.
        SensorRefused: The strap refuses an operation.
        EinthovenError: ``silent``, for time-outs and whatever else.
    """
    errors = importlib.import_module(f"{bleak().__name__}.exc")
    try:
        yield
    except EinthovenError:
        raise
    except errors.BleakBluetoothNotAvailableError as problem:
        reason = problem.reason.name.casefold().replace("_", " ")
        raise BluetoothUnavailable(f"Bluetooth is not available ({reason})", _SWITCH_ON) from problem
    except errors.BleakDeviceNotFoundError as problem:
        raise SensorNotFound("the sensor is out of reach", _WEAR_IT) from problem
    except errors.BleakGATTProtocolError as problem:
        raise SensorRefused(f"the sensor refused with ATT error {int(problem.code)}", _WEAR_IT) from problem
    except errors.BleakCharacteristicNotFoundError as problem:
        raise SensorRefused("the sensor has no measurement service", "use a Polar H10") from problem
    except errors.BleakDBusError as problem:
        if problem.dbus_error.rpartition(".")[2] in {"AccessDenied", "ServiceUnknown", "NotReady", "NotPermitted"}:
            code = problem.dbus_error.rpartition(".")[2]
            raise BluetoothUnavailable(f"the system refuses Bluetooth ({code})", _SWITCH_ON) from problem
        raise silent from problem
    except (FileNotFoundError, PermissionError, ConnectionRefusedError) as problem:  # of the system bus
        raise BluetoothUnavailable("the system offers no Bluetooth", _SWITCH_ON) from problem
    except Exception as problem:
        raise silent from problem
