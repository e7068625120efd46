"""An OpenAPI 3.1 document of routes, the permission table and shapes. Pure.

It deliberately knows no address: what is described comes in as ``Route``s. Who may call what is read off
``permissions``, which fields an answer may have off ``fields_seen``.

Invariants:
    1. Every route that comes in is in the document, once; an operation whose shape is unknown is described by what the
       table says of it, and takes any JSON.
    2. A resource's schema lists the fields of the register and admits no other.
    3. The same routes give the same document, whatever their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from einthoven_server.identity.fields_seen import FIELDS_SEEN, Resource
from einthoven_server.identity.permissions import Operation, Relation, Role, concern_of, decide, may_ever

JSON_TYPE: Final = "application/json"
REF: Final = "#/components/schemas/{name}"
_PLACE: Final = re.compile(r"\{(\w+)\}")
_WRITING: Final = frozenset({"POST", "PUT", "PATCH"})
_ERROR: Final = {
    "type": "object",
    "required": ["error", "message"],
    "properties": {
        "error": {"type": "string", "pattern": "^[a-z0-9_]+$"},
        "message": {"type": "string"},
        "server_time_ms": {"type": "integer"},
    },
    "additionalProperties": False,
}
_OUTCOME: Final = {
    "type": "object",
    "required": ["resourceType", "issue"],
    "properties": {
        "resourceType": {"const": "OperationOutcome"},
        "issue": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["severity", "code"]}},
    },
    "additionalProperties": False,
}
SECURITY_SCHEMES: Final = {
    "dpop": {
        "type": "http",
        "scheme": "DPoP",
        "description": "An access token of POST /v1/token, with a proof in the header DPoP for each request (RFC 9449)",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "For services that are registered so"},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Signature",
        "description": "A device's signature over method, path and Content-Digest (RFC 9421)",
    },
}


class Query(NamedTuple):
    """A query parameter.

    Attributes:
        name: As it is sent.
        schema: Of its value.
        says: What it does.
        required: Whether it must be there.
    """

    name: str
    schema: Mapping[str, Any]
    says: str = ""
    required: bool = False


class Shape(NamedTuple):
    """What an operation takes and gives.

    Attributes:
        says: One line.
        body: The struct that its body is decoded into, or a schema; ``None`` for no body.
        body_type: The body's media type.
        query: Its parameters, beside those of the path.
        headers: Headers that steer it.
        status: Of the answer to what is allowed and well formed.
        others: Other statuses of such, with what they mean.
        answer: The answer's schema; ``None`` for none.
        answer_type: The answer's media type.
    """

    says: str
    body: type | Mapping[str, Any] | None = None
    body_type: str = JSON_TYPE
    query: tuple[Query, ...] = ()
    headers: tuple[Query, ...] = ()
    status: int = 200
    others: Mapping[int, str] = {}
    answer: Mapping[str, Any] | None = None
    answer_type: str = JSON_TYPE


class Route(NamedTuple):
    """One route of the server.

    Attributes:
        method: In capitals.
        path: With its places in braces.
        operation: What it does; ``None`` where nobody is asked who they are.
        shape: What it takes and gives; ``None`` where that is not known.
    """

    method: str
    path: str
    operation: Operation | None
    shape: Shape | None


def openapi_document(routes: Iterable[Route], public_url: str, version: str) -> dict[str, Any]:
    """The document.

    Args:
        routes: All routes.
        public_url: Where clients reach the server.
        version: Of the server.
    """
    ordered = sorted(routes, key=lambda route: (route.path, route.method))
    bodies = {route.shape.body for route in ordered if route.shape is not None and isinstance(route.shape.body, type)}
    references, components = _schemas(sorted(bodies, key=lambda one: one.__qualname__))
    paths: dict[str, dict[str, Any]] = {}
    for route in ordered:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, references)
    schemas = {"Error": _ERROR, "OperationOutcome": _OUTCOME, **resource_schemas(), **components}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Einthoven sync server",
            "version": version,
            "description": "Generated from the server's routes, its permission table and the shapes of its bodies.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": public_url}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": SECURITY_SCHEMES},
    }


def resource_schemas() -> dict[str, Any]:
    """Each resource with every field that some role is shown."""
    found: dict[str, Any] = {}
    for resource in Resource:
        names = sorted({name for seen in FIELDS_SEEN.values() for name in seen.get(resource, ())})
        properties: dict[str, Any] = {name: {} for name in names}
        if resource[0].isupper():
            properties["resourceType"] = {"const": resource.value}
        found[resource_name(resource)] = {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
        }
    return found


def resource_name(resource: Resource) -> str:
    """The name of a resource's schema."""
    return "".join(part[0].upper() + part[1:] for part in resource.value.split("_"))


def _schemas(bodies: Sequence[type]) -> tuple[dict[type, Any], dict[str, Any]]:
    found, components = msgspec.json.schema_components(bodies, ref_template=REF)
    references = dict(zip(bodies, (_as_ecma(one) for one in found), strict=True))
    return references, {name.lstrip("_"): _as_ecma(schema) for name, schema in components.items()}


def _as_ecma(schema: Any) -> Any:
    """A schema whose patterns are ECMA 262's, as JSON Schema has them, and whose names begin with a letter."""
    if isinstance(schema, list):
        return [_as_ecma(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _as_ecma(value) for name, value in schema.items()}
    if isinstance(found.get("pattern"), str):
        found["pattern"] = found["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    if isinstance(found.get("$ref"), str):
        found["$ref"] = found["$ref"].replace("schemas/_", "schemas/")
    return found


def _operation(route: Route, references: Mapping[type, Any]) -> dict[str, Any]:
    operation, shape = route.operation, route.shape
    says = shape.says if shape is not None else (operation.value if operation is not None else route.path)
    found: dict[str, Any] = {
        "operationId": _identifier(route.method, route.path),
        "summary": says,
        "tags": [
            "fhir" if _is_fhir(route.path) else route.path.strip("/").split("/")[1 if "/v1/" in route.path else 0]
        ],
        "security": _security(operation),
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    body = _body(route, references)
    if body is not None:
        found["requestBody"] = body
    if operation is not None:
        found["x-einthoven-operation"] = operation.value
        found["x-einthoven-concern"] = concern_of(operation).name.lower()
        found["x-einthoven-allowed"] = {
            role.value: [relation.value for relation in Relation if decide(role, operation, relation).allowed]
            for role in Role
            if may_ever(role, operation)
        }
    return found


def _identifier(method: str, path: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "_", path).strip("_")
    return f"{method.lower()}_{words}" + ("_" if path.endswith("/") else "")


def _is_fhir(path: str) -> bool:
    return path.startswith("/fhir")


def _security(operation: Operation | None) -> list[dict[str, list[str]]]:
    if operation is None or may_ever(Role.NOBODY, operation):
        return []
    roles = {role for role in Role if may_ever(role, operation)}
    if roles == {Role.DEVICE}:
        return [{"signature": []}]
    schemes = ("dpop", "bearer") if Role.SERVICE in roles else ("dpop",)
    return [{scheme: []} for scheme in schemes]


def _parameters(route: Route) -> list[dict[str, Any]]:
    places = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 64}}
        for name in _PLACE.findall(route.path)
    ]
    shape = route.shape
    given = (
        [] if shape is None else [("query", one) for one in shape.query] + [("header", one) for one in shape.headers]
    )
    return places + [
        {"name": one.name, "in": where, "required": one.required, "schema": dict(one.schema), "description": one.says}
        for where, one in given
    ]


def _body(route: Route, references: Mapping[type, Any]) -> dict[str, Any] | None:
    if route.method not in _WRITING:
        return None
    if route.shape is None:
        return {"required": False, "content": {JSON_TYPE: {"schema": {}}}}
    body = route.shape.body
    if body is None:
        return None
    schema = references[body] if isinstance(body, type) else dict(body)
    return {"required": True, "content": {route.shape.body_type: {"schema": schema}}}


def _responses(route: Route) -> dict[str, Any]:
    shape = route.shape or Shape("")
    answer: dict[str, Any] = {"description": "done" if shape.answer is None else "what was asked for"}
    if shape.answer is not None and route.method != "HEAD":
        answer["content"] = {shape.answer_type: {"schema": dict(shape.answer)}}
    found: dict[str, Any] = {str(shape.status): answer}
    found |= {str(status): {"description": says} for status, says in shape.others.items()}
    if route.shape is None:
        found = {"2XX": answer}
    refused: dict[str, Any] = {"description": "refused; what is wrong, in a line that quotes nothing"}
    if route.method != "HEAD":
        name, kind = ("OperationOutcome", "application/fhir+json") if _is_fhir(route.path) else ("Error", JSON_TYPE)
        refused["content"] = {kind: {"schema": {"$ref": REF.format(name=name)}}}
    return found | {"4XX": refused, "503": {**refused, "description": "too much to do, or something is down"}}
