"""Watching a store: time stands still unless a test moves it, the server is a function, the line a queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TypeVar

import msgspec
import pytest
from tests.contracts.conftest import window
from tests.einthoven.test_syncing import IDENTITY, NOW, HonestServer, ScriptedTransport, a_store

from einthoven.clock import FixedClock
from einthoven.errors import (
    DeviceRefused,
    NotEnrolled,
    ServerBusy,
    ServerUnreachable,
    StoreDamaged,
    StoreIOError,
    TransportError,
)
from einthoven.identity import Identity, save_identity
from einthoven.ports import Store, SyncState, Transport, Wake
from einthoven.results import RiskTier
from einthoven.store_memory import MemoryStore
from einthoven.sync_policy import Lane, Surroundings
from einthoven.sync_waiting import waiting_lane
from einthoven.wake_line import LINE_PAUSE_S, LoopTimer
from einthoven.watch_events import LineLost, LineOpened, Synced, SyncFailed, WatchEvent, Woken
from einthoven.watch_parts import WatchParts
from einthoven.watching import LOOK_EVERY_S, REFUSED_WAIT_S, Watcher, watch
from einthoven_protocol import codec
from einthoven_protocol.messages import Capability, ExchangeRequest, Owner, ServerLimits

PATIENCE_S = 20
Event = TypeVar("Event", bound=WatchEvent)


class StillTimer:
    """Time that moves only when a test says so."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._asleep = asyncio.Condition()

    def now_s(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        done = asyncio.get_running_loop().create_future()
        entry = (self._now_s + seconds, done)
        self._sleepers.append(entry)
        async with self._asleep:
            self._asleep.notify_all()
        try:
            await done
        finally:
            self._sleepers.remove(entry)

    async def advance(self, seconds: float) -> None:
        """Move on, waking those whose time has come."""
        self._now_s += seconds
        for until_s, done in self._sleepers:
            if until_s <= self._now_s and not done.done():
                done.set_result(None)
        await asyncio.sleep(0)

    async def somebody_sleeps(self, n: int = 1) -> None:
        """Return when so many wait for time to pass."""
        async with self._asleep, asyncio.timeout(PATIENCE_S):
            await self._asleep.wait_for(lambda: sum(not done.done() for _, done in self._sleepers) >= n)


class QueueWake:
    """A ``Wake`` whose server is a queue: None wakes, an error breaks the line."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[TransportError | None] = asyncio.Queue()
        self.opened = 0
        self.refusals: list[TransportError] = []

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[None]]:
        if self.refusals:
            raise self.refusals.pop(0)
        self.opened += 1
        yield self._wakes()

    async def _wakes(self) -> AsyncIterator[None]:
        while True:
            call = await self.calls.get()
            if call is not None:
                raise call
            yield None


class NewServer(HonestServer):
    """Announces what it can do."""

    def __init__(self, capabilities: Capability = Capability.FEED | Capability.WAKE, min_interval_s: int = 0) -> None:
        super().__init__()
        self.announced = {"capabilities": capabilities, "limits": ServerLimits(min_interval_s=min_interval_s)}

    def __call__(self, request: ExchangeRequest) -> bytes:
        response = codec.decode_response(super().__call__(request))
        owners = () if request.owners_known else (Owner(request.device_alias, self.sync_key),)
        return codec.encode_response(msgspec.structs.replace(response, owners=owners, **self.announced))


class FailingTransport(ScriptedTransport):
    """Fails as long as it has errors left."""

    def __init__(self, serve: object, *errors: TransportError) -> None:
        super().__init__(serve)
        self.errors = list(errors)
        self.closed = 0

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        if self.errors:
            raise self.errors.pop(0)
        return await super().post(path, body, headers)

    async def close(self) -> None:
        self.closed += 1


class Watched:
    """A watcher at work, and what it says."""

    def __init__(self, store: MemoryStore, transport: Transport, wake: Wake | None = None) -> None:
        self.store, self.transport, self.wake = store, transport, wake
        self.timer = StillTimer()
        self.around = Surroundings()
        self.events: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self.stop = asyncio.Event()
        self.connected: list[Identity] = []
        self.trouble: list[Exception] = []
        parts = WatchParts(
            borrow=self._borrow,
            connect=self._connect,
            line=None if wake is None else lambda identity: wake,
            clock=FixedClock(NOW),
            timer=self.timer,
            surroundings=lambda: self.around,
            chance=lambda: 0.5,
            take=self.events.put_nowait,
        )
        self.watcher = Watcher(parts)

    def _connect(self, identity: Identity) -> Transport:
        self.connected.append(identity)
        return self.transport

    @contextmanager
    def _borrow(self) -> Iterator[Store]:
        if self.trouble:
            raise self.trouble.pop(0)
        yield self.store

    async def next(self, kind: type[Event]) -> Event:
        event = await asyncio.wait_for(self.events.get(), PATIENCE_S)
        assert isinstance(event, kind), event
        return event

    def quiet(self) -> bool:
        return self.events.empty()

    async def pass_time(self, seconds: float, sleepers: int = 1) -> None:
        """Let time pass in steps, each when the watcher waits for it."""
        while seconds > 0:
            await self.timer.somebody_sleeps(sleepers)
            step = min(seconds, LOOK_EVERY_S)
            await self.timer.advance(step)
            seconds -= step

    async def pass_until(self, kind: type[Event], at_most_s: float) -> Event:
        """Let time pass until something is said."""
        while self.quiet():
            assert at_most_s > 0, "nothing was said in that time"
            await self.pass_time(1)
            at_most_s -= 1
        return await self.next(kind)

    def write(self, seed: int, **more: object) -> None:
        result, segment = window(seed)
        self.store.append_window(replace(result, **more), segment)  # type: ignore[arg-type]


@asynccontextmanager
async def watched(
    store: MemoryStore, transport: Transport, wake: Wake | None = None, trouble: Exception | None = None
) -> AsyncIterator[Watched]:
    one = Watched(store, transport, wake)
    one.trouble += [trouble] if trouble else []
    running = asyncio.create_task(one.watcher.run(one.stop))
    try:
        yield one
    finally:
        one.stop.set()
        await asyncio.wait_for(running, PATIENCE_S)


def unreachable() -> ServerUnreachable:
    return ServerUnreachable("the server can't be reached", "later")


async def test_it_exchanges_at_once_and_again_when_something_was_written() -> None:
    transport = ScriptedTransport(NewServer())
    async with watched(a_store(3), transport) as one:
        assert (await one.next(Synced)).report.results_up == 3
        one.write(1)
        await one.pass_time(LOOK_EVERY_S)
        assert (await one.next(Synced)).report.results_up == 1
        await one.pass_time(290)
        assert len(transport.requests) == 2, "with nothing to do it only looks now and then"
        await one.pass_time(20)
        assert (await one.next(Synced)).report.round_trips == 1


async def test_what_is_said_to_be_written_need_not_wait_for_a_look() -> None:
    async with watched(a_store(0), ScriptedTransport(NewServer())) as one:
        await one.next(Synced)
        await one.timer.somebody_sleeps()
        one.write(1, tier=RiskTier.URGENT)
        one.watcher.look()
        # An urgent one goes at once; any other would wait for those that may follow.
        assert (await one.next(Synced)).report.results_up == 1


async def test_on_a_critical_battery_only_an_urgent_result_goes() -> None:
    async with watched(a_store(0), ScriptedTransport(NewServer())) as one:
        await one.next(Synced)
        one.around = Surroundings(battery_percent=2)
        one.write(1)
        await one.pass_time(3_600)
        assert one.quiet()
        one.write(2, tier=RiskTier.URGENT)
        await one.pass_time(LOOK_EVERY_S)
        assert (await one.next(Synced)).report.results_up == 2


async def test_failures_are_waited_out_with_jitter_and_nothing_is_lost() -> None:
    transport = FailingTransport(NewServer(), unreachable(), unreachable(), unreachable())
    async with watched(a_store(2), transport) as one:
        assert (await one.next(SyncFailed)).failures == 1
        for failures, backoff_s in ((2, 0.5), (3, 1.0)):
            await one.timer.somebody_sleeps()
            await one.timer.advance(backoff_s * 0.99)
            assert one.quiet()
            await one.timer.somebody_sleeps()
            await one.timer.advance(backoff_s * 0.02)
            assert (await one.next(SyncFailed)).failures == failures
        await one.pass_time(3)
        assert (await one.next(Synced)).report.results_up == 2


async def test_a_server_that_asks_for_time_gets_it() -> None:
    busy = ServerBusy("the server is busy", "later", 120.0)
    async with watched(a_store(2), FailingTransport(NewServer(), busy)) as one:
        await one.next(SyncFailed)
        await one.pass_time(120)
        assert one.quiet()
        await one.pass_time(1)
        await one.next(Synced)


async def test_an_urgent_result_does_not_wait_that_long() -> None:
    busy = ServerBusy("the server is busy", "later", 3_000.0)
    async with watched(a_store(2), FailingTransport(NewServer(), busy)) as one:
        await one.next(SyncFailed)
        one.write(7, tier=RiskTier.URGENT)
        await one.pass_time(61)
        await one.next(Synced)


async def test_a_refusal_that_a_person_has_to_mend_is_not_asked_about_every_second() -> None:
    refused = DeviceRefused("the server refuses this device", "ask your clinic")
    async with watched(a_store(1), FailingTransport(NewServer(), refused)) as one:
        assert isinstance((await one.next(SyncFailed)).error, DeviceRefused)
        await one.pass_time(REFUSED_WAIT_S)
        assert one.quiet()
        await one.pass_time(1)
        await one.next(Synced)


async def test_the_servers_interval_is_kept_by_who_has_nothing_to_push() -> None:
    transport = ScriptedTransport(NewServer(min_interval_s=1_000))
    async with watched(a_store(0), transport) as one:
        await one.next(Synced)
        await one.pass_time(990)
        assert len(transport.requests) == 1
        one.write(1)
        await one.pass_time(LOOK_EVERY_S)
        await one.next(Synced)


async def test_the_line_is_opened_once_the_server_says_it_has_one_and_each_call_brings_an_exchange() -> None:
    wake = QueueWake()
    async with watched(a_store(1), ScriptedTransport(NewServer()), wake) as one:
        await one.next(Synced)
        await one.next(LineOpened)
        await one.pass_time(2)
        await one.next(Synced)
        wake.calls.put_nowait(None)
        await one.next(Woken)
        await one.pass_time(2)
        await one.next(Synced)


async def test_a_server_without_a_line_is_not_asked_for_one() -> None:
    wake = QueueWake()
    async with watched(a_store(1), ScriptedTransport(HonestServer()), wake) as one:
        await one.next(Synced)
        await one.pass_time(60)
        assert wake.opened == 0


async def test_a_line_that_is_lost_is_said_once_and_opened_again() -> None:
    wake = QueueWake()
    wake.refusals = [unreachable(), unreachable()]
    async with watched(a_store(1), ScriptedTransport(NewServer()), wake) as one:
        await one.next(Synced)
        await one.next(LineLost)
        await one.pass_until(LineOpened, 60)
        assert one.timer.now_s() > 2 * LINE_PAUSE_S
        await one.pass_until(Synced, 60)
        wake.calls.put_nowait(unreachable())
        await one.next(LineLost)


async def test_a_low_battery_hangs_up() -> None:
    wake = QueueWake()
    async with watched(a_store(1), ScriptedTransport(NewServer()), wake) as one:
        await one.next(Synced)
        await one.next(LineOpened)
        await one.pass_time(2)
        await one.next(Synced)
        one.around = Surroundings(battery_percent=10)
        await one.pass_time(LOOK_EVERY_S)
        await one.timer.somebody_sleeps()
        wake.calls.put_nowait(None)
        await one.pass_time(60)
        assert one.quiet()


async def test_a_line_that_opens_again_ends_the_waiting_for_a_network() -> None:
    wake = QueueWake()
    transport = FailingTransport(NewServer())
    async with watched(a_store(1), transport, wake) as one:
        await one.next(Synced)
        await one.next(LineOpened)
        await one.pass_until(Synced, 60)
        transport.errors = [unreachable() for _ in range(12)]
        one.write(1)
        for failures in range(1, 13):
            assert (await one.pass_until(SyncFailed, 700)).failures == failures
        # By now it would wait five minutes.
        wake.calls.put_nowait(unreachable())
        await one.next(LineLost)
        await one.pass_until(LineOpened, 60)
        await one.pass_until(Synced, 60)


class StuckTransport(ScriptedTransport):
    """Never answers."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked = asyncio.Event()

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_it_stops_in_the_middle_of_an_exchange() -> None:
    transport = StuckTransport()
    store = a_store(2)
    async with watched(store, transport) as one:
        await asyncio.wait_for(transport.asked.wait(), PATIENCE_S)
        assert one.quiet()
    assert store.sync_state().waiting == 2


async def test_a_store_that_is_in_use_is_tried_again() -> None:
    in_use = StoreIOError("the store is open elsewhere", "close it there")
    async with watched(a_store(2), ScriptedTransport(NewServer()), trouble=in_use) as one:
        assert (await one.next(SyncFailed)).error is in_use
        one.trouble.append(in_use)
        await one.pass_time(2)
        await one.pass_time(LOOK_EVERY_S)
        await one.next(Synced)


@pytest.mark.parametrize(
    "fatal", [StoreDamaged("the store is damaged", "repair it"), NotEnrolled("not enrolled", "enrol")]
)
async def test_what_trying_again_does_not_mend_ends_it(fatal: Exception) -> None:
    one = Watched(a_store(1), ScriptedTransport(NewServer()))
    one.trouble.append(fatal)
    with pytest.raises(type(fatal)):
        await asyncio.wait_for(one.watcher.run(one.stop), PATIENCE_S)


async def test_a_store_that_was_never_enrolled_is_not_watched() -> None:
    with pytest.raises(NotEnrolled):
        await watch(MemoryStore(), stop=asyncio.Event())


async def test_who_is_enrolled_anew_meanwhile_is_watched_at_the_new_server() -> None:
    store, transport = a_store(1), FailingTransport(NewServer())
    async with watched(store, transport) as one:
        await one.next(Synced)
        other = msgspec.structs.replace(IDENTITY, device_id="device-2", device_alias=8)
        save_identity(store, other, b"n" * 32)
        transport._serve = HonestServer(b"n" * 32)
        await one.pass_time(LOOK_EVERY_S)
        assert (await one.next(Synced)).report.results_up == 1
        assert [identity.device_id for identity in one.connected] == ["device-1", "device-2"]
        assert transport.closed == 1
    assert transport.closed == 2


async def test_an_apps_own_store_is_watched_in_one_call() -> None:
    store, stop = a_store(1), asyncio.Event()
    store.put_setting("identity", msgspec.msgpack.encode(msgspec.structs.replace(IDENTITY, url="https://localhost:9")))
    events: list[WatchEvent] = []

    def take(event: WatchEvent) -> None:
        events.append(event)
        stop.set()

    await asyncio.wait_for(watch(store, stop=stop, take=take), PATIENCE_S)
    (event,) = events
    assert isinstance(event, SyncFailed)
    assert store.sync_state().waiting == 1


async def test_the_loops_own_time_goes_on() -> None:
    timer = LoopTimer()
    began_s = timer.now_s()
    await timer.sleep(0.001)
    assert timer.now_s() > began_s


STATE = replace(MemoryStore().sync_state(), waiting=0)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (STATE, Lane.POLL),
        (replace(STATE, waiting=3, waiting_alerts=1), Lane.ALERT),
        (replace(STATE, waiting=3), Lane.RESULT),
        (replace(STATE, waiting_given=1), Lane.RESULT),
        (replace(STATE, waiting=3, waiting_annotations=1, waiting_notes=1, waiting_deletions=1), Lane.WORDS),
        (replace(STATE, waiting=4, waiting_annotations=1, waiting_notes=1, waiting_deletions=1), Lane.RESULT),
    ],
)
def test_the_lane_is_that_of_the_most_urgent(state: SyncState, expected: Lane) -> None:
    assert waiting_lane(state, None, news=False) is expected
    assert waiting_lane(state, state, news=False) is Lane.POLL, "what the server left hurries nothing"
    assert waiting_lane(state, state, news=True) is Lane.NEWS
