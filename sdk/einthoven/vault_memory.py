"""Vault in memory: for tests, and for an app that keeps its secrets elsewhere and hands them over at start.

It deliberately forgets everything when the process ends.

Invariants:
    1. ``repr`` shows names, no secret.
    2. It refuses what any vault refuses (``vault_limits``).
"""

from __future__ import annotations

from einthoven.vault_limits import checked_name, checked_secret


class MemoryVault:
    """Secrets in a dictionary."""

    def __init__(self) -> None:
        self._secrets: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        """See ``Vault``."""
        return self._secrets.get(checked_name(name))

    def put(self, name: str, secret: bytes) -> None:
        """See ``Vault``."""
        self._secrets[checked_name(name)] = checked_secret(secret)

    def delete(self, name: str) -> None:
        """See ``Vault``."""
        self._secrets.pop(checked_name(name), None)

    def __repr__(self) -> str:
        return f"MemoryVault({sorted(self._secrets)})"
