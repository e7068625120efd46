"""A mirror of the vault beside backups: one object a version of a key, and one for each patient who was erased.

It deliberately holds no blind index: those are made anew from what a restore brings back.

Invariants:
    1. The mark of an erasure is written before keys are removed, and outweighs any key: one that is put back there, by
       whatever means, is never restored.
    2. Only erasure removes a patient's last key from a mirror. What the vault lacks for another reason stays.
"""

from __future__ import annotations

import hashlib
from typing import Final

from einthoven_server.backup.places import SIGNALS
from einthoven_server.signals.signal_store import SignalStore
from einthoven_server.vault.port import KeptKey, Vault, all_keys

_KEYS: Final = "vault"
_ERASED: Final = "erased"
_DIGEST_CHARS: Final = 16


class VaultMirror:
    """The mirror of one tenant's vault.

    Args:
        store: Objects.
        tenant: Whose.
    """

    def __init__(self, store: SignalStore, tenant: str) -> None:
        self._store = store
        self._tenant = tenant

    async def update(self, vault: Vault) -> int:
        """Bring there what the vault has; return how many keys were written.

        Raises:
            Busy: Vault or mirror do not answer; go on later.
        """
        there: dict[str, set[str]] = {}
        for name in await self._store.names(f"{_KEYS}/{self._tenant}"):
            there.setdefault(name.rpartition("-")[0], set()).add(name)
        written = 0
        async for key in all_keys(vault):
            name = self._name(key)
            former = there.get(name.rpartition("-")[0], set())
            if name not in former:
                await self._store.put(name, key.wrapped)
                written += 1
                # Erased between being read and being written: the erasure may have been here before.
                if key.key_version not in await vault.keys(key.patient_id):
                    await self._store.delete(name)
            for outdated in former - {name}:  # wrapped with a former key-encryption key
                await self._store.delete(outdated)
        for patient_id in await self.erased():
            await self._remove(patient_id)
        return written

    async def erase(self, patient_id: str) -> None:
        """Remove a patient's keys, for good, and copies of signals.

        Raises:
            Busy: The mirror does not answer; go on later.
        """
        await self._store.put(f"{_ERASED}/{self._tenant}/{patient_id}", b"")
        await self._remove(patient_id)

    async def erased(self) -> set[str]:
        """Who was erased."""
        return {name.rpartition("/")[2] for name in await self._store.names(f"{_ERASED}/{self._tenant}")}

    async def bring_back(self, vault: Vault) -> set[str]:
        """Put into an empty vault the keys of all who were not erased; return who those are.

        Raises:
            Busy: Vault or mirror do not answer.
        """
        erased, found = await self.erased(), set()
        for name in sorted(await self._store.names(f"{_KEYS}/{self._tenant}")):
            patient_id, last = name.split("/")[2:4]
            wrapped = None if patient_id in erased else await self._store.get(name)
            if wrapped is not None:
                await vault.keep([KeptKey(patient_id, int(last.partition("-")[0]), wrapped)])
                found.add(patient_id)
        return found

    async def _remove(self, patient_id: str) -> None:
        for folder in (_KEYS, SIGNALS):
            for name in await self._store.names(f"{folder}/{self._tenant}/{patient_id}"):
                await self._store.delete(name)

    def _name(self, key: KeptKey) -> str:
        digest = hashlib.sha256(key.wrapped).hexdigest()[:_DIGEST_CHARS]
        return f"{_KEYS}/{self._tenant}/{key.patient_id}/{key.key_version}-{digest}"
