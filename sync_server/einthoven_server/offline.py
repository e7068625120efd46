"""What an operator does on a data folder while its server is stopped: registers a client, replaces the signing key.

It deliberately repeats nothing that an admin can do over HTTP while the server runs, but what is needed before there is
one, or when none can get in.

Invariants:
    1. The folder is held while it works, and PostgreSQL stopped after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from einthoven_server.audit.trail import Trail
from einthoven_server.clock import SystemClock
from einthoven_server.identity.clients import algorithms_of, keys_of
from einthoven_server.identity.permissions import Operation, Role
from einthoven_server.serve import interrupting, opened, parts_of


def add_client(
    data: Path,
    database_url: str | None,
    role: Role,
    jwks: dict[str, object],
    *,
    bearer: bool,
    key_service: str | None = None,
) -> str:
    """Make a principal on a server that is not running; return its id.

    Raises:
        KeyMalformed: The keys are not taken.
        StartError: Database or keys can't be used.
    """
    keys_of(jwks, algorithms_of(role))

    async def add(url: str) -> str:
        async with parts_of(data, url, SystemClock(), key_service_url=key_service, vault_url=database_url) as parts:
            trail = Trail(Operation.CREATE_PRINCIPAL.value, parts.clock)
            return await parts.clients.create(role, jwks, parts.clock.now_ms(), trail.event(), bearer=bearer)

    return _offline(data, database_url, add)


def rotate_signing_key(data: Path, database_url: str | None, *, at_once: bool, key_service: str | None = None) -> str:
    """Make a new key for access tokens on a server that is not running; return its name.

    Raises:
        StartError: Database or keys can't be used.
    """

    async def rotate(url: str) -> str:
        async with parts_of(data, url, SystemClock(), key_service_url=key_service, vault_url=database_url) as parts:
            kid = await parts.signing_keys.rotate(at_once=at_once)
            await parts.audit.record(Trail(Operation.ROTATE_SIGNING_KEY.value, parts.clock).event())
            return kid

    return _offline(data, database_url, rotate)


def _offline(data: Path, database_url: str | None, work: Callable[[str], Coroutine[Any, Any, str]]) -> str:
    with interrupting(), opened(data, database_url) as url:
        return asyncio.run(work(url))
