"""The second wall: PostgreSQL itself gives a server's connections only the rows of its own tenant (ADR 24).

The server connects as the owner of the tables for what shapes them, and takes a role without rights of its own for
everything else: every connection of that pool starts as ``ROLE``, with its tenant in ``TENANT_SETTING``. Every table
with a column ``tenant`` has a policy that compares the two. Without a tenant set, there are no rows (attack 19).

It deliberately is no wall against somebody who may run any statement they like on such a connection: they could set
another tenant. It is one against a statement of ours that forgets its tenant. ``permissions`` is the first wall.

Invariants:
    1. Securing is idempotent, and looks at what is there: tables and parts that are made later are found by the next
       start, parts of months when they are made.
    2. Nothing is granted on parts of a table: their rows are reached through the whole only, where its policy counts.
    3. The audit log is append-only for the role: it may neither change nor remove an entry.
    4. Where the wall can't stand, the server says what is missing, and the first wall stands alone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import Final

import asyncpg

from einthoven_server.database import Connection, Database
from einthoven_server.errors import DatabaseUnavailable

ROLE: Final = "einthoven_application"
TENANT_SETTING: Final = "einthoven.tenant"
POLICY: Final = "rows_of_the_tenant"
_PRIVILEGES: Final = "SELECT, INSERT, UPDATE, DELETE"
_LESS: Final = MappingProxyType(
    {
        "audit_entry": "SELECT, INSERT",
        "audit_head": "SELECT, UPDATE",
        "tenant": "SELECT, UPDATE",
        "shard_head": "SELECT, UPDATE",
        "schema_step": "SELECT",
    }
)
"""Tables where the role may do less than everything."""

_TABLES: Final = """
SELECT class.relname AS name, class.relispartition AS is_part, class.relrowsecurity AS secured,
    EXISTS (SELECT 1 FROM pg_catalog.pg_attribute AS att WHERE att.attrelid = class.oid AND att.attname = 'tenant'
            AND NOT att.attisdropped) AS has_tenant,
    EXISTS (SELECT 1 FROM pg_catalog.pg_policy AS policy WHERE policy.polrelid = class.oid
            AND policy.polname = $1) AS has_policy
FROM pg_catalog.pg_class AS class
WHERE class.relkind IN ('r', 'p') AND class.relnamespace = current_schema()::regnamespace ORDER BY class.relname
"""
_MAY = "SELECT bool_and(has_table_privilege($1, format('%I', $2::text), one)) FROM unnest($3::text[]) AS one"
_ROLE_IS = "SELECT rolsuper OR rolbypassrls AS above FROM pg_catalog.pg_roles WHERE rolname = $1"
_IS_MEMBER = "SELECT pg_has_role(current_user, $1::name, 'MEMBER')"
_WHO = f"SELECT current_user AS role, current_setting('{TENANT_SETTING}', true) AS tenant"
_REFUSED = (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError, asyncpg.PostgresSyntaxError)
_TWICE = (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError, asyncpg.InternalServerError)
"""Another server does the same at this moment ("tuple concurrently updated" is an internal error of PostgreSQL)."""
_ATTEMPTS_MAX: Final = 5
_log = logging.getLogger("einthoven_server")


def secured(name: str) -> str:
    """The statements that put one table behind the wall; for parts that are made while the server runs."""
    return (
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;\n"
        # A sub-select is evaluated once a statement, not once a row.
        f"CREATE POLICY {POLICY} ON {name} USING (tenant = (SELECT current_setting('{TENANT_SETTING}', true)));"
    )


async def secure(owner: Database) -> str | None:
    """Put all tables behind the wall.

    Args:
        owner: The database, as the owner of its tables.

    Returns:
        The role to work as; ``None`` where the wall can't stand, which is logged with what is missing.

    Raises:
        DatabaseUnavailable: There is such a role, and it stands above the wall.
        Busy: The database does not answer.
    """
    try:
        await _again(owner, _make_role)
        has_role = True
    except _REFUSED:
        has_role = False
        _log.warning(
            "row-level security is off: this database's role may not create roles; have an administrator run once: "
            "CREATE ROLE %s NOLOGIN; GRANT %s TO the role in --database-url",
            ROLE,
            ROLE,
        )
    try:
        await _again(owner, _secure_tables)
        if has_role:
            await _again(owner, _grant)
    except _REFUSED as error:
        _log.warning(
            "row-level security is off: this database refuses what it takes (%s); see docs/server.md",
            type(error).__name__,
        )
        return None
    return ROLE if has_role else None


async def check(database: Database, tenant: str) -> None:
    """Check that a pool stands behind the wall.

    Raises:
        DatabaseUnavailable: Something between the server and the database drops what connections start with.
        Busy: The database does not answer.
    """
    row = await database.fetchrow(_WHO)
    if row is None or (row["role"], row["tenant"]) != (ROLE, tenant):
        raise DatabaseUnavailable(
            "connections do not keep their role and tenant", "connect to PostgreSQL itself, not to a pooler of sessions"
        )


async def _again(owner: Database, work: Callable[[Connection], Awaitable[None]]) -> None:
    for attempt in range(_ATTEMPTS_MAX):
        try:
            await owner.transact(work)
        except _TWICE:
            if attempt == _ATTEMPTS_MAX - 1:
                raise
        else:
            return


async def _make_role(connection: Connection) -> None:
    found = await connection.fetchrow(_ROLE_IS, ROLE)
    if found is None:
        await connection.execute(f"CREATE ROLE {ROLE} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE")
    elif found["above"]:
        raise DatabaseUnavailable(f"the role {ROLE} bypasses row-level security", f"ALTER ROLE {ROLE} NOBYPASSRLS")
    if not await connection.fetchval(_IS_MEMBER, ROLE):
        await connection.execute(f"GRANT {ROLE} TO CURRENT_USER")


async def _secure_tables(connection: Connection) -> None:
    for table in await connection.fetch(_TABLES, POLICY):
        if table["has_tenant"] and not (table["secured"] and table["has_policy"]):
            await connection.execute(f"DROP POLICY IF EXISTS {POLICY} ON {table['name']}; {secured(table['name'])}")


async def _grant(connection: Connection) -> None:
    schema = await connection.fetchval("SELECT format('%I', current_schema())")
    if not await connection.fetchval("SELECT has_schema_privilege($1, current_schema(), 'USAGE')", ROLE):
        await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {ROLE}")
    for table in await connection.fetch(_TABLES, POLICY):
        privileges = _LESS.get(table["name"], _PRIVILEGES)
        if not table["is_part"] and not await connection.fetchval(_MAY, ROLE, table["name"], privileges.split(", ")):
            await connection.execute(f"GRANT {privileges} ON {table['name']} TO {ROLE}")
