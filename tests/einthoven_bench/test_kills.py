"""A few rounds of kill -9 with real processes, and that the comparison can find something."""

from __future__ import annotations

import pytest

from einthoven_bench.kills import VICTIMS, main, run, running_arena
from einthoven_bench.kills_device import DEVICE_SERIALS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_three_rounds_lose_and_double_nothing() -> None:
    toll, killed = run(3, seed=1)
    assert toll.none
    assert toll.results > 0
    assert sum(killed.values()) == 3
    assert set(killed) == set(VICTIMS)


def test_what_is_missing_is_counted() -> None:
    with running_arena() as arena:
        arena.journal(0).write_text(f"a {DEVICE_SERIALS}\nk {DEVICE_SERIALS}\nn 7\na 12", encoding="ascii")
        toll = arena.compare()
    assert (toll.acknowledged_lost, toll.lost, toll.doubled, toll.divergences) == (1, 2, 0, 0)
    assert not toll.none


def test_a_round_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1", "--json"]) == 0
    assert '"lost": 0' in capsys.readouterr().out
