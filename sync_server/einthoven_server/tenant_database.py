"""Opens a database for a tenant: migrated, behind the wall of ``row_security``, with the tenant's place and keys.

It deliberately makes nothing of what works on it: servers and the commands beside them open it alike.

Invariants:
    1. What shapes tables is done as their owner; everything else behind the wall, where one stands.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from einthoven_server import limits, row_security
from einthoven_server.clock import Clock
from einthoven_server.database import Database, connected
from einthoven_server.errors import KeyServiceUnavailable, KeyUnavailable
from einthoven_server.identity.tenancy import Tenancy, ensure_tenancy
from einthoven_server.key_service import KeyService
from einthoven_server.migrations import migrate


class TenantDatabase(NamedTuple):
    """A database that was opened.

    Attributes:
        database: Behind the wall, where there is one.
        owner: The same as the owner of the tables.
        tenancy: Whose it is.
    """

    database: Database
    owner: Database
    tenancy: Tenancy


@asynccontextmanager
async def open_tenant(
    database_url: str, key_service: KeyService, clock: Clock, tenant: str | None = None
) -> AsyncIterator[TenantDatabase]:
    """Open and migrate while the block runs.

    Args:
        database_url: A PostgreSQL URL; its role owns the tables.
        key_service: Wraps keys.
        clock: Wall time.
        tenant: Which one; the first, or a new one, where ``None``.

    Raises:
        StartError: Database or keys can't be used.
    """
    async with connected(database_url, connections_max=limits.OWNER_CONNECTIONS_MAX) as owner:
        await migrate(owner)
        role = await row_security.secure(owner)
        try:
            tenancy = await ensure_tenancy(owner, key_service, clock.now_ms(), tenant=tenant)
        except KeyServiceUnavailable as error:
            raise KeyUnavailable(error.problem, error.remedy) from error
        named = tenancy.scope.tenant
        settings = {} if role is None else {"role": role, row_security.TENANT_SETTING: named}
        async with connected(database_url, settings=settings) as database:
            if role is not None:
                await row_security.check(database, named)
            yield TenantDatabase(database, owner, tenancy)
