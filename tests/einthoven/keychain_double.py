"""A double of the Keychain's four functions that checks what it is asked, as the Keychain does."""

from __future__ import annotations

from einthoven.keychain_ios import (
    ERR_DUPLICATE_ITEM,
    ERR_ITEM_NOT_FOUND,
    ERR_SUCCESS,
    Constant,
    Query,
)

PRIMARY = {"kSecClass", "kSecAttrService", "kSecAttrAccount", "kSecAttrSynchronizable"}
ERR_PARAMETER = -50


class KeychainDouble:
    """One app's Keychain.

    Attributes:
        items: Attributes by (service, account).
        failing: ``OSStatus`` of every call; 0 for none.
        added_by_another: Secret that somebody else adds just before our next ``add``.
    """

    def __init__(self) -> None:
        self.items: dict[tuple[object, object], dict[str, object]] = {}
        self.failing = ERR_SUCCESS
        self.added_by_another: bytes | None = None

    def add(self, attributes: Query) -> int:
        if self.failing:
            return self.failing
        if self.added_by_another is not None:
            self.items[self._key(attributes)] = {**attributes, "kSecValueData": self.added_by_another}
            self.added_by_another = None
        if self._key(attributes) in self.items:
            return ERR_DUPLICATE_ITEM
        if set(attributes) != PRIMARY | {"kSecValueData", "kSecAttrAccessible"}:
            return ERR_PARAMETER
        self.items[self._key(attributes)] = dict(attributes)
        return ERR_SUCCESS

    def copy_matching(self, query: Query) -> tuple[int, bytes | None]:
        if self.failing:
            return self.failing, None
        if set(query) != PRIMARY | {"kSecReturnData", "kSecMatchLimit"} or query["kSecReturnData"] is not True:
            return ERR_PARAMETER, None
        item = self.items.get(self._key(query))
        if item is None:
            return ERR_ITEM_NOT_FOUND, None
        secret = item["kSecValueData"]
        assert isinstance(secret, bytes)
        return ERR_SUCCESS, secret

    def update(self, query: Query, changes: Query) -> int:
        if self.failing:
            return self.failing
        item = self.items.get(self._key(query))
        if item is None:
            return ERR_ITEM_NOT_FOUND
        item.update(changes)
        return ERR_SUCCESS

    def delete(self, query: Query) -> int:
        if self.failing:
            return self.failing
        return ERR_ITEM_NOT_FOUND if self.items.pop(self._key(query), None) is None else ERR_SUCCESS

    @staticmethod
    def _key(query: Query) -> tuple[object, object]:
        assert query["kSecClass"] == Constant("kSecClassGenericPassword")
        assert query["kSecAttrSynchronizable"] is False
        return query["kSecAttrService"], query["kSecAttrAccount"]
