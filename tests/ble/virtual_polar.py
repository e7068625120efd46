"""A double of BlueZ (``org.bluez`` on a private D-Bus) with one virtual Polar H10 in reach.

bleak's own Linux backend talks to it, unchanged: scan, connect, discover services, write, subscribe, be notified. What
a test wants to go wrong is set in ``Behaviour``; what the strap saw is in ``requests``, ``streaming`` and the counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from einthoven.clock import FixedClock

ADDRESS = "A0:9E:1A:00:00:01"
NAME = "Polar H10 00000001"
ADAPTER = "/org/bluez/hci0"
DEVICE = f"{ADAPTER}/dev_{ADDRESS.replace(':', '_')}"
SERVICE = f"{DEVICE}/service000a"
CONTROL = f"{SERVICE}/char000b"
FRAMES = f"{SERVICE}/char000e"
ADVERTISING_S = 0.02
PMD = "fb005c{}-02e7-f387-1cad-8acd2d8df0c8"
FEATURES = bytes([0x0F, 0x05]) + bytes(15)
SETTINGS = bytes([0, 1, 130, 0, 1, 1, 14, 0])


@dataclass
class Behaviour:
    """What the strap does, and what goes wrong."""

    powered: bool = True
    in_reach: bool = True
    name: str = NAME
    has_service: bool = True
    connects: bool = True
    features: bytes = FEATURES
    settings: bytes = SETTINGS
    settings_status: int = 0
    start_status: Sequence[int] = (0,)  # of the first start, the second, ...; the last one for all others
    answers: bool = True
    write_error: str | None = None
    stop_by_itself_after: int | None = None  # frames
    disconnect_after: Sequence[int] = ()  # frames of the first stream, the second, ...
    back_after_s: float = 0.0
    stays_away: bool = False  # once the connection broke
    pause_after: int | None = None  # frames, then silence
    interval_s: float = 0.002
    clock: FixedClock | None = None  # goes on with each frame
    frame_ms: int = 562


@dataclass
class VirtualPolar:
    """The double; ``async with`` it."""

    bus_address: str
    frames: Sequence[bytes]
    behaviour: Behaviour = field(default_factory=Behaviour)
    requests: list[bytes] = field(default_factory=list)
    sent: int = 0
    connections: int = 0
    streaming: bool = False
    connected: bool = False
    notifying: set[str] = field(default_factory=set)

    async def __aenter__(self) -> VirtualPolar:
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams = 0
        self._starts = 0
        self._next = 0
        self._discovering = False
        self._bus = await MessageBus(bus_address=self.bus_address, bus_type=BusType.SYSTEM).connect()
        self._bus.add_message_handler(self._handle)
        await self._bus.request_name("org.bluez")
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._bus.disconnect()
        await self._bus.wait_for_disconnect()

    @property
    def stops(self) -> int:
        """How often the strap was told to stop."""
        return sum(request[:1] == b"\x03" for request in self.requests)

    def drop(self) -> None:
        """Break the connection, as walking away does."""
        if self.behaviour.stays_away:
            self.behaviour.in_reach = self.behaviour.connects = False
        self.streaming = self.connected = False
        self.notifying.clear()
        self._changed(DEVICE, "org.bluez.Device1", Connected=Variant("b", False), ServicesResolved=Variant("b", False))

    def notify(self, path: str, value: bytes) -> None:
        """Send a notification or indication."""
        if path in self.notifying:
            self._changed(path, "org.bluez.GattCharacteristic1", Value=Variant("ay", value))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _handle(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL or not (message.path or "").startswith("/"):
            return None
        answer = getattr(self, f"_on_{message.member}", None)
        if answer is None or message.destination in {None, "org.freedesktop.DBus"}:
            return None
        reply = answer(message)
        return reply if isinstance(reply, Message) else Message.new_method_return(message, *(reply or ("", [])))

    def _on_GetManagedObjects(self, _: Message) -> tuple[str, list[Any]]:
        objects = {ADAPTER: self._adapter()}
        if self.connected:
            objects |= {DEVICE: self._device(), **self._gatt()}
        return "a{oa{sa{sv}}}", [objects]

    def _on_SetDiscoveryFilter(self, _: Message) -> None:
        return None

    def _on_StartDiscovery(self, _: Message) -> None:
        self._discovering = True
        self._spawn(self._advertise())

    def _on_StopDiscovery(self, _: Message) -> None:
        self._discovering = False

    async def _advertise(self) -> None:
        seen = False
        while self._discovering:
            if self.behaviour.in_reach and not seen:
                self._added(DEVICE, self._device())
                seen = True
            elif self.behaviour.in_reach:
                self._changed(DEVICE, "org.bluez.Device1", RSSI=Variant("n", -60))
            await asyncio.sleep(ADVERTISING_S)

    def _on_Connect(self, message: Message) -> Message | None:
        if not self.behaviour.connects or not self.behaviour.in_reach:
            return Message.new_error(message, "org.bluez.Error.Failed", "le-connection-abort-by-remote")
        self.connections += 1
        self.connected = True
        for path, interfaces in self._gatt().items():
            self._added(path, interfaces)
        self._changed(DEVICE, "org.bluez.Device1", Connected=Variant("b", True), ServicesResolved=Variant("b", True))
        return None

    def _on_Disconnect(self, _: Message) -> None:
        self.drop()

    def _on_ReadValue(self, _: Message) -> tuple[str, list[Any]]:
        return "ay", [self.behaviour.features]

    def _on_StartNotify(self, message: Message) -> None:
        assert message.path is not None
        self.notifying.add(message.path)

    def _on_StopNotify(self, message: Message) -> None:
        assert message.path is not None
        self.notifying.discard(message.path)

    def _on_WriteValue(self, message: Message) -> Message | None:
        if self.behaviour.write_error is not None:
            return Message.new_error(message, *self.behaviour.write_error.split("|"))
        request = bytes(message.body[0])
        self.requests.append(request)
        status, parameters = 0, b""
        if request[0] == 1:
            status, parameters = self.behaviour.settings_status, self.behaviour.settings
        elif request[0] == 2:
            wanted = self.behaviour.start_status
            status = wanted[min(self._starts, len(wanted) - 1)]
            self._starts += 1
            if not status:
                self.streaming = True
                self._spawn(self._stream())
        elif request[0] == 3:
            self.streaming = False
        if self.behaviour.answers:
            self.notify(CONTROL, bytes([0xF0, *request[:2], status, 0]) + parameters)
        return None

    async def _stream(self) -> None:
        breaks = self.behaviour.disconnect_after
        until = breaks[self._streams] if self._streams < len(breaks) else None
        self._streams += 1
        count = 0
        while self.streaming and self._next < len(self.frames):
            await asyncio.sleep(self.behaviour.interval_s)
            if not self.streaming:
                return
            if count == self.behaviour.pause_after:
                return
            if count == self.behaviour.stop_by_itself_after:
                self.behaviour.stop_by_itself_after = None
                self.streaming = False
                self.notify(CONTROL, bytes([0x01, 0x00]))
                return
            if count == until:
                self.drop()
                return
            if self.behaviour.clock is not None:
                self.behaviour.clock.advance(self.behaviour.frame_ms)
            self.notify(FRAMES, self.frames[self._next])
            self._next += 1
            self.sent += 1
            count += 1

    def skip(self, frames: int) -> None:
        """Let time pass without a connection."""
        self._next += frames
        if self.behaviour.clock is not None:
            self.behaviour.clock.advance(frames * self.behaviour.frame_ms)

    def _adapter(self) -> dict[str, dict[str, Variant]]:
        return {
            "org.bluez.Adapter1": {
                "Address": Variant("s", "00:00:00:00:00:00"),
                "Powered": Variant("b", self.behaviour.powered),
                "Roles": Variant("as", ["central", "peripheral"]),
                "Discovering": Variant("b", False),
            }
        }

    def _device(self) -> dict[str, dict[str, Variant]]:
        return {
            "org.bluez.Device1": {
                "Address": Variant("s", ADDRESS),
                "AddressType": Variant("s", "public"),
                "Name": Variant("s", self.behaviour.name),
                "Alias": Variant("s", self.behaviour.name),
                "Adapter": Variant("o", ADAPTER),
                "Paired": Variant("b", False),
                "Connected": Variant("b", self.connected),
                "ServicesResolved": Variant("b", self.connected),
                "UUIDs": Variant("as", ["0000180d-0000-1000-8000-00805f9b34fb"]),
                "RSSI": Variant("n", -60),
            }
        }

    def _gatt(self) -> dict[str, dict[str, dict[str, Variant]]]:
        if not self.behaviour.has_service:
            return {}
        objects: dict[str, dict[str, dict[str, Variant]]] = {
            SERVICE: {
                "org.bluez.GattService1": {
                    "UUID": Variant("s", PMD.format(80)),
                    "Primary": Variant("b", True),
                    "Device": Variant("o", DEVICE),
                    "Includes": Variant("ao", []),
                }
            }
        }
        for path, number, flags in ((CONTROL, 81, ["read", "write", "indicate"]), (FRAMES, 82, ["notify"])):
            objects[path] = {
                "org.bluez.GattCharacteristic1": {
                    "UUID": Variant("s", PMD.format(number)),
                    "Service": Variant("o", SERVICE),
                    "Value": Variant("ay", b""),
                    "Notifying": Variant("b", False),
                    "Flags": Variant("as", flags),
                    "MTU": Variant("q", 247),
                }
            }
        return objects

    def _added(self, path: str, interfaces: dict[str, dict[str, Variant]]) -> None:
        self._signal("/", "org.freedesktop.DBus.ObjectManager", "InterfacesAdded", "oa{sa{sv}}", [path, interfaces])

    def _changed(self, path: str, interface: str, **properties: Variant) -> None:
        self._signal(
            path,
            "org.freedesktop.DBus.Properties",
            "PropertiesChanged",
            "sa{sv}as",
            [interface, properties, []],
        )

    def _signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        self._bus.send(Message.new_signal(path, interface, member, signature, body))
