"""The document's schema, targets, and this run beside an earlier one."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from einthoven_bench.errors import BenchError, DocumentUnreadable, MeasurementFailed
from einthoven_bench.figures import Document, Figure, read_values
from einthoven_bench.machine import machine, processor
from einthoven_bench.targets import TARGETS, changes, verdict

TABLE = Path(__file__).parents[3] / "shared" / "design" / "figures.csv"


def figure(name: str = "signal.x", value: float = 1.0) -> Figure:
    return Figure(name, value, "1", 3, (value, value), "note")


@pytest.mark.parametrize(
    "arguments",
    [
        ("a", math.nan, "1", 1, (0.0, 1.0)),
        ("a", 0.5, "1", 0, (0.0, 1.0)),
        ("a", 0.5, "1", 1, (0.0, math.inf)),
        ("a", 0.5, "1", 1, (1.0, 0.0)),
    ],
)
def test_a_figure_rests_on_something(arguments: tuple[str, float, str, int, tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="a"):
        Figure(*arguments)


def test_the_document_is_one_line_in_the_agreed_form() -> None:
    document = Document(machine())
    document.add([figure(value=0.123456789012), figure("signal.y", 3)])
    text = document.as_json()
    assert "\n" not in text
    content = json.loads(text)
    assert list(content)[:2] == ["machine", "figures"]
    assert content["figures"][0] == {
        "id": "signal.x",
        "value": 0.1234568,
        "unit": "1",
        "n": 3,
        "spread": [0.1234568, 0.1234568],
        "note": "note",
    }
    assert content["figures"][1]["value"] == 3


def test_an_id_occurs_once() -> None:
    document = Document({})
    document.add([figure()])
    with pytest.raises(ValueError, match="twice"):
        document.add([figure()])


def test_the_machine_has_a_processor_and_no_names() -> None:
    described = machine()
    assert described["processor"]
    assert described["cores"] >= 1
    assert set(described) >= {"system", "architecture", "python", "numpy", "einthoven"}
    import getpass
    import socket

    words = json.dumps(described).replace('"', " ").split()
    assert socket.gethostname() not in words
    assert getpass.getuser() not in words


def test_processors_of_x86_and_arm(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Fast 9000\n", encoding="ascii")
    assert processor(file) == "Fast 9000"
    file.write_text("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n", encoding="ascii")
    assert processor(file) == "CPU implementer 0x41, CPU part 0xd08"
    assert processor(tmp_path / "none")


def test_targets_are_those_of_the_table() -> None:
    if not TABLE.is_file():
        pytest.skip("no ../shared/design/figures.csv here")
    with TABLE.open(newline="", encoding="utf-8") as lines:
        listed = [line for line in csv.DictReader(lines) if line["part"] == "2"]
    assert len(listed) > 5
    for line in listed:
        target = TARGETS[line["id"]]
        assert (target.value, target.better) == (float(line["target"]), line["better"])


def test_verdicts() -> None:
    assert verdict(figure("signal.mitdb.qrs_f1", 0.998)) == "met"
    assert verdict(figure("signal.mitdb.qrs_f1", 0.99)) == "short by 0.008"
    assert verdict(figure("signal.front_end_ms_per_s", 0.25)) == "met"
    assert verdict(figure("signal.front_end_ms_per_s", 0.5)) == "short by 0.25"
    assert verdict(figure("signal.other", 1)) == ""


def test_changes_say_which_way() -> None:
    before = {"signal.mitdb.qrs_f1": 0.99, "signal.front_end_ms_per_s": 0.2, "signal.x": 4.0, "signal.gone": 1.0}
    now = [
        figure("signal.mitdb.qrs_f1", 0.995),
        figure("signal.front_end_ms_per_s", 0.3),
        figure("signal.x", 5.0),
        figure("signal.new", 1.0),
    ]
    found = {change.id: change for change in changes(before, now)}
    assert {name: change.says for name, change in found.items()} == {
        "signal.mitdb.qrs_f1": "better",
        "signal.front_end_ms_per_s": "worse",
        "signal.x": "changed",
        "signal.new": "new",
        "signal.gone": "gone",
    }
    assert found["signal.x"].relative == 0.25
    assert found["signal.new"].relative is None
    assert changes({"a": 1.0}, [figure("a", 1.0)])[0].says == "equal"


def test_a_document_can_be_read_back(tmp_path: Path) -> None:
    document = Document({})
    document.add([figure(value=0.5)])
    (tmp_path / "old.json").write_text(document.as_json(), encoding="utf-8")
    assert read_values(tmp_path / "old.json") == {"signal.x": 0.5}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"figures": 3}', '{"figures": [{"id": "a"}]}', '{"figures": [{"id":"a","value":NaN}]}']
)
def test_what_is_no_document_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "old.json").write_text(content, encoding="utf-8")
    with pytest.raises(DocumentUnreadable, match=r"old\.json"):
        read_values(tmp_path / "old.json")


def test_a_document_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentUnreadable, match="can't be read"):
        read_values(tmp_path / "none.json")


def test_errors_travel_between_processes() -> None:
    import pickle

    for error in (BenchError("a", "b"), MeasurementFailed("a", "b", 4)):
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == "a; b"
        assert again.exit_status == error.exit_status
