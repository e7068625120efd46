"""Runs Schemathesis against a server of its own, and says what came of it.

It deliberately judges nothing but statuses and memory: which answers are right is for the tests.

Invariants:
    1. The tool is a process of its own at low priority; the server is stopped whatever becomes of it.
    2. What is counted is what the hooks counted, not what the tool says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.fuzzing.ground import made_ground, written
from einthoven_bench.fuzzing.tally import Tally, read_tally
from einthoven_bench.sync_site import running_site

HOOKS: Final = "einthoven_bench.fuzzing.hooks"
NICENESS: Final = 10
SAMPLED_EVERY_S: Final = 2.0
REQUEST_TIMEOUT_S: Final = 30
_MIB: Final = 2**20
_LOG_MAX_BYTES: Final = 4 * _MIB
_ENDED_WELL: Final = (0, 1)
"""What the tool ends with: nothing found, or something."""


@dataclass(frozen=True, slots=True)
class FuzzOptions:
    """How much.

    Attributes:
        examples: Cases of each operation and phase, at most.
        seconds: For how long at most; ``None`` for as long as it takes.
        phases: Of Schemathesis.
        checks: Likewise.
        seed: Of what is drawn.
        workers: Threads of the tool.
        folder: Below which the server's data lies while it runs.
        only: A regular expression of paths; all where ``None``.
    """

    examples: int = 1_000
    seconds: int | None = None
    phases: str = "coverage,fuzzing"
    checks: str = "not_a_server_error"
    seed: int = 0
    workers: int = 1
    folder: Path | None = None
    only: str | None = None


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """What came of it.

    Attributes:
        tally: Answers.
        rss_mib: The server's resident memory, MiB: every ``SAMPLED_EVERY_S``.
        errors: Lines of the server's log that say an error of its own; they quote nothing.
        said: The end of what the tool said.
    """

    tally: Tally
    rss_mib: tuple[float, ...]
    errors: tuple[str, ...]
    said: str


def fuzz(options: FuzzOptions) -> Fuzzed:
    """One run.

    Raises:
        MeasurementFailed: The tool did not run, or sent nothing.
        DemoError: The server does not start.
    """
    with tempfile.TemporaryDirectory(dir=options.folder) as made, running_site(Path(made)) as site:
        folder = Path(made)
        (log,) = folder.glob("*/server/server.log")
        (ca_file,) = folder.glob("*/server/data/ca.pem")
        ground, tally = written(made_ground(site, folder), folder), folder / "tally.json"
        more = {
            "SCHEMATHESIS_HOOKS": HOOKS,
            "EINTHOVEN_FUZZ_GROUND": str(ground),
            "EINTHOVEN_FUZZ_TALLY": str(tally),
            "EINTHOVEN_FUZZ_CA": str(ca_file),
            "EINTHOVEN_FUZZ_SEED": str(options.seed),
        }
        with _memory_watched() as rss_mib:
            tool = subprocess.Popen(  # noqa: S603  # this Python, with arguments of ours
                [sys.executable, "-m", "schemathesis.cli", *_arguments(options, site.url, ca_file)],
                env=os.environ | more,
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
            )
            psutil.Process(tool.pid).nice(NICENESS)
            said, _ = tool.communicate()
        found = read_tally(tally)
        if tool.returncode not in _ENDED_WELL or not found.requests:
            raise MeasurementFailed(f"schemathesis ended with {tool.returncode}", said[-2000:], 1)
        return Fuzzed(found, tuple(rss_mib), _errors_of(log), said[-4000:])


def _arguments(options: FuzzOptions, url: str, ca_file: Path) -> Sequence[str]:
    found = [
        *("run", f"{url}/v1/openapi.json", "--tls-verify", str(ca_file), "--phases", options.phases),
        *("--checks", options.checks, "--max-examples", str(options.examples), "--seed", str(options.seed)),
        *("--workers", str(options.workers), "--request-timeout", str(REQUEST_TIMEOUT_S), "--continue-on-failure"),
        *("--suppress-health-check", "all", "--generation-database", "none", "--no-shrink", "--no-color"),
        *("--warnings", "off"),
    ]
    if options.seconds is not None:
        found += ["--max-time", str(options.seconds)]
    if options.only is not None:
        found += ["--include-path-regex", options.only]
    return found


@contextmanager
def _memory_watched() -> Iterator[list[float]]:
    samples: list[float] = []
    ended = threading.Event()
    servers = [
        child for child in psutil.Process().children() if any("einthoven_server" in word for word in child.cmdline())
    ]
    server = max(servers, key=psutil.Process.create_time)  # others may be on their way out

    def watch() -> None:
        while not ended.wait(SAMPLED_EVERY_S):
            samples.append(server.memory_info().rss / _MIB)

    samples.append(server.memory_info().rss / _MIB)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield samples
    finally:
        ended.set()
        watcher.join()
        samples.append(server.memory_info().rss / _MIB)


def _errors_of(log: Path) -> tuple[str, ...]:
    with log.open("rb") as stream:
        lines = stream.read(_LOG_MAX_BYTES).decode("utf-8", "replace").splitlines()
    return tuple(dict.fromkeys(line for line in lines if "refused" in line and "internal" in line))
