"""Processor time of one FHIR read: of the server, of its PostgreSQL and of the client, each by itself.

Wall time depends on what else a machine does; processor time hardly does, so this is what changes are judged by. It
deliberately makes no figures, and says nothing of latency: ``server_fhir`` does.

Invariants:
    1. Every answer is checked as in ``server_fhir``.
    2. Requests of one kind are measured apart from those of another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
import psutil

from einthoven.account import Account
from einthoven.account_authorization import Authorization
from einthoven_bench.server_fhir import filled, read_once
from einthoven_bench.sync_site import CALL_TIMEOUT_S, Site, running_site

REQUESTS: Final = 4_000
WARM_UP_REQUESTS: Final = 400
AT_ONCE: Final = 8
PATIENTS: Final = 4
RESULTS: Final = 500
"""Of each patient."""
_MICROSECONDS: Final = 1e6


@dataclass(frozen=True, slots=True)
class ReadCost:
    """What one read costs.

    Attributes:
        requests: How many were made.
        server_us: Processor time of the server's own process, us a request.
        database_us: Of its PostgreSQL, likewise.
        client_us: Of the client, likewise.
    """

    requests: int
    server_us: float
    database_us: float
    client_us: float


def read_cost(
    site: Site, account: Account, paths: Sequence[str], requests: int = REQUESTS, at_once: int = AT_ONCE
) -> ReadCost:
    """Read, some at once, and take the processor time.

    Args:
        site: A running server.
        account: Of a clinician who treats the patients.
        paths: What may be read, without the address.
        requests: How many.
        at_once: How many wait for an answer at any time.

    Raises:
        MeasurementFailed: An answer is not what was asked for.
    """
    return asyncio.run(_cost(site, account, paths, requests, at_once))


async def _cost(site: Site, account: Account, paths: Sequence[str], requests: int, at_once: int) -> ReadCost:
    timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
    connector = aiohttp.TCPConnector(ssl=site.tls, limit=at_once)
    headers = {"Accept": "application/fhir+json"}
    shows = Authorization(site.url, account)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as client:

        async def work(places: Iterator[int]) -> None:
            for place in places:
                await read_once(client, site, shows, paths[place % len(paths)])

        async def read(times: int) -> None:
            places = iter(range(times))
            await asyncio.gather(*(work(places) for _ in range(at_once)))

        await read_once(client, site, shows, paths[0])
        await read(WARM_UP_REQUESTS)
        server_s, database_s = _children_cpu_s()
        client_s = time.process_time()
        await read(requests)
        client_s = time.process_time() - client_s
        server_after_s, database_after_s = _children_cpu_s()
    each_us = _MICROSECONDS / requests
    return ReadCost(
        requests, (server_after_s - server_s) * each_us, (database_after_s - database_s) * each_us, client_s * each_us
    )


def _children_cpu_s() -> tuple[float, float]:
    """Processor time so far of servers and of PostgreSQL below this process, s."""
    server_s = database_s = 0.0
    for process in psutil.Process().children(recursive=True):
        times = process.cpu_times()
        if process.name() == "postgres":
            database_s += times.user + times.system
        else:
            server_s += times.user + times.system
    return server_s, database_s


def main() -> None:
    """Print what was measured, for people; ``python -m einthoven_bench.server_fhir_cost``."""
    with running_site() as site:
        paths, patient_ids = filled(site, PATIENTS, RESULTS)
        account = site.clinician(patient_ids)
        searches = [path for path in paths if "?" in path]
        reads = [path for path in paths if "?" not in path]
        for name, some in (("read", reads), ("search", searches), ("mixed", paths)):
            found = read_cost(site, account, some)
            print(
                f"{name}: {found.requests} requests, {AT_ONCE} at once: server {found.server_us:.0f} us, "
                f"PostgreSQL {found.database_us:.0f} us, client {found.client_us:.0f} us a request",
                flush=True,
            )


if __name__ == "__main__":
    main()
