"""What a model's manifest says, as checked values, and the verified model itself. Pure.

The manifest names the SHA-256 of everything that decides a result: of the ``.tflite`` and, as ``parts``, of every table
beside it. Its own SHA-256 is therefore the one digest that a result has to carry (ADR 12).

It deliberately reads no file and checks no signature (``einthoven.models`` and ``einthoven.model_signature`` do), and
runs no model (``runner_litert``).

Invariants:
    1. A ``Manifest`` from ``parse_manifest`` is of the known schema and describes a model that this SDK can run.
    2. It names exactly the parts that this SDK decides with: one left out could be exchanged unseen, one too many
       would not be used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec

from einthoven.errors import ModelCorrupt, ModelUnverified
from einthoven.frontend import FRONT_END_VERSION
from einthoven.resampling import MODEL_RATE_HZ, FrontEndCoefficients
from einthoven.results import Rhythm
from einthoven.verdict import Verdict, read_verdict

MANIFEST_SCHEMA: Final = 2
"""1 had no parts, and was not signed."""
MAX_MODEL_BYTES: Final = 1_000_000
MAX_MANIFEST_BYTES: Final = 1_000_000
MAX_PART_BYTES: Final = 1_000_000
MAX_STATE_BYTES: Final = 8_192
CLASSES: Final = len(Rhythm)
LABELS: Final = ("N", "A", "O", "~")
"""What the manifest must list: the classes in the order of ``Rhythm``."""
INSTALLED_PARTS: Final = ("beats.json", "quality.json", "beat_classes.json")
"""Tables that decide with every model: they come with the package, wherever the model is."""
OWN_PARTS: Final[tuple[str, ...]] = ("verdict.json",)
"""Tables that belong to one model: they lie beside it."""
PARTS: Final = (*INSTALLED_PARTS, *OWN_PARTS)

_Int8 = Annotated[int, msgspec.Meta(ge=-128, le=127)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
_KernelInteger = Annotated[int, msgspec.Meta(ge=-(2**20), le=2**20)]
_Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Version = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,4})(\.(0|[1-9][0-9]{0,4})){2}\Z")]
_Kernel = Annotated[tuple[_KernelInteger, ...], msgspec.Meta(min_length=16, max_length=8_192)]


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """One int8 tensor of the graph.

    Attributes:
        name: Within the signature.
        shape: With the batch of 1 first.
        dtype: Always ``int8``.
        scale: Real value of one count.
        zero_point: Count that stands for 0.
    """

    name: str
    shape: tuple[_Positive, ...]
    dtype: str
    scale: float
    zero_point: _Int8


class FrontEndEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The front end a model was trained behind."""

    version: int
    grid_hz: _Positive
    half_kernel: _Kernel


class Probability(msgspec.Struct, frozen=True, kw_only=True):
    """What one count of the network's logits is; ``verdict.json`` has what follows from it.

    Attributes:
        octave_numerator: With ``octave_denominator``, one count in 1/1024 octave, without a temperature.
        octave_denominator: See there.
    """

    octave_numerator: _Positive
    octave_denominator: _Positive


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """What the model must answer to a fixed signal, so that other kernels are noticed before they decide anything."""

    steps: Annotated[int, msgspec.Meta(ge=1, le=64)]
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``<name>.json`` beside the model.

    Attributes:
        schema: Version of this layout.
        name: The model's name.
        version: The model's version, three numbers.
        sha256: Of the ``.tflite`` bytes, hexadecimal.
        size_bytes: Their number.
        parts: Of every other file that decides a result: its name and its SHA-256, hexadecimal.
        labels: Classes in the order of the logits.
        inputs: Signal first, then the states.
        outputs: Heads first, then the states in the same order.
        front_end: What the signal went through.
        probability: From logits to confidence.
        self_test: See there.
        metrics: Figures with their n and intervals.
        recipe: How it was made.
        licences: Of the recordings it was trained on.
    """

    schema: int
    name: str
    version: _Version
    sha256: str
    size_bytes: _Positive
    parts: dict[str, _Sha256]
    labels: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    front_end: FrontEndEntry
    probability: Probability
    self_test: SelfTest
    metrics: dict[str, Any]
    recipe: dict[str, Any]
    licences: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A verified model.

    Attributes:
        content: The ``.tflite`` bytes.
        manifest: What goes with them.
        digest: SHA-256 of the manifest's bytes, 32 bytes; names everything that decides.
        coefficients: The front end's integers.
        verdict: The tables that judge a window (``verdict.json``).
    """

    content: bytes = field(repr=False)
    manifest: Manifest = field(repr=False)
    digest: bytes
    coefficients: FrontEndCoefficients = field(repr=False)
    verdict: Verdict = field(repr=False)

    @property
    def front_end_version(self) -> int:
        """Version of the front end the model was trained behind."""
        return self.coefficients.version


def parse_manifest(manifest_json: bytes) -> Manifest:
    """Decode a manifest and check that this SDK can run what it describes.

    Args:
        manifest_json: The bytes of ``<name>.json``.

    Raises:
        ModelCorrupt: Not a manifest, or not one that this version reads.
    """
    if len(manifest_json) > MAX_MANIFEST_BYTES:
        raise ModelCorrupt("the model's manifest is over 1 MB", "install the package again")
    try:
        manifest = msgspec.json.decode(manifest_json, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # An older layout lacks fields of this one, so the number is looked for first.
        raise _schema_refusal(manifest_json) from error
    _check_manifest(manifest)
    return manifest


def assemble(content: bytes, manifest: Manifest, digest: bytes, parts: Mapping[str, bytes]) -> Model:
    """Put a model together from bytes that the manifest must name.

    Args:
        content: The ``.tflite`` bytes.
        manifest: Parsed, and as trustworthy as the caller found it.
        digest: SHA-256 of the manifest's bytes.
        parts: Every other file that decides, by name.

    Raises:
        ModelUnverified: Bytes are not those the manifest names.
        ModelCorrupt: The verdict's tables are not of a layout that this version reads.
    """
    remedy = "install the package again"
    if len(content) != manifest.size_bytes or hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise ModelUnverified("the model's bytes are not those its manifest names", remedy)
    for name, sha256 in manifest.parts.items():
        if hashlib.sha256(parts.get(name, b"")).hexdigest() != sha256:
            raise ModelUnverified(f"{name} is not the one that the model's manifest names", remedy)
    front_end = manifest.front_end
    coefficients = FrontEndCoefficients(front_end.version, front_end.grid_hz, front_end.half_kernel)
    return Model(content, manifest, digest, coefficients, read_verdict(parts["verdict.json"]))


def version_numbers(version: str) -> tuple[int, int, int]:
    """``"1.2.3"`` as numbers that compare."""
    major, minor, patch = (int(number) for number in version.split("."))
    return major, minor, patch


class _Schema(msgspec.Struct, frozen=True):
    schema: int


def _schema_refusal(manifest_json: bytes) -> ModelCorrupt:
    try:
        schema = msgspec.json.decode(manifest_json, type=_Schema).schema
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        schema = MANIFEST_SCHEMA
    if schema == MANIFEST_SCHEMA:
        return ModelCorrupt("the model's manifest is damaged", "install the package again")
    return _unknown_schema(schema)


def _unknown_schema(schema: int) -> ModelCorrupt:
    remedy = "convert the model again" if schema < MANIFEST_SCHEMA else "update einthoven"
    return ModelCorrupt(f"the model's manifest has schema {schema}, this reads {MANIFEST_SCHEMA}", remedy)


def _check_manifest(manifest: Manifest) -> None:
    """Refuse what the SDK could not run as it was meant."""
    if manifest.schema != MANIFEST_SCHEMA:
        raise _unknown_schema(manifest.schema)
    if manifest.front_end.version != FRONT_END_VERSION:
        raise ModelCorrupt(
            f"the model wants front end {manifest.front_end.version}, this is {FRONT_END_VERSION}", "update einthoven"
        )
    if sorted(manifest.parts) != sorted(PARTS):
        raise ModelCorrupt("the model's manifest names other parts than this version decides with", "update einthoven")
    faults = [
        manifest.labels != LABELS,
        not manifest.inputs or not manifest.outputs or len(manifest.inputs) != len(manifest.outputs),
        any(tensor.dtype != "int8" or not 0 < tensor.scale < 1e3 for tensor in manifest.inputs + manifest.outputs),
        any(len(tensor.shape) != 2 or tensor.shape[0] != 1 for tensor in manifest.inputs + manifest.outputs),
        [tensor.shape for tensor in manifest.inputs[:1]] != [(1, MODEL_RATE_HZ)],
        [tensor.shape for tensor in manifest.outputs[:1]] != [(1, CLASSES)],
        any(
            (old.shape, old.scale, old.zero_point) != (new.shape, new.scale, new.zero_point)
            for old, new in zip(manifest.inputs[1:], manifest.outputs[1:], strict=False)
        ),
        sum(tensor.shape[-1] for tensor in manifest.inputs[1:]) > MAX_STATE_BYTES,
        manifest.front_end.half_kernel[-1] != 0 or manifest.front_end.half_kernel[0] <= 0,
    ]
    if any(faults):
        raise ModelCorrupt("the model's manifest does not describe a rhythm model", "install the package again")
