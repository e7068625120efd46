"""What `check` says of damage and of edits: each by its own name, in its own place, and with no content."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlcipher3 import dbapi2

from einthoven.sqlcipher_connection import open_reader, open_writer
from einthoven.sqlcipher_log import HEADER_BYTES
from einthoven.sqlcipher_page_file import PageFile
from einthoven.sqlcipher_pages import PageCipher
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.sqlite_schema_pages import free_pages
from einthoven.store_check import MAX_FINDINGS, MAX_PLACE_CHARS, check_store, missing_results, spelled
from einthoven.store_line import STORE_SHAPES, find_store_line, valid_by_tag
from einthoven.store_schema import NEWEST_VERSION, TABLES, position_of
from einthoven.store_values import DamageReason
from einthoven.table_shapes import shapes_of
from einthoven_bench.store_specimens import PAGE_BYTES, Specimen, anchor_file_of, make_specimen


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Specimen:
    return make_specimen(tmp_path_factory.mktemp("original"), results=120)


@pytest.fixture
def specimen(original: Specimen) -> Specimen:
    original.put(original.content)
    return original


def found_after(specimen: Specimen, *statements: str) -> set[tuple[DamageReason, str]]:
    with closing(open_writer(specimen.path, specimen.key)) as connection:
        for statement in statements:
            connection.execute(statement)
    return {(finding.reason, finding.place) for finding in specimen.check(specimen.path.read_bytes()).findings}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE result SET body = zeroblob(90) WHERE position & 65535 = 7", (DamageReason.TAG_WRONG, "result 1:7")),
        ("DELETE FROM result WHERE position & 65535 IN (7, 8)", (DamageReason.ROW_MISSING, "result 1:7-8")),
        ("DELETE FROM result WHERE position & 65535 = 120", (DamageReason.ROW_MISSING, "result 1:120")),
        (
            "UPDATE result SET position = position + 1000 WHERE position & 65535 = 120",
            (DamageReason.STRUCTURE, "result 1:1120, beyond its epoch's counter"),
        ),
        ("DELETE FROM setting WHERE name = 'name5'", (DamageReason.SUM_WRONG, "setting: 59 rows, 60 written")),
        ("UPDATE setting SET value = x'00' WHERE name = 'name5'", (DamageReason.TAG_WRONG, "setting name5")),
        ("UPDATE audit SET at_ms = 5 WHERE seq = 9", (DamageReason.CHAIN_BROKEN, "audit 9")),
        ("UPDATE audit SET at_ms = -5 WHERE seq = 9", (DamageReason.CHAIN_BROKEN, "audit 9")),
        ("DELETE FROM audit WHERE seq = 9", (DamageReason.CHAIN_BROKEN, "audit 9")),
        ("DELETE FROM audit WHERE seq = 61", (DamageReason.CHAIN_BROKEN, "audit 61")),
        ("UPDATE store SET commit_seq = 1", (DamageReason.ANCHOR_WRONG, "anchor: turned_back")),
        ("UPDATE store SET audit_head = zeroblob(32)", (DamageReason.ANCHOR_WRONG, "anchor: diverged")),
        ("DELETE FROM store", (DamageReason.ROW_MISSING, "store")),
        ("UPDATE store SET sums = x'00'", (DamageReason.ROW_MISSING, "store")),
        ("DROP TABLE refusal", (DamageReason.STRUCTURE, "OperationalError")),
    ],
)
def test_an_edit_is_named(specimen: Specimen, statement: str, expected: tuple[DamageReason, str]) -> None:
    assert expected in found_after(specimen, statement)


def test_an_index_that_does_not_fit_its_table_is_named(specimen: Specimen) -> None:
    """SQLite's own check; the row's tag and the sums are right."""
    found = found_after(
        specimen,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'beat_run_started')"
        " WHERE name = 'result_started'",
    )
    assert {reason for reason, _ in found} == {DamageReason.STRUCTURE}


def test_an_old_page_in_the_place_of_a_free_one_is_named(tmp_path: Path) -> None:
    """Proved, and read by nobody: only that it is not empty shows it."""
    specimen = make_specimen(tmp_path, results=600)
    with PageFile(specimen.path) as file, file.pages(specimen.key) as pages:
        free = {number for number, trunk in free_pages(pages, set()) if not trunk}
    cipher = PageCipher(specimen.key.data_key, specimen.key.salt)
    in_use_once = [
        (number, moment)
        for number in free
        for moment in (0, 1)
        if number <= len(specimen.moments[moment]) // PAGE_BYTES
        and any(cipher.decrypt(number, specimen.page(number, moment)))
    ]
    assert in_use_once
    for number, moment in in_use_once:
        findings = specimen.check(specimen.with_page(number, specimen.page(number, moment))).findings
        assert [(finding.reason, finding.place) for finding in findings] == [
            (DamageReason.PAGE_TURNED_BACK, f"page {number}, free")
        ]


def logged(specimen: Specimen) -> tuple[bytes, bytes]:
    """The file with three commits in its log, and the log; the anchor knows of the first two."""
    log_path = specimen.path.with_name(specimen.path.name + "-wal")
    with closing(open_writer(specimen.path, specimen.key)) as connection:
        rows = SqlCipherRows(connection)
        for number in range(3):
            if number == 2:
                anchor_file_of(specimen.path, specimen.key)
                acknowledged = log_path.stat().st_size
            with rows.transaction():
                rows.put("setting", ("in the log", bytes([number])))
        assert log_path.stat().st_size > acknowledged
        return specimen.path.read_bytes(), log_path.read_bytes()


def test_the_torn_end_of_a_log_is_no_damage_and_a_torn_middle_is(original: Specimen, tmp_path: Path) -> None:
    specimen = original.copied_to(tmp_path / "copy")
    content, log = logged(specimen)
    assert [f for f in specimen.check(content, log).findings if f.reason is not DamageReason.ANCHOR_WRONG] == []
    for cut in (1, PAGE_BYTES // 2, PAGE_BYTES + 100):
        torn = log[:-cut] + bytes(cut)
        assert specimen.check(content, torn).findings == ()
        assert specimen.check(content, log[:-cut]).findings == ()
    spoiled = bytearray(log)
    spoiled[HEADER_BYTES + 8] ^= 1
    found = {(finding.reason, finding.place) for finding in specimen.check(content, bytes(spoiled)).findings}
    assert (DamageReason.PAGE_UNREADABLE, "write-ahead log") in found


def test_one_read_that_failed_is_no_finding_and_two_are(specimen: Specimen) -> None:
    """SQLite calls a failed read damage."""
    tried: list[int] = []

    def found(failing: int) -> list[str]:
        tried.clear()

        @contextmanager
        def connect() -> Iterator[dbapi2.Connection]:
            tried.append(failing)
            with closing(open_reader(specimen.path, specimen.key)) as connection:
                yield connection
                if len(tried) <= failing:
                    raise dbapi2.DatabaseError("database disk image is malformed")

        with PageFile(specimen.path) as file, file.pages(specimen.key) as pages:
            report = check_store(pages, specimen.key.salt, connect, anchored=specimen.anchor.read(), inode=file.inode)
        assert report.rows == sum(map(len, specimen.rows.values())) - len(specimen.rows.get("store", ()))
        return [finding.place for finding in report.findings]

    assert (found(0), len(tried)) == ([], 1)
    assert (found(1), len(tried)) == ([], 2)
    assert (found(2), len(tried)) == (["DatabaseError"], 2)


def test_findings_are_bounded_and_hold_no_content(specimen: Specimen) -> None:
    noise = random.Random(1).randbytes(len(specimen.content))
    report = specimen.check(noise)
    assert len(report.findings) <= MAX_FINDINGS
    assert all(len(finding.place) <= MAX_PLACE_CHARS and "\n" not in finding.place for finding in report.findings)
    assert report.pages == specimen.n_pages


def test_a_store_with_more_wrong_than_a_report_holds(tmp_path: Path) -> None:
    specimen = make_specimen(tmp_path, results=1_200)
    found = found_after(specimen, "UPDATE result SET tag = zeroblob(16)")
    assert len(found) == MAX_FINDINGS


def test_missing_results_are_named_as_stretches(specimen: Specimen) -> None:
    with closing(open_writer(specimen.path, specimen.key)) as connection:
        assert list(missing_results(connection)) == []
        connection.execute("BEGIN")
        connection.execute("DELETE FROM result WHERE position & 65535 IN (1, 2, 50, 119, 120)")
        assert list(missing_results(connection)) == ["1:1-2", "1:50", "1:119-120"]
        connection.execute("UPDATE epoch SET first_kept = 3")
        assert list(missing_results(connection)) == ["1:50", "1:119-120"]
        connection.execute("ROLLBACK")


def test_positions_in_words() -> None:
    assert spelled(position_of(3, 5)) == "3:5"
    assert spelled(position_of(3, 5), position_of(3, 5)) == "3:5"
    assert spelled(position_of(3, 5), position_of(3, 8)) == "3:5-8"


def test_shapes_are_those_that_sqlite_makes(specimen: Specimen) -> None:
    """Read off our own statements, and held to what the database says of itself."""
    with closing(open_writer(specimen.path, specimen.key)) as connection:
        for shape in STORE_SHAPES:
            described = connection.execute(f"PRAGMA table_info({shape.name})").fetchall()
            assert [column.name for column in shape.columns] == [line[1] for line in described]
            assert [column.declared for column in shape.columns] == [line[2] for line in described]
            assert [column.key_rank for column in shape.columns] == [line[5] for line in described]
            for column, line in zip(shape.columns, described, strict=True):
                assert column.nullable == (not line[3] and not line[5]), column
    assert {shape.name for shape in STORE_SHAPES} == {"store", *(table.name for table in TABLES)}
    assert shapes_of(NEWEST_VERSION) == STORE_SHAPES


def test_the_stores_own_line_is_found_off_its_tree(specimen: Specimen) -> None:
    """Page 1 is lost and with it where the line's table begins."""
    with PageFile(specimen.path) as file, file.pages(specimen.key) as pages:
        known = find_store_line(pages)
    specimen.put(specimen.with_page(1, bytes(PAGE_BYTES)))
    with PageFile(specimen.path) as file, file.pages(specimen.key) as pages:
        line = find_store_line(pages)
    assert known is not None
    assert line is not None
    assert line.integrity_key == known.integrity_key
    assert "integrity_key" not in repr(line)


def test_without_the_key_of_the_tags_every_shape_is_valid() -> None:
    assert valid_by_tag(None)("result", ())
