"""Addresses of the audit log's proofs: its last checkpoint, and that an entry is in it or that it only grew.

It deliberately shows no entry: a proof holds hashes, which a MAC in each leaf keeps from being guessed at.
"""

from __future__ import annotations

import base64
import re
from typing import Final

from aiohttp import web

from einthoven_server.audit.checkpoint_keeper import CheckpointKeeper
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.proofs import Proofs
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Malformed
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation
from einthoven_server.requests import json_response

KEEPER: Final = web.AppKey("audit_keeper", CheckpointKeeper)
PROOFS: Final = web.AppKey("audit_proofs", Proofs)
CLOCK: Final = web.AppKey("audit_clock", Clock)
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_INCLUSION: Final = frozenset({"entry", "size"})
_CONSISTENCY: Final = frozenset({"from", "to"})


async def checkpoint(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /v1/audit/checkpoint: the last one, or the first."""
    del principal, trail
    keeper = request.app[KEEPER]
    last = await keeper.last()
    note = await keeper.make(request.app[CLOCK].now_ms()) if last is None else last[2]
    return json_response({"checkpoint": note, "verifier": keeper.verifier.text})


async def proof(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /v1/audit/proof?entry=N&size=M, or ?from=N&to=M."""
    del principal, trail
    asked = {name: _number(request, name) for name in request.query}
    proofs = request.app[PROOFS]
    if asked.keys() == _INCLUSION:
        leaf, hashes = await proofs.inclusion(asked["entry"], asked["size"])
        return json_response({**asked, "leaf": _b64(leaf), "hashes": [_b64(one) for one in hashes]})
    if asked.keys() == _CONSISTENCY:
        hashes = await proofs.consistency(asked["from"], asked["to"])
        return json_response({**asked, "hashes": [_b64(one) for one in hashes]})
    raise Malformed("the query names neither an entry nor two sizes", "give entry and size, or from and to")


def _number(request: web.Request, name: str) -> int:
    given = request.query.getall(name)
    if name not in _INCLUSION | _CONSISTENCY or len(given) != 1 or not _NUMBER.fullmatch(given[0]):
        raise Malformed("a query parameter is unknown, given twice or no number", "give each once, from 1 on")
    return int(given[0])


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def make_application(*, log: AuditLog, keeper: CheckpointKeeper, guard: Guard, clock: Clock) -> web.Application:
    """The application, to be mounted at /v1.

    Args:
        log: The tenant's log.
        keeper: Its checkpoints.
        guard: Authentication, permission, audit.
        clock: Wall time.
    """
    app = web.Application()
    app[KEEPER], app[PROOFS], app[CLOCK] = keeper, Proofs(log), clock
    read = guard.principal(Operation.READ_AUDIT_CHECKPOINT, checkpoint)
    prove = guard.principal(Operation.READ_AUDIT_PROOF, proof)
    app.router.add_get("/audit/checkpoint", read, allow_head=False)
    app.router.add_get("/audit/proof", prove, allow_head=False)
    return app
