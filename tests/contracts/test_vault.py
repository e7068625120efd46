"""The Vault port's acceptance suite, on every adapter."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from tests.einthoven.keychain_double import KeychainDouble

from einthoven.errors import KeyUnavailable
from einthoven.ports import Vault
from einthoven.vault_ios import KeychainVault
from einthoven.vault_keyring import KeyringVault
from einthoven.vault_limits import MAX_NAME_CHARACTERS, MAX_SECRET_BYTES
from einthoven.vault_memory import MemoryVault

SECRET = bytes(range(200, 232))

VaultMaker = Callable[[], Vault]
"""Opens the same vault each time, as an app does at each start."""


def in_memory() -> VaultMaker:
    vault = MemoryVault()
    return lambda: vault


def on_a_keyring() -> VaultMaker:
    pytest.importorskip("keyring")
    from tests.einthoven.keyring_doubles import ProcessKeyring

    backend = ProcessKeyring()
    return lambda: KeyringVault(backend=backend)


def on_a_keychain() -> VaultMaker:
    keychain = KeychainDouble()
    return lambda: KeychainVault(items=keychain)


@pytest.fixture(params=[in_memory, on_a_keyring, on_a_keychain])
def open_vault(request: pytest.FixtureRequest) -> VaultMaker:
    make: Callable[[], VaultMaker] = request.param
    return make()


def test_a_secret_is_what_was_put_now_and_at_the_next_start(open_vault: VaultMaker) -> None:
    vault = open_vault()
    vault.put("a", SECRET)

    assert vault.get("a") == SECRET
    assert open_vault().get("a") == SECRET


def test_a_secret_that_is_not_there_is_none(open_vault: VaultMaker) -> None:
    assert open_vault().get("a") is None


def test_a_secret_replaces_what_was_there_and_no_other(open_vault: VaultMaker) -> None:
    vault = open_vault()
    vault.put("a", b"first")
    vault.put("b", b"other")
    vault.put("a", SECRET)

    assert (vault.get("a"), vault.get("b")) == (SECRET, b"other")


def test_a_deleted_secret_is_gone_and_may_be_deleted_twice_and_put_again(open_vault: VaultMaker) -> None:
    vault = open_vault()
    vault.put("a", SECRET)
    vault.put("b", b"other")
    vault.delete("a")
    vault.delete("a")
    open_vault().delete("never there")

    assert (open_vault().get("a"), vault.get("b")) == (None, b"other")
    vault.put("a", b"again")
    assert open_vault().get("a") == b"again"


@pytest.mark.parametrize(
    "secret", [b"\0", b"\0" * 32, bytes(range(256)), b"\xff" * MAX_SECRET_BYTES, "é\n".encode()], ids=len
)
def test_any_bytes_come_back_as_they_were(open_vault: VaultMaker, secret: bytes) -> None:
    open_vault().put("a", secret)

    assert open_vault().get("a") == secret


@pytest.mark.parametrize("name", ["a", "x" * MAX_NAME_CHARACTERS, "store é/1 \"'", "kSecClass"])
def test_any_name_is_a_name(open_vault: VaultMaker, name: str) -> None:
    vault = open_vault()
    vault.put(name, SECRET)

    assert vault.get(name) == SECRET
    vault.delete(name)
    assert vault.get(name) is None


@pytest.mark.parametrize("secret", [b"", b"x" * (MAX_SECRET_BYTES + 1)], ids=["empty", "long"])
def test_a_secret_out_of_bounds_is_an_error_of_the_caller(open_vault: VaultMaker, secret: bytes) -> None:
    vault = open_vault()

    with pytest.raises(ValueError, match=f"1-{MAX_SECRET_BYTES} bytes"):
        vault.put("a", secret)
    assert vault.get("a") is None


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME_CHARACTERS + 1), "a\nb", "a\0b"])
def test_a_name_out_of_bounds_is_an_error_of_the_caller(open_vault: VaultMaker, name: str) -> None:
    vault = open_vault()
    for use in (lambda: vault.get(name), lambda: vault.put(name, SECRET), lambda: vault.delete(name)):
        with pytest.raises(ValueError, match="name of a secret"):
            use()


def test_a_vault_shows_no_secret(open_vault: VaultMaker) -> None:
    vault = open_vault()
    secret = secrets.token_bytes(32)
    vault.put("a", secret)

    shown = repr(vault) + str(vault)

    assert secret.hex() not in shown
    assert repr(secret) not in shown


def test_a_key_is_kept_in_it_and_destroyed_there(open_vault: VaultMaker) -> None:
    from einthoven.key_provider_vault import VaultKeyProvider

    wrapped = VaultKeyProvider(open_vault(), "key").wrap(SECRET, b"s" * 16)
    assert VaultKeyProvider(open_vault(), "key").unwrap(wrapped, b"s" * 16) == SECRET
    VaultKeyProvider(open_vault(), "key").destroy()

    assert open_vault().get("key") is None
    with pytest.raises(KeyUnavailable):
        VaultKeyProvider(open_vault(), "key").unwrap(wrapped, b"s" * 16)
