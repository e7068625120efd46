"""Where wrapped keys and sealed values lie, and what each is bound to.

It deliberately reads and writes nothing.

Who adds a column of either kind adds it here; a test compares this list with the database.

Patients' wrapped keys lie in the vault, which ``wrapping`` asks itself.

Invariants:
    1. A wrapped key's table has ``wrapping_round``; a sealed value's table has ``key_version``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from einthoven_server.database import Scope
from einthoven_server.identity import break_glass, consent_store
from einthoven_server.identity.signing_keys import signing_key_context
from einthoven_server.identity.tenancy import audit_key_context, tenant_key_context

Stored = Mapping[str, Any]


class WrappedColumn(NamedTuple):
    """A column of wrapped keys.

    Attributes:
        table: Its table.
        ids: What names a row besides shard and tenant, with types.
        column: The column.
        context: What a row's key is bound to.
    """

    table: str
    ids: Mapping[str, str]
    column: str
    context: Callable[[Scope, Stored], bytes]


class SealedColumn(NamedTuple):
    """A column of values that a patient's key sealed.

    Attributes:
        table: Its table.
        ids: What names a row besides shard and tenant, with types.
        column: The column; ``""`` where the value is an object of the place for signals.
        row: What a value is bound to besides patient, table, column and version.
        by_commit: Whether rows have a ``commit_seq``, and an index on it by patient.
        of_patient: SQL that says whose a row is; $3 is the patient.
    """

    table: str
    ids: Mapping[str, str]
    column: str
    row: Callable[[Stored], str]
    by_commit: bool = False
    of_patient: str = "patient_id = $3"


def _result(stored: Stored) -> str:
    return f"{stored['device_alias']}/{stored['epoch']}/{stored['counter']}/"


_RESULT_IDS: Final = {"device_alias": "int", "epoch": "int", "counter": "int"}
_ANNOTATION_IDS: Final = {**_RESULT_IDS, "author": "text"}

WRAPPED: Final = (
    WrappedColumn("tenant", {}, "audit_key_wrapped", lambda scope, stored: audit_key_context(scope.tenant)),
    WrappedColumn(
        "signing_key",
        {"kid": "text"},
        "private_wrapped",
        lambda scope, stored: signing_key_context(scope.tenant, stored["kid"]),
    ),
    WrappedColumn(
        "tenant_key",
        {"name": "text", "key_version": "int"},
        "wrapped",
        lambda scope, stored: tenant_key_context(scope.tenant, stored["name"], stored["key_version"]),
    ),
)
CHUNKS: Final = SealedColumn(
    "signal_chunk",
    {"device_alias": "int", "chunk": "bytea"},
    "",
    lambda stored: f"{stored['device_alias']}/{stored['chunk'].hex()}",
)
SEALED: Final = (
    SealedColumn("device", {"device_id": "text"}, "sync_key_sealed", lambda stored: str(stored["device_id"])),
    SealedColumn("result_row", _RESULT_IDS, "row_sealed", _result, by_commit=True),
    SealedColumn("quarantined_row", _RESULT_IDS, "row_sealed", _result),
    SealedColumn(
        "annotation", _ANNOTATION_IDS, "row_sealed", lambda stored: _result(stored) + stored["author"], by_commit=True
    ),
    SealedColumn("note", {**_RESULT_IDS, "epoch": "bigint"}, "row_sealed", _result, by_commit=True),
    SealedColumn(
        "superseded_write",
        {**_ANNOTATION_IDS, "field": "int", "hlc": "bigint", "row_sum": "bytea"},
        "row_sealed",
        lambda stored: (
            f"{_result(stored)}{stored['field']}/{stored['hlc']}/{stored['row_sum'].hex()}/{stored['author']}"
        ),
        by_commit=True,
    ),
    SealedColumn(
        "document",
        {"name": "text", "version": "int"},
        "body",
        lambda stored: f"{stored['version']}/{stored['name']}",
        by_commit=True,
    ),
    SealedColumn(
        "signal_upload_piece",
        {"upload_id": "text", "first_byte": "int"},
        "piece_sealed",
        lambda stored: f"{stored['upload_id']}/{stored['first_byte']}",
        of_patient="upload_id IN (SELECT upload_id FROM signal_upload "
        "WHERE shard = $1 AND tenant = $2 AND patient_id = $3)",
    ),
    SealedColumn(
        "patient_demographics",
        {"patient_id": "text", "version": "int"},
        "body_sealed",
        lambda stored: str(stored["version"]),
    ),
    SealedColumn(
        consent_store.TABLE,
        {"consent_id": "text", "version": "int"},
        consent_store.COLUMN,
        lambda stored: f"{stored['consent_id']}/{stored['version']}",
    ),
    SealedColumn(break_glass.TABLE, {"access_id": "text"}, break_glass.COLUMN, lambda stored: str(stored["access_id"])),
    CHUNKS,
)
