"""The port to where chunks lie: objects by name, each already sealed.

It deliberately knows no patient, no key and no chunk: it is given ciphertext. Adapters: ``signal_store_obstore``. One
acceptance suite: tests/contracts/test_signal_store.py.

Invariants an adapter keeps:
    1. After ``put`` returns, the object survives a crash of process and machine; a crash before leaves the former one,
       or none, never a part.
    2. A name is one or more of ``A-Z a-z 0-9 - _ .`` between slashes; nothing outside the store can be named.
"""

from __future__ import annotations

from typing import Protocol


class SignalStore(Protocol):
    """Objects by name. Every method raises ``Busy`` where the store can't be reached."""

    async def put(self, name: str, content: bytes) -> None:
        """Keep an object in place of the one of that name, if any; durable on return."""
        ...

    async def get(self, name: str) -> bytes | None:
        """An object; ``None`` if there is none."""
        ...

    async def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    async def names(self, prefix: str) -> list[str]:
        """Names of all objects in the folder ``prefix``, in no order."""
        ...
