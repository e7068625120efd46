"""``SignalStore`` on obstore: a local folder, S3, Google Cloud Storage, Azure, or memory, by URL.

It deliberately handles no credentials: those of a cloud come from its own environment variables and instance roles, as
obstore reads them.

Invariants:
    1. In a local folder, an object and the folder's entry for it are flushed to disk before ``put`` returns; obstore
       itself writes beside it and renames, but flushes nothing.
    2. Foreign errors leave as ``Busy``, at the start as ``SignalStoreUnavailable``; their words, which may hold URLs
       with secrets, stay behind.
"""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from einthoven_server import limits
from einthoven_server.errors import Busy, SignalStoreUnavailable
from einthoven_server.signals.signal_store import SignalStore

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_NAME: Final = re.compile(r"(?:(?!\.+(?:/|$))[A-Za-z0-9._-]{1,128}/){0,8}(?!\.+$)[A-Za-z0-9._-]{1,128}", re.ASCII)
_RETRY_TIMEOUT: Final = timedelta(seconds=20)
_PROBE_TIMEOUT_S: Final = 30.0


class ObstoreSignalStore:
    """Objects in one bucket or folder.

    Args:
        store: obstore's.
        folder: Where a local one lies.
    """

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    async def put(self, name: str, content: bytes) -> None:
        """See ``SignalStore.put``."""
        _require_name(name)
        async with _translated():
            await obstore.put_async(self._store, name, content)
            if self._folder is not None:
                await asyncio.to_thread(_flush, self._folder, name)

    async def get(self, name: str) -> bytes | None:
        """See ``SignalStore.get``."""
        _require_name(name)
        async with _translated():
            try:
                found = await obstore.get_async(self._store, name)
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                return None

    async def delete(self, name: str) -> None:
        """See ``SignalStore.delete``."""
        _require_name(name)
        async with _translated():
            try:
                await obstore.delete_async(self._store, name)
            except FileNotFoundError:
                return

    async def names(self, prefix: str) -> list[str]:
        """See ``SignalStore.names``."""
        _require_name(prefix)
        async with _translated():
            return [found["path"] async for page in obstore.list(self._store, prefix) for found in page]


async def open_signal_store(url: str | None, data: Path) -> SignalStore:
    """Open where chunks lie, and see that it can be written.

    Args:
        url: ``s3://``, ``gs://``, ``az://``, ``file://`` or ``memory://``; a folder in ``data`` where ``None``.
        data: The server's data folder.

    Raises:
        SignalStoreUnavailable: It can't.
    """
    try:
        opened = _opened(url, data)
        probe = f"probe/{uuid.uuid4()}"
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            await opened.put(probe, b"")
            await opened.delete(probe)
    except (Busy, BaseError, OSError, ValueError, TimeoutError) as error:
        raise SignalStoreUnavailable(
            f"the place for signals can't be written ({type(error.__cause__ or error).__name__})",
            "check --signals and its credentials",
        ) from error
    return opened


def _opened(url: str | None, data: Path) -> ObstoreSignalStore:
    if url is None:
        return _folder(data / "signals")
    if url.startswith("file://"):
        return _folder(Path(url.removeprefix("file://")))
    if url.startswith("memory://"):
        return ObstoreSignalStore(MemoryStore())
    retries: obstore.store.RetryConfig = {"max_retries": 3, "retry_timeout": _RETRY_TIMEOUT}
    # Its own time limits (30 s a request) stay: with options of ours, those of the environment would not count.
    return ObstoreSignalStore(from_url(url, retry_config=retries))


def _folder(folder: Path) -> ObstoreSignalStore:
    folder.mkdir(mode=0o700, exist_ok=True)
    return ObstoreSignalStore(LocalStore(folder), folder)


def _flush(folder: Path, name: str) -> None:
    """Have the disk hold an object, and every folder that leads to it."""
    path = folder / name
    for one in (path, *(parent for parent in path.parents if parent.is_relative_to(folder))):
        opened = os.open(one, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError("a name of an object is of letters, digits, '-', '_' and '.', between slashes")


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        raise Busy(
            "the place for signals does not answer",
            "try again later",
            limits.BUSY_RETRY_AFTER_S,
            code="signals_unavailable",
        ) from error
