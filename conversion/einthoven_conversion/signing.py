"""Makes signing keys, and signs a model's folder: names its parts in the manifest, then signs the manifest's bytes.

The private key is a PEM file (PKCS 8) that only its owner can read, and never lies in the repository (ADR 12).

It deliberately trusts nobody: what a signature is worth is settled in ``einthoven.model_signature``.

Invariants:
    1. No key is ever overwritten, and none that others can read is used.
    2. The signature is written last: a run that is broken off leaves a model that is refused.
    3. What is signed is loaded as the SDK loads it before the command says it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from einthoven.errors import ModelCorrupt
from einthoven.model_manifest import Manifest, Model
from einthoven.model_signature import Trust, TrustedKey, signed_bytes, write_signatures
from einthoven.models import read_model_files, verify_model
from einthoven.private_files import OTHERS_MODE_MASK, create_private_file
from einthoven_conversion.errors import SigningKeyError
from einthoven_conversion.manifests import manifest_bytes, part_digests, write_whole

MAX_KEY_FILE_BYTES = 4_096


def make_key(path: Path) -> TrustedKey:
    """Make a signing key in a new file, 0600, and return its public half.

    Raises:
        SigningKeyError: The file exists, or can't be written.
    """
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        create_private_file(path, pem)
    except FileExistsError as error:
        raise SigningKeyError("the key file exists already", "name a new one; a key is never overwritten") from error
    except OSError as error:
        raise SigningKeyError("the key file can't be written", "name a file in a folder that you can write") from error
    return public_half(private)


def read_key(path: Path) -> Ed25519PrivateKey:
    """Read a signing key.

    Raises:
        SigningKeyError: No such file, no Ed25519 key in it, or others can read it.
    """
    try:
        with path.open("rb") as stream:
            if path.stat().st_mode & OTHERS_MODE_MASK:
                raise SigningKeyError("others can read the key file", "chmod 600 it, and think of replacing the key")
            pem = stream.read(MAX_KEY_FILE_BYTES)
        private = serialization.load_pem_private_key(pem, password=None)
    except OSError as error:
        raise SigningKeyError("the key file can't be read", "make one with `einthoven-convert keygen`") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningKeyError("the key file holds no usable key", "make one with `einthoven-convert keygen`") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SigningKeyError("the key is not an Ed25519 key", "make one with `einthoven-convert keygen`")
    return private


def public_half(private: Ed25519PrivateKey) -> TrustedKey:
    """What those have to trust who are to load what this key signs."""
    return TrustedKey(private.public_key().public_bytes_raw())


def sign(manifest_json: bytes, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """The signature file for a manifest: one signature a key."""
    message = signed_bytes(manifest_json)
    return write_signatures([(public_half(key).key_id, key.sign(message)) for key in keys])


def sign_folder(folder: Path, keys: Sequence[Ed25519PrivateKey], name: str = "rhythm") -> Model:
    """Name the parts as they are now in a folder's manifest, and sign it; older signatures go.

    Args:
        folder: Where ``<name>.tflite`` and ``<name>.json`` are.
        keys: Whose signatures it gets; several while one key replaces another.
        name: Which model.

    Returns:
        The model, loaded as an SDK does that trusts these keys.

    Raises:
        ModelError: The files are no model.
    """
    files = read_model_files(name, folder)
    try:
        manifest = msgspec.json.decode(files.manifest, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelCorrupt("the model's manifest is damaged", "convert the model again") from error
    manifest_json = manifest_bytes(msgspec.structs.replace(manifest, parts=part_digests(files.parts)))
    signature = folder / f"{name}.json.sig"
    signature.unlink(missing_ok=True)
    write_whole(folder / f"{name}.json", manifest_json)
    write_whole(signature, sign(manifest_json, keys))
    return verify_model(read_model_files(name, folder), Trust(tuple(public_half(key) for key in keys)))
