"""Keys and anchors in a vault."""

from __future__ import annotations

import pytest

from einthoven.anchor_vault import VaultAnchor
from einthoven.errors import KeyUnavailable, StoreIOError
from einthoven.key_provider_vault import VaultKeyProvider
from einthoven.ports import MAX_ANCHOR_RECORD_BYTES
from einthoven.vault_key import VaultKey
from einthoven.vault_memory import MemoryVault

DATA_KEY = bytes(range(100, 132))
STORE_ID = bytes(range(16))


class ForgetfulVault(MemoryVault):
    """Says yes to everything and keeps nothing."""

    def put(self, name: str, secret: bytes) -> None:
        """Keep nothing."""


class StubbornVault(MemoryVault):
    """Never forgets."""

    def delete(self, name: str) -> None:
        """Delete nothing."""


class LockedVault:
    """One that the user has not unlocked."""

    def get(self, name: str) -> bytes | None:
        raise KeyUnavailable("the vault is locked", "unlock it")

    def put(self, name: str, secret: bytes) -> None:
        raise KeyUnavailable("the vault is locked", "unlock it")

    def delete(self, name: str) -> None:
        raise KeyUnavailable("the vault is locked", "unlock it")


def test_the_key_is_made_on_the_first_wrap_and_never_again() -> None:
    vault = MemoryVault()
    provider = VaultKeyProvider(vault, "store")
    assert vault.get("store") is None
    wrapped = provider.wrap(DATA_KEY, STORE_ID)
    made = vault.get("store")
    provider.wrap(DATA_KEY, STORE_ID)

    assert made is not None
    assert len(made) == 32
    assert vault.get("store") == made
    assert made not in wrapped


def test_two_stores_in_one_vault_have_two_keys() -> None:
    vault = MemoryVault()
    first, second = VaultKeyProvider(vault, "first"), VaultKeyProvider(vault, "second")
    wrapped = second.wrap(DATA_KEY, STORE_ID)
    first.wrap(DATA_KEY, STORE_ID)
    first.destroy()

    assert second.unwrap(wrapped, STORE_ID) == DATA_KEY


def test_a_vault_that_forgets_is_found_out_before_anything_is_encrypted() -> None:
    with pytest.raises(KeyUnavailable, match="holds no key"):
        VaultKeyProvider(ForgetfulVault(), "store").wrap(DATA_KEY, STORE_ID)


def test_a_vault_that_keeps_what_it_was_told_to_delete_is_found_out() -> None:
    vault = StubbornVault()
    provider = VaultKeyProvider(vault, "store")
    wrapped = provider.wrap(DATA_KEY, STORE_ID)

    with pytest.raises(KeyUnavailable, match="still holds"):
        provider.destroy()
    assert provider.unwrap(wrapped, STORE_ID) == DATA_KEY


@pytest.mark.parametrize("secret", [b"x", b"x" * 31, bytes(32)])
def test_an_entry_that_is_no_key_is_refused_and_left(secret: bytes) -> None:
    vault = MemoryVault()
    vault.put("store", secret)

    with pytest.raises(KeyUnavailable):
        VaultKey(vault, "store").read_or_make()
    assert vault.get("store") == secret


def test_a_locked_vault_is_what_is_said() -> None:
    provider = VaultKeyProvider(LockedVault(), "store")
    for use in (lambda: provider.wrap(DATA_KEY, STORE_ID), provider.destroy):
        with pytest.raises(KeyUnavailable, match="locked; unlock it"):
            use()


def test_an_anchor_keeps_the_last_durable_record_only() -> None:
    anchor = VaultAnchor(MemoryVault(), "store")
    assert anchor.read() is None
    anchor.write(b"passing", durable=False)
    assert anchor.read() is None
    anchor.write(b"first", durable=True)
    anchor.write(b"passing", durable=False)
    assert anchor.read() == b"first"
    anchor.write(b"r" * MAX_ANCHOR_RECORD_BYTES, durable=True)
    assert anchor.read() == b"r" * MAX_ANCHOR_RECORD_BYTES
    anchor.destroy()
    anchor.destroy()

    assert anchor.read() is None
    assert repr(anchor) == "VaultAnchor(name='store')"


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("record", [b"", b"r" * (MAX_ANCHOR_RECORD_BYTES + 1)], ids=len)
def test_an_anchor_s_record_out_of_bounds_is_an_error_of_the_caller(record: bytes, durable: bool) -> None:
    with pytest.raises(ValueError, match="record"):
        VaultAnchor(MemoryVault(), "store").write(record, durable=durable)


def test_an_anchor_in_a_locked_vault_is_an_error_of_the_store() -> None:
    anchor = VaultAnchor(LockedVault(), "store")
    for use, verb in (
        (anchor.read, "read"),
        (lambda: anchor.write(b"record", durable=True), "written"),
        (anchor.destroy, "destroyed"),
    ):
        with pytest.raises(StoreIOError, match=f"can't be {verb}: the vault is locked; unlock it"):
            use()
