"""How long backup, restore and erasure take with N results: ``python -m einthoven_bench.server_vault --rows N``.

It deliberately measures the commands as an operator runs them, PostgreSQL's start and stop included, and makes its rows
by SQL: sealed values are random bytes, as long as real ones.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from einthoven_server import backing_up, erasing, restoring
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import SystemClock
from einthoven_server.rotating import Place
from einthoven_server.serve import opened, parts_of

_ROWS = (
    "INSERT INTO result_row (shard, tenant, device_alias, epoch, counter, patient_id, row_sealed, key_version, "
    "row_sum, commit_seq) SELECT 0, $1, $2, 1, counter, $3, $4 || int4send(counter), 1, substr($4, 1, 16), "
    "$5::bigint + counter FROM generate_series(1, $6::int) AS counter"
)
_SEALED_BYTES = 103


async def _fill(folder: Path, url: str, n_rows: int, n_patients: int) -> list[str]:
    patients = [str(uuid.uuid4()) for _ in range(n_patients)]
    async with parts_of(folder, url, SystemClock(), moves=True) as parts:
        for patient in patients:
            event = Trail("patient.create", parts.clock).event()
            await parts.identities.create_patient(patient, parts.clock.now_ms(), event)
        connection = await asyncpg.connect(url)
        each = n_rows // n_patients
        for number, patient in enumerate(patients, 1):
            row = (parts.scope.tenant, number, patient, secrets.token_bytes(_SEALED_BYTES), number * each, each)
            await connection.execute(_ROWS, *row)
        await connection.close()
    return patients


def measure(n_rows: int, n_patients: int = 100) -> dict[str, Any]:
    """Run the three commands; times in s, of wall and of this process and its children."""
    base = Path(tempfile.mkdtemp(prefix="einthoven-vault-"))
    try:
        folder, other, url = base / "data", base / "restored", f"file://{base / 'place'}"
        with opened(folder, None) as database_url:
            patients = asyncio.run(_fill(folder, database_url, n_rows, n_patients))
        found: dict[str, Any] = {"rows": n_rows, "patients": n_patients}
        other.mkdir(mode=0o700)
        shutil.copy2(folder / "key-encryption-key", other)
        for name, work in (
            ("backup", lambda: backing_up.back_up(Place(folder), url)),
            ("restore", lambda: restoring.restore(Place(other), url)),
            ("erase", lambda: erasing.erase(Place(folder), patients[0])),
        ):
            began, before = time.perf_counter(), os.times()
            work()
            after = os.times()
            cpu_s = sum(after[:4]) - sum(before[:4])
            found[name] = {"wall_s": round(time.perf_counter() - began, 2), "cpu_s": round(cpu_s, 2)}
        place = base / "place" / "backups"
        found["backup"]["bytes"] = sum(one.stat().st_size for one in place.rglob("*") if one.is_file())
        return found
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    print(msgspec.json.encode(measure(parser.parse_args().rows)).decode())
