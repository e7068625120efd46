"""What ships beside the model is there, small, and of the same model."""

from __future__ import annotations

import json
import sys
from subprocess import run

import pytest

from einthoven_models import read_resource


def test_model_manifest_card_and_folds_are_of_one_model() -> None:
    manifest = json.loads(read_resource("rhythm.json"))
    card = read_resource("rhythm.md").decode()
    assert manifest["sha256"] in card
    assert "Not a medical device" in card
    assert json.loads(read_resource("rhythm.folds.json"))["figures"] == manifest["metrics"]["figures"]


def test_every_licence_has_a_citation() -> None:
    card = read_resource("rhythm.md").decode()
    for licence in json.loads(read_resource("rhythm.json"))["licences"]:
        assert licence["cite"] in card


def test_the_cards_figures_are_the_manifests() -> None:
    manifest = json.loads(read_resource("rhythm.json"))
    card = read_resource("rhythm.md").decode()
    for figure in manifest["metrics"]["figures"]:
        assert figure["n"] > 0
        assert f"| {figure['id']} | {figure['value']:.4f} |" in card


@pytest.mark.parametrize("name", ["../__init__.py", "a/b", "a\\b", ".hidden", "nothing.tflite"])
def test_only_shipped_files_are_read(name: str) -> None:
    with pytest.raises(FileNotFoundError):
        read_resource(name)


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, einthoven_models; print(sorted({'numpy', 'einthoven', 'msgspec'} & set(sys.modules)))"
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
