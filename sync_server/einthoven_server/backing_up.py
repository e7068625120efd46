"""The command ``einthoven-server backup``, beside a running server or with none.

In this order, each of which may be the last before a kill:

1. The place is written down in the database: from now on erasure goes there, too, and former versions of keys stay.
2. All rows of one moment, without the vault; private files of the data folder; signals, if they lie in the data folder.
3. The mirror of the vault, which so has every key that the rows of before need.
4. The manifest.

It deliberately removes no backup: how long they are kept is the place's to say (a lifecycle rule, a cron job).
"""

from __future__ import annotations

import datetime as dt
import secrets
from pathlib import Path
from typing import Final, NamedTuple

from einthoven_server.audit import checkpoint_keeper
from einthoven_server.backup import dump, sealed
from einthoven_server.backup.mirror import VaultMirror
from einthoven_server.backup.places import SIGNALS, open_place
from einthoven_server.clock import SystemClock
from einthoven_server.database import Connection
from einthoven_server.private_files import read_private
from einthoven_server.rotating import Opened, Place, run_beside
from einthoven_server.rotation.wrapping import operator_event
from einthoven_server.serve import ADMIN_KEY_NAME
from einthoven_server.signals.signal_store import SignalStore
from einthoven_server.signals.signal_store_obstore import open_signal_store

# Of checkpoints no later ones than the rows know: they are read first.
FILES: Final = (
    checkpoint_keeper.FILE_NAME,
    checkpoint_keeper.KEY_NAME,
    "ca.key",
    "ca.pem",
    ADMIN_KEY_NAME,
)
_REMEMBER: Final = "INSERT INTO backup_place VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_STEPS: Final = "SELECT version, digest FROM schema_step ORDER BY version"
_PARTS: Final = "SELECT relid::regclass::text AS name FROM pg_partition_tree('result_row') WHERE isleaf"
_CHUNKS: Final = "SELECT patient_id, device_alias, chunk FROM signal_chunk WHERE shard = $1 AND tenant = $2"


class BackedUp(NamedTuple):
    """What was done.

    Attributes:
        backup_id: Its name.
        n_rows: Rows in it.
        n_signals: Objects of signals that are beside it, with those of former backups; -1 where they lie elsewhere.
        n_keys: Keys that the mirror lacked.
    """

    backup_id: str
    n_rows: int
    n_signals: int
    n_keys: int


def back_up(place: Place, url: str) -> BackedUp:
    """Make a backup of a server's database, and bring the mirror of its vault up to date.

    Args:
        place: The server's.
        url: Where backups lie.

    Raises:
        ServerError: It can't; what was written is no backup.
    """

    async def work(there: Opened) -> BackedUp:
        scope, clock = there.tenancy.scope, SystemClock()
        store = await open_place(url, place.data)
        await there.database.fetch(_REMEMBER, *scope, url)
        files = {name: read_private(place.data / name) for name in FILES if (place.data / name).exists()}
        now_ms = clock.now_ms()
        backup = await sealed.begin(store, there.key_service, scope.tenant, _new_id(now_ms))
        async with (
            dump.raw_connection(there.database_url) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            steps = [(row["version"], row["digest"]) for row in await connection.fetch(_STEPS)]
            months = _months(await connection.fetch(_PARTS))
            tables = await dump.read(connection, scope.tenant, backup)
            n_signals = -1
            if place.signals is None:
                n_signals = await _signals(there, connection, store, place.data)
        n_keys = await VaultMirror(store, scope.tenant).update(there.vault)
        await backup.finish(sealed.Manifest(scope.shard, now_ms, steps, months, tables, files, n_signals))
        await there.audit.record(operator_event(clock, "backup.create"))
        return BackedUp(backup.backup_id, sum(table.n_rows for table in tables), n_signals, n_keys)

    return run_beside(place, work)


async def _signals(there: Opened, connection: Connection, store: SignalStore, data: Path) -> int:
    """Copy chunks of signals, as they are: sealed."""
    scope, source = there.tenancy.scope, await open_signal_store(None, data)
    known = set(await store.names(f"{SIGNALS}/{scope.tenant}"))
    n_signals = 0
    async for row in connection.cursor(_CHUNKS, *scope):
        name = f"{scope.tenant}/{row['patient_id']}/{row['device_alias']}/{row['chunk'].hex()}"
        if f"{SIGNALS}/{name}" not in known:
            content = await source.get(name)
            if content is None:  # erased meanwhile
                continue
            await store.put(f"{SIGNALS}/{name}", content)
        n_signals += 1
    return n_signals


def _months(parts: list[dict[str, str]]) -> list[int]:
    named = [row["name"].removeprefix("result_row_").split("_") for row in parts]
    return sorted((int(one[0]) - 1970) * 12 + int(one[1]) - 1 for one in named if len(one) == 2 and one[0].isdigit())


def _new_id(now_ms: int) -> str:
    at = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    return f"{at:%Y%m%dT%H%M%S}.{now_ms % 1000:03}Z-{secrets.token_hex(4)}"
