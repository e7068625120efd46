"""What an operator asks of the audit log: does it hold, a checkpoint of it, and who saw whom.

It deliberately needs the data folder to itself, as the keys in it do; a running server answers by ``/v1/audit``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from einthoven_server import limits
from einthoven_server.assembly import Parts
from einthoven_server.audit.chain import tampered
from einthoven_server.audit.report import PatientReport
from einthoven_server.audit.search import AuditSearch, Run
from einthoven_server.audit.verification import VerifiedLog
from einthoven_server.clock import SystemClock
from einthoven_server.errors import AuditTampered
from einthoven_server.serve import interrupting, opened, parts_of


class Signed(NamedTuple):
    """A checkpoint and the key to verify it with.

    Attributes:
        note: The checkpoint.
        verifier: The key, in signed-note's form.
    """

    note: str
    verifier: str


class Reported(NamedTuple):
    """A report and what is wrong with the log that it is from.

    Attributes:
        report: What was found.
        problem: Where the log does not hold; what comes after that is not in the report. ``None`` where all holds.
    """

    report: PatientReport
    problem: AuditTampered | None


def verify(
    data: Path, database_url: str | None, checkpoints: Sequence[Path] = (), key_service: str | None = None
) -> VerifiedLog:
    """Verify the whole log against every checkpoint that is known.

    Args:
        data: The data folder.
        database_url: A PostgreSQL URL; the embedded one where ``None``.
        checkpoints: Files with checkpoints that someone else held.
        key_service: URL of the key service; the key file in ``data`` where ``None``.

    Raises:
        AuditTampered: Names the first entry that does not hold.
        CheckpointRefused: A checkpoint is none of this log, or does not hold.
        StartError: Database or keys can't be used.
    """

    async def work(url: str) -> VerifiedLog:
        async with parts_of(data, url, SystemClock(), key_service_url=key_service, vault_url=database_url) as parts:
            return await parts.audit.verify(await parts.checkpoints.known(*checkpoints))

    with interrupting(), opened(data, database_url) as url:
        return asyncio.run(work(url))


def checkpoint(data: Path, database_url: str | None, key_service: str | None = None) -> Signed:
    """Sign the log as it is now.

    Raises:
        AuditTampered: It is not a continuation of what was signed last.
        StartError: Database or keys can't be used.
    """

    async def work(url: str) -> Signed:
        async with parts_of(data, url, SystemClock(), key_service_url=key_service, vault_url=database_url) as parts:
            return Signed(await parts.checkpoints.make(parts.clock.now_ms()), parts.checkpoints.verifier.text)

    with interrupting(), opened(data, database_url) as url:
        return asyncio.run(work(url))


def report(
    data: Path, database_url: str | None, wanted: PatientReport, key_service: str | None = None, *, quick: bool = False
) -> Reported:
    """Who saw a patient; the log is verified on the way.

    Args:
        data: The data folder.
        database_url: A PostgreSQL URL; the embedded one where ``None``.
        wanted: Whom and when; filled in.
        key_service: URL of the key service; the key file in ``data`` where ``None``.
        quick: Find the entries by their index; each is checked by itself, and none that is missing is noticed.

    Raises:
        StartError: Database or keys can't be used.
    """

    async def find(parts: Parts) -> AuditTampered | None:
        log, behind = AuditSearch(parts.audit.database, parts.audit.scope), 0
        while page := await log.run(Run(wanted.patient, behind, False, limits.AUDIT_VERIFY_PAGE_ROWS)):
            for entry in page:
                if not parts.audit.wrote(entry):
                    return tampered(f"audit entry {entry.seq} was altered")
                wanted.add(entry)
            behind = page[-1].seq
        return None

    async def read(parts: Parts) -> AuditTampered | None:
        try:
            await parts.audit.verify(await parts.checkpoints.known(), wanted.add)
        except AuditTampered as problem:
            return problem
        return None

    async def work(url: str) -> Reported:
        async with parts_of(data, url, SystemClock(), key_service_url=key_service, vault_url=database_url) as parts:
            return Reported(wanted, await (find if quick else read)(parts))

    with interrupting(), opened(data, database_url) as url:
        return asyncio.run(work(url))
