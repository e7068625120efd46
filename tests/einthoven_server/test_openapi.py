"""The server's description of itself: every route is in it, it is valid, and it says what the table says."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.einthoven_server.site import ManualClock, Site

from einthoven_server import certificates
from einthoven_server.applications import make_application
from einthoven_server.identity.fields_seen import FIELDS_SEEN, Resource
from einthoven_server.identity.permissions import Operation, Relation, Role, decide
from einthoven_server.openapi.addresses import PATH, routes_of
from einthoven_server.openapi.document import Query, Route, Shape, openapi_document, resource_name
from einthoven_server.serve import parts_of
from einthoven_server.signals.signal_store_obstore import open_signal_store


async def described(data_folder: Path, database_url: str, site: Site) -> tuple[list[Route], set[tuple[str, str]]]:
    """Routes as the server describes them, and as its router has them."""
    async with parts_of(data_folder, database_url, ManualClock(), site.tenant) as parts:
        shown = certificates.ensure(data_folder, "127.0.0.1", dt.datetime.now(dt.UTC))
        root = make_application(parts, shown, "https://x", signals=await open_signal_store(None, data_folder))
        registered = {
            (route.method, route.resource.canonical) for route in root.router.routes() if route.resource is not None
        }
        return routes_of(root, parts.guard), registered


def in_document(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}


async def test_every_route_is_in_it_and_it_is_valid(site: Site, data_folder: Path, database_url: str) -> None:
    answer = await site.send("GET", PATH)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    document = answer.json
    _, registered = await described(data_folder, database_url, site)
    assert in_document(document) == registered
    assert len(registered) > 60
    OpenAPIV31SpecValidator(document).validate()
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    identifiers = [one["operationId"] for one in operations]
    assert len(set(identifiers)) == len(identifiers)
    assert {one["x-einthoven-operation"] for one in operations if "x-einthoven-operation" in one} == set(Operation)
    assert document["servers"] == [{"url": site.url}]


async def test_every_route_has_a_shape(site: Site, data_folder: Path, database_url: str) -> None:
    routes, _ = await described(data_folder, database_url, site)
    lacking = [(route.method, route.path) for route in routes if route.shape is None]
    assert lacking == [], "give each a row in einthoven_server/openapi/shapes.py"


async def test_it_says_what_the_permission_table_says(site: Site) -> None:
    document = (await site.send("GET", PATH)).json
    for methods in document["paths"].values():
        for one in methods.values():
            if "x-einthoven-operation" not in one:
                assert one["security"] == []
                continue
            operation = Operation(one["x-einthoven-operation"])
            for role in Role:
                named = one["x-einthoven-allowed"].get(role.value, [])
                assert named == [each.value for each in Relation if decide(role, operation, each).allowed]
    paths = document["paths"]
    assert paths["/v1/exchange"]["post"]["security"] == [{"signature": []}]
    assert paths["/v1/token"]["post"]["security"] == []
    assert paths["/v1/patients"]["post"]["security"] == [{"dpop": []}]
    assert paths["/fhir/R4/Patient"]["get"]["security"] == [{"dpop": []}, {"bearer": []}]


async def test_bodies_are_the_handlers_own_and_answers_those_of_the_register(site: Site) -> None:
    document = (await site.send("GET", PATH)).json
    schemas = document["components"]["schemas"]
    note = document["paths"]["/v1/patients/{patient_id}/notes"]["post"]["requestBody"]
    assert note["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/NoteRequest"}
    assert schemas["NoteRequest"]["additionalProperties"] is False
    assert schemas["PrincipalRequest"]["properties"]["patient_id"]["anyOf"][0]["pattern"] == "^[A-Za-z0-9-]{1,64}$"
    for resource in Resource:
        shown = {name for seen in FIELDS_SEEN.values() for name in seen.get(resource, ())}
        assert set(schemas[resource_name(resource)]["properties"]) - {"resourceType"} == shown - {"resourceType"}
    assert "Text" not in str(document["paths"]["/fhir/R4/Device"]["get"]["parameters"])
    assert "_include" in str(document["paths"]["/fhir/R4/Observation"]["get"]["parameters"])


def test_a_route_that_nobody_described_is_there_all_the_same_and_order_does_not_count() -> None:
    class Asked(msgspec.Struct):
        word: str

    routes = [
        Route("POST", "/v1/new", Operation.ADD_NOTE, None),
        Route("GET", "/v1/new", None, Shape("x", query=(Query("q", {"type": "string"}),))),
        Route("PUT", "/v1/new/{id}", None, Shape("y", Asked)),
    ]
    document = openapi_document(routes, "https://x", "1")
    OpenAPIV31SpecValidator(document).validate()
    assert in_document(document) == {(route.method, route.path) for route in routes}
    assert "clinician" in document["paths"]["/v1/new"]["post"]["x-einthoven-allowed"]
    assert openapi_document(reversed(routes), "https://x", "1") == document


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
async def test_it_is_only_read(site: Site, method: str) -> None:
    assert (await site.send(method, PATH)).status == 405
