"""Where a page of the feed ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import limits as protocol
from einthoven_server import limits
from einthoven_server.records.change_store import FedRow
from einthoven_server.records.feed_page import PAGE_ROWS, cut, rows_asked

KINDS = st.sampled_from(sorted(PAGE_ROWS))
ROWS = st.lists(st.tuples(KINDS, st.integers(1, limits.FEED_PAGE_MAX_BYTES)), max_size=40)


@given(ROWS, st.integers(1, 5))
def test_pages_follow_each_other_without_a_gap(kinds: list[tuple[str, int]], most: int) -> None:
    rows = [FedRow(2 * place + 1, kind, octets, place) for place, (kind, octets) in enumerate(kinds)]
    end, since, seen = 2 * len(rows) + 5, 0, []
    per_kind = dict.fromkeys(PAGE_ROWS, most)
    while True:
        page = cut([row for row in rows if row.commit_seq > since], per_kind, end)
        seen += page.rows
        assert all(since < row.commit_seq <= page.end for row in page.rows)
        assert max([0, *(sum(row.kind == kind for row in page.rows) for kind in PAGE_ROWS)]) <= most
        assert len(page.rows) == 1 or sum(row.octets for row in page.rows) <= limits.FEED_PAGE_MAX_BYTES
        if not page.more:
            break
        assert page.rows
        since = page.end
    assert (seen, page.end) == (rows, end)


def test_those_who_ask_together_share_what_a_batch_reads() -> None:
    assert rows_asked(1) == dict(PAGE_ROWS)
    assert rows_asked(100)["results"] == 200
    assert min(rows_asked(10_000).values()) == min(limits.FEED_ROWS_MIN, *PAGE_ROWS.values())


def test_a_page_of_the_widest_rows_fits_a_message() -> None:
    widest = protocol.MAX_DOCUMENT_BYTES + protocol.MAX_DOCUMENT_SIGNATURE_BYTES
    assert limits.FEED_PAGE_MAX_BYTES + widest < protocol.MAX_DECODED_BYTES
