"""KeyProvider on the Android Keystore: an AES key that is made in secure hardware and never leaves it.

The store's data key goes in and comes out encrypted; this process never sees the wrapping key. Through pyjnius; tested
on a double of the Java classes, UNTESTED on a phone. It deliberately asks for no fingerprint at each use, and allows
use while the screen is locked: a recording goes on.

Needs Android 6 (API 23), the first with AES in the Keystore.

Invariants:
    1. The key is AES-256, usable for GCM only, made to wrap, never to unwrap: a new key could open nothing.
    2. The nonce is the Keystore's own random one; it refuses to be given one.
    3. A wrapped key is bound to its store as ``keys`` says.
    4. Every Java exception comes out as ``WrongKey`` (it does not open) or ``KeyUnavailable`` (anything else), without
       its words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final, Protocol

from einthoven.errors import KeyUnavailable
from einthoven.keys import (
    KEY_BYTES,
    KIND_ANDROID,
    NONCE_BYTES,
    TAG_BYTES,
    associated_data,
    checked_key,
    does_not_unwrap,
    split_wrapped,
    wrap_header,
)

KEYSTORE: Final = "AndroidKeyStore"
"""Name of the provider of keys."""
TRANSFORMATION: Final = "AES/GCM/NoPadding"
"""How the Keystore encrypts."""
PURPOSE_ENCRYPT: Final = 1
"""``KeyProperties.PURPOSE_ENCRYPT``."""
PURPOSE_DECRYPT: Final = 2
"""``KeyProperties.PURPOSE_DECRYPT``."""
ENCRYPT_MODE: Final = 1
"""``Cipher.ENCRYPT_MODE``."""
DECRYPT_MODE: Final = 2
"""``Cipher.DECRYPT_MODE``."""

_DOES_NOT_OPEN: Final = ("javax.crypto.AEADBadTagException", "javax.crypto.BadPaddingException")


class JavaBridge(Protocol):
    """What is used of the module ``jnius``."""

    @property
    def autoclass(self) -> Callable[[str], Any]:
        """A Java class by its full name."""
        ...

    @property
    def JavaException(self) -> type[Exception]:  # noqa: N802 - the module's own name
        """What a Java exception is raised as; has ``classname``."""
        ...


class AndroidKeyProvider:
    """Wraps with a key that never leaves the Android Keystore.

    Attributes:
        destroy_is_final: ``True``: no backup ever had the key.
    """

    destroy_is_final: Final = True

    def __init__(self, alias: str, *, bridge: JavaBridge | None = None) -> None:
        """Name the key; the Keystore is not asked yet.

        Args:
            alias: The key's name in the app's part of the Keystore; one for each store, or erasing one loses them all.
            bridge: The module ``jnius``, or a double of it.

        Raises:
            KeyUnavailable: ``jnius`` is not installed: this is no Android.
        """
        self._alias = alias
        self._bridge = _jnius() if bridge is None else bridge
        self._destroyed = False

    def wrap(self, data_key: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``; makes the key if there is none."""
        header = wrap_header(KIND_ANDROID)
        bound_to = associated_data(header, store_id)
        checked_key(data_key)
        with self._translated():
            key = self._key()
            if key is None:
                key = self._make_key()
            cipher = self._bridge.autoclass("javax.crypto.Cipher").getInstance(TRANSFORMATION)
            cipher.init(ENCRYPT_MODE, key)
            cipher.updateAAD(bound_to)
            sealed = _from_java(cipher.doFinal(data_key))
            nonce = _from_java(cipher.getIV())
        if len(nonce) != NONCE_BYTES or len(sealed) != KEY_BYTES + TAG_BYTES:
            raise KeyUnavailable(
                "this phone's Keystore encrypts in another form than Android prescribes", "keep the key elsewhere"
            )
        return header + nonce + sealed

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``."""
        header, sealed = split_wrapped(wrapped, KIND_ANDROID)
        bound_to = associated_data(header, store_id)
        with self._translated():
            key = self._key()
            if key is None:
                raise KeyUnavailable(
                    f"the Android Keystore holds no key {self._alias!r}",
                    "open the store on the phone, and in the app, that made it",
                )
            java = self._bridge.autoclass
            cipher = java("javax.crypto.Cipher").getInstance(TRANSFORMATION)
            nonce = java("javax.crypto.spec.GCMParameterSpec")(8 * TAG_BYTES, sealed[:NONCE_BYTES])
            cipher.init(DECRYPT_MODE, key, nonce)
            cipher.updateAAD(bound_to)
            data_key = _from_java(cipher.doFinal(sealed[NONCE_BYTES:]))
        return checked_key(data_key)

    def destroy(self) -> None:
        """Delete the key from the Keystore. This provider makes no other afterwards; a new one may.

        Raises:
            KeyUnavailable: The Keystore does not answer, or still has it.
        """
        with self._translated():
            keystore = self._keystore()
            keystore.deleteEntry(self._alias)
            if keystore.containsAlias(self._alias):
                raise KeyUnavailable(f"the Android Keystore still holds the key {self._alias!r}", "try again")
        self._destroyed = True

    def _keystore(self) -> Any:
        keystore = self._bridge.autoclass("java.security.KeyStore").getInstance(KEYSTORE)
        keystore.load(None)
        return keystore

    def _key(self) -> Any:
        if self._destroyed:
            raise KeyUnavailable(f"the Android key {self._alias!r} was destroyed", "make a new store with a new key")
        return self._keystore().getKey(self._alias, None)

    def _make_key(self) -> Any:
        java = self._bridge.autoclass
        builder = java("android.security.keystore.KeyGenParameterSpec$Builder")(
            self._alias, PURPOSE_ENCRYPT | PURPOSE_DECRYPT
        )
        builder.setKeySize(8 * KEY_BYTES)
        builder.setBlockModes("GCM")
        builder.setEncryptionPaddings("NoPadding")
        generator = java("javax.crypto.KeyGenerator").getInstance("AES", KEYSTORE)
        generator.init(builder.build())
        return generator.generateKey()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._bridge.JavaException as error:
            java_class = str(getattr(error, "classname", "an exception"))
            if java_class in _DOES_NOT_OPEN:
                raise does_not_unwrap() from error
            raise KeyUnavailable(
                f"the Android Keystore answered with {java_class}", "unlock the phone once, then try again"
            ) from error

    def __repr__(self) -> str:
        return f"AndroidKeyProvider({self._alias!r})"


def _from_java(values: Iterable[int]) -> bytes:
    """Java's bytes are signed; pyjnius hands them over so in some of its versions."""
    return bytes(value & 0xFF for value in values)


def _jnius() -> JavaBridge:
    try:
        bridge: JavaBridge = import_module("jnius")
    except ImportError as error:
        raise KeyUnavailable(
            "the package pyjnius is not installed, so there is no Android Keystore", "use another key provider"
        ) from error
    return bridge
