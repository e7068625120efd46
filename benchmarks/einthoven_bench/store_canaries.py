"""Canaries: thousands of known strings and byte runs put into a store, then looked for wherever they could leak to.

A process of its own (the tenant) puts them in through the store's API, with logging at DEBUG on standard error, and
stops where it is told: open, closed, after errors raised on purpose with their tracebacks printed, aborted. After each
step this process searches everything that the tenant touched: the store's folder (file, log, index, keys, anchor,
ballast, what a repair set aside), the temporary folder, the folder where a core dump would lie, and what was said on
standard error.

It deliberately trusts no search that finds nothing: the same tenant with the same canaries in plain SQLite, and
unprotected, must lose every one of them to the same search.

Invariants:
    1. The keys that are looked for are those that the tenant's store was opened with, as it says itself.
    2. Nothing is looked for in the tenant's memory, only in what it leaves.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess  # the tenant
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from einthoven.plaintext_scan import DATABASE_HEADER, needles_found
from einthoven_bench.canary_content import Canaries, key_needles, made_canaries
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.figures import Figure

CANARIES: Final = 10_000
"""Least number of needles in a search."""
ABORTED: Final = -6
"""How a process that aborted ended (SIGABRT)."""


MAX_CUT_SHARE: Final = 0.002
"""Of all canaries, those that a plain database may keep in two pieces: signal is cut into pages wherever one ends."""


@dataclass(frozen=True, slots=True)
class CanaryTask:
    """How many canaries, from which seed, and where."""

    canaries: int = CANARIES
    seed: int = 0
    folder: Path | None = None


@dataclass(slots=True)
class CanaryOutcome:
    """What was found.

    Attributes:
        needles: How many were looked for.
        found: Needles found in what the encrypted store left, by place.
        places: Bytes that were searched, by place.
        control: Of the needles, those that the same search found beside plain SQLite.
        control_core: Whether the unprotected tenant left a core dump, so that the search of the other's was one.
    """

    needles: int
    found: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    control: int = 0
    control_core: bool = False


def measure_canaries(task: CanaryTask) -> CanaryOutcome:
    """Search beside an encrypted store, and beside a plain one.

    Raises:
        MeasurementFailed: A tenant did not do as it was told.
    """
    canaries = made_canaries(task.canaries, task.seed)
    with tempfile.TemporaryDirectory(dir=task.folder) as folder:
        outcome = CanaryOutcome(0)
        _search_encrypted(Tenant(Path(folder) / "encrypted", task), canaries, outcome)
        _search_plain(Tenant(Path(folder) / "plain", task, plain=True), canaries, outcome)
    return outcome


class Tenant:
    """A process that keeps canaries in a store and leaves traces in folders of its own.

    Args:
        folder: Made for it.
        task: What to keep.
        plain: Keep it in plain SQLite, and dump core.
    """

    def __init__(self, folder: Path, task: CanaryTask, *, plain: bool = False) -> None:
        self.places = {name: folder / name for name in ("store", "temporary", "core", "said")}
        for place in self.places.values():
            place.mkdir(parents=True, mode=0o700)
        command = [sys.executable, "-m", "einthoven_bench.canary_tenant", str(self.places["store"] / "ecg.db")]
        command += [str(task.canaries), str(task.seed), "plain" if plain else "encrypted"]
        environment = {
            **os.environ,
            "TMPDIR": str(self.places["temporary"]),
            "SQLITE_TMPDIR": str(self.places["temporary"]),
        }
        with (self.places["said"] / "stderr").open("wb") as said:
            self._process = subprocess.Popen(  # noqa: S603
                command, cwd=self.places["core"], env=environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
            )  # fmt: skip

    def ask(self, step: str) -> dict[str, Any]:
        """Have it take a step; return what it says of it.

        Raises:
            MeasurementFailed: It ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(step + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (OSError, ValueError) as error:
            self.end()
            raise MeasurementFailed(
                "the process that keeps canaries ended early", "report this as a fault", 1
            ) from error
        return answer

    def abort(self) -> int:
        """Have it abort; return how it ended."""
        assert self._process.stdin is not None
        self._process.stdin.write("abort\n")
        self._process.stdin.flush()
        return self.end()

    def end(self) -> int:
        """Wait for its end."""
        self._process.communicate()
        return self._process.returncode

    def kept(self, place: str) -> Path:
        """A copy of a place as it is now: a database's files are not to be opened beside it."""
        copy = self.places[place].with_name(f"copy-of-{place}")
        shutil.rmtree(copy, ignore_errors=True)
        return Path(shutil.copytree(self.places[place], copy))


def _search_encrypted(tenant: Tenant, canaries: Canaries, outcome: CanaryOutcome) -> None:
    keys = tenant.ask("fill")
    needles = [DATABASE_HEADER, *canaries.stored, *canaries.unpacked, *key_needles(keys)]
    outcome.needles = len(needles)
    for step in ("open", "fail", "repair", "close"):
        if step != "open":
            tenant.ask(step)
        for place in ("store", "temporary", "said"):
            _search(f"{place}, {step}", tenant.kept(place), needles, outcome)
    if tenant.abort() != ABORTED:
        raise MeasurementFailed("the process that keeps canaries would not abort", "report this as a fault", 1)
    for place in ("core", "said", "temporary"):
        _search(f"{place}, aborted", tenant.places[place], needles, outcome)


def _search(name: str, place: Path, needles: list[bytes], outcome: CanaryOutcome) -> None:
    files = [file for file in sorted(place.rglob("*")) if file.is_file()]
    outcome.places[name] = sum(file.stat().st_size for file in files)
    outcome.found[name] = len(needles_found(files, needles)) if files else 0


def _search_plain(tenant: Tenant, canaries: Canaries, outcome: CanaryOutcome) -> None:
    """Everything that a plain database holds is in its files; everything else is in the core, or in what was dumped."""
    keys = tenant.ask("fill")
    tenant.ask("dump")
    needles = [DATABASE_HEADER, *canaries.stored, *canaries.unpacked, *key_needles(keys)]
    files = [file for place in ("store", "temporary") for file in tenant.kept(place).rglob("*") if file.is_file()]
    outcome.control = len(needles_found(files, needles))
    tenant.abort()
    cores = list(tenant.places["core"].iterdir())
    outcome.control_core = bool(cores) and bool(needles_found(cores, needles))


def canary_figures(outcome: CanaryOutcome) -> list[Figure]:
    """Canaries found, which should be none; how many the control found; and in how many places was looked.

    Raises:
        MeasurementFailed: The control missed more than lie across the border of two pages, so that finding none proves
            nothing.
    """
    if outcome.control < (1 - MAX_CUT_SHARE) * outcome.needles:
        raise MeasurementFailed(
            f"of {outcome.needles} canaries in plain SQLite only {outcome.control} were found",
            "report this as a fault",
            1,
        )
    found, searched = sum(outcome.found.values()), sum(outcome.places.values())
    where = ", ".join(f"{place} ({size} B)" for place, size in outcome.places.items())
    core = (
        "found in an unprotected one's core" if outcome.control_core else "no core of an unprotected one to be had here"
    )
    note = (
        f"of {outcome.needles} strings and byte runs (settings, comments, authors, subjects, results, beats, signal, "
        f"digests, keys), {outcome.control} of them found beside plain SQLite (the others lie across the border of two "
        f"pages; {core}); searched {searched} B: {where}"
    )
    return [Figure("store.canaries_found", found, "1", outcome.control, (found, found), note)]
