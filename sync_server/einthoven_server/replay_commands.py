"""What an operator asks for with ``einthoven-server replay``: recompute stored results now, and say which differ.

It deliberately needs the data folder to itself; a running server recomputes a sample by itself and answers by
``/v1/replays``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from einthoven_server.assembly import Parts
from einthoven_server.clock import SystemClock
from einthoven_server.errors import KeyUnavailable
from einthoven_server.replaying.outcomes import ReplayOutcome
from einthoven_server.replaying.replay_store import ListedReplay
from einthoven_server.replaying.service import ReplayService
from einthoven_server.serve import interrupting, opened, parts_of
from einthoven_server.signals.receiving import SignalReceiver
from einthoven_server.signals.signal_store_obstore import open_signal_store

_LISTED_MAX = 1_000
"""Differing results that are told; all are counted."""


class Replays(NamedTuple):
    """What was found.

    Attributes:
        replayed: Results recomputed by this call.
        counts: Results ever recomputed, by outcome.
        different: Those that differ, the first ``_LISTED_MAX``.
    """

    replayed: int
    counts: Mapping[ReplayOutcome, int]
    different: list[ListedReplay]


def replay(
    data: Path,
    database_url: str | None,
    permille: int,
    *,
    signals: str | None = None,
    key_service: str | None = None,
    vault: str | None = None,
    again: bool = False,
) -> Replays:
    """Recompute results whose signal is stored, until all chunks were looked at.

    Args:
        data: The data folder.
        database_url: A PostgreSQL URL; the embedded one where ``None``.
        permille: Of 1,000 results that are not urgent, how many; urgent ones always.
        signals: URL of where raw signals lie; a folder in ``data`` where ``None``.
        key_service: URL of the key service; the key file in ``data`` where ``None``.
        vault: A PostgreSQL URL of the vault; beside ``database_url``, or a file in ``data``, where ``None``.
        again: Whether chunks that were looked at before are, too; a result is recomputed once.

    Raises:
        StartError: Database or keys can't be used.
        Busy: Database, keys or signals stopped answering; what was found is kept.
    """

    async def work(url: str) -> Replays:
        async with parts_of(
            data, url, SystemClock(), key_service_url=key_service, vault_url=vault or database_url
        ) as parts:
            return await _replayed(parts, await _service(parts), again=again)

    async def _service(parts: Parts) -> ReplayService:
        store = await open_signal_store(signals, data)
        receiver = SignalReceiver(parts.signals, parts.uploads, store, parts.keys)
        return ReplayService(parts.replays, parts.keys, receiver, parts.clock, permille, lag_ms=0)

    if not data.is_dir():
        raise KeyUnavailable("there is no such data folder", "give --data the server's")
    with interrupting(), opened(data, database_url) as url:
        return asyncio.run(work(url))


async def _replayed(parts: Parts, service: ReplayService, *, again: bool) -> Replays:
    if again:
        await parts.replays.begin_again()
    n = 0
    while (done := await service.round()).chunks:
        n += done.replayed
    different = await parts.replays.listed(ReplayOutcome.DIFFERENT, None, _LISTED_MAX)
    return Replays(n, await parts.replays.counts(), different)
