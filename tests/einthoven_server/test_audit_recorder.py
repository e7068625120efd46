"""Group commit of reads' events: durable before the answer, together, and no one's fault is another's."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import pytest

from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.recorder import AuditRecorder
from einthoven_server.database import Connection, Database
from einthoven_server.errors import Busy, EventRefused
from einthoven_server.identity.tenancy import ensure_tenancy
from einthoven_server.key_service_file import FileKeyService
from einthoven_server.single_use import Claim, claim


def event(name: str = "a") -> Event:
    return Event(1, name, "results.list", "p", "allowed")


class Gate:
    """A sink that a test opens."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.down = False

    async def record_all(self, requests: Sequence[tuple[Event, Claim | None]]) -> list[bool]:
        events = [event for event, _ in requests]
        self.batches.append([one.actor for one in events])
        await self.open.wait()
        if self.down:
            raise Busy("down", "later", 2)
        if any(one.actor == "bad" for one in events):
            raise EventRefused("not taken", "later", 2)
        return [claim is None for _, claim in requests]


async def test_what_comes_while_one_is_written_goes_together() -> None:
    gate = Gate()
    recorder = AuditRecorder(gate, batch_max=3)
    tasks = [asyncio.create_task(recorder.record(event(name))) for name in "abcdefg"]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in tasks)
    gate.open.set()
    await asyncio.gather(*tasks)
    assert gate.batches == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


async def test_one_that_is_not_taken_takes_no_other_with_it() -> None:
    gate = Gate()
    gate.open.set()
    recorder = AuditRecorder(gate)
    found = await asyncio.gather(*(recorder.record(event(name)) for name in ("a", "bad", "b")), return_exceptions=True)
    assert [isinstance(one, Busy) for one in found] == [False, True, False]


async def test_when_the_sink_is_down_all_are_refused_at_once_and_later_ones_are_taken() -> None:
    gate = Gate()
    gate.open.set()
    gate.down = True
    recorder = AuditRecorder(gate)
    found = await asyncio.gather(*(recorder.record(event()) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(one, Busy) and one.code == "audit_unavailable" for one in found)
    assert len(gate.batches) == 1
    gate.down = False
    await recorder.record(event())


async def test_more_than_may_wait_are_refused() -> None:
    gate = Gate()
    recorder = AuditRecorder(gate, batch_max=1, waiting_max=2)
    tasks = [asyncio.create_task(recorder.record(event())) for _ in range(2)]
    await asyncio.sleep(0.01)  # one is being written, one waits
    tasks.append(asyncio.create_task(recorder.record(event())))
    await asyncio.sleep(0)
    with pytest.raises(Busy, match="too many"):
        await recorder.record(event())
    gate.open.set()
    await asyncio.gather(*tasks)


async def test_who_goes_away_leaves_the_event_and_others_unharmed() -> None:
    gate = Gate()
    recorder = AuditRecorder(gate)
    gone, stays = asyncio.create_task(recorder.record(event("gone"))), asyncio.create_task(recorder.record(event("b")))
    await asyncio.sleep(0.01)
    gone.cancel()
    gate.open.set()
    await stays
    assert gate.batches == [["gone", "b"]]


class Broken:
    """A sink with a mistake of ours."""

    async def record_all(self, requests: Sequence[tuple[Event, Claim | None]]) -> list[bool]:
        raise RuntimeError("a mistake")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_mistake_leaves_nobody_waiting() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    recorder = AuditRecorder(Broken())
    async with asyncio.timeout(5):
        found = await asyncio.gather(*(recorder.record(event()) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, Busy) for one in found)


async def test_many_at_once_on_postgresql_are_one_chain(
    database: Database, connection: Connection, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tenancy = await ensure_tenancy(
        database, FileKeyService(tmp_path_factory.mktemp("keys") / "kek"), 0, tenant=str(uuid.uuid4())
    )
    log = AuditLog(database, tenancy.scope, tenancy.audit_key)
    recorder = AuditRecorder(log)
    before = await connection.fetchval("SELECT pg_current_xact_id()::text::bigint")
    found = await asyncio.gather(
        *(recorder.record(event("\0" if n == 77 else f"actor-{n}")) for n in range(300)), return_exceptions=True
    )
    assert [n for n, one in enumerate(found) if one is not True] == [77]
    assert (await log.verify()).entries == 299
    assert await connection.fetchval("SELECT pg_current_xact_id()::text::bigint") > before


async def test_of_equal_claims_in_one_transaction_the_first_is_fresh(
    database: Database, connection: Connection, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tenancy = await ensure_tenancy(
        database, FileKeyService(tmp_path_factory.mktemp("keys") / "kek"), 0, tenant=str(uuid.uuid4())
    )
    log = AuditLog(database, tenancy.scope, tenancy.audit_key)
    recorder = AuditRecorder(log)
    one, other = claim("proof", "a", "1", 9), claim("proof", "a", "2", 9)

    wanted = [one, one, None, other, one]
    found = await asyncio.gather(*(recorder.record(event(f"{n}"), each) for n, each in enumerate(wanted)))

    assert found == [True, False, True, True, False]
    assert not await recorder.record(event("later"), other)
    rows = await connection.fetch(
        "SELECT actor, outcome FROM audit_entry WHERE tenant = $1 ORDER BY seq", tenancy.scope.tenant
    )
    assert {row["actor"] for row in rows if row["outcome"] == "replayed"} == {"1", "4", "later"}
    assert (await log.verify()).entries == 6
