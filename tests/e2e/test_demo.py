"""`make demo` as a newcomer runs it: ends by itself, leaves a report and nothing else."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from einthoven_demo.__main__ import main
from einthoven_demo.errors import DemoError
from einthoven_demo.walkthrough import Walkthrough

FORMATS = Path(__file__).parents[2].parent / "shared" / "data" / "formats"
needs_formats = pytest.mark.skipif(not FORMATS.exists(), reason=f"sample files are absent: {FORMATS.name}")


def run_demo(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it with a temporary folder of its own, so that what it leaves there can be seen."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "COLUMNS": "140"}
    command = [sys.executable, "-m", "einthoven_demo", "--report", str(tmp_path / "report.html"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=110, check=False)


def processes_that_name(text: str) -> list[str]:
    """Command lines of running processes that hold a text, or that work in a folder whose path does."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                command += f" in {(entry / 'cwd').readlink()}"
            except OSError:
                continue
            if text in command:
                found.append(command)
    return found


def assert_nothing_is_left(tmp_path: Path) -> None:
    assert list((tmp_path / "tmp").glob("einthoven-demo-*")) == []
    deadline = time.monotonic() + 10
    while processes_that_name(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_that_name(str(tmp_path)) == []


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str], float]:
    tmp_path = tmp_path_factory.mktemp("demo")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_demo(tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return tmp_path, done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_it_walks_all_seven_steps_and_ends_well(
    demo: tuple[Path, subprocess.CompletedProcess[str], float],
) -> None:
    _, done, _ = demo
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line[0] for line in done.stdout.splitlines() if line[:2].strip().isdigit()] == list("1234567")
    assert "digests equal" in done.stdout
    assert "0 found" in done.stdout
    assert "bit for bit" in done.stdout


def test_it_takes_far_less_than_half_a_minute(demo: tuple[Path, subprocess.CompletedProcess[str], float]) -> None:
    """Processor time, so that a machine that others use can't fail it; idle, the demo's own time is no longer."""
    *_, processor_s = demo
    assert processor_s < 20


def test_it_leaves_a_report_and_nothing_else(demo: tuple[Path, subprocess.CompletedProcess[str], float]) -> None:
    tmp_path, _, _ = demo
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ET.fromstring(page.removeprefix("<!DOCTYPE html>")).tag.endswith("html")
    assert "imulated" in page
    assert "Not a medical device" in page
    assert "RiskAssessment" in page
    assert_nothing_is_left(tmp_path)


@pytest.mark.data
@needs_formats
@pytest.mark.parametrize("name", ["wfdb/208.hea", "edf/A00001.edf"])
def test_it_takes_a_record(tmp_path: Path, name: str) -> None:
    done = run_demo(tmp_path, "--record", str(FORMATS / name))
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'class="badge' not in page or "imulated" not in page.split("</header>")[0]
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"# sampling_rate_hz=250\n# unit=uV\n" + b"0\n" * 5000])
def test_a_bad_record_ends_in_one_line_and_leaves_nothing(tmp_path: Path, content: bytes | None) -> None:
    record = tmp_path / "record.csv"
    if content is not None:
        record.write_bytes(content)
    done = run_demo(tmp_path, "--record", str(record))
    assert done.returncode != 0
    assert done.stderr.startswith("einthoven demo: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "report.html").exists()
    assert_nothing_is_left(tmp_path)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C reaches this process and its children, also where the tests were started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("moment", ["1", "2", "server killed", "5"])
def test_stopped_at_any_step_it_cleans_up(tmp_path: Path, moment: str) -> None:
    """Ctrl-C goes to the whole foreground group, as from a terminal; the outage is the hardest moment."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1", "COLUMNS": "140"}
    command = [sys.executable, "-m", "einthoven_demo", "--report", str(tmp_path / "report.html")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip().startswith(moment):
                break
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(30) == 130, rest
        assert rest.splitlines()[-1] == "einthoven demo: stopped"
    assert_nothing_is_left(tmp_path)


@pytest.mark.usefixtures("ctrl_c")
def test_what_ctrl_c_broke_on_its_way_is_a_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupted(_: Walkthrough) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise DemoError("the server ended at once", "a SIGINT reached it before it had a session of its own")

    monkeypatch.setattr(Walkthrough, "run", interrupted)
    assert main([]) == 130
    assert capsys.readouterr().err == "einthoven demo: stopped\n"


def test_a_failure_without_ctrl_c_stays_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def failing(_: Walkthrough) -> None:
        raise DemoError("the server ended at once", "see its log")

    monkeypatch.setattr(Walkthrough, "run", failing)
    assert main([]) == DemoError.exit_status
    assert "the server ended at once" in capsys.readouterr().err
