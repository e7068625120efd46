"""What the audit log costs: verifying a million entries, and its part of a request's processor time.

It deliberately makes no figures; ``einthoven-bench server`` does.

The part of a request is measured in two runs of the same kind of load. In one, clinicians read over TLS from a real
server with all of it on; the processor time of the server and its PostgreSQL is taken. In the other, the same number
of events is recorded, as many at once, by the same code on the same kind of database and nothing else; the processor
time of that is what the log costs.

Invariants:
    1. Processor time is of all processes concerned: Python's and PostgreSQL's.
    2. A measured log verifies afterwards, and has as many entries as were recorded.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
import uvloop

from einthoven.account import Account
from einthoven.account_authorization import Authorization
from einthoven.tls import pinned_context
from einthoven_bench.errors import MeasurementFailed
from einthoven_demo.server_process import ServerProcess
from einthoven_server import postgres_embedded
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.recorder import AuditRecorder
from einthoven_server.clock import SystemClock
from einthoven_server.database import connected
from einthoven_server.identity.tenancy import ensure_tenancy
from einthoven_server.key_service_file import FileKeyService
from einthoven_server.migrations import migrate

VERIFIED_ENTRIES: Final = 1_000_000
REQUESTS: Final = 4_000
WARM_UP_REQUESTS: Final = 400
AT_ONCE: Final = 16
NOTES: Final = 100
"""What each read shows: a full page, as the default is."""
_FILL_EVENTS: Final = 5_000
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Verified:
    """A verified log.

    Attributes:
        entries: How many.
        wall_s: How long it took.
        cpu_s: Processor time of it, PostgreSQL's included.
    """

    entries: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class AuditCost:
    """What the log costs of a request.

    Attributes:
        requests: How many were made, and events recorded.
        request_cpu_s: Processor time of one request, the log's included.
        event_cpu_s: Processor time of one event.
    """

    requests: int
    request_cpu_s: float
    event_cpu_s: float

    @property
    def share(self) -> float:
        """The log's part, 0 to 1."""
        return self.event_cpu_s / self.request_cpu_s


def verify_cost(entries: int = VERIFIED_ENTRIES, folder: Path | None = None) -> Verified:
    """Fill a log on a database of its own, and verify it.

    Args:
        entries: How many.
        folder: Below which the database lies; the system's temporary folder, if ``None``.

    Raises:
        MeasurementFailed: The log is not what was written.
    """
    with _logged(folder) as with_log:

        async def work(log: AuditLog) -> Verified:
            for first in range(0, entries, _FILL_EVENTS):
                await log.record_all([(_event(n), None) for n in range(first, min(first + _FILL_EVENTS, entries))])
            began, cpu = time.perf_counter(), _cpu_s()
            found = await log.verify()
            taken = Verified(found.entries, time.perf_counter() - began, _cpu_s() - cpu)
            if found.entries != entries:
                raise MeasurementFailed("the log has not as many entries as were written", "see the server's log", 1)
            return taken

        found: Verified = with_log(work)
        return found


def audit_cost(requests: int = REQUESTS, *, notes: int = NOTES, folder: Path | None = None) -> AuditCost:
    """Measure reads of a patient's notes, and recording as many events.

    Args:
        requests: How many reads.
        notes: Of how many notes.
        folder: Below which databases lie.

    Raises:
        MeasurementFailed: The server refused a read, or the log is not what was written.
    """
    with tempfile.TemporaryDirectory(dir=folder) as made, ServerProcess(Path(made) / "server" / "data") as process:
        process.start()
        request_cpu_s = asyncio.run(_read_notes(process, requests, notes))

    with _logged(folder) as with_log:

        async def record(log: AuditLog) -> float:
            recorder = AuditRecorder(log)
            await _at_once(lambda n: recorder.record(_event(n)), WARM_UP_REQUESTS)
            cpu = _cpu_s()
            await _at_once(lambda n: recorder.record(_event(n)), requests)
            taken = _cpu_s() - cpu
            if (await log.verify()).entries != requests + WARM_UP_REQUESTS:
                raise MeasurementFailed("the log has not as many entries as were written", "see the server's log", 1)
            return taken / requests

        return AuditCost(requests, request_cpu_s, with_log(record))


async def _read_notes(process: ServerProcess, requests: int, notes: int) -> float:
    connector = aiohttp.TCPConnector(ssl=pinned_context(process.ca_file.read_text(encoding="ascii")), limit=AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(process.url, connector=connector, timeout=timeout) as client:

        async def ask(method: str, path: str, caller: Authorization, body: object = None) -> Any:
            headers = await caller.headers(client, method, path)
            async with client.request(method, path, headers=headers, json=body) as answer:
                if answer.status not in {200, 201}:
                    raise MeasurementFailed(f"the server answered {answer.status} to {method}", "see its log", 1)
                return await answer.json()

        admin, account = Authorization(process.url, process.admin), Account()
        patient = (await ask("POST", "/v1/patients", admin))["patient_id"]
        asked = {"role": "clinician", "jwks": account.public_jwks()}
        made = (await ask("POST", "/v1/principals", admin, asked))["principal_id"]
        await ask("PUT", f"/v1/patients/{patient}/care-team/{made}", admin)
        path, clinician = f"/v1/patients/{patient}/notes", Authorization(process.url, account.named(made))
        for n in range(notes):
            await ask("POST", path, clinician, {"text": f"Palpitations after climbing stairs, {n}"})
        await _at_once(lambda n: ask("GET", path, clinician), WARM_UP_REQUESTS)
        cpu = _children_cpu_s()
        await _at_once(lambda n: ask("GET", path, clinician), requests)
        return (_children_cpu_s() - cpu) / requests


async def _at_once(act: Callable[[int], Awaitable[Any]], times: int) -> None:
    numbers = iter(range(times))

    async def one_after_the_other() -> None:
        for n in numbers:
            await act(n)

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))


@contextmanager
def _logged(folder: Path | None) -> Iterator[Callable[[Callable[[AuditLog], Awaitable[Any]]], Any]]:
    with tempfile.TemporaryDirectory(dir=folder) as made:
        data = Path(made) / "data"
        data.mkdir(mode=0o700)
        with postgres_embedded.running(data) as url:

            async def run(work: Callable[[AuditLog], Awaitable[Any]]) -> Any:
                async with connected(url) as database:
                    await migrate(database)
                    tenancy = await ensure_tenancy(database, FileKeyService(data / "kek"), SystemClock().now_ms())
                    return await work(AuditLog(database, tenancy.scope, tenancy.audit_key))

            yield lambda work: uvloop.run(run(work))


def _event(n: int) -> Event:
    patient = f"00000000-0000-4000-8000-{n % 5_000:012d}"
    actor = f"10000000-0000-4000-8000-{n % 50:012d}"
    return Event(1_800_000_000_000 + n, actor, "notes.list", patient, "allowed", "clinician", "note", "", "TREAT")


def _cpu_s() -> float:
    return time.process_time() + _children_cpu_s()


def _children_cpu_s() -> float:
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        times = process.cpu_times()
        total += times.user + times.system
    return total


def main() -> None:
    """Print what was measured, for people; ``python -m einthoven_bench.server_audit``."""
    found = verify_cost()
    print(f"{found.entries} entries verified in {found.wall_s:.1f} s ({found.cpu_s:.1f} s of processor time)")
    for notes in (NOTES, 1):
        cost = audit_cost(notes=notes)
        print(
            f"{cost.requests} reads of {notes} notes, {AT_ONCE} at once: {cost.request_cpu_s * 1e6:.0f} us a request, "
            f"{cost.event_cpu_s * 1e6:.0f} us an event: {cost.share:.1%}"
        )


if __name__ == "__main__":
    main()
