"""Care teams: an administrator says which clinicians and services treat a patient.

It deliberately keeps no history: the audit log has it. A membership has no end of its own; it is taken away.

Invariants:
    1. A change and its audit event are one transaction, and count with the next request.
    2. Only roles of ``CARERS`` become members.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from aiohttp import web

from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.errors import Conflict, NotFound
from einthoven_server.identity.access import PATIENT_IN_PATH, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation, Resource
from einthoven_server.identity.roles import CARERS
from einthoven_server.requests import json_response, path_id

_JOIN: Final = """
INSERT INTO care_team VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (shard, tenant, patient_id, principal_id) DO UPDATE SET since_ms = care_team.since_ms RETURNING since_ms
"""
_LEAVE: Final = """
DELETE FROM care_team WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND principal_id = $4 RETURNING principal_id
"""
_MEMBERS: Final = """
SELECT principal_id, role, since_ms FROM care_team JOIN principal USING (shard, tenant, principal_id)
WHERE shard = $1 AND tenant = $2 AND care_team.patient_id = $3 ORDER BY principal_id
"""
_ROLE: Final = """
SELECT role FROM principal WHERE shard = $1 AND tenant = $2 AND principal_id = $3 AND revoked_at_ms IS NULL
"""
_COUNT: Final = "SELECT count(*) FROM care_team WHERE shard = $1 AND tenant = $2 AND patient_id = $3"
# Those who join one team at once wait for each other, so that the count holds.
_PATIENT: Final = "SELECT 1 FROM patient WHERE shard = $1 AND tenant = $2 AND patient_id = $3 FOR UPDATE"


class Member(NamedTuple):
    """Who is in a care team, in what role, since when (ms since 1970)."""

    principal_id: str
    role: str
    since_ms: int


class CareTeams:
    """Of one tenant.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        audit: The tenant's log.
    """

    def __init__(self, database: Database, scope: Scope, audit: AuditLog) -> None:
        self._database = database
        self._scope = scope
        self._audit = audit

    async def join(self, patient_id: str, principal_id: str, now_ms: int, event: Event) -> Member:
        """Make a principal a member; who is one already stays one since then.

        Raises:
            NotFound: There is no such principal, or it was revoked.
            Conflict: It is none that can treat, or there are too many.
            Busy: The database does not answer.
        """

        async def work(connection: Connection) -> Member:
            role = await connection.fetchval(_ROLE, *self._scope, principal_id)
            if role is None:
                raise NotFound("no such principal", "check the id")
            if role not in CARERS:
                raise Conflict("a principal of this role treats nobody", "name a clinician or a service", "not_a_carer")
            await connection.execute(_PATIENT, *self._scope, patient_id)
            since_ms = await connection.fetchval(_JOIN, *self._scope, patient_id, principal_id, now_ms)
            if await connection.fetchval(_COUNT, *self._scope, patient_id) > limits.CARE_TEAM_MAX_MEMBERS:
                raise Conflict("the care team is full", "remove somebody first", "care_team_full")
            await self._audit.append(connection, [event])
            return Member(principal_id, str(role), int(since_ms))

        return await self._database.transact(work)

    async def leave(self, patient_id: str, principal_id: str, event: Event) -> None:
        """Take a membership away.

        Raises:
            NotFound: There is none.
            Busy: The database does not answer.
        """

        async def work(connection: Connection) -> None:
            if await connection.fetchval(_LEAVE, *self._scope, patient_id, principal_id) is None:
                raise NotFound("no such member of the care team", "check the id")
            await self._audit.append(connection, [event])

        await self._database.transact(work)

    async def members(self, patient_id: str) -> list[Member]:
        """All members, in order of their ids."""
        rows = await self._database.fetch(_MEMBERS, *self._scope, patient_id)
        return [Member(row["principal_id"], row["role"], row["since_ms"]) for row in rows]


TEAMS: Final = web.AppKey("care_teams", CareTeams)
CLOCK: Final = web.AppKey("care_team_clock", Clock)


async def assign(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """PUT /v1/patients/{patient_id}/care-team/{principal_id}."""
    del principal
    access, member_id = access_of(request), path_id(request, "principal_id", "principal")
    now_ms = request.app[CLOCK].now_ms()
    member = await request.app[TEAMS].join(access.patient_id, member_id, now_ms, trail.event())
    trail.written = True
    return json_response(access.shown(Resource.CARE_TEAM_MEMBER, member._asdict()))


async def remove(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """DELETE /v1/patients/{patient_id}/care-team/{principal_id}."""
    del principal
    member_id = path_id(request, "principal_id", "principal")
    await request.app[TEAMS].leave(access_of(request).patient_id, member_id, trail.event())
    trail.written = True
    return json_response({"principal_id": member_id})


async def list_members(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /v1/patients/{patient_id}/care-team."""
    del principal, trail
    access = access_of(request)
    found = await request.app[TEAMS].members(access.patient_id)
    return json_response({"members": [access.shown(Resource.CARE_TEAM_MEMBER, one._asdict()) for one in found]})


def add_care_teams(app: web.Application, teams: CareTeams, guard: Guard, clock: Clock) -> None:
    """Give an application these addresses."""
    app[TEAMS], app[CLOCK] = teams, clock
    all_of = "/patients/{patient_id}/care-team"
    one = all_of + "/{principal_id}"
    principal = guard.principal
    app.add_routes(
        [
            web.get(all_of, principal(Operation.LIST_CARE_TEAM, list_members, about=PATIENT_IN_PATH), allow_head=False),
            web.put(one, principal(Operation.ASSIGN_CARE, assign, about=PATIENT_IN_PATH)),
            web.delete(one, principal(Operation.REMOVE_CARE, remove, about=PATIENT_IN_PATH)),
        ]
    )
