"""The command ``einthoven-server restore``: a backup and the mirror of the vault into an empty data folder.

It deliberately restores nobody who was erased, whenever the backup was made, and overwrites nothing.

Invariants:
    1. While it works, and after it was cut short, a file in the folder keeps every server from starting on it. Run
       again, it begins anew.
    2. All rows come in one transaction. The shard's epoch is higher than any of before, so that devices read anew and
       give again what was acknowledged since the backup.
    3. Whoever was erased according to the mirror is erased once more. Whose key is missing for no such reason stops it.
    4. In the end the audit log says so, and is signed as it is then.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from einthoven_server import limits, postgres_embedded
from einthoven_server.audit.checkpoint_keeper import CheckpointKeeper
from einthoven_server.audit.log import AuditLog
from einthoven_server.backup import dump, sealed
from einthoven_server.backup.mirror import VaultMirror
from einthoven_server.backup.places import SIGNALS, open_place
from einthoven_server.clock import SystemClock
from einthoven_server.database import Database, Scope, connected
from einthoven_server.erasure.erasing import Erasures
from einthoven_server.errors import BackupRefused, DataFolderUnsafe, SchemaTooNew
from einthoven_server.fhir.blind_index import BlindIndexKey
from einthoven_server.fhir.patients import opened_form, terms
from einthoven_server.key_service import KeyService
from einthoven_server.key_services.choosing import key_service_of
from einthoven_server.migrations import migrate, steps
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.private_files import RESTORING, held, make_data_folder, write_atomically
from einthoven_server.records.result_months import ResultMonths
from einthoven_server.rotating import Place
from einthoven_server.rotation.wrapping import operator_event
from einthoven_server.serve import interrupting
from einthoven_server.signals.signal_store import SignalStore
from einthoven_server.signals.signal_store_obstore import open_signal_store
from einthoven_server.tenant_database import open_tenant
from einthoven_server.vault.opening import open_vault
from einthoven_server.vault.port import Vault

KEY_FILE: Final = "key-encryption-key"
_MAY_BE_THERE: Final = frozenset({KEY_FILE, "lock"})
_NEW_EPOCH: Final = "UPDATE shard_head SET shard_epoch = greatest(shard_epoch + 1, $2) WHERE shard = $1"
_PATIENTS: Final = "SELECT patient_id FROM patient WHERE shard = $1 AND tenant = $2"
_SAID: Final = (
    "SELECT patient_id, version, body_sealed FROM patient_demographics WHERE shard = $1 AND tenant = $2 "
    "AND patient_id > $3 ORDER BY patient_id LIMIT $4"
)


class Restored(NamedTuple):
    """What was done.

    Attributes:
        backup_id: From which backup.
        n_rows: Rows in it.
        n_patients: Patients who can be read.
        n_erased: Patients of the backup who were erased since, and are erased here.
    """

    backup_id: str
    n_rows: int
    n_patients: int
    n_erased: int


def restore(place: Place, url: str, at_ms: int | None = None) -> Restored:
    """Restore the last backup, or the last of a time.

    Args:
        place: An empty data folder, with the key file in it if no key service is named; or an empty database.
        url: Where backups lie.
        at_ms: Nothing later (UTC, ms since 1970).

    Raises:
        ServerError: It can't; no server starts on what is there.
    """
    make_data_folder(place.data)
    with interrupting(), held(place.data):
        _prepare(place)
        with _database(place) as database_url:
            done = asyncio.run(_restored(place, url, at_ms, database_url))
        (place.data / RESTORING).unlink()
        return done


def _prepare(place: Place) -> None:
    there = {one.name for one in place.data.iterdir()}
    if RESTORING in there:
        for name in there - _MAY_BE_THERE - {RESTORING}:
            one = place.data / name
            if name == "postgres":
                postgres_embedded.stop_left_over(one)
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink()
    elif there - _MAY_BE_THERE:
        raise DataFolderUnsafe("the data folder is not empty", "restore into another one")
    if place.key_service is None and KEY_FILE not in there:
        raise DataFolderUnsafe(f"there is no {KEY_FILE} in the folder", "put yours there, or give --key-service")
    write_atomically(place.data / RESTORING, b"")


@contextmanager
def _database(place: Place) -> Iterator[str]:
    if place.database_url is not None:
        yield place.database_url
        return
    with postgres_embedded.running(place.data.resolve()) as url:
        yield url


async def _restored(place: Place, url: str, at_ms: int | None, database_url: str) -> Restored:
    store = await open_place(url, place.data)
    async with key_service_of(place.key_service, place.data) as key_service:
        backup, manifest, tenant = await _chosen(store, key_service, at_ms)
        n_rows = await _load(database_url, backup, manifest, tenant)
        for name, content in manifest.files.items():
            if "/" not in name and name not in (KEY_FILE, RESTORING):
                write_atomically(place.data / name, content)
        async with (
            open_tenant(database_url, key_service, SystemClock(), tenant) as (database, owner, tenancy),
            open_vault(place.vault or place.database_url, place.data, owner, tenancy.scope) as vault,
        ):
            audit = AuditLog(database, tenancy.scope, tenancy.audit_key)
            await audit.prepare()
            signals = await open_signal_store(place.signals, place.data)
            if manifest.n_signals >= 0:
                await _bring_signals(store, signals, tenant)
            n_patients, n_erased = await _join(
                database, tenancy.scope, vault, signals, audit, VaultMirror(store, tenant), place.data
            )
            await _index(database, tenancy.scope, vault, key_service, audit)
            await audit.record(operator_event(SystemClock(), "backup.restore"))
            await CheckpointKeeper(audit, place.data).make(SystemClock().now_ms())
    return Restored(backup.backup_id, n_rows, n_patients, n_erased)


async def _chosen(
    store: SignalStore, key_service: KeyService, at_ms: int | None
) -> tuple[sealed.SealedBackup, sealed.Manifest, str]:
    for tenant, backup_id in reversed(await sealed.names(store)):
        backup, manifest = await sealed.opened(store, key_service, tenant, backup_id)
        if at_ms is None or manifest.at_ms <= at_ms:
            return backup, manifest, tenant
    raise BackupRefused("there is no backup", "check --from and --to")


async def _load(database_url: str, backup: sealed.SealedBackup, manifest: sealed.Manifest, tenant: str) -> int:
    shape = [step for step in steps() if step.version <= max(version for version, _ in manifest.steps)]
    if [(step.version, step.digest) for step in shape] != list(manifest.steps):
        raise SchemaTooNew("the backup was made by another version of the server", "use that one or a newer")
    async with connected(database_url, connections_max=limits.OWNER_CONNECTIONS_MAX) as owner:
        await migrate(owner, shape)
        if await owner.fetchrow("SELECT 1 FROM tenant WHERE tenant = $1", tenant) is not None:
            raise BackupRefused("the database has this tenant already", "restore into an empty one")
        await ResultMonths(owner, Scope(manifest.shard, tenant)).make(manifest.months)
    async with dump.raw_connection(database_url) as connection, connection.transaction():
        await connection.execute("DELETE FROM shard_head WHERE shard = $1", manifest.shard)
        n_rows = await dump.write(connection, backup, manifest.tables)
        await connection.execute(_NEW_EPOCH, manifest.shard, SystemClock().now_ms() // 1000)
        await connection.execute("UPDATE tenant SET vault_mark = NULL WHERE tenant = $1", tenant)
    return n_rows


async def _join(
    database: Database,
    scope: Scope,
    vault: Vault,
    signals: SignalStore,
    audit: AuditLog,
    mirror: VaultMirror,
    data: Path,
) -> tuple[int, int]:
    """Bring back the keys of who was not erased, and erase the others; return how many of each there are."""
    with_key, erased = await mirror.bring_back(vault), await mirror.erased()
    patients = {row["patient_id"] for row in await database.fetch(_PATIENTS, *scope)}
    if missing := patients - with_key - erased:
        raise BackupRefused(
            f"the mirror of the vault lacks the keys of {len(missing)} patients, who were not erased",
            "bring its objects back, and restore again",
        )
    clock = SystemClock()
    erasures = Erasures(database, vault, scope, signals, audit, clock, lambda url: open_place(url, data), settle_ms=0)
    for patient_id in sorted(patients & erased):
        begun_at_ms = await erasures.begin(patient_id, operator_event(clock, "patient.erase", patient_id))
        await erasures.carry_out(patient_id, begun_at_ms)
    return len(patients - erased), len(patients & erased)


async def _index(database: Database, scope: Scope, vault: Vault, key_service: KeyService, audit: AuditLog) -> None:
    """Make blind indexes anew: no backup has them."""
    keys, index_key = PatientKeys(database, vault, key_service, scope), BlindIndexKey(database, key_service, scope)
    after = ""
    while rows := await database.fetch(_SAID, *scope, after, limits.VAULT_PAGE_KEYS):
        for row in rows:
            key = await keys.get(row["patient_id"])
            body = key.open(row["body_sealed"], "patient_demographics", "body_sealed", f"{row['version']}")
            found = [(name, await index_key.hashed(name, value)) for name, value in set(terms(opened_form(body)))]
            await vault.index(row["patient_id"], row["version"], found)
        after = rows[-1]["patient_id"]


async def _bring_signals(store: SignalStore, signals: SignalStore, tenant: str) -> None:
    for name in await store.names(f"{SIGNALS}/{tenant}"):
        content = await store.get(name)
        if content is not None:
            await signals.put(name.removeprefix(f"{SIGNALS}/"), content)
