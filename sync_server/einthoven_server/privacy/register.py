"""The register of processing (GDPR article 30), made of the tables that the server itself works by. Pure.

What is kept comes from ``processing``, who sees it from the table of permissions and the register of fields. It
deliberately names no controller, no contact and no legal basis: they are the clinic's, which adds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from einthoven_server.identity.consent import CATEGORIES, UNGOVERNED
from einthoven_server.identity.fields_seen import FIELDS_SEEN
from einthoven_server.identity.permissions import Operation, Relation, Role, decide
from einthoven_server.privacy.processing import PROCESSING, VAULT
from einthoven_server.privacy.processing_kinds import Activity

_YOURS: Final = (
    "Add what only you know: controller, contact, legal basis of each purpose, transfers to other countries."
)


def register() -> dict[str, Any]:
    """The register as a document."""
    return {
        "processing": [{"table": name, **_activity(one)} for name, one in sorted({**PROCESSING, **VAULT}.items())],
        "recipients": [
            {"role": role.value, "operations": _operations(role), "fields": _fields(role)}
            for role in Role
            if role is not Role.NOBODY
        ],
        "consent": {
            "asked_for": {one.value: sorted(CATEGORIES[one]) for one in sorted(CATEGORIES)},
            "not_asked_for": sorted(one.value for one in UNGOVERNED),
        },
    }


def _activity(one: Activity) -> dict[str, Any]:
    columns = {name: {"kind": column.kind, "protection": column.protection} for name, column in one.columns.items()}
    return {"purpose": one.purpose, "subjects": one.subject, "ends": one.ends, "columns": columns}


def _operations(role: Role) -> dict[str, list[str]]:
    """What a role may do, and in which relations to a patient."""
    allowed = {one.value: [to.value for to in Relation if decide(role, one, to).allowed] for one in Operation}
    return {name: relations for name, relations in allowed.items() if relations}


def _fields(role: Role) -> dict[str, list[str]]:
    return {resource.value: sorted(fields) for resource, fields in FIELDS_SEEN.get(role, {}).items()}


def markdown(document: Mapping[str, Any]) -> str:
    """A register for people to read."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield from ("# Register of processing", "", _YOURS, "", "## What is kept", "")
    yield from ("| table | purpose | about | until | holds | how |", "| --- | --- | --- | --- | --- | --- |")
    for one in document["processing"]:
        held: dict[tuple[str, str], list[str]] = {}
        for name, column in one["columns"].items():
            held.setdefault((column["kind"], column["protection"]), []).append(f"`{name}`")
        for (kind, protection), names in sorted(held.items()):
            holds = f"{kind}: {', '.join(names)}"
            row = (f"`{one['table']}`", one["purpose"], one["subjects"], one["ends"], holds, protection)
            yield f"| {' | '.join(row)} |"
    yield from ("", "## Who sees it", "")
    for one in document["recipients"]:
        yield from (f"### {one['role']}", "", "| may | as |", "| --- | --- |")
        yield from (f"| {name} | {', '.join(relations)} |" for name, relations in one["operations"].items())
        yield ""
        yield from (f"- {resource}: {', '.join(fields)}" for resource, fields in one["fields"].items())
        yield ""
    yield from ("## What is asked of consent", "", "| operation | shows |", "| --- | --- |")
    yield from (f"| {name} | {', '.join(shows)} |" for name, shows in document["consent"]["asked_for"].items())
