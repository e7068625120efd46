"""Single pages of a SQLCipher 4 file: proved and decrypted one by one, without the library. Pure over bytes.

SQLCipher refuses a file whose first page it can't read, and reads a page of zeros as if nothing had been written to
it. To salvage what is whole, and to look at every page of a file, pages are read here. What lies in the write-ahead
log (``sqlcipher_log``) stands for what lies in the file.

Layout of a page (SQLCipher design, zetetic.net/sqlcipher/design): ciphertext, AES-256-CBC, 4,016 bytes; initialization
vector, 16; HMAC-SHA512 over ciphertext, vector and page number (little endian, 32 bits), 64. Page 1 begins with the
16-byte salt in the place of SQLite's magic; that is not under the HMAC, but the HMAC's key is derived from it. The key
is raw: no derivation, and two rounds of PBKDF2 for the HMAC's key.

It deliberately opens no file, writes nothing, and knows no table.

Invariants:
    1. A page that is given out was written under this key, for this file's salt and for this page number.
    2. Whatever the bytes, the only exception is ``DamagedPage``.

Stated limit: an older version of the same page proves itself as well (``store_check`` says how that is found).
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from einthoven.keys import checked_key
from einthoven.sqlcipher_log import PAGE_BYTES, LoggedPages
from einthoven.sqlite_pages import ByteSource, DamagedPage

SALT_BYTES: Final = 16
"""Salt at the front of the file, public."""
RESERVED_BYTES: Final = 80
"""End of each page: initialization vector and HMAC."""
USABLE_BYTES: Final = PAGE_BYTES - RESERVED_BYTES
"""What SQLite lays out."""
SQLITE_MAGIC: Final = b"SQLite format 3\x00"
"""What the salt stands in the place of."""

_VECTOR_BYTES: Final = 16
_HMAC_SALT_MASK: Final = 0x3A
_HMAC_KEY_ROUNDS: Final = 2
_MAX_PAGES: Final = 2**32 - 2


class PageCipher:
    """Proves and decrypts pages of one file."""

    def __init__(self, data_key: bytes, salt: bytes) -> None:
        """Derive the key of the HMACs.

        Args:
            data_key: The raw key, 32 bytes.
            salt: The file's salt, 16 bytes, from its first bytes or from where that was noted.

        Raises:
            KeyUnavailable: The key is none.
            ValueError: The salt's length is wrong.
        """
        if len(salt) != SALT_BYTES:
            raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
        self._algorithm = algorithms.AES(checked_key(data_key))
        mask = bytes(byte ^ _HMAC_SALT_MASK for byte in salt)
        hmac_key = hashlib.pbkdf2_hmac("sha512", data_key, mask, _HMAC_KEY_ROUNDS, len(data_key))
        # Keyed once; each page takes a copy.
        self._mac = hmac.new(hmac_key, digestmod="sha512")

    def proves(self, number: int, stored: bytes) -> bool:
        """Whether these bytes were written as this page under this key and salt."""
        if len(stored) != PAGE_BYTES or not 1 <= number <= _MAX_PAGES:
            return False
        mac = self._mac.copy()
        mac.update(stored[_start(number) : USABLE_BYTES + _VECTOR_BYTES])
        mac.update(struct.pack("<I", number))
        return hmac.compare_digest(mac.digest(), stored[USABLE_BYTES + _VECTOR_BYTES :])

    def decrypt(self, number: int, stored: bytes) -> bytes:
        """A page's content.

        Args:
            number: From 1.
            stored: The page as it lies in the file, ``PAGE_BYTES`` long.

        Returns:
            ``USABLE_BYTES`` bytes; page 1 begins with SQLite's magic.

        Raises:
            DamagedPage: They were not written as this page under this key and salt.
        """
        if not self.proves(number, stored):
            raise DamagedPage(number, "is not what was written")
        vector = stored[USABLE_BYTES : USABLE_BYTES + _VECTOR_BYTES]
        decryptor = Cipher(self._algorithm, modes.CBC(vector)).decryptor()
        content = decryptor.update(stored[_start(number) : USABLE_BYTES]) + decryptor.finalize()
        return SQLITE_MAGIC + content if number == 1 else content


class CipherPages:
    """The pages of a SQLCipher file with its log, as ``sqlite_pages.Pages``.

    Attributes:
        log: What its write-ahead log holds, if there is one.
        n_pages: See ``Pages``.
    """

    def __init__(self, file: ByteSource, cipher: PageCipher, log: LoggedPages | None = None) -> None:
        """Take the file as it is now; nothing is read before it is asked for, but page 1.

        Args:
            file: The database file.
            cipher: For its key and salt.
            log: What its write-ahead log holds, if there is one.
        """
        self._file = file
        self._cipher = cipher
        self.log = log
        self.n_pages = self._count()

    @property
    def usable_bytes(self) -> int:
        """See ``Pages``."""
        return USABLE_BYTES

    @property
    def n_file_bytes(self) -> int:
        """Bytes of the database file itself."""
        return self._file.n_bytes

    def stored(self, number: int) -> bytes:
        """A page as it is stored, in the log or else in the file.

        Raises:
            DamagedPage: It is not there, or the log holds a newer one that is not whole.
        """
        logged = None if self.log is None else self.log.stored(number)
        if logged is not None:
            return logged
        if not 1 <= number <= self.n_pages:
            raise DamagedPage(number, "does not exist")
        stored = self._file.read_at((number - 1) * PAGE_BYTES, PAGE_BYTES)
        if len(stored) != PAGE_BYTES:
            raise DamagedPage(number, "was cut off")
        return stored

    def page(self, number: int) -> bytes:
        """See ``Pages``.

        Raises:
            DamagedPage: It is not what was written, or not there.
        """
        return self._cipher.decrypt(number, self.stored(number))

    @property
    def n_present(self) -> int:
        """Pages that there is room for in file and log; more can't be whole, whatever page 1 says."""
        return min(self.n_pages, -(-self._file.n_bytes // PAGE_BYTES) + (self.log.n_frames if self.log else 0))

    def whole(self, number: int) -> bool:
        """Whether a page is what was written; it is not decrypted."""
        try:
            return self._cipher.proves(number, self.stored(number))
        except DamagedPage:
            return False

    def salt_differs(self, salt: bytes) -> bool:
        """Whether the file does not begin with this salt, whatever its log holds."""
        return self._file.read_at(0, SALT_BYTES) != salt

    def _count(self) -> int:
        """Pages that there should be: the log's word, else page 1's, else what the file has room for."""
        in_file = -(-self._file.n_bytes // PAGE_BYTES)
        if self.log is not None and self.log.n_pages:
            return self.log.n_pages
        try:
            said = int.from_bytes(self._cipher.decrypt(1, self._file.read_at(0, PAGE_BYTES))[28:32], "big")
        except DamagedPage:
            return in_file
        return max(said, in_file)


def _start(number: int) -> int:
    return SALT_BYTES if number == 1 else 0
