"""Asks the key service whether it wraps and unwraps, for ``/readyz``.

It deliberately asks seldom: a cloud counts each request. What is wrapped is a key of zeros that nothing uses.

Invariants:
    1. An answer counts for ``KEY_SERVICE_CHECK_INTERVAL_S``, a failure too; of many who ask, one asks the service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from einthoven_server import envelope, limits
from einthoven_server.errors import EnvelopeRefused, KeyServiceUnavailable, KeyUnavailable
from einthoven_server.key_service import KeyService

_KEY: Final = bytes(envelope.KEY_BYTES)
_CONTEXT: Final = b"probe"


class KeyServiceProbe:
    """Whether a key service works.

    Args:
        key_service: Which.
        elapsed_s: A clock that never goes back, seconds.
    """

    def __init__(self, key_service: KeyService, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._key_service = key_service
        self._elapsed_s = elapsed_s
        self._asking = asyncio.Lock()
        self._asked_at_s: float | None = None
        self._works = False

    async def check(self) -> None:
        """Return if it works.

        Raises:
            KeyServiceUnavailable: It does not.
        """
        async with self._asking:
            now_s = self._elapsed_s()
            if self._asked_at_s is None or now_s - self._asked_at_s >= limits.KEY_SERVICE_CHECK_INTERVAL_S:
                self._works = await self._ask()
                self._asked_at_s = now_s
        if not self._works:
            raise KeyServiceUnavailable("the key service does not wrap and unwrap")

    async def _ask(self) -> bool:
        try:
            wrapped = await self._key_service.wrap(_KEY, _CONTEXT)
            return await self._key_service.unwrap(wrapped, _CONTEXT) == _KEY
        except (KeyServiceUnavailable, EnvelopeRefused, KeyUnavailable):
            return False
