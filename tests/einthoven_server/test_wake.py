"""Who is woken by whose commit, without HTTP; other processes are stood for by what they leave in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from einthoven_server.errors import Busy
from einthoven_server.records.commits import WHOLE_TENANT, Committed
from einthoven_server.sync.wake import End, Waiter, WakePoll, WakeRegistry


class Ledger:
    """Stands for the database: commits of any process, and revoked devices."""

    def __init__(self) -> None:
        self.commits: list[tuple[str, int]] = []
        self.gone: set[int] = set()
        self.down = False
        self.asked: list[int] = []
        self.asked_in_vain = asyncio.Event()

    def commit(self, patient_id: str, origin: int = 0) -> Committed:
        self.commits.append((patient_id, origin))
        last = len(self.commits)
        return Committed(last - 1, last, frozenset({(patient_id, origin)}))

    async def head_seq(self) -> int:
        if self.down:
            self.asked_in_vain.set()
            raise Busy("down", "wait", 1)
        return len(self.commits)

    async def touched(self, after_seq: int, waiters: Sequence[tuple[int, str]]) -> set[int]:
        self.asked.append(len(waiters))
        new = self.commits[after_seq:]
        return {alias for alias, patient in waiters if any(patient == p and alias != o for p, o in new)}

    async def revoked(self, aliases: Sequence[int]) -> set[int]:
        return self.gone & set(aliases)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def registry() -> WakeRegistry:
    return WakeRegistry(sockets_max=3)


@pytest.fixture
def poll(registry: WakeRegistry, ledger: Ledger) -> WakePoll:
    return WakePoll(registry, ledger, interval_s=0.001)


def woken(*waiters: Waiter) -> list[bool]:
    return [waiter.woken for waiter in waiters]


async def test_a_commit_wakes_the_patients_other_devices_and_nobody_else(registry: WakeRegistry) -> None:
    own, sibling, stranger = registry.add(1, "p"), registry.add(2, "p"), registry.add(3, "q")
    registry.committed(Committed(0, 1, frozenset({("p", 1)})))
    assert woken(own, sibling, stranger) == [False, True, False]
    registry.committed(Committed(1, 2, frozenset({("p", 0)})))
    assert woken(own, sibling, stranger) == [True, True, False]


async def test_what_is_for_the_whole_tenant_wakes_all(registry: WakeRegistry) -> None:
    waiters = [registry.add(1, "p"), registry.add(2, "q")]
    registry.committed(Committed(0, 1, frozenset({(WHOLE_TENANT, 0)})))
    assert woken(*waiters) == [True, True]


async def test_many_commits_before_it_looks_are_one_wake(registry: WakeRegistry) -> None:
    waiter = registry.add(1, "p")
    for seq in range(5):
        registry.committed(Committed(seq, seq + 1, frozenset({("p", 2)})))
    assert await waiter.next() is None
    assert not waiter.woken
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await waiter.next()


async def test_a_newer_socket_of_a_device_takes_over(registry: WakeRegistry) -> None:
    first = registry.add(1, "p")
    second = registry.add(1, "p")
    assert await first.next() is End.REPLACED
    registry.remove(first)  # its handler ends later, and must not take the newer one along
    registry.committed(Committed(0, 1, frozenset({("p", 2)})))
    assert second.woken
    assert len(registry) == 1


async def test_there_is_room_for_so_many_and_a_device_that_is_in_may_come_again(registry: WakeRegistry) -> None:
    for alias in (1, 2, 3):
        registry.add(alias, "p")
    with pytest.raises(Busy) as refused:
        registry.add(4, "p")
    assert refused.value.retry_after_s >= 1
    waiter = registry.add(3, "p")
    registry.remove(waiter)
    registry.remove(waiter)
    registry.add(4, "p")
    assert len(registry) == 3


async def test_a_commit_of_another_process_is_found_by_looking(
    registry: WakeRegistry, poll: WakePoll, ledger: Ledger
) -> None:
    ledger.commit("p", 9)
    own, sibling, stranger = [await poll.join(alias, patient) for alias, patient in ((1, "p"), (2, "p"), (3, "q"))]
    await poll.look()
    assert woken(own, sibling, stranger) == [False] * 3  # what was before they came is no news
    ledger.commit("p", 1)
    await poll.look()
    assert woken(own, sibling, stranger) == [False, True, False]
    asked = len(ledger.asked)
    await poll.look()
    assert len(ledger.asked) == asked  # nothing new, nothing asked


async def test_own_commits_need_no_looking_unless_another_process_came_between(
    registry: WakeRegistry, poll: WakePoll, ledger: Ledger
) -> None:
    waiter = await poll.join(1, "p")
    registry.committed(ledger.commit("p", 2))
    await poll.look()
    assert (ledger.asked, await waiter.next()) == ([], None)
    ledger.commit("p", 3)  # elsewhere
    registry.committed(ledger.commit("q", 2))
    assert woken(waiter) == [False]
    await poll.look()
    assert woken(waiter) == [True]
    assert registry.seen_seq == 3


async def test_a_revoked_device_is_sent_away(poll: WakePoll, ledger: Ledger) -> None:
    waiter, other = await poll.join(1, "p"), await poll.join(2, "p")
    ledger.gone = {1}
    await poll.look()
    assert await waiter.next() is End.REVOKED
    assert other.end is None


async def test_without_waiters_nothing_is_asked(registry: WakeRegistry, poll: WakePoll, ledger: Ledger) -> None:
    ledger.down = True
    await poll.look()
    ledger.down = False
    registry.remove(await poll.join(1, "p"))
    ledger.commit("p")
    await poll.look()
    assert (ledger.asked, registry.seen_seq) == ([], None)


async def test_who_can_not_be_told_where_the_shard_stands_does_not_wait(
    registry: WakeRegistry, poll: WakePoll, ledger: Ledger
) -> None:
    ledger.down = True
    with pytest.raises(Busy):
        await poll.join(1, "p")
    assert len(registry) == 0


async def test_looking_goes_on_after_the_database_was_away(
    poll: WakePoll, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    waiter = await poll.join(1, "p")
    ledger.down = True
    async with poll.running():
        async with asyncio.timeout(5):
            await ledger.asked_in_vain.wait()
        ledger.down = False
        ledger.commit("p", 2)
        async with asyncio.timeout(5):
            assert await waiter.next() is None
    assert "poll slowly" in caplog.text


async def test_many_waiters_are_asked_about_a_page_at_a_time(ledger: Ledger) -> None:
    registry = WakeRegistry()
    poll = WakePoll(registry, ledger)
    waiters = [await poll.join(alias, "p") for alias in range(1, 2_502)]
    ledger.commit("p", 7)
    await poll.look()
    assert ledger.asked == [1_000, 1_000, 501]
    assert sum(waiter.woken for waiter in waiters) == 2_500


async def test_stopping_ends_every_wait(registry: WakeRegistry) -> None:
    waiters = [registry.add(1, "p"), registry.add(2, "q")]
    registry.end_all(End.STOPPING)
    registry.end([1, 7], End.REVOKED)
    assert [await waiter.next() for waiter in waiters] == [End.STOPPING] * 2
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            await waiters[0].next()
