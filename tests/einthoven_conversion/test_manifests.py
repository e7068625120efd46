"""What training writes: whole, unsigned, and of one spelling."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from einthoven.errors import ModelUnverified
from einthoven.model_manifest import OWN_PARTS, PARTS, parse_manifest
from einthoven.models import load_model
from einthoven.verdict_tables import read_tables
from einthoven_conversion.card import render_card
from einthoven_conversion.manifests import (
    installed_parts,
    manifest_bytes,
    part_digests,
    with_manifest,
    with_verdict,
    write_cards,
    write_model,
)
from einthoven_models import read_resource

MODEL = load_model()


def test_a_manifest_has_one_spelling() -> None:
    shipped = read_resource("rhythm.json")
    assert manifest_bytes(parse_manifest(shipped)) == shipped
    assert hashlib.sha256(shipped).digest() == MODEL.digest


def test_a_changed_manifest_has_another_digest_and_it_is_the_right_one() -> None:
    changed = with_manifest(MODEL, version="3.2.1")
    assert changed.digest != MODEL.digest
    assert changed.digest == hashlib.sha256(manifest_bytes(changed.manifest)).digest()
    assert with_manifest(changed, version=MODEL.manifest.version).digest == MODEL.digest


def test_parts_are_named_by_what_is_installed() -> None:
    assert set(installed_parts()) <= set(PARTS)
    named = part_digests({})
    assert list(named) == list(PARTS)
    assert set(named.values()) == {hashlib.sha256(b"").hexdigest()}


def test_a_models_own_part_is_named_and_written(tmp_path: Path) -> None:
    name = PARTS[-1]
    tables = msgspec.structs.replace(MODEL.verdict.tables, af_certain_permille=1001)
    model, content = with_verdict(MODEL, tables)
    assert model.verdict.tables == read_tables(content) == tables
    assert model.manifest.parts[name] == hashlib.sha256(content).hexdigest() != MODEL.manifest.parts[name]
    assert {**model.manifest.parts, name: ""} == {**MODEL.manifest.parts, name: ""}
    assert model.digest == hashlib.sha256(manifest_bytes(model.manifest)).digest() != MODEL.digest
    write_model(model, render_card(model), None, tmp_path, {name: content})
    assert (tmp_path / name).read_bytes() == content
    assert json.loads((tmp_path / "rhythm.json").read_text(encoding="utf-8"))["parts"] == model.manifest.parts


def test_what_training_writes_is_unsigned_even_over_a_signed_model(tmp_path: Path) -> None:
    (tmp_path / "rhythm.json.sig").write_bytes(read_resource("rhythm.json.sig"))
    own_parts = {name: read_resource(name) for name in OWN_PARTS}
    write_model(MODEL, render_card(MODEL), {"n": 1}, tmp_path, own_parts)
    written = {path.name for path in tmp_path.iterdir()}
    files = {"rhythm.tflite", "rhythm.json", "rhythm.md", "rhythm.cdx.json", "rhythm.folds.json"}
    assert written == files | set(OWN_PARTS)
    with pytest.raises(ModelUnverified, match="not signed"):
        load_model("rhythm", tmp_path)


def test_cards_follow_from_the_manifest(tmp_path: Path) -> None:
    write_cards(MODEL, tmp_path)
    for name in ("rhythm.md", "rhythm.cdx.json"):
        assert (tmp_path / name).read_bytes() == read_resource(name)
