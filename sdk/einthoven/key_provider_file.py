"""KeyProvider on a file: for headless boards and the demo, where there is no Keychain to ask.

The file's 32 bytes are the wrapping key. It deliberately has no passphrase: who can read the file and the store can
read what is in the store, so keep the file out of the store's backups.

Invariants:
    1. See ``key_file``: whole or absent, 0600, one for all who create it, and only a key file is ever destroyed.
    2. A file is made only to wrap a new store's key, or where a version 1 would have made it (``load``), never to
       unwrap: a new key could open nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from einthoven.errors import KeyUnavailable
from einthoven.key_file import KeyFile
from einthoven.keys import unwrap_raw, wrap_raw


class FileKeyProvider:
    """Wraps with a key from a file, and makes the file on first use if asked to.

    Attributes:
        destroy_is_final: ``True``, as long as nobody copied the file.
    """

    destroy_is_final: Final = True

    def __init__(self, path: Path | str, *, create: bool = False) -> None:
        """Name the file; nothing is read or made yet.

        Args:
            path: The key file. Keep it apart from the store, or a copy of the folder is a copy of both.
            create: Make it, and its folder, on the first ``wrap`` or ``load`` if there is none. Leave it off for a
                store that exists: its key can't be made anew.
        """
        self._path = Path(path)
        self._create = create
        self._destroyed = False

    def load(self) -> bytes:
        """Return the 32-byte key.

        Raises:
            KeyUnavailable: There is none, it is not a key file, or others can read it.
        """
        file = self._file()
        return file.read_or_make() if self._create else file.read()

    def wrap(self, data_key: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``."""
        return wrap_raw(self.load(), data_key, store_id)

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``."""
        return unwrap_raw(self._file().read(), wrapped, store_id)

    def destroy(self) -> None:
        """Overwrite and remove the file. Copies of it, and what flash memory keeps unseen, can't be reached from here.

        This provider makes no other key afterwards; a new one may.

        Raises:
            KeyUnavailable: The file is no key file, or can't be overwritten or removed.
        """
        KeyFile(self._path).destroy()
        self._destroyed = True

    def _file(self) -> KeyFile:
        if self._destroyed:
            raise KeyUnavailable(f"the key file {self._path} was destroyed", "make a new store with a new key")
        return KeyFile(self._path)

    def __repr__(self) -> str:
        return f"FileKeyProvider({str(self._path)!r}, create={self._create})"
