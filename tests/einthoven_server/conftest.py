"""One real PostgreSQL for the whole run, and a real server over TLS with a fresh tenant for each test."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from tests.einthoven_server.site import ManualClock, Site, running_site

from einthoven_server import postgres_embedded
from einthoven_server.database import Connection, Database, Scope, connected
from einthoven_server.migrations import migrate
from einthoven_server.vault.sqlite import NAME, SqliteVault, open_file


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that all tests' servers share; what is in it never depends on the tenant."""
    folder = tmp_path_factory.mktemp("server")
    folder.chmod(0o700)
    return folder


@pytest.fixture(scope="session")
def database_url(data_folder: Path) -> Iterator[str]:
    """A running PostgreSQL."""
    with postgres_embedded.running(data_folder) as url:
        yield url


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def site(data_folder: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Site]:
    """A server with a tenant of its own."""
    async with running_site(data_folder, database_url, clock, str(uuid.uuid4())) as site:
        yield site


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated database."""
    async with connected(database_url) as database:
        await migrate(database)
        yield database


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    """A connection as the database's owner, for looking and for tampering."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def vault(site: Site, data_folder: Path) -> Iterator[SqliteVault]:
    """The vault of the server's tenant."""
    with closing(open_file(data_folder / NAME)) as file:
        yield SqliteVault(file, site.tenant)


@pytest.fixture
def scope(site: Site) -> Scope:
    return Scope(0, site.tenant)
