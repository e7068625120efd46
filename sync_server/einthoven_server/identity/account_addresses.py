"""Addresses of accounts, for an admin: to make one, to reset one, to list them.

It deliberately sets no password: the person whom an account is for does, with the invitation's code.

Invariants:
    1. An invitation's code is shown once, in the answer to what made it.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Malformed, NotFound
from einthoven_server.identity.access import access_of
from einthoven_server.identity.account_keys import NameRefused
from einthoven_server.identity.account_store import AccountStore
from einthoven_server.identity.accounts import NewAccount
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation, Resource, Role
from einthoven_server.identity.store import IdentityStore
from einthoven_server.requests import json_response, path_id, read_json

ACCOUNTS: Final = web.AppKey("accounts", AccountStore)
STORE: Final = web.AppKey("account_identity_store", IdentityStore)
CLOCK: Final = web.AppKey("account_clock", Clock)
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class AccountRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON body of POST /v1/accounts."""

    role: Literal["admin", "clinician", "patient"]
    name: Annotated[str, msgspec.Meta(max_length=limits.LOGIN_NAME_MAX_CHARS)]
    patient_id: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9-]{1,64}\Z")] | None = None


async def create(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """POST /v1/accounts."""
    del principal
    asked, app = await read_json(request, AccountRequest), request.app
    role = Role(asked.role)
    if (role is Role.PATIENT) != (asked.patient_id is not None):
        raise Malformed("patient_id goes with the role patient, and with no other", "see docs/accounts.md")
    if asked.patient_id is not None:
        if not await app[STORE].has_patient(asked.patient_id):
            raise NotFound("no such patient", "check the id")
        trail.patient = asked.patient_id
    new = NewAccount(asked.name, role, asked.patient_id)
    try:
        invitation = await app[ACCOUNTS].add(new, app[CLOCK].now_ms(), trail)
    except NameRefused as error:
        raise Malformed(f"name is refused: {error}", "choose another") from error
    return json_response(invitation._asdict(), HTTPStatus.CREATED)


async def reset(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """POST /v1/accounts/{account_id}/reset."""
    del principal
    app, account_id = request.app, path_id(request, "account_id", "account")
    invitation = await app[ACCOUNTS].reset(account_id, app[CLOCK].now_ms(), trail)
    return json_response(invitation._asdict(), HTTPStatus.CREATED)


async def list_accounts(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /v1/accounts?after=ID."""
    del principal, trail
    access, after = access_of(request), request.query.get("after")
    if after is not None and _ID.fullmatch(after) is None:
        raise Malformed("'after' is not from an answer of this server", "give the answer's 'next'")
    found = await request.app[ACCOUNTS].listed(after or "")
    following = found[-1].account_id if len(found) == limits.ACCOUNTS_PAGE_ROWS else None
    return json_response(
        {"accounts": [access.shown(Resource.ACCOUNT, one._asdict()) for one in found], "next": following}
    )


def add_accounts(
    app: web.Application, *, accounts: AccountStore, store: IdentityStore, guard: Guard, clock: Clock
) -> None:
    """Give an application these addresses."""
    app[ACCOUNTS], app[STORE], app[CLOCK] = accounts, store, clock
    principal = guard.principal
    app.add_routes(
        [
            web.post("/accounts", principal(Operation.CREATE_ACCOUNT, create)),
            web.post("/accounts/{account_id}/reset", principal(Operation.RESET_ACCOUNT, reset)),
            web.get("/accounts", principal(Operation.LIST_ACCOUNTS, list_accounts), allow_head=False),
        ]
    )
