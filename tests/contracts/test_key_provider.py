"""The KeyProvider port's acceptance suite, on every adapter."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.einthoven.android_keystore import AndroidDouble

from einthoven.errors import KeyUnavailable, StoreError, WrongKey
from einthoven.key_provider_android import AndroidKeyProvider
from einthoven.key_provider_file import FileKeyProvider
from einthoven.key_provider_passphrase import PassphraseKeyProvider
from einthoven.key_provider_vault import VaultKeyProvider
from einthoven.keys import StaticKeyProvider
from einthoven.passphrases import Argon2Cost
from einthoven.ports import HoldsRawKey, KeyProvider
from einthoven.vault_memory import MemoryVault

DATA_KEY = bytes(range(100, 132))
STORE_ID = bytes(range(16))
PASSPHRASE = "mijn snaar-galvanometer"
CHEAP = Argon2Cost(memory_kib=32, iterations=1, lanes=1)

ProviderMaker = Callable[[], KeyProvider]
"""Makes a provider for the same wrapping key each time, as an app does at each start."""


def from_file(folder: Path) -> ProviderMaker:
    FileKeyProvider(folder / "key", create=True).load()
    return lambda: FileKeyProvider(folder / "key")


def from_memory(folder: Path) -> ProviderMaker:
    key = secrets.token_bytes(32)
    return lambda: StaticKeyProvider(key)


def from_vault(folder: Path) -> ProviderMaker:
    vault = MemoryVault()
    return lambda: VaultKeyProvider(vault, "wrapping key")


def from_passphrase(folder: Path) -> ProviderMaker:
    return lambda: PassphraseKeyProvider(PASSPHRASE, None, cost=CHEAP)


def from_passphrase_and_file(folder: Path) -> ProviderMaker:
    return lambda: PassphraseKeyProvider(PASSPHRASE, folder / "half", cost=CHEAP)


def from_passphrase_and_vault(folder: Path) -> ProviderMaker:
    vault = MemoryVault()
    return lambda: PassphraseKeyProvider(PASSPHRASE, vault, half_name="half", cost=CHEAP)


def from_android(folder: Path) -> ProviderMaker:
    phone = AndroidDouble()
    return lambda: AndroidKeyProvider("einthoven", bridge=phone)


MAKERS = [
    from_file,
    from_memory,
    from_vault,
    from_passphrase,
    from_passphrase_and_file,
    from_passphrase_and_vault,
    from_android,
]
FINAL_MAKERS = [maker for maker in MAKERS if maker not in (from_memory, from_passphrase)]


@pytest.fixture(params=MAKERS)
def make_provider(request: pytest.FixtureRequest, tmp_path: Path) -> ProviderMaker:
    maker: Callable[[Path], ProviderMaker] = request.param
    return maker(tmp_path)


def test_what_was_wrapped_is_unwrapped_now_and_at_the_next_start(make_provider: ProviderMaker) -> None:
    provider = make_provider()
    wrapped = provider.wrap(DATA_KEY, STORE_ID)

    assert provider.unwrap(wrapped, STORE_ID) == DATA_KEY
    assert make_provider().unwrap(wrapped, STORE_ID) == DATA_KEY


def test_two_wraps_of_one_key_differ_and_show_nothing_of_it(make_provider: ProviderMaker) -> None:
    provider = make_provider()
    wraps = [provider.wrap(DATA_KEY, STORE_ID) for _ in range(8)]

    # Not one nonce, nor one block of ciphertext, is seen twice.
    assert len({wrapped[-60:-48] for wrapped in wraps}) == len({wrapped[-48:-16] for wrapped in wraps}) == len(wraps)
    assert all(DATA_KEY[i : i + 4] not in wrapped for wrapped in wraps for i in range(29))


def test_a_key_wrapped_for_another_store_is_refused(make_provider: ProviderMaker) -> None:
    provider = make_provider()
    wrapped = provider.wrap(DATA_KEY, STORE_ID)

    for other in (bytes(16), STORE_ID[:15] + b"\xff"):
        with pytest.raises(WrongKey):
            provider.unwrap(wrapped, other)


def test_a_flipped_bit_in_any_byte_is_refused(make_provider: ProviderMaker) -> None:
    provider = make_provider()
    wrapped = provider.wrap(DATA_KEY, STORE_ID)

    for position in range(len(wrapped)):
        damaged = bytearray(wrapped)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(WrongKey):
            provider.unwrap(bytes(damaged), STORE_ID)


def test_a_wrapped_key_that_was_cut_off_or_grew_is_refused(make_provider: ProviderMaker) -> None:
    provider = make_provider()
    wrapped = provider.wrap(DATA_KEY, STORE_ID)

    for damaged in [wrapped[:length] for length in range(len(wrapped))] + [wrapped + b"\0", b"\0" + wrapped]:
        with pytest.raises(WrongKey):
            provider.unwrap(damaged, STORE_ID)


@pytest.mark.parametrize("other", MAKERS)
def test_what_another_provider_wrapped_is_refused(
    make_provider: ProviderMaker, other: Callable[[Path], ProviderMaker], tmp_path: Path
) -> None:
    provider = make_provider()
    provider.wrap(DATA_KEY, STORE_ID)
    (tmp_path / "other").mkdir()
    # Another key of every kind; the same passphrase is the same key, so it gets another one.
    foreign = (
        PassphraseKeyProvider(PASSPHRASE + "!", None, cost=CHEAP)
        if other is from_passphrase
        else other(tmp_path / "other")()
    )

    with pytest.raises(WrongKey):
        provider.unwrap(foreign.wrap(DATA_KEY, STORE_ID), STORE_ID)


def test_a_destroyed_key_is_unavailable_and_may_be_destroyed_twice(make_provider: ProviderMaker) -> None:
    provider = make_provider()
    wrapped = provider.wrap(DATA_KEY, STORE_ID)
    provider.destroy()
    provider.destroy()

    with pytest.raises(KeyUnavailable):
        provider.unwrap(wrapped, STORE_ID)
    with pytest.raises(KeyUnavailable):
        provider.wrap(DATA_KEY, STORE_ID)
    if isinstance(provider, HoldsRawKey):
        with pytest.raises(KeyUnavailable):
            provider.load()


def test_a_key_that_was_never_used_can_be_destroyed(make_provider: ProviderMaker) -> None:
    provider = make_provider()
    provider.destroy()

    with pytest.raises(KeyUnavailable):
        provider.wrap(DATA_KEY, STORE_ID)


@pytest.mark.parametrize("maker", FINAL_MAKERS)
def test_a_backup_of_the_wrapped_key_stays_shut_once_its_key_was_destroyed(
    maker: Callable[[Path], ProviderMaker], tmp_path: Path
) -> None:
    make_provider = maker(tmp_path)
    backup = make_provider().wrap(DATA_KEY, STORE_ID)
    make_provider().destroy()

    with pytest.raises(KeyUnavailable):
        make_provider().unwrap(backup, STORE_ID)
    if maker is not from_file:  # which was told to make none
        again = make_provider()
        again.wrap(DATA_KEY, STORE_ID)
        with pytest.raises(WrongKey):
            again.unwrap(backup, STORE_ID)


def test_whether_destroying_is_final_is_said_and_true(make_provider: ProviderMaker) -> None:
    provider = make_provider()
    backup = provider.wrap(DATA_KEY, STORE_ID)
    provider.destroy()
    at_next_start = make_provider()

    if provider.destroy_is_final:
        with pytest.raises(StoreError):
            at_next_start.unwrap(backup, STORE_ID)
    else:
        assert at_next_start.unwrap(backup, STORE_ID) == DATA_KEY


@pytest.mark.parametrize("maker", FINAL_MAKERS)
def test_unwrapping_makes_no_key(maker: Callable[[Path], ProviderMaker], tmp_path: Path) -> None:
    """A new key could open nothing; it would only hide that the old one is lost."""
    make_provider = maker(tmp_path)
    wrapped = make_provider().wrap(DATA_KEY, STORE_ID)
    make_provider().destroy()
    before = sorted(tmp_path.rglob("*"))

    for _ in range(2):
        # With a key that the first call had made, the second would be WrongKey.
        with pytest.raises(KeyUnavailable):
            make_provider().unwrap(wrapped, STORE_ID)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("key", [b"", b"k" * 31, DATA_KEY + b"x", b"\0" * 32], ids=["none", "short", "long", "zeros"])
def test_what_is_no_key_is_not_wrapped(make_provider: ProviderMaker, key: bytes) -> None:
    with pytest.raises(KeyUnavailable) as refused:
        make_provider().wrap(key, STORE_ID)

    assert "\n" not in str(refused.value)
    assert "kkk" not in str(refused.value)


@pytest.mark.parametrize("store_id", [b"", b"s" * 15, b"s" * 17])
def test_what_is_no_store_id_is_an_error_of_the_caller(make_provider: ProviderMaker, store_id: bytes) -> None:
    wrapped = make_provider().wrap(DATA_KEY, STORE_ID)

    with pytest.raises(ValueError, match="store id"):
        make_provider().wrap(DATA_KEY, store_id)
    with pytest.raises(ValueError, match="store id"):
        make_provider().unwrap(wrapped, store_id)


def test_a_provider_and_its_errors_show_no_key_and_no_passphrase(make_provider: ProviderMaker, tmp_path: Path) -> None:
    provider = make_provider()
    wrapped = provider.wrap(DATA_KEY, STORE_ID)
    with pytest.raises(WrongKey) as refused:
        provider.unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]), STORE_ID)
    shown = repr(provider) + str(provider) + str(refused.value)
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    kept += [provider.load()] if isinstance(provider, HoldsRawKey) else []

    assert "\n" not in str(refused.value)
    for secret in [DATA_KEY, *kept]:
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    assert not any(word in shown for word in PASSPHRASE.split())


@pytest.mark.parametrize("maker", [from_file, from_memory])
def test_a_raw_key_is_the_same_each_time(maker: Callable[[Path], ProviderMaker], tmp_path: Path) -> None:
    provider = maker(tmp_path)()

    assert isinstance(provider, HoldsRawKey)
    assert provider.load() == provider.load()
    assert len(provider.load()) == 32


@pytest.mark.parametrize("maker", [m for m in MAKERS if m not in (from_file, from_memory)])
def test_a_provider_that_never_encrypted_a_store_itself_holds_no_raw_key(
    maker: Callable[[Path], ProviderMaker], tmp_path: Path
) -> None:
    assert not isinstance(maker(tmp_path)(), HoldsRawKey)


@pytest.mark.parametrize("key", [b"", b"k" * 31, DATA_KEY + b"x", b"\0" * 32], ids=["none", "short", "long", "zeros"])
def test_what_is_no_key_is_refused_in_one_line_without_its_bytes(key: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(key)

    for load in (FileKeyProvider(path).load, lambda: StaticKeyProvider(key).load()):
        with pytest.raises(KeyUnavailable) as refused:
            load()
        assert "\n" not in str(refused.value)
        assert "kkk" not in str(refused.value)
