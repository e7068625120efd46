"""`einthoven-bench signal`: one document, one line for what can't be done, nothing that depends on which records."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest

MakeRoot = Callable[..., Path]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def bench(*arguments: object, module: str = "einthoven_bench", code: str = "") -> CompletedProcess[str]:
    """Run the command in a process of its own, after ``code``."""
    program = f"import runpy, sys\nsys.path.insert(0, {str(BENCHMARKS)!r})\n{code}\n"
    program += f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return run(command, capture_output=True, text=True, check=False, timeout=110)


def document(done: CompletedProcess[str]) -> dict[str, dict[str, object]]:
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    content = json.loads(done.stdout)
    assert set(content) == {"machine", "figures", "records", "left_out"}
    figures = {figure["id"]: figure for figure in content["figures"]}
    assert len(figures) == len(content["figures"])
    for figure in figures.values():
        assert set(figure) == {"id", "value", "unit", "n", "spread", "note"}
        low, high = figure["spread"]
        assert low <= high
        assert figure["n"] > 0
    return {"figures": figures, "records": content["records"], "left_out": content["left_out"]}


def test_a_quick_run_measures_every_target(make_root: MakeRoot, tmp_path: Path) -> None:
    """Records of other names than the real ones, 40 s each; of the three of cinc2017 one is noisy here."""
    from einthoven_bench.targets import TARGETS

    root = make_root()
    index = root / "cinc2017" / "index.csv"
    header, *rows = index.read_text(encoding="utf-8").splitlines()
    index.write_text("\n".join([header, *reversed(rows)]) + "\n", encoding="utf-8")
    done = bench("signal", "--data", root, "--quick", "--json")
    found = document(done)
    figures = found["figures"]
    usable = {name for name in TARGETS if "_em_" in name and "quality" not in name}  # noise may leave no second usable
    mine = {name for name in TARGETS if name.startswith("signal.")}
    assert mine - usable <= set(figures)
    assert figures["signal.exactness_differing_bits"]["value"] == 0
    assert figures["signal.quality_auc"]["n"] == 3
    assert {row["record_id"] for row in found["records"]} == {"x0", "x1", "x2", "y0", "y1"}
    assert not found["left_out"]

    (tmp_path / "old.json").write_text(done.stdout, encoding="utf-8")
    again = bench("signal", "--data", root, "--quick", "--records", 1, "--compare", tmp_path / "old.json")
    assert again.returncode == 0, again.stderr
    assert "signal.mitdb.qrs_f1" in again.stdout
    assert "compared with the earlier run" in again.stdout
    assert "x0" in again.stdout
    assert "x1" not in again.stdout


def test_missing_sets_leave_their_figures_out(make_root: MakeRoot) -> None:
    found = document(bench("signal", "--data", make_root("qtdb"), "--quick", "--json"))
    names = set(found["figures"])
    assert "signal.qtdb.qrs_f1" in names
    assert not any("mitdb" in name or "cinc2017" in name or "quality" in name for name in names)
    for name in ("mitdb", "cinc2017"):
        assert any(name in line for line in found["left_out"])


def test_without_any_set_cost_and_exactness_are_measured(tmp_path: Path) -> None:
    found = document(bench("signal", "--data", tmp_path, "--quick", "--json"))
    assert set(found["figures"]) == {
        "signal.front_end_ms_per_s",
        "signal.day_x_real_time",
        "signal.numpy_call_us",
        "signal.exactness_differing_bits",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "/no/such/folder"), "--data"),
        (("--data", ".", "--compare", "/no/such.json"), "such.json"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    done = bench("signal", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert "/no/such" not in done.stderr


def test_a_damaged_shard_is_one_clear_line(make_root: MakeRoot) -> None:
    root = make_root("cinc2017")
    (root / "cinc2017" / "records_000.npz").write_bytes(b"PK\x03\x04 and then nothing")
    done = bench("signal", "--data", root, "--quick", "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("einthoven-bench:")]
    assert errors == ["einthoven-bench: cinc2017/records_000.npz can't be read; fetch the data set again"]


def test_digests_agree_between_the_two_ways_to_ask(make_root: MakeRoot) -> None:
    root = make_root("mitdb")
    block = "sys.modules.update(dict.fromkeys(('typer', 'rich', 'scipy', 'wfdb', 'soundfile', 'neurokit2')))"
    plain = bench("--data", root, module="einthoven_bench.signal_digest", code=block)
    assert plain.returncode == 0, plain.stderr
    command = bench("signal", "--data", root, "--digest-only")
    assert command.returncode == 0, command.stderr
    assert json.loads(plain.stdout) == json.loads(command.stdout)
    assert json.loads(plain.stdout)["records"] == 5


def test_digests_without_data_and_of_no_folder() -> None:
    done = bench("--hours", 0.01, module="einthoven_bench.signal_digest")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["output_sha256"]) == 64
    missing = bench("--data", "/no/such", module="einthoven_bench.signal_digest")
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1
