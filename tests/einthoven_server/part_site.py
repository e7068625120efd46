"""The addresses for devices alone, over plain HTTP, with limits that a test chooses; everything behind them is real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
from aiohttp import web
from tests.einthoven_server.site import ManualClock, Site

from einthoven.account import Account
from einthoven_server.assembly import Parts
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.rates import Rates
from einthoven_server.memory_in_flight import Budget, lends
from einthoven_server.serve import parts_of
from einthoven_server.sync.application import make_application
from einthoven_server.sync.service import SyncService
from einthoven_server.sync.wake_socket import WakeTimes


@asynccontextmanager
async def running_part(
    data: Path,
    database_url: str,
    clock: ManualClock,
    tenant: str,
    *,
    rates: Rates | None = None,
    wake_times: WakeTimes | None = None,
    budget: Budget | None = None,
) -> AsyncIterator[tuple[Site, Parts]]:
    """Serve; devices enrol elsewhere, in the same tenant."""
    async with parts_of(data, database_url, clock, tenant) as made:
        parts = replace(made, guard=Guard(made.identities, made.audit, clock, rates, relations=made.relations))
        app = web.Application(middlewares=[] if budget is None else [lends(budget)])
        app.add_subapp(
            "/v1",
            make_application(
                service=SyncService(parts.changes, parts.writer, clock),
                writer=parts.writer,
                guard=parts.guard,
                registry=parts.waiting,
                poll=parts.poll,
                wake_times=wake_times,
            ),
        )
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            async with parts.writer.running(), aiohttp.ClientSession(auto_decompress=False) as http:
                url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield Site(url, "", tenant, clock, http, Account()), parts
        finally:
            await runner.cleanup()
