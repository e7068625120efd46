"""The detached signature of a model's manifest: what is signed, how it is written, who is believed.

``<name>.json.sig`` is ASCII, one line a signature after the first::

    einthoven model signature 1
    ed25519 <key id: 16 hex digits> <signature: 128 hex digits>

What is signed is ``SIGNED_PREFIX`` and then the manifest's bytes as they lie in the file, so that nothing has to be
parsed before the signature holds (Ed25519: RFC 8032). Several signatures let keys overlap while they are rotated.

It deliberately reads no file, signs nothing (``einthoven_conversion.signing`` does) and knows no manifest: bytes in,
the believed key out. The keys themselves are in ``model_signature_keys``.

Invariants:
    1. Nothing is believed without a signature by a trusted key that is not revoked.
    2. Every signature by a trusted key must hold: one that does not is tampering, whatever else is in the file.
    3. One list of signatures has one spelling, so a changed byte in the file is always refused.
    4. A revoked key or manifest stays refused, and a release key's oldest version stands, whatever keys an app adds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from einthoven.errors import InputError, ModelCorrupt, ModelUnverified

SIGNED_PREFIX: Final = b"einthoven model manifest 1\n"
"""Keeps a model's signature from being one of anything else."""
HEADER: Final = b"einthoven model signature 1\n"
MAX_SIGNATURES: Final = 8
MAX_SIGNATURE_FILE_BYTES: Final = 2_048
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_LINE: Final = re.compile(rb"ed25519 ([0-9a-f]{16}) ([0-9a-f]{128})\n")
_FILE: Final = re.compile(re.escape(HEADER) + rb"(?:" + _LINE.pattern + rb"){1,%d}" % MAX_SIGNATURES)
_KEY_TEXT: Final = re.compile(r"ed25519:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key whose signature makes a model believed.

    Attributes:
        public_key: Ed25519, 32 raw bytes (RFC 8032).
        oldest_version: Least version of a model that this key is believed for; raised when a release is withdrawn, so
            that an older signed one can't be put back.

    Raises:
        InputError: Not 32 bytes.
    """

    public_key: bytes
    oldest_version: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if len(self.public_key) != PUBLIC_KEY_BYTES:
            raise InputError(f"a public key has {PUBLIC_KEY_BYTES} bytes", "give the raw Ed25519 public key")

    @classmethod
    def from_text(cls, text: str) -> TrustedKey:
        """Read ``ed25519:`` and 64 hex digits, as ``einthoven-convert keygen`` prints it.

        Raises:
            InputError: Anything else.
        """
        match = _KEY_TEXT.fullmatch(text.strip())
        if match is None:
            raise InputError(
                "this is no public key of a model", "give ed25519: and 64 hex digits, as keygen printed it"
            )
        return cls(bytes.fromhex(match[1]))

    @property
    def text(self) -> str:
        """The form ``from_text`` reads."""
        return f"ed25519:{self.public_key.hex()}"

    @property
    def key_id(self) -> str:
        """First 8 bytes of the public key's SHA-256, hexadecimal."""
        return hashlib.sha256(self.public_key).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Revocation:
    """A key or a manifest that is believed no more.

    Attributes:
        revoked: A key id (16 hex digits) or a manifest's SHA-256 (64 hex digits).
        on: Date, ISO 8601.
        reason: For people, half a sentence.
    """

    revoked: str
    on: str
    reason: str


@dataclass(frozen=True, slots=True)
class Trust:
    """Who is believed.

    Attributes:
        keys: Whose signature counts.
        revocations: What is refused whoever signed it.
    """

    keys: tuple[TrustedKey, ...]
    revocations: tuple[Revocation, ...] = ()

    def with_keys(self, keys: Iterable[TrustedKey]) -> Trust:
        """The same and more keys; revocations stay."""
        return replace(self, keys=(*self.keys, *keys))


def signed_bytes(manifest_json: bytes) -> bytes:
    """What a signature is over."""
    return SIGNED_PREFIX + manifest_json


def write_signatures(signatures: Iterable[tuple[str, bytes]]) -> bytes:
    """The signature file for (key id, signature of 64 bytes) pairs."""
    return HEADER + b"".join(f"ed25519 {key_id} {signature.hex()}\n".encode() for key_id, signature in signatures)


def read_signatures(content: bytes) -> tuple[tuple[str, bytes], ...]:
    """The (key id, signature) pairs of a signature file.

    Raises:
        ModelUnverified: There is nothing in it.
        ModelCorrupt: Not of this layout, or a key in it twice.
    """
    if not content:
        raise ModelUnverified("the model is not signed", "install the package again, or sign the model you trained")
    if len(content) > MAX_SIGNATURE_FILE_BYTES or _FILE.fullmatch(content) is None:
        raise ModelCorrupt("the model's signature file is damaged", "install the package again")
    found = tuple((key_id.decode(), bytes.fromhex(text.decode())) for key_id, text in _LINE.findall(content))
    if len({key_id for key_id, _ in found}) != len(found):
        raise ModelCorrupt("the model's signature file names a key twice", "install the package again")
    return found


def believed_key(manifest_json: bytes, signature_file: bytes, trust: Trust) -> TrustedKey:
    """The trusted key that signed a manifest.

    Args:
        manifest_json: The manifest's bytes as they lie in the file.
        signature_file: The bytes of the file beside it; empty if there is none.
        trust: Who is believed.

    Returns:
        Of several, the one believed for the oldest versions: whoever has the file could leave out the others.

    Raises:
        ModelUnverified: Not signed, signed by nobody who is trusted, changed since, or revoked.
        ModelCorrupt: The signature file is damaged.
    """
    signatures = read_signatures(signature_file)
    revoked = {entry.revoked: entry for entry in trust.revocations}
    withdrawn = revoked.get(hashlib.sha256(manifest_json).hexdigest())
    if withdrawn is not None:
        raise _withdrawn("this model", withdrawn)
    # The first of a key counts: naming a release key again, with a lower oldest version, changes nothing.
    trusted = {key.key_id: key for key in reversed(trust.keys)}
    believed = []
    for key_id, signature in signatures:
        if key_id in revoked or key_id not in trusted:
            continue
        _check(trusted[key_id], signature, manifest_json)
        believed.append(trusted[key_id])
    if believed:
        return min(believed, key=lambda key: key.oldest_version)
    for key_id, _ in signatures:
        if key_id in revoked:
            raise _withdrawn("the key that signed the model", revoked[key_id])
    raise ModelUnverified(
        "the model is signed by a key that is not trusted here", "install the package again, or name the model's key"
    )


def _check(key: TrustedKey, signature: bytes, manifest_json: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, signed_bytes(manifest_json))
    except (InvalidSignature, ValueError) as error:
        raise ModelUnverified(
            "the model's manifest is not the one that was signed", "install the package again"
        ) from error


def _withdrawn(what: str, entry: Revocation) -> ModelUnverified:
    return ModelUnverified(f"{what} was revoked on {entry.on}: {entry.reason}", "update einthoven")
