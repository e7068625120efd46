"""Signed checkpoints: what the log was at a moment, in the form of C2SP's tlog-checkpoint and signed-note.

It deliberately reads no database and no file, and signs whatever it is given: ``checkpoint_keeper`` knows what.

A checkpoint is five lines::

    einthoven.audit/<tenant>
    <number of entries>
    <root of the tree, base64>

    — einthoven.audit/<tenant> <base64 of key id and Ed25519 signature>

Invariants:
    1. A note opens only with the key that signed it, for the origin that is expected.
    2. What is signed is the text up to and with the third line; nothing of it is taken before the signature is checked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from einthoven_server.audit.merkle import HASH_BYTES
from einthoven_server.errors import CheckpointRefused, KeyUnavailable

_ALGORITHM: Final = b"\x01"
"""Ed25519, in signed-note's table of signature types."""
_ID_BYTES: Final = 4
_SEED_BYTES: Final = 32
_NOTE: Final = re.compile(
    r"(?P<text>(?P<origin>[^\n]{1,200})\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<root>[A-Za-z0-9+/=]{44})\n)\n"
    r"— (?P<name>[^ \n+]{1,200}) (?P<signature>[A-Za-z0-9+/=]{92})\n"
)


class Checkpoint(NamedTuple):
    """What a log was.

    Attributes:
        origin: Whose log.
        size: Number of entries.
        root: The tree's hash, 32 bytes.
    """

    origin: str
    size: int
    root: bytes


class CheckpointVerifier:
    """Opens notes.

    Args:
        origin: Whose log, and the key's name.
        public_key: Ed25519, 32 bytes.
    """

    def __init__(self, origin: str, public_key: bytes) -> None:
        self.origin = origin
        self._public = Ed25519PublicKey.from_public_bytes(public_key)
        self._id = hashlib.sha256(origin.encode() + b"\n" + _ALGORITHM + public_key).digest()[:_ID_BYTES]
        self._octets = public_key

    @property
    def text(self) -> str:
        """The key for others to hold: a verifier key in signed-note's form."""
        key = base64.b64encode(_ALGORITHM + self._octets).decode()
        return f"{self.origin}+{self._id.hex()}+{key}"

    def open(self, note: str) -> Checkpoint:
        """Check a note's form and signature.

        Raises:
            CheckpointRefused: It is no note of this key's.
        """
        found = _NOTE.fullmatch(note)
        if found is None:
            raise CheckpointRefused("this is no checkpoint of an audit log", "give the note as it was published")
        if found["origin"] != self.origin or found["name"] != self.origin:
            raise CheckpointRefused("the checkpoint is of another log", "give one of this server's tenant")
        try:
            signature = base64.b64decode(found["signature"], validate=True)
            root = base64.b64decode(found["root"], validate=True)
            if len(root) != HASH_BYTES or signature[:_ID_BYTES] != self._id:
                raise CheckpointRefused(
                    "the checkpoint was signed with another key", "use the data folder that it was signed in"
                )
            self._public.verify(signature[_ID_BYTES:], found["text"].encode())
        except (binascii.Error, InvalidSignature) as error:
            raise CheckpointRefused(
                "the checkpoint's signature does not hold", "it was altered; find out who held it"
            ) from error
        return Checkpoint(self.origin, int(found["size"]), root)


class CheckpointSigner:
    """Signs checkpoints with a key that the database never sees.

    Args:
        origin: Whose log.
        seed: Ed25519, 32 bytes.
    """

    def __init__(self, origin: str, seed: bytes) -> None:
        self.__key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = CheckpointVerifier(origin, self.__key.public_key().public_bytes_raw())
        public = self.__key.public_key().public_bytes_raw()
        self._id = hashlib.sha256(origin.encode() + b"\n" + _ALGORITHM + public).digest()[:_ID_BYTES]

    def sign(self, size: int, root: bytes) -> str:
        """The note of a log of this size and root."""
        origin = self.verifier.origin
        text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        signature = self._id + self.__key.sign(text.encode())
        return f"{text}\n— {origin} {base64.b64encode(signature).decode()}\n"


def origin_of(tenant: str) -> str:
    """The name of a tenant's log."""
    return f"einthoven.audit/{tenant}"


def notes_in(text: str) -> list[str]:
    """Whatever has the form of a note in a text that holds many; nothing of it is trusted yet."""
    return [found.group() for found in _NOTE.finditer(text)]


def seed_of(text: bytes) -> bytes:
    """The seed in a key file: 64 hexadecimal digits.

    Raises:
        KeyUnavailable: The file is damaged.
    """
    try:
        seed = bytes.fromhex(text.decode("ascii").strip())
    except ValueError as error:
        raise KeyUnavailable("audit-key is damaged", "restore it from a backup") from error
    if len(seed) != _SEED_BYTES:
        raise KeyUnavailable(f"audit-key does not hold {_SEED_BYTES} bytes", "restore it from a backup")
    return seed
