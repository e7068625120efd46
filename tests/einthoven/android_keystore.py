"""A double of the Java classes of the Android Keystore, as pyjnius shows them; it encrypts for real."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class JavaException(Exception):
    """A Java exception on its way through Python."""

    def __init__(self, classname: str) -> None:
        super().__init__(f"JVM exception occurred: {classname}")
        self.classname = classname


def signed(values: bytes) -> list[int]:
    """Java's bytes."""
    return [value - 256 if value > 127 else value for value in values]


class AndroidDouble:
    """One phone: stands where the module ``jnius`` stands.

    Attributes:
        keys: Keys in the Keystore by alias.
        failing: Java exception to raise at the next use of the Keystore; ``None`` for none.
        keeps_deleted: Whether deleting does nothing.
        nonce_bytes: Length of the nonces that it draws.
    """

    JavaException = JavaException

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}
        self.specs: list[Spec] = []
        self.failing: str | None = None
        self.keeps_deleted = False
        self.nonce_bytes = 12
        self._classes: dict[str, Any] = {
            "java.security.KeyStore": _Static(lambda name: KeyStore(self, name)),
            "javax.crypto.KeyGenerator": _Static(lambda algorithm, name: KeyGenerator(self, algorithm, name)),
            "javax.crypto.Cipher": _Static(lambda transformation: Cipher(self, transformation)),
            "javax.crypto.spec.GCMParameterSpec": lambda tag_bits, nonce: (tag_bits, bytes(nonce)),
            "android.security.keystore.KeyGenParameterSpec$Builder": Spec,
        }

    @property
    def autoclass(self) -> Callable[[str], Any]:
        return self._classes.__getitem__

    def check(self) -> None:
        if self.failing is not None:
            raise JavaException(self.failing)


class _Static:
    def __init__(self, make: Callable[..., Any]) -> None:
        self.getInstance = make


class Spec:
    """KeyGenParameterSpec and its builder in one."""

    def __init__(self, alias: str, purposes: int) -> None:
        self.alias = alias
        self.purposes = purposes
        self.key_size = 0
        self.block_modes: tuple[str, ...] = ()
        self.paddings: tuple[str, ...] = ()

    def setKeySize(self, bits: int) -> Spec:
        self.key_size = bits
        return self

    def setBlockModes(self, *modes: str) -> Spec:
        self.block_modes = modes
        return self

    def setEncryptionPaddings(self, *paddings: str) -> Spec:
        self.paddings = paddings
        return self

    def build(self) -> Spec:
        return self


class KeyStore:
    def __init__(self, phone: AndroidDouble, name: str) -> None:
        assert name == "AndroidKeyStore"
        self.phone = phone
        self.loaded = False

    def load(self, parameter: None) -> None:
        self.phone.check()
        self.loaded = True

    def getKey(self, alias: str, password: None) -> str | None:
        assert self.loaded
        return alias if alias in self.phone.keys else None

    def containsAlias(self, alias: str) -> bool:
        assert self.loaded
        return alias in self.phone.keys

    def deleteEntry(self, alias: str) -> None:
        assert self.loaded
        if not self.phone.keeps_deleted:
            self.phone.keys.pop(alias, None)


class KeyGenerator:
    def __init__(self, phone: AndroidDouble, algorithm: str, name: str) -> None:
        assert (algorithm, name) == ("AES", "AndroidKeyStore")
        self.phone = phone
        self.spec: Spec | None = None

    def init(self, spec: Spec) -> None:
        self.spec = spec

    def generateKey(self) -> str:
        assert self.spec is not None
        self.phone.specs.append(self.spec)
        self.phone.keys[self.spec.alias] = secrets.token_bytes(self.spec.key_size // 8)
        return self.spec.alias


class Cipher:
    def __init__(self, phone: AndroidDouble, transformation: str) -> None:
        assert transformation == "AES/GCM/NoPadding"
        self.phone = phone
        self.associated = b""

    def init(self, mode: int, key: str, parameters: tuple[int, bytes] | None = None) -> None:
        self.cipher = AESGCM(self.phone.keys[key])
        self.encrypts = mode == 1
        if self.encrypts:
            assert parameters is None, "the Keystore draws the nonce itself"
            self.nonce = secrets.token_bytes(self.phone.nonce_bytes)
        else:
            assert parameters is not None
            assert parameters[0] == 128
            self.nonce = parameters[1]

    def updateAAD(self, associated: bytes) -> None:
        self.associated += bytes(associated)

    def getIV(self) -> list[int]:
        return signed(self.nonce)

    def doFinal(self, content: bytes) -> list[int]:
        if self.encrypts:
            return signed(self.cipher.encrypt(self.nonce, bytes(content), self.associated))
        try:
            return signed(self.cipher.decrypt(self.nonce, bytes(content), self.associated))
        except InvalidTag:
            raise JavaException("javax.crypto.AEADBadTagException") from None
