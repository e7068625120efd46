"""Loading a model: only bytes and manifest that hold together get past ``load_model``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from einthoven.errors import ModelCorrupt, ModelError, ModelUnverified
from einthoven.models import MAX_MODEL_BYTES, load_model, verify_model
from einthoven_models import read_resource

CONTENT = read_resource("rhythm.tflite")
MANIFEST = read_resource("rhythm.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rhythm.tflite").write_bytes(CONTENT)
    (tmp_path / "rhythm.json").write_bytes(MANIFEST)
    return tmp_path


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(MANIFEST), **changes}).encode()


def test_the_shipped_model_is_what_its_manifest_names() -> None:
    model = load_model()
    assert model.digest == hashlib.sha256(CONTENT).digest()
    assert model.manifest.labels == ("N", "A", "O", "~")
    assert model.front_end_version == 2


def test_the_shipped_model_is_within_its_limits() -> None:
    manifest = load_model().manifest
    assert len(CONTENT) <= 100_000
    assert sum(tensor.shape[1] for tensor in manifest.inputs[1:]) <= 8_192


def test_a_folder_gives_the_same_model(folder: Path) -> None:
    assert load_model("rhythm", folder) == load_model()


def test_bytes_and_manifest_stay_out_of_a_models_repr() -> None:
    assert len(repr(load_model())) < 500


@pytest.mark.parametrize("name", ["rhythm.tflite", "rhythm.json"])
def test_a_missing_file_is_corrupt(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelCorrupt, match="can't be read"):
        load_model("rhythm", folder)


@pytest.mark.parametrize("name", ["nothing", "../rhythm", "/etc/passwd", ".hidden"])
def test_a_name_that_is_not_shipped_is_corrupt(name: str) -> None:
    with pytest.raises(ModelCorrupt):
        load_model(name)


@pytest.mark.parametrize("percent", range(100))
def test_a_model_cut_anywhere_is_unverified(percent: int) -> None:
    with pytest.raises(ModelUnverified):
        verify_model(CONTENT[: len(CONTENT) * percent // 100], MANIFEST)


@pytest.mark.parametrize("position", range(0, len(CONTENT), 997))
def test_a_flipped_bit_is_unverified(position: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[position] ^= 1 << position % 8
    with pytest.raises(ModelUnverified):
        verify_model(bytes(damaged), MANIFEST)


@pytest.mark.parametrize("percent", range(100))
def test_a_manifest_cut_anywhere_is_corrupt(percent: int) -> None:
    with pytest.raises(ModelCorrupt):
        verify_model(CONTENT, MANIFEST[: len(MANIFEST) * percent // 100])


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"schema": NaN}', b"[" * 100_000])
def test_something_else_than_a_manifest_is_corrupt(text: bytes) -> None:
    with pytest.raises(ModelCorrupt):
        verify_model(CONTENT, text)


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
        edit("schema", 2),
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
        edit("probability.low_confidence_permille", 1001),
        edit("front_end.half_kernel", [1, 2, 3]),
        edit("front_end.half_kernel.3", 2**40),
        edit("front_end.grid_hz", 0),
        edit("self_test.steps", 10**9),
    ],
)
def test_a_manifest_of_another_model_is_corrupt(damaged: Callable[[], bytes]) -> None:
    with pytest.raises(ModelCorrupt):
        verify_model(CONTENT, damaged())


@pytest.mark.parametrize("damaged", [edit("sha256", "0" * 64), edit("sha256", ""), edit("size_bytes", 1)])
def test_a_manifest_that_names_other_bytes_is_unverified(damaged: Callable[[], bytes]) -> None:
    with pytest.raises(ModelUnverified):
        verify_model(CONTENT, damaged())


def test_over_the_size_limit_is_refused_before_it_is_read_whole(folder: Path) -> None:
    (folder / "rhythm.tflite").write_bytes(bytes(MAX_MODEL_BYTES + 1_000_000))
    with pytest.raises(ModelCorrupt, match="over 1 MB"):
        load_model("rhythm", folder)


def test_every_refusal_is_one_line_that_says_what_to_do() -> None:
    for content, manifest in ((b"", MANIFEST), (CONTENT, b""), (CONTENT, changed(schema=9))):
        with pytest.raises(ModelError) as caught:
            verify_model(content, manifest)
        assert caught.value.exit_status == 4
        assert "\n" not in str(caught.value)
        assert "; " in str(caught.value)
