"""Tampering with a store's file: every way, and every attempt of it, is found (attacks 30 to 32)."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from einthoven.sqlcipher_connection import open_writer
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_values import DamageReason
from einthoven_bench.store_specimens import Specimen, anchor_file_of, make_specimen
from einthoven_bench.store_tamper import WAYS, Attempt, tamper_figures, try_way


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> Specimen:
    """A small one: some 80 pages."""
    return make_specimen(tmp_path_factory.mktemp("specimen"), results=120)


def attempts(specimen: Specimen, way: str) -> list[Attempt]:
    return list(WAYS[way](specimen, random.Random(1)))


def test_a_store_that_nobody_touched_is_sound(specimen: Specimen) -> None:
    report = specimen.check()
    assert report.sound, report.findings
    assert report.pages == specimen.n_pages
    assert report.rows == sum(len(rows) for rows in specimen.rows.values())


@pytest.mark.parametrize("way", ["file_rollback", "length", "row_edit"])
def test_every_attempt_is_found(specimen: Specimen, way: str) -> None:
    figure = try_way(specimen, way)
    print(figure)
    assert figure.missed == ()
    assert figure.detected == figure.attempted > 0


def test_a_flipped_bit_is_found_on_the_page_that_it_is_on(specimen: Specimen) -> None:
    for attempt in attempts(specimen, "bit_flip")[::13]:
        (number,) = attempt.pages
        findings = specimen.check(attempt.content).findings
        assert findings[0].reason is DamageReason.PAGE_UNREADABLE
        assert findings[0].place in {f"page {number}", "page 1, salt"}, attempt.what
    specimen.put(specimen.content)


def test_a_page_that_was_turned_back_is_found(specimen: Specimen) -> None:
    tried = attempts(specimen, "page_rollback")
    chosen = [attempt for attempt in tried if len(attempt.pages) == 1] + tried[::9]
    missed = [attempt.what for attempt in chosen if specimen.check(attempt.content).sound]
    specimen.put(specimen.content)
    assert missed == []
    assert len(chosen) > 40


def test_pages_that_changed_places_or_stores_are_found(specimen: Specimen) -> None:
    chosen = [attempt for attempt in attempts(specimen, "page_exchange")[::19] if attempt.content != specimen.content]
    missed = [attempt.what for attempt in chosen if specimen.check(attempt.content).sound]
    specimen.put(specimen.content)
    assert missed == []
    assert len(chosen) > 30


def test_a_log_that_was_turned_back_or_spoiled_is_found(specimen: Specimen, tmp_path: Path) -> None:
    """A file with a log that was not moved, as a killed process leaves it."""
    killed = specimen.copied_to(tmp_path / "killed")
    log_path = killed.path.with_name(killed.path.name + "-wal")
    logs = []
    with closing(open_writer(killed.path, killed.key)) as connection:
        rows = SqlCipherRows(connection)
        for number in range(4):
            with rows.transaction():
                rows.put("setting", (f"late{number}", bytes(3_000)))
            logs.append(log_path.read_bytes())
        content = killed.path.read_bytes()
    anchor_file_of(killed.path, killed.key)
    assert killed.check(content, logs[-1]).sound
    assert not killed.check(content, logs[-2]).sound
    assert not killed.check(content).sound
    assert not killed.check(killed.content, logs[0]).sound
    chance = random.Random(3)
    for _ in range(15):
        spoiled = bytearray(logs[-1])
        spoiled[chance.randrange(32, len(spoiled))] ^= 1 << chance.randrange(8)
        assert not killed.check(content, bytes(spoiled)).sound


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_the_figures_of_a_large_store() -> None:
    for figure in tamper_figures():
        print(f"{figure.way}: {figure.detected} of {figure.attempted}")
        assert figure.missed == ()
        assert figure.detected == figure.attempted
