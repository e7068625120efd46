"""What an operator does at a terminal about people's accounts: make one, reset one, list them; beside a server or not.

It deliberately sets no password: the person does, with the invitation's code (docs/accounts.md).

Invariants:
    1. Where a server holds the data folder, its embedded PostgreSQL is used as it runs; nothing is stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from einthoven_server import postgres_embedded
from einthoven_server.assembly import Parts
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import SystemClock
from einthoven_server.errors import DataFolderBusy, NotFound
from einthoven_server.identity.accounts import Invitation, Listed, NewAccount
from einthoven_server.identity.permissions import Operation
from einthoven_server.serve import interrupting, opened, parts_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the accounts are.

    Attributes:
        data: The data folder.
        database_url: A PostgreSQL URL; the embedded one where ``None``.
        key_service: URL of the key service; the key file where ``None``.
    """

    data: Path
    database_url: str | None = None
    key_service: str | None = None


def add(place: Place, new: NewAccount) -> Invitation:
    """Make an account.

    Raises:
        NameRefused: The name is not taken.
        ServerError: Somebody has the name, there is no such patient, or database or keys can't be used.
    """

    async def work(parts: Parts) -> Invitation:
        trail = Trail(Operation.CREATE_ACCOUNT.value, parts.clock)
        if new.patient_id is not None:
            if not await parts.identities.has_patient(new.patient_id):
                raise NotFound("no such patient", "check the id")
            trail.patient = new.patient_id
        return await parts.accounts.add(new, parts.clock.now_ms(), trail)

    return _run(place, work)


def reset(place: Place, name: str) -> Invitation:
    """Take what somebody got in by, and invite them anew.

    Raises:
        NameRefused: No account can have that name.
        ServerError: None has, or database or keys can't be used.
    """

    async def work(parts: Parts) -> Invitation:
        account_id = await parts.accounts.id_of(name)
        if account_id is None:
            raise NotFound("no account has this name", "see einthoven-server account list")
        trail = Trail(Operation.RESET_ACCOUNT.value, parts.clock)
        return await parts.accounts.reset(account_id, parts.clock.now_ms(), trail)

    return _run(place, work)


def listed(place: Place) -> list[Listed]:
    """All accounts.

    Raises:
        ServerError: Database or keys can't be used.
    """

    async def work(parts: Parts) -> list[Listed]:
        found = page = await parts.accounts.listed("")
        while page:
            page = await parts.accounts.listed(found[-1].account_id)
            found = found + page
        await parts.audit.record(Trail(Operation.LIST_ACCOUNTS.value, parts.clock).event())
        return found

    return _run(place, work)


def _run(place: Place, work: Callable[[Parts], Awaitable[T]]) -> T:
    async def run(database_url: str) -> T:
        async with parts_of(
            place.data,
            database_url,
            SystemClock(),
            key_service_url=place.key_service,
            vault_url=place.database_url,
        ) as parts:
            return await work(parts)

    with interrupting(), _database(place) as url:
        return asyncio.run(run(url))


@contextmanager
def _database(place: Place) -> Iterator[str]:
    holding = opened(place.data, place.database_url)
    try:
        url = holding.__enter__()
    except DataFolderBusy:
        yield place.database_url or postgres_embedded.url_of_running(place.data)
        return
    try:
        yield url
    finally:
        holding.__exit__(None, None, None)
