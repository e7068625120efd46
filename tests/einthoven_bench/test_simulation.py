"""The simulator: histories that must hold, bugs that it must find, and that a seed says all there is to say."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from einthoven_bench.simulation import history as h
from einthoven_bench.simulation.__main__ import main
from einthoven_bench.simulation.drawing import ENCRYPTED_EVERY, MEDIUM_EVERY, draw_history
from einthoven_bench.simulation.occurring import NAMES, Occurred
from einthoven_bench.simulation.planting import BUGS
from einthoven_bench.simulation.running import run_history, run_seed
from einthoven_bench.simulation.shrinking import rules_broken, shrink
from einthoven_bench.simulation.virtual_time import START_MS, DeviceClock, Stuck, VirtualLoop

SEEDS = 200
CHUNKS = 10
OPEN: dict[int, str] = {}
"""Seeds that show a defect which is known and not mended yet."""
BUG_SEEDS = 40
"""Histories in which each planted bug must show."""
FIRST_BUG_SEEDS = {"the server commits in pieces": 130}
"""Where to look for a bug that shows only when a process dies at one moment of few."""
ALL_KINDS = (
    h.Append(device=0, urgent=True),
    h.Say(device=0, pick=0, fields=3),
    h.WriteDiary(device=0),
    h.Sync(device=0),
    h.Replicate(after_ms=5_000),
    h.BackUp(device=1),
    h.Append(device=1, count=2),
    h.Sync(device=1, dies_at=9, after_ms=100),
    h.KillDevice(device=1, after_ms=50),
    h.KillServer(at=3, after_ms=1_000),
    h.Sync(device=1, fills_at=4, after_ms=3_000),
    h.Clinician(patient=0, pick=0, after_ms=5_000),
    h.ConsoleNote(patient=0),
    h.Decide(patient=-1),
    h.Decide(patient=0),
    h.PushNewer(patient=0, count=2),
    h.TurnClock(device=0, offset_ms=-1),
    h.FillDisk(device=0, full=True),
    h.Append(device=0),
    h.FillDisk(device=0, full=False),
    h.Restore(device=1, noticed=True),
    h.LoseCursor(device=0),
    h.Sync(device=0, after_ms=1_000),
    h.TakeBack(device=0, pick=0, after_ms=2_000),
    h.TakeBack(device=0, pick=0, words=True),
    h.ConsoleDelete(patient=0, pick=0, kind=1),
    h.FailOver(down_ms=10),
    h.Collect(after_ms=1_000),
    h.Upgrade(device=0),
    h.Upgrade(device=-1),
    h.EnrolAnew(device=0),
    h.Destroy(device=1),
)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_replicas_converge_and_nothing_is_lost(chunk: int) -> None:
    size = SEEDS // CHUNKS
    failed = [outcome for seed in range(chunk * size, (chunk + 1) * size) if (outcome := run_seed(seed)).problems]
    assert [outcome for outcome in failed if outcome.seed not in OPEN] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_large_history_holds() -> None:
    history = draw_history(996)
    assert len(history.devices) == 50
    assert len(history.steps) >= 300
    assert run_history(history).problems == ()


def test_every_kind_of_step_can_be_played() -> None:
    assert {type(step) for step in ALL_KINDS} == set(h.Step.__args__)
    devices = (h.DeviceSetup(patient=0), h.DeviceSetup(patient=0), h.DeviceSetup(patient=0, encrypted=True))
    trace: list[str] = []
    outcome = run_history(h.History(seed=1, devices=devices, steps=ALL_KINDS), trace=trace)
    assert outcome.problems == ()
    assert any("Killed" in line for line in trace)
    assert {name for name in NAMES if name.startswith("step: ")} < set(outcome.seen) < set(NAMES)
    assert {Occurred.KILLED_IN_SYNC, Occurred.RESTORED_NOTICED, Occurred.ENCRYPTED_STORE} < set(outcome.seen)
    assert not {Occurred.OLD_APP, Occurred.REQUEST_LOST, Occurred.CLOCK_A_YEAR_OFF} & set(outcome.seen)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    first = FIRST_BUG_SEEDS.get(name, 0)
    plain = (seed for seed in range(first, first + BUG_SEEDS) if seed % ENCRYPTED_EVERY != ENCRYPTED_EVERY - 1)
    assert any(run_seed(seed, BUGS[name]).problems for seed in plain)


def test_a_failing_history_shrinks_to_what_makes_it_fail() -> None:
    bug = BUGS["the device forgets its mark"]
    history = draw_history(MEDIUM_EVERY - 1)
    small, outcome = shrink(history, lambda candidate: run_history(candidate, bug))
    assert "J1" in rules_broken(outcome)
    assert 1 <= len(small.steps) <= 2
    assert run_history(small, bug).problems == outcome.problems
    assert run_history(small).problems == ()


def test_a_history_is_the_same_in_every_process() -> None:
    code = (
        "from einthoven_bench.simulation.drawing import draw_history\n"
        "from einthoven_bench.simulation.running import run_history\n"
        "for seed in (3, 28, 101):\n"
        "    trace = []\n"
        "    print(run_history(draw_history(seed), trace=trace))\n"
        "    print('\\n'.join(trace))\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert said[0].count("step") > 20


def test_a_history_survives_json() -> None:
    for seed in range(50):
        history = draw_history(seed)
        assert msgspec.json.decode(msgspec.json.encode(history), type=h.History) == history


def test_the_command_runs_resumes_and_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, saved = tmp_path / "progress.json", tmp_path / "history.json"
    assert main(["--seeds", "0:3", "--resume", str(kept), "--json"]) == 0
    document = msgspec.json.decode(capsys.readouterr().out)
    assert (document["seeds"], document["failed"]) == (3, 0)
    assert tuple(document["histories_with"]) == NAMES
    assert document["histories_with"]["step: sync"] == 3
    assert main(["--seeds", "0:2", "--resume", str(kept) + "2"]) == 0
    assert main(["--seeds", "0:3", "--resume", str(kept) + "2", "--json"]) == 0
    resumed = capsys.readouterr().out.splitlines()[-1]
    assert msgspec.json.decode(resumed)["outcomes_sha256"] == document["outcomes_sha256"]
    assert main(["--seeds", "0:4", "--resume", str(kept)]) == 0
    assert "4 histories" in capsys.readouterr().out
    assert main(["--seed", "2", "--trace", "--save", str(saved)]) == 0
    assert "all holds" in capsys.readouterr().out
    assert main(["--history", str(saved)]) == 0
    with pytest.raises(SystemExit, match="2"):
        main(["--seeds", "many"])


def test_virtual_time_jumps_and_runs_in_order() -> None:
    loop = VirtualLoop()
    clock = DeviceClock(loop)
    ran: list[tuple[str, int]] = []

    async def wait(name: str, hours: int) -> None:
        await asyncio.sleep(3_600 * hours)
        ran.append((name, await asyncio.to_thread(clock.now_ms) - START_MS))

    async def both() -> None:
        await asyncio.gather(wait("late", 8_766), wait("first", 1), wait("second", 1))

    async def for_ever() -> None:
        await asyncio.Event().wait()

    loop.run_until_complete(both())
    assert ran == [("first", 3_600_000), ("second", 3_600_000), ("late", 8_766 * 3_600_000)]
    with pytest.raises(Stuck):
        loop.run_until_complete(for_ever())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
