"""Vault on the desktop's keyring: Keychain on macOS, Credential Locker on Windows, Secret Service or KWallet on Linux.

Through the optional package ``keyring``. It picks a backend that encrypts and that is meant for use; it deliberately
takes none that keeps secrets in plain text or throws them away, and never falls back to a file of its own.

Invariants:
    1. Neither ``keyring.backends.fail`` and ``null``, nor anything of ``keyrings.alt`` (plain files, or a prompt on the
       terminal), nor a backend that calls itself not recommended (priority below 1) is used, even if it was asked for.
    2. Of several backends chained one after another one is used, always the same: a secret is where it was put.
    3. Secrets are text to a keyring, so they are kept in base64; an entry that is none is refused, not guessed at.
    4. Whatever a backend raises comes out as ``KeyUnavailable`` without its words, which may hold anything.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Final

from einthoven.errors import KeyUnavailable
from einthoven.vault_limits import checked_name, checked_secret

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE_NAME: Final = "einthoven"
"""What the keyring files our secrets under."""
MIN_PRIORITY: Final = 1.0
"""Least priority of a backend that its makers recommend (documentation of ``keyring``)."""

_REFUSED_MODULES: Final = ("keyring.backends.fail", "keyring.backends.null", "keyrings.alt")
_CHAINER: Final = "keyring.backends.chainer"
_UNLOCK: Final = "unlock the keyring of this desktop, or keep the key in a file (FileKeyProvider)"


class KeyringVault:
    """Secrets in the keyring of the user who is logged in."""

    def __init__(self, service: str = SERVICE_NAME, *, backend: KeyringBackend | None = None) -> None:
        """Choose a backend; nothing is read yet.

        Args:
            service: What to file the secrets under; one for each app.
            backend: One to use; ``None`` for the one that ``keyring`` is set up with.

        Raises:
            KeyUnavailable: ``keyring`` is not installed, or there is no backend that is fit for keys.
        """
        self._service = checked_name(service)
        self._backend = fit_backend(_configured_backend() if backend is None else backend)

    def get(self, name: str) -> bytes | None:
        """See ``Vault``."""
        checked_name(name)
        with _translated():
            text = self._backend.get_password(self._service, name)
        if text is None:
            return None
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise KeyUnavailable(
                f"the keyring's entry {name!r} is not one that this software made", "name another, or remove it"
            ) from error

    def put(self, name: str, secret: bytes) -> None:
        """See ``Vault``."""
        checked_name(name)
        text = base64.b64encode(checked_secret(secret)).decode()
        with _translated():
            self._backend.set_password(self._service, name, text)

    def delete(self, name: str) -> None:
        """See ``Vault``."""
        checked_name(name)
        with _translated():
            # Asked first: backends say "not there" and "not allowed" with one error.
            if self._backend.get_password(self._service, name) is not None:
                self._backend.delete_password(self._service, name)

    def __repr__(self) -> str:
        return f"KeyringVault({self._service!r}, backend={_class_name(self._backend)!r})"


def fit_backend(backend: KeyringBackend) -> KeyringBackend:
    """The backend itself, or of several chained ones the first that is fit for keys.

    Raises:
        KeyUnavailable: None is.
    """
    with _translated():
        chained = _CHAINER in _modules(backend)
        candidates = list(getattr(backend, "backends", ())) if chained else [backend]
    for candidate in candidates:
        if _is_fit(candidate):
            return candidate
    raise KeyUnavailable(
        f"the keyring {_class_name(backend)} does not protect what it keeps, or keeps nothing",
        "set up the keyring of this desktop, or keep the key in a file (FileKeyProvider)",
    )


def _is_fit(backend: KeyringBackend) -> bool:
    refused = tuple(f"{name}." for name in _REFUSED_MODULES)
    if any(f"{module}.".startswith(refused) for module in _modules(backend)):
        return False
    with _translated():
        return float(backend.priority) >= MIN_PRIORITY


def _configured_backend() -> KeyringBackend:
    try:
        keyring = import_module("keyring")
    except ImportError as error:
        raise KeyUnavailable(
            "the package keyring is not installed", "pip install 'einthoven[keyring]', or keep the key in a file"
        ) from error
    with _translated():
        backend: KeyringBackend = keyring.get_keyring()
    return backend


def _modules(backend: KeyringBackend) -> list[str]:
    """Where the backend and its ancestors are from: a plain-text backend under another name is one."""
    return [ancestor.__module__ for ancestor in type(backend).__mro__]


def _class_name(backend: KeyringBackend) -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Backends raise what lies below them: D-Bus, Win32 and socket errors have no common root.
        raise KeyUnavailable(f"the keyring does not answer ({type(error).__name__})", _UNLOCK) from error
