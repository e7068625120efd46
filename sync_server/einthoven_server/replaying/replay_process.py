"""The other end of ``worker``: starts the process when there is work, and ends it when it hangs.

It deliberately keeps no process between rounds: an idle one would hold a model's memory for nothing.

Invariants:
    1. Whatever a signal does to the process, the server goes on: a job has ``REPLAY_TIME_MAX_S``, a death is a verdict.
    2. No process outlives its block.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from einthoven_server import limits
from einthoven_server.replaying.outcomes import ReplayOutcome, Verdict
from einthoven_server.replaying.worker import LENGTH_BYTES, Answer, Job

WORKER: Final = (sys.executable, "-m", "einthoven_server.replaying.worker")
_KEPT_OF_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "LANG", "TMPDIR")
_FAILED: Final = Verdict(ReplayOutcome.FAILED)


class ReplayProcess:
    """Recomputes results in a process of its own; made by ``replaying_process``.

    Args:
        command: What to run.
        time_max_s: Of one job, starting included, seconds.
    """

    def __init__(self, command: Sequence[str], time_max_s: float) -> None:
        self._command = command
        self._time_max_s = time_max_s
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, job: Job) -> Verdict:
        """Recompute one result; ``FAILED`` if that can't be done."""
        try:
            async with asyncio.timeout(self._time_max_s):
                return await self._ask(job)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, msgspec.MsgspecError, ValueError):
            await self.end()
            return _FAILED

    async def _ask(self, job: Job) -> Verdict:
        if self._process is None:
            self._process = await self._start()
        source, sink = self._process.stdout, self._process.stdin
        if source is None or sink is None:
            raise OSError("the process has no pipes")
        octets = msgspec.msgpack.encode(job)
        sink.write(len(octets).to_bytes(LENGTH_BYTES, "little") + octets)
        await sink.drain()
        length = int.from_bytes(await source.readexactly(LENGTH_BYTES), "little")
        answer = msgspec.msgpack.decode(await source.readexactly(length), type=Answer)
        return Verdict(ReplayOutcome(answer.outcome), answer.differing)

    async def _start(self) -> asyncio.subprocess.Process:
        environment = {name: os.environ[name] for name in _KEPT_OF_ENVIRONMENT if name in os.environ}
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # it could quote what it was given
            env=environment | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
            start_new_session=True,  # Ctrl-C is for the server, which ends it
        )

    async def end(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # it holds nothing that could be lost
        await asyncio.shield(process.wait())


@asynccontextmanager
async def replaying_process(
    command: Sequence[str] = WORKER, time_max_s: float = limits.REPLAY_TIME_MAX_S
) -> AsyncIterator[ReplayProcess]:
    """A process for a block; started with the first job."""
    process = ReplayProcess(command, time_max_s)
    try:
        yield process
    finally:
        await process.end()
