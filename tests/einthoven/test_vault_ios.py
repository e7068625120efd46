"""What is asked of the Keychain, on a double of its four functions."""

from __future__ import annotations

import sys

import pytest
from tests.einthoven.keychain_double import KeychainDouble

from einthoven.errors import KeyUnavailable
from einthoven.keychain_ios import Constant
from einthoven.vault_ios import KeychainVault

SECRET = bytes(range(200, 232))


def test_every_item_stays_on_this_device_and_is_readable_after_its_first_unlock() -> None:
    keychain = KeychainDouble()
    vault = KeychainVault("my app", items=keychain)
    vault.put("key", b"first")
    item = keychain.items["my app", "key"]
    item["kSecAttrAccessible"] = Constant("kSecAttrAccessibleAlways")  # as an older version may have left it
    vault.put("key", SECRET)

    assert keychain.items["my app", "key"] is item
    assert item == {
        "kSecClass": Constant("kSecClassGenericPassword"),
        "kSecAttrService": "my app",
        "kSecAttrAccount": "key",
        "kSecAttrSynchronizable": False,
        "kSecAttrAccessible": Constant("kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly"),
        "kSecValueData": SECRET,
    }


def test_one_that_somebody_else_adds_at_the_same_moment_is_replaced() -> None:
    keychain = KeychainDouble()
    keychain.added_by_another = b"theirs"
    vault = KeychainVault(items=keychain)

    vault.put("key", SECRET)

    assert vault.get("key") == SECRET


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(-25308, "unlock the device once"), (-34018, "entitlement"), (-25291, "no Keychain"), (-50, "result codes")],
)
def test_a_status_is_one_clear_line(status: int, remedy: str) -> None:
    keychain = KeychainDouble()
    vault = KeychainVault(items=keychain)
    vault.put("key", SECRET)
    keychain.failing = status

    for use in (lambda: vault.get("key"), lambda: vault.put("key", SECRET), lambda: vault.delete("key")):
        with pytest.raises(KeyUnavailable, match=f"status {status}.*{remedy}"):
            use()


@pytest.mark.skipif(sys.platform in ("darwin", "ios"), reason="this system has a Keychain")
def test_where_there_is_no_keychain_there_is_one_clear_line() -> None:
    with pytest.raises(KeyUnavailable, match="this system has no Keychain"):
        KeychainVault()
