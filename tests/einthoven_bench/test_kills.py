"""A few rounds of kill -9 with real processes, and that the comparison can find something."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.kills import main, strike
from einthoven_bench.kills_arena import SUSPECT, Arena, running_arena
from einthoven_bench.kills_device import DEVICE_SERIALS, Life
from einthoven_bench.kills_nursery import DEVICE, SERVER, Newborn, Nursery
from einthoven_bench.kills_phases import Board, Phase
from einthoven_bench.kills_plan import Round, Victim
from einthoven_bench.kills_tally import read_eras
from einthoven_demo.server_process import ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def blow(victim: Victim, devices: tuple[int, ...] = (), aim: Phase | None = None) -> Round:
    return Round(victim, devices, (0, 1, 2, 3), aim, work_s=0.2, delay_s=0.0, hold_s=0.1, starts_s=(), back_up=True)


def test_each_victim_dies_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    with running_arena(tmp_path) as arena:
        for device in range(arena.devices):
            arena.start_device(device)
        for seed in range(6):
            strike(arena, Random(seed), blow(Victim.STOPPED, aim=Phase.EXCHANGE))
        for victim in (Victim.SERVER, Victim.POSTGRES, Victim.BACKEND):
            strike(arena, Random(0), blow(victim, aim=Phase.EXCHANGE))
        strike(arena, Random(0), blow(Victim.STARTING)._replace(starts_s=(0.0, 0.2)))
        hit = strike(arena, Random(0), blow(Victim.DEVICE, (1,), Phase.KEEPS))
        assert len(hit) == 1
        assert len(strike(arena, Random(0), blow(Victim.DEVICES, (1, 2)))) == 2
        assert set(arena.backed_up) >= {1, 2}
        strike(arena, Random(0), blow(Victim.RESTORED, (2,))._replace(watched=(2,)))
        strike(arena, Random(0), blow(Victim.EVERYTHING, (0, 1, 2, 3)))
        arena.end_devices()
        toll = arena.compare()
        assert toll.none
        assert toll.results > 0
        assert toll.notes > 0
    assert list(tmp_path.iterdir()) == []


def test_rounds_of_the_command_lose_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = tmp_path / "eras"
    assert main(["--rounds", "4", "--seed", "1", "--json", "--resume", str(lines)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rounds"] == 4
    assert document["results"] > 0
    assert [era.toll.none for era in read_eras(lines, 1)] == [True]


def test_what_is_missing_is_found_and_who_ended_is_told(tmp_path: Path) -> None:
    with running_arena(tmp_path) as arena:
        arena.journal(0).write_text(f"a {DEVICE_SERIALS}\nk {DEVICE_SERIALS}\nn 7\nm 7\na 12", encoding="ascii")
        toll = arena.compare()
        assert (toll.acknowledged_lost, toll.lost, toll.doubled, toll.divergences) == (2, 2, 0, 0)
        (arena.homes[3] / "store.key").write_bytes(b"no key")
        arena.start_device(3)
        assert arena.await_phase((3,), Phase.KEEPS, 2.0) is None
        with pytest.raises(MeasurementFailed, match=r"device 3 ended by itself: einthoven\.errors"):
            arena.end_devices()
    assert list(tmp_path.glob(f"*/{SUSPECT}"))


async def live(arena: Arena, device: int, needed: Sequence[str]) -> None:
    """One life in this process, until its journal has lines of these kinds."""
    board = Board(arena.board_file, arena.devices)
    life = Life(arena.homes[device], arena.journal(device), board, device, (device + 4) * DEVICE_SERIALS)

    async def end() -> None:
        # Its journal is all that it tells.
        while not set(needed) <= {line[0] for line in arena.journal(device).read_text().splitlines()}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        life.ended = True

    await asyncio.gather(life.run(), end())
    board.close()


def test_a_life_repairs_uploads_and_outlives_its_server() -> None:
    with running_arena() as arena:
        arena.journal(0).touch()
        # The other device of the same patient, whose rows are lost on the way and repaired.
        arena.start_device(2)
        asyncio.run(live(arena, 0, "asnkmuf"))
        arena.kill_server()
        arena.start_server()
        arena.end_devices()
        toll = arena.compare()
    assert toll.none
    assert toll.repairs > 0
    assert toll.signals > 0


def test_a_nursery_that_loses_its_owner_leaves_nothing_running(tmp_path: Path) -> None:
    born: list[Newborn] = []

    with Nursery() as nursery:

        def spawn(arguments: Sequence[str], log: Path) -> Newborn:
            born.append(nursery.start(SERVER, arguments, log))
            return born[-1]

        ServerProcess(tmp_path / "data", spawn).start()
        postmaster = int((tmp_path / "data" / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        refused = nursery.start(DEVICE, [], tmp_path / "log")
        assert refused.wait(30.0) == 1
        assert "IndexError" in (tmp_path / "log").read_text()
        with pytest.raises(subprocess.TimeoutExpired):
            born[0].wait(0.0)
        born[0].send_signal(signal.SIGCONT)
    for pid in (born[0].pid, postmaster):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(MeasurementFailed, match="has ended"):
        born[0].poll()
