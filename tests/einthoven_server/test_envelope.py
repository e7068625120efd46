"""What is sealed opens in its place only."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_server.envelope import Key, PatientKey, Place
from einthoven_server.errors import EnvelopeRefused, KeyUnavailable
from einthoven_server.key_service_file import FileKeyService

KEY = bytes(range(32))


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_it_opens_with_the_same_key_and_place(plaintext: bytes, place: bytes) -> None:
    sealed = Key(KEY).seal(plaintext, place)
    assert Key(KEY).open(sealed, place) == plaintext
    assert plaintext == b"" or plaintext not in sealed or len(plaintext) < 4


def test_the_same_value_never_looks_the_same() -> None:
    assert Key(KEY).seal(b"x", b"") != Key(KEY).seal(b"x", b"")


def test_every_flipped_bit_is_noticed() -> None:
    sealed = Key(KEY).seal(b"value", b"place")
    for place in range(len(sealed) * 8):
        damaged = bytearray(sealed)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(EnvelopeRefused):
            Key(KEY).open(bytes(damaged), b"place")


@pytest.mark.parametrize("octets", [b"", b"\x01", bytes(28), b"\x02" + bytes(40)])
def test_what_was_never_sealed_is_refused(octets: bytes) -> None:
    with pytest.raises(EnvelopeRefused):
        Key(KEY).open(octets, b"")


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Key(bytes(16))


PLACE = Place("tenant", "patient", "table", "column", "row", 1)


@pytest.mark.parametrize("field", Place._fields)
def test_every_part_of_the_place_counts(field: str) -> None:
    other = PLACE._replace(**{field: 2 if field == "key_version" else "other"})
    sealed = Key(KEY).seal(b"x", PLACE.to_bytes())
    with pytest.raises(EnvelopeRefused):
        Key(KEY).open(sealed, other.to_bytes())


@given(st.lists(st.text(max_size=5), min_size=5, max_size=5), st.lists(st.text(max_size=5), min_size=5, max_size=5))
def test_two_places_never_have_the_same_bytes(a: list[str], b: list[str]) -> None:
    assert (Place(*a, 1).to_bytes() == Place(*b, 1).to_bytes()) == (a == b)


def test_a_patients_key_does_not_open_anothers_value() -> None:
    mine, other = PatientKey("t", "mine", 1, KEY), PatientKey("t", "other", 1, KEY)
    sealed = mine.seal(b"x", "table", "column", "row")
    assert mine.open(sealed, "table", "column", "row") == b"x"
    with pytest.raises(EnvelopeRefused):
        other.open(sealed, "table", "column", "row")


async def test_a_key_file_is_made_once_and_binds_its_context(tmp_path: Path) -> None:
    wrapped = await FileKeyService(tmp_path / "kek").wrap(KEY, b"context")
    assert KEY not in wrapped
    again = FileKeyService(tmp_path / "kek")
    assert await again.unwrap(wrapped, b"context") == KEY
    with pytest.raises(EnvelopeRefused):
        await again.unwrap(wrapped, b"another")
    with pytest.raises(EnvelopeRefused):
        await FileKeyService(tmp_path / "other").unwrap(wrapped, b"context")


@pytest.mark.parametrize("content", [b"", b"zz", b"ab" * 31, b"\xff\xfe", b"ab" * 33])
def test_a_damaged_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kek"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(KeyUnavailable):
        FileKeyService(path)
