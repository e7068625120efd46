"""The address of replays: how many results were recomputed, and which differ from what their devices said.

It deliberately shows ids and names of fields, no values: an administrator finds the device, a clinician the values.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from einthoven_protocol.messages import ResultId
from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.errors import Malformed
from einthoven_server.identity.access import access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation, Resource
from einthoven_server.records.paging import page_limit
from einthoven_server.records.resource_ids import parse_result, result_text
from einthoven_server.replaying.outcomes import ReplayOutcome
from einthoven_server.replaying.replay_store import ListedReplay, ReplayStore
from einthoven_server.replaying.service import ReplayService
from einthoven_server.requests import answers_errors, json_response, render_json

STORE: Final = web.AppKey("replay_store", ReplayStore)
_PLACE: Final = re.compile(r"(0|[1-9][0-9]{0,15})\.([0-9-]{5,40})", re.ASCII)


async def list_replays(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /v1/replays?outcome=different&after=PLACE&limit=N."""
    del principal, trail
    access, store = access_of(request), request.app[STORE]
    outcome = _outcome(request.query.get("outcome", ReplayOutcome.DIFFERENT.value))
    after = _place(request.query.get("after"))
    limit = page_limit(request, limits.REPLAY_PAGE_ROWS, limits.REPLAY_PAGE_MAX_ROWS)
    counts = await store.counts()
    found = await store.listed(outcome, after, limit)
    document = {
        "counts": {one.value: counts.get(one, 0) for one in ReplayOutcome},
        "replays": [access.shown(Resource.REPLAY, _shown(one)) for one in found],
        "next": f"{found[-1].replayed_at_ms}.{result_text(found[-1].replayed.result)}" if len(found) == limit else None,
    }
    return json_response(document)


def _outcome(text: str) -> ReplayOutcome:
    try:
        return ReplayOutcome(text)
    except ValueError as error:
        raise Malformed("'outcome' is none", f"give one of {', '.join(ReplayOutcome)}") from error


def _place(text: str | None) -> tuple[int, ResultId] | None:
    if text is None:
        return None
    found = _PLACE.fullmatch(text)
    result = None if found is None else parse_result(found[2])
    if found is None or result is None:
        raise Malformed("'after' is not from an answer of this server", "give the answer's 'next'")
    return int(found[1]), result


def _shown(one: ListedReplay) -> dict[str, object]:
    return {
        "result_id": result_text(one.replayed.result),
        "patient_id": one.patient_id,
        "outcome": one.replayed.verdict.outcome.value,
        "differing": list(one.replayed.verdict.differing),
        "model_digest": one.replayed.model_digest.hex(),
        "replayed_at_ms": one.replayed_at_ms,
    }


def make_application(*, store: ReplayStore, service: ReplayService, guard: Guard) -> web.Application:
    """The application, to be mounted at /v1; replays while it runs.

    Args:
        store: What was replayed.
        service: Replays.
        guard: Authentication, permission, audit.
    """
    app = web.Application(middlewares=[answers_errors(render_json)])
    app[STORE] = store

    async def replaying(app: web.Application) -> AsyncIterator[None]:
        del app
        async with service.running():
            yield

    app.cleanup_ctx.append(replaying)
    app.add_routes([web.get("/replays", guard.principal(Operation.LIST_REPLAYS, list_replays), allow_head=False)])
    return app
