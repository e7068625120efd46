"""The port to the vault of one tenant. Adapters: ``sqlite``, ``postgres``; suite: tests/contracts/test_key_vault.py.

It deliberately knows no patient's data and opens no key.

Invariants an adapter keeps:
    1. What ``keep``, ``index`` and ``rewrap`` wrote is durable on return; what ``forget_below`` and ``erase`` removed
       stays removed, also after a crash.
    2. A key that is there is never replaced by ``keep``: of two that make the same version, both go on with the first.
    3. Every method raises ``Busy`` where the vault does not answer; whether what it was to write is there is unknown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple, Protocol

from einthoven_server import limits
from einthoven_server.errors import Busy


class KeptKey(NamedTuple):
    """One version of a patient's data key, as it lies in the vault.

    Attributes:
        patient_id: Opaque patient id.
        key_version: Which version.
        wrapped: As the key service wrapped it.
    """

    patient_id: str
    key_version: int
    wrapped: bytes


class Indexed(NamedTuple):
    """Whom an index entry is of.

    Attributes:
        patient_id: Opaque patient id.
        version: Of the demographics that it was made from.
    """

    patient_id: str
    version: int


Term = tuple[str, bytes]
"""Name of a blind index, and what a value hashes to there."""
BEGINNING: Final = ("", 0)
"""Before every key."""


class Vault(Protocol):
    """Keys and index entries of one tenant's patients."""

    async def mark(self, fresh: str) -> str:
        """What tells this vault from any other of the tenant's; ``fresh`` from now on, if it has none."""
        ...

    async def keep(self, keys: Sequence[KeptKey]) -> None:
        """Keep keys; one whose version is there already stays what it was."""
        ...

    async def keys(self, patient_id: str) -> dict[int, bytes]:
        """A patient's wrapped keys by version; none of an unknown patient."""
        ...

    async def forget_below(self, patient_id: str, version: int) -> None:
        """Remove versions below one."""
        ...

    async def erase(self, patient_id: str) -> None:
        """Remove all that is kept of a patient, for good."""
        ...

    async def page(self, after: tuple[str, int], limit: int) -> list[KeptKey]:
        """Keys in the order of patient and version, behind a place."""
        ...

    async def to_rewrap(self, number: int, limit: int) -> list[KeptKey]:
        """Some keys that were not yet wrapped in a round."""
        ...

    async def rewrap(self, key: KeptKey, wrapped: bytes, number: int) -> None:
        """Replace a key's wrapping in a round, if it is still what was read."""
        ...

    async def index(self, patient_id: str, version: int, terms: Sequence[Term]) -> None:
        """Keep the index entries of one version of a patient's demographics, in place of those of that version."""
        ...

    async def prune_index(self, patient_id: str, version: int) -> None:
        """Remove a patient's index entries of other versions."""
        ...

    async def find(self, terms: Sequence[Term], among: Sequence[str] | None, limit: int) -> list[Indexed]:
        """Who has any of these entries, and in which version; everybody's where ``among`` is ``None``."""
        ...


async def all_keys(vault: Vault) -> AsyncIterator[KeptKey]:
    """Every key of a vault, in the order of patient and version; what is kept meanwhile may be missed."""
    after = BEGINNING
    while page := await vault.page(after, limits.VAULT_PAGE_KEYS):
        for key in page:
            yield key
        after = (page[-1].patient_id, page[-1].key_version)


def unavailable() -> Busy:
    """The refusal where a vault does not answer."""
    return Busy("the vault does not answer", "try again later", limits.BUSY_RETRY_AFTER_S, code="vault_unavailable")
