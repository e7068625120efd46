"""The server without what makes it one to trust: no audit entries, no row-level security. For one comparison only.

It deliberately is no option of the server: a process of its own takes both out before it starts, so that there is no
switch that somebody could find. What stays is what came before them: TLS, signatures, sealed rows, durable commits.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from einthoven_demo.server_process import Child
from einthoven_server import row_security
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.cli import main
from einthoven_server.database import Connection, Database


def spawned_without(arguments: Sequence[str], log: Path) -> Child:
    """Start it as ``server_process.spawned`` starts the real one."""
    with log.open("ab") as open_log:
        return subprocess.Popen(  # noqa: S603  # this Python, with arguments of ours
            [sys.executable, "-m", "einthoven_bench.server_without", *arguments],
            stdout=open_log,
            stderr=open_log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


async def _no_entry(log: AuditLog, connection: Connection, events: Sequence[Event]) -> None:
    del log, connection, events


async def _no_wall(owner: Database) -> str | None:
    del owner
    return None


if __name__ == "__main__":
    AuditLog.append = _no_entry  # type: ignore[method-assign, assignment]
    row_security.secure = _no_wall
    main()
