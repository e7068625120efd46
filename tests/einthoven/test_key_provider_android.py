"""The Android Keystore, on a double of its Java classes."""

from __future__ import annotations

import importlib.util

import pytest
from tests.einthoven.android_keystore import AndroidDouble

from einthoven.errors import KeyUnavailable, WrongKey
from einthoven.key_provider_android import AndroidKeyProvider

DATA_KEY = bytes(range(100, 132))
STORE_ID = bytes(range(16))


def test_the_key_is_made_once_for_gcm_only_and_usable_while_the_screen_is_locked() -> None:
    phone = AndroidDouble()
    provider = AndroidKeyProvider("store", bridge=phone)
    wraps = [provider.wrap(DATA_KEY, STORE_ID) for _ in range(2)]

    (spec,) = phone.specs
    assert (spec.alias, spec.purposes, spec.key_size) == ("store", 1 | 2, 256)
    assert (spec.block_modes, spec.paddings) == (("GCM",), ("NoPadding",))
    assert [provider.unwrap(wrapped, STORE_ID) for wrapped in wraps] == [DATA_KEY] * 2


def test_two_stores_have_two_keys_and_only_one_is_destroyed() -> None:
    phone = AndroidDouble()
    first, second = (AndroidKeyProvider(alias, bridge=phone) for alias in ("first", "second"))
    wrapped = second.wrap(DATA_KEY, STORE_ID)
    with pytest.raises(WrongKey):
        second.unwrap(first.wrap(DATA_KEY, STORE_ID), STORE_ID)
    first.destroy()

    assert set(phone.keys) == {"second"}
    assert second.unwrap(wrapped, STORE_ID) == DATA_KEY


def test_on_another_phone_the_key_is_said_to_be_missing() -> None:
    wrapped = AndroidKeyProvider("store", bridge=AndroidDouble()).wrap(DATA_KEY, STORE_ID)
    other = AndroidDouble()

    with pytest.raises(KeyUnavailable, match="holds no key 'store'"):
        AndroidKeyProvider("store", bridge=other).unwrap(wrapped, STORE_ID)
    assert other.keys == {}


def test_a_java_exception_is_one_clear_line_with_its_class() -> None:
    phone = AndroidDouble()
    provider = AndroidKeyProvider("store", bridge=phone)
    wrapped = provider.wrap(DATA_KEY, STORE_ID)
    phone.failing = "android.security.keystore.UserNotAuthenticatedException"

    for use in (
        lambda: provider.wrap(DATA_KEY, STORE_ID),
        lambda: provider.unwrap(wrapped, STORE_ID),
        provider.destroy,
    ):
        with pytest.raises(KeyUnavailable, match=r"UserNotAuthenticatedException; unlock the phone"):
            use()
    phone.failing = None
    assert provider.unwrap(wrapped, STORE_ID) == DATA_KEY


def test_a_keystore_that_keeps_what_it_was_told_to_delete_is_found_out() -> None:
    phone = AndroidDouble()
    provider = AndroidKeyProvider("store", bridge=phone)
    provider.wrap(DATA_KEY, STORE_ID)
    phone.keeps_deleted = True

    with pytest.raises(KeyUnavailable, match="still holds"):
        provider.destroy()
    phone.keeps_deleted = False
    provider.destroy()
    assert phone.keys == {}


def test_a_keystore_of_another_form_is_refused_before_anything_is_encrypted_with_it() -> None:
    phone = AndroidDouble()
    phone.nonce_bytes = 16

    with pytest.raises(KeyUnavailable, match="another form"):
        AndroidKeyProvider("store", bridge=phone).wrap(DATA_KEY, STORE_ID)


@pytest.mark.skipif(importlib.util.find_spec("jnius") is not None, reason="pyjnius is installed here")
def test_without_pyjnius_there_is_one_clear_line() -> None:
    with pytest.raises(KeyUnavailable, match="pyjnius is not installed"):
        AndroidKeyProvider("store")
