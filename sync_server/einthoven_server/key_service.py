"""The port to whoever holds the key-encryption key: a file, an HSM, a cloud's key service.

It deliberately names no version: whoever wraps puts into the wrapped key what is needed to unwrap it. Adapters:
``key_service_file`` and those of ``key_services``. One acceptance suite: tests/contracts/test_key_service.py.

Invariants an adapter keeps:
    1. A wrapped key opens only with the context that it was wrapped with; that context leaves no id in the clear.
    2. After the key-encryption key was rotated, what was wrapped before still opens.
    3. What does not open is ``EnvelopeRefused``; a service that can't be asked is ``KeyServiceUnavailable``.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class KeyService(Protocol):
    """Wraps data keys; the key-encryption key never leaves it."""

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """Encrypt a data key, bound to ``context``.

        Raises:
            KeyServiceUnavailable: No answer, or none that can be used.
        """
        ...

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt a data key.

        Raises:
            EnvelopeRefused: Another key-encryption key, another context, or damage.
            KeyServiceUnavailable: No answer, or none that can be used.
        """
        ...


@runtime_checkable
class MakesVersions(Protocol):
    """A key service whose key-encryption key is rotated from here; others do it by their own means."""

    async def make_version(self) -> int:
        """Make a new version, with which wrapping goes on; durable on return. Former ones go on opening."""
        ...
