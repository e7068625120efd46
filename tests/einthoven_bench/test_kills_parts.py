"""The parts of the kills that start no process: plan, board, journal, weighing, tallies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.result_rows import to_row
from einthoven.segments import canonical_segment, segment_digest
from einthoven_bench.errors import DocumentUnreadable
from einthoven_bench.kills import main
from einthoven_bench.kills_device import make_signal
from einthoven_bench.kills_journal import Journal, read_journal
from einthoven_bench.kills_judging import Shown, Toll, weigh
from einthoven_bench.kills_phases import IN_FLIGHT, Board, Phase
from einthoven_bench.kills_plan import DELAYS_MAX_S, WORK_MAX_S, Victim, aimed, draw_round
from einthoven_bench.kills_tally import Era, Tally, read_eras, total
from einthoven_bench.simulation.content import make_result, note_text
from einthoven_protocol.messages import NoteRow

DEVICES = 4


@given(seed=st.integers(0, 2**32), backed_up=st.sets(st.integers(0, DEVICES - 1)))
def test_a_round_kills_what_its_victim_says(seed: int, backed_up: set[int]) -> None:
    drawn = draw_round(Random(seed), DEVICES, sorted(backed_up), None)
    assert drawn == draw_round(Random(seed), DEVICES, sorted(backed_up), None)
    expected = {
        Victim.DEVICE: {1},
        Victim.DEVICES: set(range(2, DEVICES + 1)),
        Victim.RESTORED: {1},
        Victim.EVERYTHING: {DEVICES},
    }
    assert len(drawn.devices) in expected.get(drawn.victim, {0})
    assert len(set(drawn.devices)) == len(drawn.devices)
    if drawn.victim is Victim.RESTORED:
        assert drawn.devices[0] in backed_up
        assert drawn.watched == drawn.devices
    assert bool(drawn.starts_s) is (drawn.victim is Victim.STARTING)
    assert drawn.work_s <= WORK_MAX_S
    assert drawn.delay_s <= (0.0 if drawn.aim is None else DELAYS_MAX_S[drawn.aim])


def test_all_victims_and_all_phases_are_drawn() -> None:
    drawn = [draw_round(Random(seed), DEVICES, (1,), None) for seed in range(300)]
    assert {one.victim for one in drawn} == set(Victim)
    assert {one.aim for one in drawn if one.victim is Victim.DEVICE} == {*Phase, None} - {Phase.STARTS}
    assert {one.aim for one in drawn if one.victim is Victim.SERVER} == {*IN_FLIGHT, None}
    assert {one.back_up for one in drawn} == {True, False}


def test_after_a_restored_device_the_next_round_aims_at_it() -> None:
    drawn = [draw_round(Random(seed), DEVICES, (1,), 3) for seed in range(100)]
    assert {(one.watched, one.aim, one.work_s) for one in drawn} == {((3,), Phase.EXCHANGE, 0.0)}
    assert Victim.RESTORED not in {one.victim for one in drawn}


def test_who_met_the_aim_dies() -> None:
    assert aimed((1,), 2) == (2,)
    assert aimed((1, 3), 2) == (2, 3)
    assert aimed((1, 2), 2) == (1, 2)
    assert aimed((1,), None) == (1,)
    assert aimed((), 2) == ()


def test_a_board_is_seen_by_all_and_keeps_what_was_written_last(tmp_path: Path) -> None:
    ours, theirs = Board(tmp_path / "board", 2), Board(tmp_path / "board", 2)
    with theirs.during(1, Phase.SETTLES):
        with theirs.during(1, Phase.REPAIR):
            assert (ours[0], ours[1]) == (Phase.STARTS, Phase.REPAIR)
        assert ours[1] is Phase.SETTLES
    theirs.close()
    assert ours[1] is Phase.STARTS
    ours.close()


def written(folder: Path, text: str) -> Journal:
    path = folder / "journal"
    path.write_text(text, encoding="ascii")
    return read_journal(path)


def test_a_journal_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    found = written(tmp_path, "a 1\na 2\nt 3\na 3\ns 3\nk 1\nn 4\nm 4\nu 0aff\np 77\nf 1\nf 1\ng 3\ng 2\na 9")
    assert found == Journal(
        kept={1, 2, 3},
        begun={3},
        signals={3},
        notes={4},
        acknowledged={1},
        notes_acknowledged={4},
        signals_acknowledged={"0aff"},
        given_back=5,
        repairs=2,
        resumed=1,
    )
    assert read_journal(tmp_path / "none") == Journal()


def test_what_went_with_a_store_that_was_put_back_need_not_be_there(tmp_path: Path) -> None:
    before = "a 1\nn 2\n"
    since = "t 3\na 3\ns 3\nn 4\na 5\nk 5\nu 0aff\n"
    found = written(tmp_path, f"{before}{since}r {len(before)}\na 6\n")
    assert (found.kept, found.signals, found.notes) == ({1, 6}, set(), {2})
    # What was acknowledged must be there all the same.
    assert (found.acknowledged, found.signals_acknowledged, found.begun) == ({5}, {"0aff"}, {3})
    again = written(tmp_path, f"{before}a 3\nr {len(before)}\na 6\nr {len(before)}\na 7\n")
    assert again.kept == {1, 7}


def shown(serials: Sequence[int], notes: Sequence[int] = ()) -> Shown:
    return Shown(
        results={
            (1, 1, counter): to_row(replace(make_result(serial, 1_000, urgent=False), counter=counter))
            for counter, serial in enumerate(serials, 1)
        },
        annotations=(),
        notes=tuple(
            NoteRow(device_alias=1, epoch=1, counter=counter, author="p", at_ms=1_000, text=note_text(serial))
            for counter, serial in enumerate(notes, 1)
        ),
        superseded=(),
    )


def test_nothing_missing_weighs_nothing() -> None:
    noted = Journal(kept={7, 8}, begun={8}, signals={8}, notes={9}, acknowledged={7}, notes_acknowledged={9})
    noted.signals_acknowledged.add(segment_digest(make_signal(8)).hex())
    there = shown([7, 8], [9])
    toll = weigh([there, there], [True, True], [noted], {8: canonical_segment(make_signal(8))})
    assert toll == Toll(results=2, notes=1, signals=1)
    assert toll.none


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        (Journal(kept={1}), Toll(lost=1)),
        (Journal(notes={1}), Toll(lost=1)),
        (Journal(kept={7}, signals={7}), Toll(lost=1)),
        (Journal(acknowledged={1}), Toll(acknowledged_lost=1)),
        (Journal(notes_acknowledged={1}), Toll(acknowledged_lost=1)),
        (Journal(signals_acknowledged={"0aff"}), Toll(acknowledged_lost=1)),
        (Journal(given_back=1), Toll(acknowledged_lost=1)),
    ],
)
def test_what_is_missing_is_counted(noted: Journal, expected: Toll) -> None:
    toll = weigh([shown([7])], [True], [noted], {})
    assert toll == replace(expected, results=1)
    assert not toll.none


def test_what_is_there_twice_or_different_is_counted() -> None:
    toll = weigh([shown([7]), shown([7, 7], [5, 5])], [True, False], [Journal()], {7: b"other samples"})
    assert (toll.doubled, toll.divergences, toll.signals) == (2, 2, 0)


def test_a_tally_says_what_was_hit() -> None:
    tally = Tally()
    tally.add([Phase.UPLOAD, Phase.UPLOAD, Phase.REPAIR])
    tally.add([Phase.EXCHANGE, Phase.SETTLES])
    tally.add([Phase.STARTS])
    assert tally == Tally(kills=3, in_flight=2, exchange=1, repair=1, upload=1, commit=1)


def era(number: int, lost: int = 0) -> Era:
    made = Era(seed=5, number=number, rounds=2, seconds=1.5)
    made.tally(Victim.SERVER).add([Phase.EXCHANGE])
    made.tally(Victim.DEVICE).add([Phase.KEEPS])
    made.judge(Toll(lost=lost, results=10), {Victim.SERVER})
    return made


def test_eras_add_up_and_blame_only_whom_they_killed() -> None:
    document = total([era(0), era(1, lost=3)])
    assert (document["rounds"], document["in_flight"], document["lost"], document["results"]) == (4, 2, 3, 20)
    assert document["seconds"] == 3.0
    assert document["victims"]["server"]["lost"] == 3
    assert document["victims"]["device"] == {**document["victims"]["postgres"], "kills": 2, "commit": 2}
    assert set(document["victims"]) == {victim.value for victim in Victim}


def test_eras_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "eras"
    assert read_eras(path, 5) == []
    path.write_text(era(0).line() + era(1, lost=1).line(), encoding="ascii")
    assert read_eras(path, 5) == [era(0), era(1, lost=1)]
    with pytest.raises(DocumentUnreadable, match="another seed"):
        read_eras(path, 6)
    path.write_text("{}\n", encoding="ascii")
    with pytest.raises(DocumentUnreadable, match="no eras"):
        read_eras(path, 5)


def test_a_run_that_is_done_is_only_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "eras"
    path.write_text(era(0).line(), encoding="ascii")
    arguments = ["--rounds", "2", "--seed", "5", "--resume", str(path), "--json"]
    assert main(arguments) == 0
    assert '"rounds": 2' in capsys.readouterr().out
    path.write_text(era(0, lost=1).line(), encoding="ascii")
    assert main(arguments) == 1
    assert main(["--seed", "6", "--resume", str(path)]) == 2
    assert "another seed" in capsys.readouterr().err
