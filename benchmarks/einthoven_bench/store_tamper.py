"""Tampering with a closed store in every way that needs no key, and some that do: how much of it ``check`` finds.

Each way yields the files that it makes of one specimen; whoever runs them counts what was found. It deliberately mends
nothing: what a repair gives back is a matter of the tests.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from einthoven.sqlcipher_connection import open_writer
from einthoven.sqlcipher_pages import PageCipher
from einthoven_bench.store_specimens import PAGE_BYTES, Specimen, make_specimen

FLIPS_PER_PAGE: Final = 6
"""Bits flipped in each page, one at a time: two anywhere, four at the seams of its layout."""
PAIRS: Final = 300
"""Pairs of pages turned back or exchanged together."""
_USABLE_BYTES: Final = PAGE_BYTES - 80


@dataclass(frozen=True, slots=True)
class Attempt:
    """One tampered file.

    Attributes:
        what: What was done, for a message.
        content: The file.
        log: Its write-ahead log.
        pages: Pages that were touched.
    """

    what: str
    content: bytes
    log: bytes = b""
    pages: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class TamperFigure:
    """What was found of one way of tampering.

    Attributes:
        way: Its name.
        detected: Attempts that ``check`` had a finding for.
        attempted: All attempts.
        missed: What was done in the first few that it did not find.
    """

    way: str
    detected: int
    attempted: int
    missed: tuple[str, ...]


def bit_flips(specimen: Specimen, chance: random.Random) -> Iterator[Attempt]:
    """One bit in every page: in ciphertext, vector and code; in page 1 also in the salt."""
    for number in range(1, specimen.n_pages + 1):
        seams = [0, _USABLE_BYTES, _USABLE_BYTES + 16, PAGE_BYTES - 1]
        anywhere = [chance.randrange(PAGE_BYTES) for _ in range(FLIPS_PER_PAGE - len(seams))]
        if number == 1:
            anywhere += [7, 15, 16, 40, 100]
        for place in (*seams, *anywhere):
            stored = bytearray(specimen.page(number))
            stored[place] ^= 1 << chance.randrange(8)
            content = specimen.with_page(number, bytes(stored))
            yield Attempt(f"bit in byte {place} of page {number}", content, pages=frozenset({number}))


def page_rollbacks(specimen: Specimen, chance: random.Random) -> Iterator[Attempt]:
    """Every page that differs between two moments, the old one put back; then pairs of them."""
    for moment in range(len(specimen.moments) - 1):
        differing = _differing(specimen, moment)
        for number in differing:
            yield _turned_back(specimen, moment, (number,))
        for _ in range(min(PAIRS, len(differing) ** 2)):
            yield _turned_back(specimen, moment, tuple(sorted(chance.sample(differing, 2))))
        for count in (3, 5, 20, len(differing) - 1):
            yield _turned_back(specimen, moment, tuple(sorted(chance.sample(differing, min(count, len(differing))))))


def file_rollbacks(specimen: Specimen, _chance: random.Random) -> Iterator[Attempt]:
    """The whole file of an earlier moment, and all pages that it had within the file of today."""
    for moment in range(len(specimen.moments) - 1):
        yield Attempt(f"file of moment {moment}", specimen.moments[moment])
        yield Attempt(
            f"start of moment {moment}",
            specimen.moments[moment] + specimen.content[len(specimen.moments[moment]) :],
        )


def exchanges(specimen: Specimen, chance: random.Random) -> Iterator[Attempt]:
    """Two pages exchanged, one copied over another, one cleared, one of another store."""
    with tempfile.TemporaryDirectory() as folder:
        other = make_specimen(Path(folder), seed=1, results=150)
        for _ in range(PAIRS):
            one, two = chance.sample(range(1, specimen.n_pages + 1), 2)
            content = specimen.with_page(one, specimen.page(two))
            yield Attempt(f"page {two} copied over {one}", content)
            yield Attempt(f"pages {one} and {two} exchanged", specimen.with_page(two, specimen.page(one), content))
        for number in range(1, specimen.n_pages + 1):
            yield Attempt(f"page {number} cleared", specimen.with_page(number, bytes(PAGE_BYTES)))
        for number in range(1, other.n_pages + 1):
            yield Attempt(f"page {number} of another store", specimen.with_page(number, other.page(number)))


def other_lengths(specimen: Specimen, chance: random.Random) -> Iterator[Attempt]:
    """The file cut off anywhere, or with something at its end."""
    cuts = [*range(PAGE_BYTES, len(specimen.content), 7 * PAGE_BYTES), len(specimen.content) - 1]
    for length in (*cuts, *(chance.randrange(PAGE_BYTES, len(specimen.content)) for _ in range(20))):
        yield Attempt(f"cut off at {length}", specimen.content[:length])
    for tail in (b"\0", bytes(PAGE_BYTES), chance.randbytes(100), specimen.page(specimen.n_pages)):
        yield Attempt(f"{len(tail)} bytes more", specimen.content + tail)


def edits_with_the_key(specimen: Specimen, chance: random.Random) -> Iterator[Attempt]:
    """Rows edited, exchanged, copied and dropped by somebody who has the data key and knows the tables."""
    statements = [
        "DELETE FROM audit WHERE seq = 40",
        "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)",
        "UPDATE audit SET subject = 'x' WHERE seq = 41",
        "UPDATE epoch SET acknowledged = acknowledged + 1",
        "UPDATE store SET commit_seq = commit_seq - 1",
        "UPDATE store SET commit_seq = commit_seq + 1, audit_head = zeroblob(32)",
        "UPDATE store SET sums = zeroblob(length(sums))",
        "UPDATE store SET integrity_key = zeroblob(32)",
        "DELETE FROM store",
        "DELETE FROM sync",
        "INSERT INTO refusal SELECT epoch, counter + 100000, code, reason, tag FROM refusal LIMIT 1",
        "UPDATE setting SET value = (SELECT value FROM setting WHERE name = 'name3') WHERE name = 'name4'",
    ]
    for table, column, key in (
        ("result", "body", "position"),
        ("result", "segment_digest", "position"),
        ("signal_page", "body", "id"),
        ("beat_run", "body", "id"),
        ("annotation", "local_body", "rowid"),
        ("setting", "value", "rowid"),
    ):
        for both in (column, f"{column}, tag"):
            exchange = (
                f"UPDATE {table} SET ({both}) = (SELECT {both} FROM (SELECT {key} AS k, {both} FROM {table}) "  # noqa: S608 - names of our own
                f"WHERE k = CASE {table}.{key} WHEN ?1 THEN ?2 ELSE ?1 END) WHERE {key} IN (?1, ?2)"
            )
            yield from _edited(specimen, chance, table, key, exchange)
        yield from _edited(specimen, chance, table, key, f"DELETE FROM {table} WHERE {key} = ?1 OR {key} = -?2")  # noqa: S608
    for statement in statements:
        yield Attempt(statement, _executed(specimen, statement))


WAYS: Final[dict[str, Callable[[Specimen, random.Random], Iterator[Attempt]]]] = {
    "bit_flip": bit_flips,
    "page_rollback": page_rollbacks,
    "file_rollback": file_rollbacks,
    "page_exchange": exchanges,
    "length": other_lengths,
    "row_edit": edits_with_the_key,
}
"""All ways by name."""


def try_way(specimen: Specimen, way: str, seed: int = 0) -> TamperFigure:
    """Tamper in one way, and count what ``check`` finds; the specimen's file is as it was afterwards."""
    attempted = detected = 0
    missed = []
    for attempt in WAYS[way](specimen, random.Random(seed)):  # noqa: S311 - a choice of places, not a secret
        if (attempt.content, attempt.log) == (specimen.content, b""):
            continue
        attempted += 1
        if specimen.check(attempt.content, attempt.log).sound:
            missed.append(attempt.what)
        else:
            detected += 1
    specimen.put(specimen.content)
    return TamperFigure(way, detected, attempted, tuple(missed[:10]))


def tamper_figures(seed: int = 0) -> list[TamperFigure]:
    """All ways, tried on a specimen of their own."""
    with tempfile.TemporaryDirectory() as folder:
        specimen = make_specimen(Path(folder), seed)
        if not specimen.check().sound:
            raise ValueError("the specimen is not sound before anybody touched it")
        return [try_way(specimen, way, seed) for way in WAYS]


def _differing(specimen: Specimen, moment: int) -> list[int]:
    """Pages that hold something else today; one that was written again as it was is encrypted anew, and no other."""
    cipher = PageCipher(specimen.key.data_key, specimen.key.salt)
    n_pages = len(specimen.moments[moment]) // PAGE_BYTES
    return [
        number
        for number in range(1, n_pages + 1)
        if cipher.decrypt(number, specimen.page(number, moment)) != cipher.decrypt(number, specimen.page(number))
    ]


def _turned_back(specimen: Specimen, moment: int, numbers: tuple[int, ...]) -> Attempt:
    content = specimen.content
    for number in numbers:
        content = specimen.with_page(number, specimen.page(number, moment), content)
    return Attempt(f"pages {numbers} of moment {moment}", content, pages=frozenset(numbers))


def _edited(specimen: Specimen, chance: random.Random, table: str, key: str, statement: str) -> Iterator[Attempt]:
    specimen.put(specimen.content)
    with closing(open_writer(specimen.path, specimen.key)) as connection:
        keys = [line[0] for line in connection.execute(f"SELECT {key} FROM {table}")]  # noqa: S608
    for _ in range(4):
        one, two = chance.sample(keys, 2)
        yield Attempt(f"{statement} {one} {two}", _executed(specimen, statement, (one, two)))


def _executed(specimen: Specimen, statement: str, parameters: tuple[int, ...] = ()) -> bytes:
    specimen.put(specimen.content)
    with closing(open_writer(specimen.path, specimen.key)) as connection:
        connection.execute(statement, parameters)
    return specimen.path.read_bytes()


def main() -> None:
    """Print the figures."""
    for figure in tamper_figures():
        print(f"{figure.way:14} {figure.detected:5} of {figure.attempted:5} detected {'; '.join(figure.missed)}")


if __name__ == "__main__":
    main()
