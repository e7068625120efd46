"""The Keychain's four functions on iOS and macOS, called through ctypes. UNTESTED on a phone.

They are C functions of Security.framework on Core Foundation objects; pyobjus reaches Objective-C classes only, so it
can't call them. It deliberately knows no secret's meaning: see ``vault_ios``.

Invariants:
    1. Every Core Foundation object made here is released, also when a call fails.
    2. Constants are taken from the framework by name, never spelled out.
    3. No secret outlives its call in memory that Python does not own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from einthoven.errors import KeyUnavailable

CORE_FOUNDATION_PATH: Final = "/System/Library/Frameworks/CoreFoundation.framework/CoreFoundation"
"""Where the system keeps Core Foundation."""
SECURITY_PATH: Final = "/System/Library/Frameworks/Security.framework/Security"
"""Where the system keeps Security.framework."""
ERR_SUCCESS: Final = 0
"""``errSecSuccess``."""
ERR_DUPLICATE_ITEM: Final = -25299
"""``errSecDuplicateItem``."""
ERR_ITEM_NOT_FOUND: Final = -25300
"""``errSecItemNotFound``."""

_UTF_8: Final = 0x0800_0100
"""``kCFStringEncodingUTF8``."""


@dataclass(frozen=True, slots=True)
class Constant:
    """One of Security.framework's constants.

    Attributes:
        name: For example ``kSecClassGenericPassword``.
    """

    name: str


Query = Mapping[str, "str | bytes | bool | Constant"]
"""A Keychain dictionary; its keys are names of constants."""


class SecItems(Protocol):
    """The four functions of Security.framework, each giving an ``OSStatus``."""

    def add(self, attributes: Query) -> int:
        """``SecItemAdd``."""
        ...

    def copy_matching(self, query: Query) -> tuple[int, bytes | None]:
        """``SecItemCopyMatching`` for the item's data."""
        ...

    def update(self, query: Query, changes: Query) -> int:
        """``SecItemUpdate``."""
        ...

    def delete(self, query: Query) -> int:
        """``SecItemDelete``."""
        ...


class SecurityFramework:
    """The real ones."""

    def __init__(self, core_foundation_path: str = CORE_FOUNDATION_PATH, security_path: str = SECURITY_PATH) -> None:
        """Load the system's libraries.

        Raises:
            KeyUnavailable: It has none.
        """
        try:
            self._core = ctypes.CDLL(core_foundation_path)
            self._security = ctypes.CDLL(security_path)
        except OSError as error:
            raise KeyUnavailable(
                "this system has no Keychain", "keep the key in a file or another vault (FileKeyProvider)"
            ) from error
        pointer, index = ctypes.c_void_p, ctypes.c_long
        for library, name, result, arguments in (
            (self._core, "CFRelease", None, (pointer,)),
            (self._core, "CFDataCreate", pointer, (pointer, ctypes.c_char_p, index)),
            (self._core, "CFDataGetLength", index, (pointer,)),
            (self._core, "CFDataGetBytePtr", pointer, (pointer,)),
            (
                self._core,
                "CFStringCreateWithBytes",
                pointer,
                (pointer, ctypes.c_char_p, index, ctypes.c_uint32, ctypes.c_ubyte),
            ),
            (self._core, "CFDictionaryCreateMutable", pointer, (pointer, index, pointer, pointer)),
            (self._core, "CFDictionarySetValue", None, (pointer, pointer, pointer)),
            (self._security, "SecItemAdd", ctypes.c_int32, (pointer, pointer)),
            (self._security, "SecItemCopyMatching", ctypes.c_int32, (pointer, ctypes.POINTER(pointer))),
            (self._security, "SecItemUpdate", ctypes.c_int32, (pointer, pointer)),
            (self._security, "SecItemDelete", ctypes.c_int32, (pointer,)),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments

    def add(self, attributes: Query) -> int:
        """See ``SecItems``."""
        with self._dictionary(attributes) as dictionary:
            return int(self._security.SecItemAdd(dictionary, None))

    def copy_matching(self, query: Query) -> tuple[int, bytes | None]:
        """See ``SecItems``."""
        found = ctypes.c_void_p()
        with self._dictionary(query) as dictionary:
            status = int(self._security.SecItemCopyMatching(dictionary, ctypes.byref(found)))
        if not found.value:
            return status, None
        try:
            length = self._core.CFDataGetLength(found)
            return status, ctypes.string_at(self._core.CFDataGetBytePtr(found), length)
        finally:
            self._core.CFRelease(found)

    def update(self, query: Query, changes: Query) -> int:
        """See ``SecItems``."""
        with self._dictionary(query) as item, self._dictionary(changes) as changed:
            return int(self._security.SecItemUpdate(item, changed))

    def delete(self, query: Query) -> int:
        """See ``SecItems``."""
        with self._dictionary(query) as dictionary:
            return int(self._security.SecItemDelete(dictionary))

    @contextmanager
    def _dictionary(self, query: Query) -> Iterator[ctypes.c_void_p]:
        callbacks = (
            ctypes.addressof(ctypes.c_char.in_dll(self._core, f"kCFTypeDictionary{role}CallBacks"))
            for role in ("Key", "Value")
        )
        with ExitStack() as made:
            dictionary = self._made(made, self._core.CFDictionaryCreateMutable(None, 0, *callbacks))
            for name, value in query.items():
                self._core.CFDictionarySetValue(
                    dictionary, self._constant(self._security, name), self._value(made, value)
                )
            yield dictionary

    def _value(self, made: ExitStack, value: str | bytes | bool | Constant) -> ctypes.c_void_p:
        if isinstance(value, Constant):
            return self._constant(self._security, value.name)
        if isinstance(value, bool):
            return self._constant(self._core, "kCFBooleanTrue" if value else "kCFBooleanFalse")
        if isinstance(value, bytes):
            return self._made(made, self._core.CFDataCreate(None, value, len(value)))
        text = value.encode()
        return self._made(made, self._core.CFStringCreateWithBytes(None, text, len(text), _UTF_8, 0))

    def _made(self, made: ExitStack, address: int | None) -> ctypes.c_void_p:
        if not address:
            raise KeyUnavailable("the Keychain can't be asked: no memory", "close something, then try again")
        made.callback(self._core.CFRelease, ctypes.c_void_p(address))
        return ctypes.c_void_p(address)

    @staticmethod
    def _constant(library: ctypes.CDLL, name: str) -> ctypes.c_void_p:
        return ctypes.c_void_p.in_dll(library, name)
