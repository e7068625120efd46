"""The commands ``einthoven-server keys``: rotation, beside running servers or with none.

It deliberately makes no tenant and no key file: there is something to rotate, or it is refused.

Invariants:
    1. Where a server holds the data folder, its embedded PostgreSQL is used as it runs; nothing is stopped.
    2. Only who holds the data folder and its embedded database knows that no other process serves, and waits for none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from einthoven_server import limits, postgres_embedded
from einthoven_server.audit.log import AuditLog
from einthoven_server.clock import SystemClock
from einthoven_server.database import Database
from einthoven_server.errors import DataFolderBusy, KeyUnavailable
from einthoven_server.identity.tenancy import Tenancy
from einthoven_server.key_service import MakesVersions
from einthoven_server.key_service_file import FileKeyService, file_version
from einthoven_server.key_services.choosing import SeveralKeyServices, key_service_of
from einthoven_server.key_services.wrapped_form import FILE, unpack
from einthoven_server.rotation.patients import PatientRotation
from einthoven_server.rotation.wrapping import Rewrapping
from einthoven_server.serve import opened
from einthoven_server.signals.signal_store_obstore import open_signal_store
from einthoven_server.tenant_database import open_tenant
from einthoven_server.vault.opening import open_vault
from einthoven_server.vault.port import Vault

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the keys are.

    Attributes:
        data: The data folder.
        database_url: A PostgreSQL URL; the embedded one where ``None``.
        key_service: URL of the key service; the key file where ``None``.
        signals: URL of where raw signals lie; a folder in ``data`` where ``None``.
        vault: A PostgreSQL URL of the vault; beside ``database_url``, or a file in ``data``, where ``None``.
    """

    data: Path
    database_url: str | None = None
    key_service: str | None = None
    signals: str | None = None
    vault: str | None = None


class Opened(NamedTuple):
    """What the commands work on; ``alone``: no other process can use the database."""

    database: Database
    vault: Vault
    tenancy: Tenancy
    audit: AuditLog
    key_service: SeveralKeyServices
    alone: bool
    database_url: str

    def rewrapping(self) -> Rewrapping:
        """What wraps keys anew."""
        return Rewrapping(self.database, self.vault, self.tenancy.scope, self.key_service, self.audit, SystemClock())


def rotate(place: Place) -> int:
    """Rotate the key-encryption key, where that is done from here, and wrap every key anew; return how many.

    One that was cut short is gone on with, and makes no further version.

    Raises:
        ServerError: It can't go on; what was done stays, and every key opens.
    """

    async def work(there: Opened) -> int:
        rewrapping, chosen = there.rewrapping(), there.key_service.chosen
        if await rewrapping.rounds.unfinished() is None and isinstance(chosen, MakesVersions):
            await chosen.make_version()
        return await rewrapping.run()

    return run_beside(place, work)


def rotate_patients(place: Place, patient_id: str | None) -> int:
    """Give a patient, or all where ``None``, a new data key; return how many got one.

    Raises:
        ServerError: It can't go on; what was done stays, and every value opens.
    """

    async def work(there: Opened) -> int:
        rotation = PatientRotation(
            there.database,
            there.vault,
            there.tenancy.scope,
            there.key_service,
            await open_signal_store(place.signals, place.data),
            there.audit,
            SystemClock(),
            grace_s=0.0 if there.alone else limits.ROTATION_GRACE_S,
        )
        if patient_id is None:
            return await rotation.rotate_all()
        await rotation.rotate([patient_id])
        return 1

    return run_beside(place, work)


def forget_former(place: Place) -> int:
    """Remove former versions from the key file; return the version that is left.

    Raises:
        KeyUnavailable: There is no key file, or a former version is still in use.
    """

    async def work(there: Opened) -> int:
        if not isinstance(there.key_service.chosen, FileKeyService):
            raise KeyUnavailable("the key service is no key file", "remove former versions there")
        stored = await there.rewrapping().stored()
        in_use = {file_version(one) for one in stored if unpack(one).kind == FILE}
        return await there.key_service.chosen.forget_former(in_use)

    return run_beside(place, work)


def run_beside(place: Place, work: Callable[[Opened], Awaitable[T]]) -> T:
    """Work on a server's database and vault, beside the server or with none.

    Raises:
        StartError: They can't be used.
    """

    async def run(database_url: str, alone: bool) -> T:
        async with (
            key_service_of(place.key_service, place.data) as key_service,
            open_tenant(database_url, key_service, SystemClock()) as (database, owner, tenancy),
            open_vault(place.vault or place.database_url, place.data, owner, tenancy.scope) as vault,
        ):
            audit = AuditLog(database, tenancy.scope, tenancy.audit_key)
            await audit.prepare()
            return await work(Opened(database, vault, tenancy, audit, key_service, alone, database_url))

    if not place.data.is_dir():
        raise KeyUnavailable("there is no such data folder", "give --data the server's")
    with _database(place) as (database_url, alone):
        return asyncio.run(run(database_url, alone))


@contextmanager
def _database(place: Place) -> Iterator[tuple[str, bool]]:
    """The database's URL, and whether no other process can use it."""
    if place.database_url is not None:
        yield place.database_url, False
        return
    with _held_or_running(place.data) as found:
        yield found


@contextmanager
def _held_or_running(data: Path) -> Iterator[tuple[str, bool]]:
    holding = opened(data, None)
    try:
        url = holding.__enter__()
    except DataFolderBusy:
        yield postgres_embedded.url_of_running(data), False
        return
    try:
        yield url, True
    finally:
        holding.__exit__(None, None, None)
