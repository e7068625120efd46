"""Loads a model: signature, manifest, bytes and parts checked before any native parser sees them.

The signature is checked over the manifest's bytes as they lie in the file, then the manifest is decoded, then the bytes
of the model and of every part it names are compared with it (ADR 12).

It deliberately does not run a model (``runner_litert``), and has no way to load one that nobody trusted signed.

Invariants:
    1. A ``Model`` from here has a manifest that a trusted key signed, and bytes and parts that this manifest names.
    2. Anything else raises ``ModelCorrupt`` or ``ModelUnverified``; a truncated model never reaches LiteRT, which
       such bytes can kill.
    3. The parts that were checked are the ones that decide: ``einthoven_models`` reads each of its files once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from einthoven.errors import ModelCorrupt, ModelUnverified
from einthoven.model_manifest import (
    CLASSES,
    INSTALLED_PARTS,
    LABELS,
    MANIFEST_SCHEMA,
    MAX_MANIFEST_BYTES,
    MAX_MODEL_BYTES,
    MAX_PART_BYTES,
    OWN_PARTS,
    FrontEndEntry,
    Manifest,
    Model,
    Probability,
    SelfTest,
    Tensor,
    assemble,
    parse_manifest,
    version_numbers,
)
from einthoven.model_signature import MAX_SIGNATURE_FILE_BYTES, Trust, TrustedKey, believed_key
from einthoven.model_signature_keys import RELEASE_TRUST
from einthoven_models import read_resource

__all__ = [
    "CLASSES",
    "LABELS",
    "MANIFEST_SCHEMA",
    "MAX_MANIFEST_BYTES",
    "MAX_MODEL_BYTES",
    "FrontEndEntry",
    "Manifest",
    "Model",
    "ModelFiles",
    "Probability",
    "SelfTest",
    "Tensor",
    "TrustedKey",
    "load_model",
    "read_model_files",
    "verify_model",
]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's files, as yet unverified.

    Attributes:
        name: The model's name, without a suffix.
        content: ``<name>.tflite``.
        manifest: ``<name>.json``.
        signature: ``<name>.json.sig``; empty if there is none.
        parts: Every other file that decides, by name.
    """

    name: str
    content: bytes = field(repr=False)
    manifest: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    parts: Mapping[str, bytes] = field(repr=False)


def load_model(name: str = "rhythm", folder: Path | None = None, *, trusted_keys: Iterable[TrustedKey] = ()) -> Model:
    """Load and verify a model.

    Args:
        name: Which one.
        folder: Where ``<name>.tflite``, ``<name>.json`` and ``<name>.json.sig`` are; those shipped with the package, if
            not given.
        trusted_keys: Keys to believe beside the project's own, for an app that ships a model of its own.

    Raises:
        ModelCorrupt: A file is missing, truncated or of an unknown schema.
        ModelUnverified: Not signed by a trusted key, or not the bytes that were signed for.
    """
    return verify_model(read_model_files(name, folder), RELEASE_TRUST.with_keys(trusted_keys))


def read_model_files(name: str = "rhythm", folder: Path | None = None) -> ModelFiles:
    """Read a model's files, each up to its limit, and believe none of them.

    Raises:
        ModelCorrupt: No name of a model, or a file is missing; a missing signature is left to ``verify_model``.
    """
    if _NAME.fullmatch(name) is None:
        raise ModelCorrupt("this is no name of a model", "use lower-case letters, digits and underscores")
    try:
        content = _read(f"{name}.tflite", folder, MAX_MODEL_BYTES)
        manifest = _read(f"{name}.json", folder, MAX_MANIFEST_BYTES)
        parts = {part: _read(part, None, MAX_PART_BYTES) for part in INSTALLED_PARTS}
        parts |= {part: _read(part, folder, MAX_PART_BYTES) for part in OWN_PARTS}
    except OSError as error:
        raise ModelCorrupt(
            f"model {name!r}, its manifest or a part of it can't be read",
            "install the package again, or name the model's folder",
        ) from error
    try:
        signature = _read(f"{name}.json.sig", folder, MAX_SIGNATURE_FILE_BYTES)
    except OSError:
        signature = b""
    return ModelFiles(name, content, manifest, signature, parts)


def verify_model(files: ModelFiles, trust: Trust = RELEASE_TRUST) -> Model:
    """Check a model's files against each other and against those who are trusted.

    Args:
        files: All that belongs to it.
        trust: Whose signature counts.

    Raises:
        ModelCorrupt: The signature file or the manifest is not one, or not of a schema that this version reads.
        ModelUnverified: Not signed by a trusted key, withdrawn, or not the bytes that were signed for.
    """
    if max(len(files.content), len(files.manifest), *(len(part) for part in files.parts.values())) > MAX_MODEL_BYTES:
        raise ModelCorrupt("a file of the model is over 1 MB", "install the package again")
    key = believed_key(files.manifest, files.signature, trust)
    manifest = parse_manifest(files.manifest)
    if manifest.name != files.name:
        raise ModelUnverified("the model is signed as another one", "install the package again")
    if version_numbers(manifest.version) < key.oldest_version:
        raise ModelUnverified(
            f"the model's version {manifest.version} is older than this version of einthoven accepts",
            "install the package again",
        )
    return assemble(files.content, manifest, hashlib.sha256(files.manifest).digest(), files.parts)


def _read(file_name: str, folder: Path | None, limit_bytes: int) -> bytes:
    if folder is None:
        return read_resource(file_name)
    with (folder / file_name).open("rb") as stream:
        return stream.read(limit_bytes + 1)
