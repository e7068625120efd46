"""What a client takes and what it is given: formats, entity tags, preferences, bundles of bytes.

It deliberately gives JSON only: XML is refused where it is asked for and where it is sent, before anything parses it.

Invariants:
    1. Nothing is cached but by who asks again with the tag it was given (``Cache-Control: no-store`` stays).
    2. What is asked for and not given is refused (406, 400), not replaced.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import msgspec
from aiohttp import web

from einthoven_server import limits
from einthoven_server.errors import Malformed, NotAcceptable, ParameterRefused
from einthoven_server.fhir.search_parameters import Search
from einthoven_server.fhir.search_values import shown
from einthoven_server.requests import SECURITY_HEADERS, read_body

FHIR_TYPE: Final = "application/fhir+json"
FORM_TYPE: Final = "application/x-www-form-urlencoded"
_TAKEN: Final = frozenset({"*/*", "application/*", FHIR_TYPE, "application/json"})
_VERSION: Final = re.compile(r';\s*fhirVersion\s*=\s*"?([0-9.]{1,16})"?', re.ASCII | re.IGNORECASE)
_NAMES: Final = {
    "json": FHIR_TYPE,
    "application/json": "application/json",
    FHIR_TYPE: FHIR_TYPE,
}
_OF_ANY_READ: Final = frozenset({"_format"})


def check_acceptable(request: web.Request, also: Iterable[str] = ()) -> None:
    """Hold a request to what is given here.

    Raises:
        NotAcceptable: XML, Turtle, another version of FHIR.
    """
    if request.query.get("_format", "json") not in _NAMES:
        raise NotAcceptable("'_format' is none that is given here", "give json, or leave it out")
    given = request.headers.getall("Accept", [])
    if not given:
        return
    taken = _TAKEN | set(also)
    for part in ",".join(given)[: limits.HEADER_FIELD_MAX_BYTES].split(","):
        version = _VERSION.search(part)
        if part.partition(";")[0].strip().lower() in taken and (version is None or version[1].startswith("4.0")):
            return
    raise NotAcceptable("no format that the client takes is given here", f"accept {FHIR_TYPE}")


def check_plain_read(request: web.Request) -> None:
    """Hold a read to its parameters, of which there are none but the format.

    Raises:
        ParameterRefused: Names the first that is another.
    """
    for name in request.query:
        if name not in _OF_ANY_READ:
            raise ParameterRefused(shown(name), "is no parameter of a read", "leave it out")


async def query_of(request: web.Request) -> list[tuple[str, str]]:
    """The parameters of a search: of the address, and of a form that was posted to ``_search``.

    Raises:
        Malformed: They are not such.
    """
    items = list(request.query.items())
    if request.method == "POST":
        body = await read_body(request, limits.FHIR_QUERY_MAX_BYTES, FORM_TYPE)
        try:
            items += parse_qsl(
                body.decode("utf-8"),
                keep_blank_values=True,
                strict_parsing=bool(body),
                errors="strict",
                max_num_fields=4 * limits.FHIR_PARAMETERS_MAX,
            )
        except ValueError as error:
            raise Malformed("the form can't be read", f"send {FORM_TYPE}, UTF-8") from error
    for name, text in items:
        if not (name + text).isprintable():
            raise ParameterRefused(shown(name), "has characters that can't be printed", "leave them out")
    return items


def encoded(resource: dict[str, Any]) -> bytes:
    """A resource as JSON."""
    return msgspec.json.encode(resource)


def resource_answer(
    request: web.Request, body: bytes, *, tag: str | None = None, status: int = 200, **headers: str
) -> web.Response:
    """One resource with its entity tag; nothing but the tag where the client has it already.

    Args:
        request: What was asked.
        body: The resource.
        tag: Its version; a hash of the body where ``None``.
        status: HTTP status.
        **headers: Further ones, ``_`` for ``-``.
    """
    etag = f'W/"{tag or hashlib.sha256(body).hexdigest()[:24]}"'
    more = SECURITY_HEADERS | {"ETag": etag} | {name.replace("_", "-"): value for name, value in headers.items()}
    known = ",".join(request.headers.getall("If-None-Match", []))
    if (
        status == HTTPStatus.OK
        and request.method in {"GET", "HEAD"}
        and etag in [one.strip() for one in known.split(",")]
    ):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=more)
    return web.Response(body=body, status=status, content_type=FHIR_TYPE, headers=more)


def prefers(request: web.Request, name: str) -> str | None:
    """What ``Prefer`` says of ``name`` (RFC 7240); ``""`` for one without a value."""
    for part in ",".join(request.headers.getall("Prefer", [])).split(","):
        said, _, value = part.partition(";")[0].strip().partition("=")
        if said.strip().lower() == name:
            return value.strip().strip('"')
    return None


def entry(base_url: str, kind: str, resource_id: str, body: bytes, mode: str = "match") -> bytes:
    """An entry of a search's bundle."""
    return b'{"fullUrl":"%b/%b/%b","resource":%b,"search":{"mode":"%b"}}' % (
        base_url.encode(),
        kind.encode(),
        resource_id.encode(),
        body,
        mode.encode(),
    )


def page(base_url: str, search: Search, entries: Sequence[bytes], *, total: int | None, following: str | None) -> bytes:
    """A bundle of a search.

    Args:
        base_url: Of this service.
        search: What was asked.
        entries: By ``entry``.
        total: How many match in all, if that is known.
        following: ``_page`` of the next page, if there may be one.
    """
    address = f"{base_url}/{search.kind}?{urlencode(search.given)}"
    links = [{"relation": "self", "url": address}]
    if following is not None:
        links.append({"relation": "next", "url": f"{address}&_page={following}"})
    head: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "link": links}
    if total is not None:
        head["total"] = total
    opened = msgspec.json.encode(head)[:-1]
    return opened + (b',"entry":[' + b",".join(entries) + b"]}" if entries else b"}")


def bundle_answer(body: bytes) -> web.Response:
    """A bundle."""
    return web.Response(body=body, content_type=FHIR_TYPE, headers=SECURITY_HEADERS)
