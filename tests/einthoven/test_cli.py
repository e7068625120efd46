"""The `einthoven` command without a network: what it prints, and what bad input gets."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from einthoven.cli import main
from einthoven.model_manifest import OWN_PARTS
from einthoven.model_signature import TrustedKey, signed_bytes, write_signatures
from einthoven.source_simulated import SimulatedSource

RATE_HZ = 250


def write_csv(path: Path, samples: Any, header: str = f"# sampling_rate_hz={RATE_HZ}\n# unit=uV\n") -> Path:
    path.write_text(header + "\n".join(str(sample) for sample in samples) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ecg_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seconds of simulated ECG as a file."""
    source = SimulatedSource.demo()
    samples = np.concatenate(list(source.chunks()))[: int(40 * source.sampling_rate_hz)]
    header = f"# sampling_rate_hz={float(source.sampling_rate_hz):g}\n# unit=uV\n"
    return write_csv(tmp_path_factory.mktemp("ecg") / "ecg.csv", samples.tolist(), header)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    status, out, err = run(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def assert_one_clear_line(err: str) -> None:
    assert err.startswith("einthoven: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert ";" in err, "a message says what to do"


def test_a_file_is_analysed_in_windows(capsys: pytest.CaptureFixture[str], ecg_csv: Path, home: Path) -> None:
    found = run_json(capsys, "analyze", ecg_csv, "--home", home)
    assert [window["duration_s"] for window in found["windows"]] == [30.0, 10.0]
    assert found["assessment"]["windows"] == 2
    assert re.fullmatch("[0-9a-f]{64}", found["model_digest"])
    assert "not a medical device" in found["notice"].lower()


def test_people_see_the_same(capsys: pytest.CaptureFixture[str], ecg_csv: Path, home: Path) -> None:
    found = run_json(capsys, "analyze", ecg_csv, "--no-store", "--home", home)
    status, out, _ = run(capsys, "analyze", ecg_csv, "--no-store", "--home", home)
    assert status == 0
    assert f"Risk tier: {found['assessment']['tier']}" in out
    assert not home.exists()


def test_what_was_analysed_replays_and_shows_in_the_status(
    capsys: pytest.CaptureFixture[str], ecg_csv: Path, home: Path
) -> None:
    run_json(capsys, "analyze", ecg_csv, "--home", home)
    replayed = run_json(capsys, "replay", "--home", home)
    assert (replayed["replayed"], replayed["same"]) == (2, 2)
    one = run_json(capsys, "replay", "2", "--home", home)
    assert [result["counter"] for result in one["results"]] == [2]
    status = run_json(capsys, "status", "--home", home)
    assert status["store"]["results"] == 2
    assert status["sync"]["waiting"] == 2
    assert status["device"] is None
    code, out, _ = run(capsys, "status", "--home", home)
    assert code == 0
    assert "not enrolled" in out
    code, out, _ = run(capsys, "replay", "--home", home)
    assert code == 0
    assert "2 of 2 results replay bit for bit" in out


BAD_FILES = {
    "empty.csv": b"",
    "words.csv": b"# sampling_rate_hz=250\n# unit=uV\nhello\nworld\n",
    "binary.csv": bytes(range(256)) * 10,
    "no_rate.csv": b"# unit=uV\n1\n2\n3\n",
    "no_unit.csv": b"# sampling_rate_hz=250\n1\n2\n3\n",
    "wrong_unit.csv": b"# sampling_rate_hz=250\n# unit=furlong\n1\n2\n3\n",
    "slow.csv": b"# sampling_rate_hz=50\n# unit=uV\n1\n2\n3\n",
    "fast.csv": b"# sampling_rate_hz=96000\n# unit=uV\n1\n2\n3\n",
    "zero.csv": b"# sampling_rate_hz=0\n# unit=uV\n1\n2\n3\n",
    "empty.edf": b"",
    "truncated.edf": b"0       X X X X",
    "noise.edf": bytes(range(256)) * 100,
    "empty.hea": b"",
    "orphan.hea": b"orphan 1 300 9000\norphan.dat 16 1000/mV 16 0 0 0 0 ECG\n",
    "absurd.hea": b"absurd 1 300 1000000000000\nabsurd.dat 16 1000/mV 16 0 0 0 0 ECG\n",
    "empty.npy": b"",
    "unknown.xyz": b"whatever",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gets_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, home: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(BAD_FILES[name])
    status, out, err = run(capsys, "analyze", file, "--home", home)
    assert status == 2
    assert out == ""
    assert_one_clear_line(err)
    assert not home.exists(), "a refused file must not leave a store behind"


def test_a_missing_file_is_said_to_be_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path, home: Path) -> None:
    status, _, err = run(capsys, "analyze", tmp_path / "absent.csv", "--home", home)
    assert status == 2
    assert_one_clear_line(err)


@pytest.mark.parametrize(
    ("samples", "why"),
    [([0] * RATE_HZ * 20, "flat"), (["nan"] * RATE_HZ * 20, "gap"), ([2000, -2000] * (RATE_HZ * 10), "")],
)
def test_a_record_without_a_usable_second_does_not_end_well(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, home: Path, samples: list[object], why: str
) -> None:
    file = write_csv(tmp_path / "flat.csv", samples)
    status, out, err = run(capsys, "analyze", file, "--home", home)
    if why:
        assert status == 3
        assert out == ""
        assert_one_clear_line(err)
        assert why in err
    else:
        assert status == 0
        assert "routine" not in out, "noise must never be called normal"


def test_some_missing_samples_are_a_gap_not_an_error(
    capsys: pytest.CaptureFixture[str], ecg_csv: Path, tmp_path: Path, home: Path
) -> None:
    lines = ecg_csv.read_text(encoding="utf-8").splitlines()
    lines[1000:1200] = ["nan"] * 200
    file = tmp_path / "gap.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = run_json(capsys, "analyze", file, "--home", home)
    assert "gap" in found["windows"][0]["quality"]
    assert found["windows"][1]["quality"] == []


def test_json_errors_are_one_document_too(capsys: pytest.CaptureFixture[str], tmp_path: Path, home: Path) -> None:
    status, out, err = run(capsys, "analyze", tmp_path / "absent.csv", "--home", home, "--json")
    assert status == 2
    assert set(json.loads(out)) == {"error", "problem", "remedy"}
    assert_one_clear_line(err)


@pytest.mark.parametrize("command", [["status"], ["replay"], ["sync"]])
def test_without_a_store_it_says_so_and_makes_none(
    capsys: pytest.CaptureFixture[str], home: Path, command: list[str]
) -> None:
    status, _, err = run(capsys, *command, "--home", home)
    assert status == 2
    assert_one_clear_line(err)
    assert not home.exists()


def test_an_unenrolled_store_does_not_sync(capsys: pytest.CaptureFixture[str], ecg_csv: Path, home: Path) -> None:
    run_json(capsys, "analyze", ecg_csv, "--home", home)
    status, _, err = run(capsys, "sync", "--home", home)
    assert status == 6
    assert_one_clear_line(err)


def test_a_wrong_key_opens_nothing_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], ecg_csv: Path, home: Path
) -> None:
    run_json(capsys, "analyze", ecg_csv, "--home", home)
    before = (home / "store.db").read_bytes()
    (home / "store.key").write_bytes(bytes(32))
    status, _, err = run(capsys, "analyze", ecg_csv, "--home", home)
    assert status == 5
    assert_one_clear_line(err)
    assert (home / "store.db").read_bytes() == before


def test_a_lost_key_is_not_replaced(capsys: pytest.CaptureFixture[str], ecg_csv: Path, home: Path) -> None:
    run_json(capsys, "analyze", ecg_csv, "--home", home)
    (home / "store.key").unlink()
    status, _, err = run(capsys, "status", "--home", home)
    assert status == 5
    assert_one_clear_line(err)
    assert not (home / "store.key").exists()


@pytest.mark.parametrize("content", [b"", b"not a database " * 400, b"SQLite format 3\0" + bytes(4080)])
def test_a_file_that_is_no_store_is_left_as_it_is(
    capsys: pytest.CaptureFixture[str], ecg_csv: Path, home: Path, content: bytes
) -> None:
    run_json(capsys, "analyze", ecg_csv, "--home", home)
    for leftover in home.glob("store.db*"):
        leftover.unlink()
    (home / "store.db").write_bytes(content)
    status, _, err = run(capsys, "analyze", ecg_csv, "--home", home)
    assert status == 5
    assert_one_clear_line(err)
    assert (home / "store.db").read_bytes() == content


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A copy of the shipped model, to be damaged."""
    import einthoven_models

    shipped = Path(einthoven_models.__file__).parent
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("rhythm.tflite", "rhythm.json", "rhythm.json.sig", *OWN_PARTS):
        shutil.copy(shipped / name, folder / name)
    return folder


def test_a_model_from_a_folder_is_the_same_model(
    capsys: pytest.CaptureFixture[str], ecg_csv: Path, home: Path, model_folder: Path
) -> None:
    shipped = run_json(capsys, "analyze", ecg_csv, "--home", home, "--no-store")
    copied = run_json(capsys, "analyze", ecg_csv, "--home", home, "--no-store", "--model", model_folder)
    assert copied["model_digest"] == shipped["model_digest"]


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "absent", "no_manifest", "manifest_garbled", "unsigned", "signature"]
)
def test_a_damaged_model_is_refused_before_it_runs(
    capsys: pytest.CaptureFixture[str], ecg_csv: Path, home: Path, model_folder: Path, damage: str
) -> None:
    weights, manifest = model_folder / "rhythm.tflite", model_folder / "rhythm.json"
    raw = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(raw[: len(raw) // 2])
    elif damage == "flipped":
        weights.write_bytes(raw[:5000] + bytes([raw[5000] ^ 1]) + raw[5001:])
    elif damage == "absent":
        weights.unlink()
    elif damage == "no_manifest":
        manifest.unlink()
    elif damage == "unsigned":
        (model_folder / "rhythm.json.sig").unlink()
    elif damage == "signature":
        (model_folder / "rhythm.json.sig").write_text("{not one", encoding="utf-8")
    else:
        manifest.write_text("{not json", encoding="utf-8")
    status, _, err = run(capsys, "analyze", ecg_csv, "--home", home, "--model", model_folder)
    assert status == 4
    assert_one_clear_line(err)
    assert not home.exists()


def test_an_own_model_is_believed_by_who_names_its_key(
    capsys: pytest.CaptureFixture[str], ecg_csv: Path, home: Path, model_folder: Path
) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = TrustedKey(private.public_key().public_bytes_raw())
    manifest = (model_folder / "rhythm.json").read_bytes()
    signature = write_signatures([(public.key_id, private.sign(signed_bytes(manifest)))])
    (model_folder / "rhythm.json.sig").write_bytes(signature)
    arguments = ("analyze", ecg_csv, "--home", home, "--no-store", "--model", model_folder)
    assert run(capsys, *arguments)[0] == 4
    status, _, err = run(capsys, *arguments, "--trusted-key", "rubbish")
    assert status == 2
    assert_one_clear_line(err)
    assert run(capsys, *arguments, "--trusted-key", public.text)[0] == 0


@pytest.mark.parametrize("arguments", [["analyse"], ["analyze"], ["replay", "zero"], ["analyze", "--nonsense"]])
def test_wrong_usage_gets_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert_one_clear_line(err)


@pytest.mark.parametrize("rate", ["abc", "1/0", "0", "-300", "1e9"])
def test_a_rate_that_is_none_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, home: Path, rate: str
) -> None:
    file = write_csv(tmp_path / "x.csv", [1, 2, 3], "# unit=uV\n")
    status, _, err = run(capsys, "analyze", file, "--home", home, f"--sampling-rate-hz={rate}")
    assert status == 2
    assert_one_clear_line(err)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for command in ("analyze", "enroll", "sync", "status", "replay"):
        assert command in out


def test_beats_of_a_file(capsys: pytest.CaptureFixture[str], ecg_csv: Path) -> None:
    found = run_json(capsys, "beats", ecg_csv)
    assert found["heart"]["beats"] == len(found["r_peaks"]) == len(found["rr_ms"]) + 1
    assert found["heart"]["signal"]["seconds"] == len(found["quality_flags"]) == 40
    assert 50 < found["heart"]["mean_bpm"] < 110
    assert len(found["beat_classes"]) == len(found["beat_class_permille"]) == found["heart"]["beats"]
    assert sum(found["beat_class_counts"].values()) == found["heart"]["beats"]
    assert found["beat_class_counts"]["normal"] == found["beat_classes"].count("normal") > 30
    status, out, err = run(capsys, "beats", ecg_csv)
    assert status == 0, err
    assert "beats" in out
    assert "Signal: " in out
    assert "Beat classes: " in out


def test_a_recording_is_followed_as_if_it_were_a_strap(
    capsys: pytest.CaptureFixture[str], ecg_csv: Path, home: Path
) -> None:
    status, out, err = run(capsys, "live", ecg_csv, "--speed", 0, "--home", home)
    assert status == 0, err
    assert "sensor streaming" in out
    assert "window 1: " in out
    assert "Heart rate: " in out
    found = run_json(capsys, "live", ecg_csv, "--speed", 0, "--no-store", "--home", home)
    assert [window["duration_s"] for window in found["windows"]] == [30.0, 10.0]
    assert found["heart"]["beats"] > 30


def test_live_stops_when_it_is_told(capsys: pytest.CaptureFixture[str], ecg_csv: Path) -> None:
    found = run_json(capsys, "live", ecg_csv, "--speed", 1, "--seconds", 1.5, "--no-store")
    assert sum(window["duration_s"] for window in found["windows"]) < 5


def test_live_takes_a_file_or_a_strap(capsys: pytest.CaptureFixture[str], ecg_csv: Path) -> None:
    status, _, err = run(capsys, "live", ecg_csv, "--address", "00:11:22:33:44:55", "--no-store")
    assert status == 2
    assert_one_clear_line(err)
