"""How much of a list a client gets. Pure but for the request's type."""

from __future__ import annotations

from aiohttp import web

from einthoven_server.errors import Malformed


def page_limit(request: web.Request, default_rows: int, max_rows: int) -> int:
    """The ``limit`` of a query.

    Raises:
        Malformed: It is no number from 1 to ``max_rows``.
    """
    text = request.query.get("limit", str(default_rows))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= max_rows:
        raise Malformed(f"'limit' is not 1 to {max_rows}", "give a number in that range")
    return int(text[:6])
