"""Loading a model: only files that a trusted key signed and that hold together get past ``load_model``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.errors import ModelCorrupt, ModelError, ModelUnverified
from einthoven.model_manifest import INSTALLED_PARTS, MAX_MANIFEST_BYTES, OWN_PARTS, PARTS, parse_manifest
from einthoven.model_signature import MAX_SIGNATURE_FILE_BYTES, Trust, TrustedKey, signed_bytes, write_signatures
from einthoven.model_signature_keys import RELEASE_KEYS, RELEASE_TRUST
from einthoven.models import MAX_MODEL_BYTES, Model, ModelFiles, load_model, read_model_files, verify_model
from einthoven_models import read_resource

SHIPPED = read_model_files()
CONTENT, MANIFEST = SHIPPED.content, SHIPPED.manifest
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
MINE = TrustedKey(PRIVATE.public_key().public_bytes_raw())
TRUST = Trust((MINE,))


def signed(manifest: bytes, **changes: Any) -> ModelFiles:
    """The shipped files with another manifest, signed by a key of the test's own."""
    signature = write_signatures([(MINE.key_id, PRIVATE.sign(signed_bytes(manifest)))])
    return replace(SHIPPED, manifest=manifest, signature=signature, **changes)


def write(files: ModelFiles, folder: Path) -> Path:
    (folder / "rhythm.tflite").write_bytes(files.content)
    (folder / "rhythm.json").write_bytes(files.manifest)
    (folder / "rhythm.json.sig").write_bytes(files.signature)
    for name in OWN_PARTS:
        (folder / name).write_bytes(files.parts[name])
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(SHIPPED, tmp_path)


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(MANIFEST), **changes}).encode()


def test_the_shipped_model_is_signed_by_a_release_key() -> None:
    model = load_model()
    assert model.digest == hashlib.sha256(MANIFEST).digest()
    assert model.manifest.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert model.manifest.labels == ("N", "A", "O", "~")
    assert model.front_end_version == 2


def test_the_digest_names_every_table_that_ships() -> None:
    """A table that decides and is not in the list could be exchanged unseen."""
    shipped = {path.name for path in Path(__import__("einthoven_models").__file__).parent.glob("*.json")}
    beside_the_model = {"rhythm.json", "rhythm.folds.json", "rhythm.cdx.json"}
    assert set(PARTS) == shipped - beside_the_model
    assert load_model().manifest.parts == {name: hashlib.sha256(read_resource(name)).hexdigest() for name in PARTS}


def test_the_shipped_model_is_within_its_limits() -> None:
    manifest = load_model().manifest
    assert max(len(CONTENT), *(len(part) for part in SHIPPED.parts.values())) <= 100_000
    assert sum(tensor.shape[1] for tensor in manifest.inputs[1:]) <= 8_192


def test_a_folder_gives_the_same_model(folder: Path) -> None:
    assert load_model("rhythm", folder) == load_model()


def test_bytes_and_manifest_stay_out_of_a_models_repr() -> None:
    assert len(repr(load_model())) < 500
    assert len(repr(SHIPPED)) < 100


@pytest.mark.parametrize("name", ["rhythm.tflite", "rhythm.json", *OWN_PARTS])
def test_a_missing_file_is_corrupt(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelCorrupt, match="can't be read"):
        load_model("rhythm", folder)


def test_a_missing_signature_is_unverified(folder: Path) -> None:
    (folder / "rhythm.json.sig").unlink()
    with pytest.raises(ModelUnverified, match="not signed"):
        load_model("rhythm", folder)


@pytest.mark.parametrize("name", ["nothing", "../rhythm", "/etc/passwd", ".hidden", "", "a\0b", "x" * 5_000, "Rhythm"])
def test_a_name_that_is_not_shipped_is_corrupt(name: str, folder: Path) -> None:
    for where in (None, folder):
        with pytest.raises(ModelCorrupt):
            load_model(name, where)


@pytest.mark.parametrize("name", ["rhythm.tflite", "rhythm.json", "rhythm.json.sig"])
def test_a_folder_in_a_files_place_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ModelError):
        load_model("rhythm", folder)


# --- an app's own key


def test_an_apps_own_model_needs_its_key_named(tmp_path: Path) -> None:
    folder = write(signed(changed(version="7.0.0")), tmp_path)
    with pytest.raises(ModelUnverified, match="not trusted here"):
        load_model("rhythm", folder)
    with pytest.raises(ModelUnverified, match="not trusted here"):
        load_model("rhythm", folder, trusted_keys=[TrustedKey(bytes(32))])
    assert load_model("rhythm", folder, trusted_keys=[MINE]).manifest.version == "7.0.0"


def test_naming_a_key_checks_no_less(folder: Path) -> None:
    """The shipped model still has to be signed by its own key, and whole."""
    assert load_model("rhythm", folder, trusted_keys=[MINE]) == load_model()
    (folder / "rhythm.json").write_bytes(MANIFEST + b" ")
    with pytest.raises(ModelUnverified):
        load_model("rhythm", folder, trusted_keys=[MINE])


# --- what was changed


@pytest.mark.parametrize("percent", range(100))
def test_a_model_cut_anywhere_is_unverified(percent: int) -> None:
    with pytest.raises(ModelUnverified):
        verify_model(replace(SHIPPED, content=CONTENT[: len(CONTENT) * percent // 100]))


@pytest.mark.parametrize("position", range(0, len(CONTENT), 997))
def test_a_flipped_bit_is_unverified(position: int) -> None:
    with pytest.raises(ModelUnverified):
        verify_model(replace(SHIPPED, content=flipped(CONTENT, position)))


@pytest.mark.parametrize("position", range(0, len(MANIFEST), 101))
def test_a_flipped_bit_of_the_manifest_is_unverified(position: int) -> None:
    """Also where JSON would not mind: in a figure, in white space."""
    with pytest.raises(ModelUnverified, match="not the one that was signed"):
        verify_model(replace(SHIPPED, manifest=flipped(MANIFEST, position)))


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_of_the_signature_file_is_refused(bit: int) -> None:
    for position in range(len(SHIPPED.signature)):
        with pytest.raises(ModelError):
            verify_model(replace(SHIPPED, signature=flipped(SHIPPED.signature, position, bit)))


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_was_changed_is_unverified_and_named(name: str) -> None:
    part = SHIPPED.parts[name]
    for other in (part + b"\n", part[:-1], b"", flipped(part, len(part) // 2)):
        with pytest.raises(ModelUnverified, match=name):
            verify_model(replace(SHIPPED, parts={**SHIPPED.parts, name: other}))
    with pytest.raises(ModelUnverified, match=name):
        verify_model(replace(SHIPPED, parts={left: SHIPPED.parts[left] for left in PARTS if left != name}))


def test_parts_that_were_exchanged_are_unverified() -> None:
    first, second = PARTS[:2]
    swapped = {**SHIPPED.parts, first: SHIPPED.parts[second], second: SHIPPED.parts[first]}
    with pytest.raises(ModelUnverified):
        verify_model(replace(SHIPPED, parts=swapped))


@pytest.mark.parametrize("percent", range(100))
def test_a_manifest_cut_anywhere_is_unverified_and_if_signed_so_corrupt(percent: int) -> None:
    cut = MANIFEST[: len(MANIFEST) * percent // 100]
    with pytest.raises(ModelUnverified):
        verify_model(replace(SHIPPED, manifest=cut))
    with pytest.raises(ModelCorrupt):
        verify_model(signed(cut), TRUST)


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"schema": NaN}', b"[" * 100_000])
def test_something_else_than_a_manifest_is_corrupt_even_signed(text: bytes) -> None:
    with pytest.raises(ModelCorrupt):
        verify_model(signed(text), TRUST)


def test_the_signature_is_checked_before_the_manifest_is_read() -> None:
    """Bytes that nobody signed never reach the JSON decoder: the refusal is about the signature."""
    with pytest.raises(ModelUnverified, match="signed"):
        verify_model(replace(SHIPPED, manifest=b"[" * 100_000))


def flipped(content: bytes, position: int, bit: int | None = None) -> bytes:
    damaged = bytearray(content)
    damaged[position] ^= 1 << (position % 8 if bit is None else bit)
    return bytes(damaged)


# --- what is signed and still not for this SDK


def edit(path: str, value: Any) -> Callable[[], bytes]:
    def apply() -> bytes:
        document = json.loads(MANIFEST)
        *parents, last = path.split(".")
        place = document
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place[parent]
        place[int(last) if isinstance(place, list) else last] = value
        return json.dumps(document).encode()

    return apply


@pytest.mark.parametrize(
    "damaged",
    [
        edit("schema", 1),
        edit("schema", 3),
        edit("front_end.version", 3),
        edit("labels", ["A", "N", "O", "~"]),
        edit("inputs", []),
        edit("outputs.0.shape", [1, 5]),
        edit("inputs.0.shape", [1, 64]),
        edit("inputs.0.shape", [128]),
        edit("inputs.1.scale", 0.5),
        edit("inputs.1.zero_point", 1),
        edit("outputs.0.zero_point", 300),
        edit("inputs.0.dtype", "float32"),
        edit("outputs.0.scale", -1.0),
        edit("outputs.0.scale", 0.0),
        edit("probability.octave_denominator", 0),
        edit("probability.octave_numerator", 0),
        edit("probability.octave_numerator", 2**54),
        edit("probability", {"octave_numerator": 1}),
        edit("front_end.half_kernel", [1, 2, 3]),
        edit("front_end.half_kernel.3", 2**40),
        edit("front_end.grid_hz", 0),
        edit("self_test.steps", 10**9),
        edit("version", "1.0"),
        edit("version", "01.0.0"),
        edit("version", "1.0.0\n"),
        edit("parts", {}),
        edit("parts", {**json.loads(MANIFEST)["parts"], "more.json": "0" * 64}),
        edit("parts", dict.fromkeys(PARTS[1:], "0" * 64)),
        edit("parts", dict.fromkeys(PARTS, "not a digest")),
    ],
)
def test_a_manifest_of_another_model_is_corrupt(damaged: Callable[[], bytes]) -> None:
    with pytest.raises(ModelCorrupt):
        verify_model(signed(damaged()), TRUST)


@pytest.mark.parametrize("damaged", [edit("sha256", "0" * 64), edit("sha256", ""), edit("size_bytes", 1)])
def test_a_manifest_that_names_other_bytes_is_unverified(damaged: Callable[[], bytes]) -> None:
    with pytest.raises(ModelUnverified):
        verify_model(signed(damaged()), TRUST)


def test_a_manifest_from_before_signatures_says_what_to_do() -> None:
    old = {name: value for name, value in json.loads(MANIFEST).items() if name != "parts"} | {"schema": 1}
    with pytest.raises(ModelCorrupt, match="schema 1, this reads 2; convert the model again"):
        verify_model(signed(json.dumps(old).encode()), TRUST)


def test_a_manifest_of_a_later_layout_says_what_to_do() -> None:
    with pytest.raises(ModelCorrupt, match="update einthoven"):
        verify_model(signed(b'{"schema": 99, "everything": "else"}'), TRUST)


def test_another_models_name_is_not_believed() -> None:
    """A signature says which model it is of: one that is signed can't stand in for another."""
    with pytest.raises(ModelUnverified, match="signed as another one"):
        verify_model(signed(changed(name="quiet")), TRUST)


@pytest.mark.parametrize(
    ("version", "accepted"), [("1.9.9", False), ("2.0.0", True), ("2.0.10", True), ("10.0.0", True)]
)
def test_a_key_is_not_believed_for_versions_before_its_oldest(version: str, accepted: bool) -> None:
    trust = Trust((replace(MINE, oldest_version=(2, 0, 0)),))
    files = signed(changed(version=version))
    if accepted:
        assert verify_model(files, trust).manifest.version == version
        return
    with pytest.raises(ModelUnverified, match="older than"):
        verify_model(files, trust)


def test_release_keys_have_an_oldest_version_that_the_shipped_model_meets() -> None:
    assert all(key.oldest_version > (0, 0, 0) for key in RELEASE_KEYS)
    assert RELEASE_TRUST.keys == RELEASE_KEYS


def test_over_the_size_limit_is_refused_before_it_is_read_whole(folder: Path) -> None:
    (folder / "rhythm.tflite").write_bytes(bytes(MAX_MODEL_BYTES + 1_000_000))
    with pytest.raises(ModelCorrupt, match="over 1 MB"):
        load_model("rhythm", folder)


def test_a_manifest_over_the_size_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(ModelCorrupt, match="over 1 MB"):
        parse_manifest(bytes(MAX_MANIFEST_BYTES + 1))


@pytest.mark.parametrize("name", INSTALLED_PARTS)
def test_a_part_over_the_size_limit_is_refused(name: str) -> None:
    with pytest.raises(ModelCorrupt, match="over 1 MB"):
        verify_model(replace(SHIPPED, parts={**SHIPPED.parts, name: bytes(MAX_MODEL_BYTES + 1)}))


def test_a_signature_file_over_the_size_limit_is_refused(folder: Path) -> None:
    (folder / "rhythm.json.sig").write_bytes(SHIPPED.signature + b"\n" * MAX_SIGNATURE_FILE_BYTES)
    with pytest.raises(ModelCorrupt, match="damaged"):
        load_model("rhythm", folder)


# --- whatever is done to the files


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """Content with a stretch overwritten, cut out, doubled or inserted."""
    start = draw(st.integers(0, len(content)))
    stop = draw(st.integers(start, min(len(content), start + 200)))
    put = draw(st.one_of(st.binary(max_size=200), st.just(content[start:stop] * 2)))
    return content[:start] + put + content[stop:]


@settings(max_examples=300)
@given(st.data())
def test_damage_anywhere_is_refused_with_a_typed_error(data: st.DataObject) -> None:
    """Files of a model, any of them damaged anyhow: the model that was signed, or one typed line."""
    which = data.draw(st.sampled_from(["content", "manifest", "signature", *PARTS]))
    if which in PARTS:
        files = replace(SHIPPED, parts={**SHIPPED.parts, which: data.draw(damage(SHIPPED.parts[which]))})
    else:
        files = replace(SHIPPED, **{which: data.draw(damage(getattr(SHIPPED, which)))})
    model = loaded(files)
    assert (model is not None) == (files == SHIPPED)


@settings(max_examples=300)
@given(damage(MANIFEST))
def test_damage_that_somebody_trusted_signed_is_refused_with_a_typed_error(manifest: bytes) -> None:
    """The layers behind the signature hold alone: nothing but a manifest of this model gets through."""
    model = loaded(signed(manifest), TRUST)
    if model is not None:
        assert model.manifest.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert model.digest == hashlib.sha256(manifest).digest()


def loaded(files: ModelFiles, trust: Trust = RELEASE_TRUST) -> Model | None:
    """The model, or nothing after a typed error of one line; any other exception fails the test."""
    try:
        return verify_model(files, trust)
    except (ModelCorrupt, ModelUnverified) as error:
        refusal = str(error)
    assert "\n" not in refusal
    return None


def test_every_refusal_is_one_line_that_says_what_to_do() -> None:
    cases = (
        (replace(SHIPPED, content=b""), RELEASE_TRUST),
        (replace(SHIPPED, manifest=b""), RELEASE_TRUST),
        (replace(SHIPPED, signature=b""), RELEASE_TRUST),
        (replace(SHIPPED, signature=b"?"), RELEASE_TRUST),
        (SHIPPED, TRUST),
        (signed(changed(schema=9)), TRUST),
    )
    for files, trust in cases:
        with pytest.raises(ModelError) as caught:
            verify_model(files, trust)
        assert caught.value.exit_status == 4
        assert "\n" not in str(caught.value)
        assert "; " in str(caught.value)
