"""`einthoven-convert evaluate`: figures as figures.md asks, one line for what can't be done."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest

MakeDataset = Callable[..., Path]


def convert(*arguments: object, code: str = "") -> CompletedProcess[str]:
    """Run the command in a process of its own, after ``code``."""
    program = f"{code}\nfrom einthoven_conversion.cli import main\nmain()"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return run(command, capture_output=True, text=True, check=False, timeout=300)


def test_evaluate_prints_one_document(make_dataset: MakeDataset) -> None:
    done = convert("evaluate", "--data", make_dataset(16, folds=None), "--dataset", "cinc2017", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    figures = {figure["id"]: figure for figure in document["figures"]}
    assert {"model.cinc2017.f1_nao", "model.cinc2017.f1_af", "model.cinc2017.ece"} <= set(figures)
    assert "model.cinc2017.int8_minus_float" not in figures  # no float twin ships, so it is not measured
    for figure in figures.values():
        assert set(figure) == {"id", "value", "unit", "n", "spread", "note"}
        low, high = figure["spread"]
        assert low <= high
        assert 0 < figure["n"] <= 16
    assert document["machine"]["cores"] >= 1


def test_figures_without_records_are_left_out(make_dataset: MakeDataset) -> None:
    done = convert("evaluate", "--data", make_dataset(2, folds=None), "--json")
    assert done.returncode == 0, done.stderr
    names = {figure["id"] for figure in json.loads(done.stdout)["figures"]}
    assert "model.cinc2017.f1_af" not in names  # two records of class N


def test_evaluate_needs_no_tensorflow(make_dataset: MakeDataset) -> None:
    """Nor SciPy: what is scored is what a device runs."""
    block = "import sys; sys.modules.update(dict.fromkeys(('tensorflow', 'scipy')))"
    done = convert("evaluate", "--data", make_dataset(4, folds=None), "--json", code=block)
    assert done.returncode == 0, done.stderr


def test_evaluate_for_people(make_dataset: MakeDataset) -> None:
    done = convert("evaluate", "--data", make_dataset(16, folds=None))
    assert done.returncode == 0, done.stderr
    assert "sensitivity" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--data", "/no/such/folder"), 2, "--data"),
        (("--data", "/no/such/folder", "--dataset", "iris"), 2, "cinc2017"),
        (("--model", "/no/such/folder", "--data", "DATA"), 4, "can't be read"),
        (("--noise", "6", "--data", "DATA"), 2, "nstdb_noise"),
        (("--dataset", "mitdb", "--noise", "6", "--data", "DATA"), 2, "for rhythms"),
        (("--dataset", "mitdb", "--data", "DATA"), 2, "mitdb"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    make_dataset: MakeDataset, arguments: tuple[str, ...], status: int, words: str
) -> None:
    done = convert("evaluate", *(make_dataset(4) if word == "DATA" else word for word in arguments))
    assert done.returncode == status
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_a_corrupt_shard_is_one_line(make_dataset: MakeDataset) -> None:
    root = make_dataset(4)
    (root / "cinc2017" / "records_000.npz").write_bytes(b"PK\x03\x04 and then nothing")
    done = convert("evaluate", "--data", root, "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "records_000.npz" in done.stderr


def test_training_without_tensorflow_says_what_to_install(make_dataset: MakeDataset) -> None:
    code = (
        "import importlib.util as u; real = u.find_spec; u.find_spec = lambda n: real(n) if n != 'tensorflow' else None"
    )
    done = convert("train", "--data", make_dataset(4), code=code)
    assert done.returncode == 3
    assert "pip install 'einthoven[conversion]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
