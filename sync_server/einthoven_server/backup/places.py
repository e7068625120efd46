"""Opens the place of backups: any that ``SignalStore`` speaks to."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from einthoven_server.errors import BackupPlaceUnavailable, SignalStoreUnavailable
from einthoven_server.signals.signal_store import SignalStore
from einthoven_server.signals.signal_store_obstore import open_signal_store

SIGNALS: Final = "signals"
"""Where copies of signals lie."""


async def open_place(url: str, data: Path) -> SignalStore:
    """Open it, and see that it can be written.

    Args:
        url: ``s3://``, ``gs://``, ``az://`` or ``file://``.
        data: The server's data folder.

    Raises:
        BackupPlaceUnavailable: It can't.
    """
    try:
        return await open_signal_store(url, data)
    except SignalStoreUnavailable as error:
        raise BackupPlaceUnavailable(
            "the place of backups can't be written", "check its URL and credentials; a folder's parent has to be there"
        ) from error
