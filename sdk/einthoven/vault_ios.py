"""Vault on the Keychain of iOS and macOS: items that never leave the device, readable after its first unlock.

What is asked of the Keychain and what its answers mean is here, and tested on a double; on a phone it is UNTESTED, and
so are the calls themselves (``keychain_ios``). It deliberately asks for no Touch ID or passcode at each use: a
recording goes on while the screen is locked.

Invariants:
    1. Every item is ``kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly`` and not synchronizable: no backup that is
       restored on another device has it, and no iCloud Keychain.
    2. An item is updated in place, never deleted and added, so a crash leaves the old secret or the new one.
    3. Whatever the Keychain answers comes out as a value or as ``KeyUnavailable``.
"""

from __future__ import annotations

from typing import Final

from einthoven.errors import KeyUnavailable
from einthoven.keychain_ios import (
    ERR_DUPLICATE_ITEM,
    ERR_ITEM_NOT_FOUND,
    ERR_SUCCESS,
    Constant,
    Query,
    SecItems,
    SecurityFramework,
)
from einthoven.vault_limits import checked_name, checked_secret

KEYCHAIN_SERVICE: Final = "einthoven"
"""``kSecAttrService`` of our items."""
_REMEDIES: Final = {
    -25308: "unlock the device once after it was started, then try again",  # errSecInteractionNotAllowed
    -25291: "this system has no Keychain; keep the key elsewhere",  # errSecNotAvailable
    -34018: "sign the app with the Keychain entitlement",  # errSecMissingEntitlement
}


class KeychainVault:
    """Secrets as generic passwords in the app's Keychain."""

    def __init__(self, service: str = KEYCHAIN_SERVICE, *, items: SecItems | None = None) -> None:
        """Name the service; the Keychain is not asked yet.

        Args:
            service: What to file the secrets under.
            items: The Keychain's functions; ``None`` for those of this system.

        Raises:
            KeyUnavailable: This system has no Security.framework.
        """
        self._service = checked_name(service)
        self._items = SecurityFramework() if items is None else items

    def get(self, name: str) -> bytes | None:
        """See ``Vault``."""
        status, secret = self._items.copy_matching(
            {**self._item(name), "kSecReturnData": True, "kSecMatchLimit": Constant("kSecMatchLimitOne")}
        )
        if status == ERR_ITEM_NOT_FOUND:
            return None
        _check(status)
        return secret

    def put(self, name: str, secret: bytes) -> None:
        """See ``Vault``."""
        item = self._item(name)
        kept: Query = {
            "kSecValueData": checked_secret(secret),
            "kSecAttrAccessible": Constant("kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly"),
        }
        status = self._items.update(item, kept)
        if status == ERR_ITEM_NOT_FOUND:
            status = self._items.add({**item, **kept})
            if status == ERR_DUPLICATE_ITEM:
                # Somebody else added it in between.
                status = self._items.update(item, kept)
        _check(status)

    def delete(self, name: str) -> None:
        """See ``Vault``."""
        status = self._items.delete(self._item(name))
        if status != ERR_ITEM_NOT_FOUND:
            _check(status)

    def _item(self, name: str) -> dict[str, str | bytes | bool | Constant]:
        return {
            "kSecClass": Constant("kSecClassGenericPassword"),
            "kSecAttrService": self._service,
            "kSecAttrAccount": checked_name(name),
            "kSecAttrSynchronizable": False,
        }

    def __repr__(self) -> str:
        return f"KeychainVault({self._service!r})"


def _check(status: int) -> None:
    if status != ERR_SUCCESS:
        remedy = _REMEDIES.get(status, "see the meaning of the number in Apple's Security framework result codes")
        raise KeyUnavailable(f"the Keychain answered with status {status}", remedy)
