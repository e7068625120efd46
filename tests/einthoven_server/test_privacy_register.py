"""The register of processing says all there is, and nothing that is not."""

from __future__ import annotations

import msgspec
from typer.testing import CliRunner

from einthoven_server.cli import app
from einthoven_server.database import Database, Scope
from einthoven_server.identity.consent import CATEGORIES, UNGOVERNED
from einthoven_server.identity.fields_seen import FIELDS_SEEN
from einthoven_server.identity.permissions import Operation, Relation, Role, decide
from einthoven_server.privacy.processing import PROCESSING, VAULT
from einthoven_server.privacy.processing_kinds import Kind, Protection
from einthoven_server.privacy.register import markdown, register
from einthoven_server.rotation.tables import SEALED, WRAPPED
from einthoven_server.vault.postgres import open_database

OF_THE_DATABASE = {"schema_step", "shard_head"}
SET_ASIDE = {"patient_key_former", "patient_blind_index_former"}
"""Until the first start has moved their rows to the vault."""
_COLUMNS = """
SELECT class.relname AS table, att.attname AS column FROM pg_catalog.pg_class AS class
JOIN pg_catalog.pg_attribute AS att ON att.attrelid = class.oid AND att.attnum > 0 AND NOT att.attisdropped
WHERE class.relkind IN ('r', 'p') AND NOT class.relispartition AND class.relnamespace = current_schema()::regnamespace
"""


def of_the_tenant(table: str) -> bool:
    return table not in OF_THE_DATABASE | SET_ASIDE and not table.startswith("vault_")


async def test_every_column_of_the_database_has_an_entry_and_every_entry_a_column(database: Database) -> None:
    found = {(row["table"], row["column"]) for row in await database.fetch(_COLUMNS)}
    kept = {(table, column) for table, column in found if of_the_tenant(table)}
    listed = {(table, column) for table, one in PROCESSING.items() for column in one.columns}
    assert kept - listed == set(), "say in privacy/processing.py what these are for"
    assert listed - kept == set()


async def test_every_column_of_the_vault_has_one(database: Database, database_url: str) -> None:
    async with open_database(database_url, Scope(0, "-")):
        found = {(row["table"], row["column"]) for row in await database.fetch(_COLUMNS)}
    listed = {(table, column) for table, one in VAULT.items() for column in one.columns}
    assert {(table, column) for table, column in found if table.startswith("vault_")} == listed


def test_what_is_said_to_be_sealed_or_wrapped_is_what_rotation_knows() -> None:
    said = {
        protection: {
            (table, name)
            for table, one in PROCESSING.items()
            for name, column in one.columns.items()
            if column.protection is protection
        }
        for protection in Protection
    }
    assert said[Protection.SEALED] == {(one.table, one.column) for one in SEALED if one.column}
    assert said[Protection.WRAPPED] == {(one.table, one.column) for one in WRAPPED}


def test_nothing_about_health_or_identity_is_in_the_clear() -> None:
    for table, one in PROCESSING.items():
        for name, column in one.columns.items():
            if column.kind in (Kind.HEALTH, Kind.IDENTITY, Kind.WORDS, Kind.SECRET):
                assert column.protection is not Protection.PLAIN, (table, name)
        assert one.purpose
        assert one.ends


def test_it_tells_who_sees_what_as_the_table_decides() -> None:
    recipients = {one["role"]: one for one in register()["recipients"]}
    assert set(recipients) == {role.value for role in Role} - {"nobody"}
    for role in (Role.ADMIN, Role.CLINICIAN, Role.PATIENT, Role.DEVICE, Role.SERVICE):
        for operation in Operation:
            allowed = [one.value for one in Relation if decide(role, operation, one).allowed]
            assert recipients[role.value]["operations"].get(operation.value, []) == allowed
        assert set(recipients[role.value]["fields"]) == {one.value for one in FIELDS_SEEN[role]}
    consent = register()["consent"]
    assert set(consent["asked_for"]) == {one.value for one in CATEGORIES}
    assert set(consent["not_asked_for"]) == {one.value for one in UNGOVERNED}


def test_it_is_printed_for_people_and_for_machines() -> None:
    printed = CliRunner().invoke(app, ["privacy", "register"])
    assert (printed.exit_code, printed.output) == (0, markdown(register()))
    for table in PROCESSING:
        assert f"| `{table}` |" in printed.output
    as_json = CliRunner().invoke(app, ["privacy", "register", "--json"])
    assert msgspec.json.decode(as_json.output) == msgspec.json.decode(msgspec.json.encode(register()))
