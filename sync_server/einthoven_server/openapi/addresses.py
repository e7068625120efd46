"""GET /v1/openapi.json: the routes that an application really has, described.

It deliberately asks nobody who they are and leaves no audit entry: it tells nothing of anybody, as /v1/ca does not.

Invariants:
    1. What is described is what is registered, on every application below the root.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from einthoven_server.identity.guard import Guard
from einthoven_server.openapi.document import Route, openapi_document
from einthoven_server.openapi.shapes import shape_of
from einthoven_server.requests import json_response

PATH: Final = "/v1/openapi.json"
VERSION: Final = "1"
"""Of the addresses below /v1."""


def routes_of(root: web.Application, guard: Guard) -> list[Route]:
    """Every route of an application and those below it.

    Raises:
        RuntimeError: One takes any method, or has no path: it can't be described.
    """
    found = []
    for route in root.router.routes():
        if route.method == "*" or route.resource is None:
            raise RuntimeError("a route that takes any method can't be described")
        operation, path = guard.operations.get(route.handler), route.resource.canonical
        found.append(Route(route.method, path, operation, shape_of(route.method, path, operation)))
    return found


def add_openapi(root: web.Application, guard: Guard, public_url: str) -> None:
    """Describe an application, once all others are mounted on it."""
    made: dict[str, Any] = {}

    async def openapi(request: web.Request) -> web.Response:
        del request
        if not made:
            made.update(openapi_document(routes_of(root, guard), public_url, VERSION))
        return json_response(made)

    root.router.add_get(PATH, openapi, allow_head=False)
