"""SipHash-2-4: the authors' vectors, a plain second implementation, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven_protocol.slow_repair import siphash

from einthoven_protocol.siphash import siphash24

KEY = bytes(range(16))
# Appendix of the paper, and vectors.h of the authors' code: messages 00 01 02 ..., outputs as they are printed there.
PUBLISHED = {
    0: "310e0edd47db6f72",
    1: "fd67dc93c539f874",
    2: "5a4fa9d909806c0d",
    3: "2d7efbd796666785",
    4: "b7877127e09427cf",
    5: "8da699cd64557618",
    6: "cee3fe586e46c9cb",
    7: "37d1018bf50002ab",
    8: "6224939a79f5f593",
    9: "b0e4a90bdf82009e",
    10: "f3b9dd94c5bb5d7a",
    11: "a7ad6b22462fb3f4",
    12: "fbe50e86bc8f1e75",
    13: "903d84c02756ea14",
    14: "eef27a8e90ca23f7",
    15: "e545be4961ca29a1",
}


def one(key: bytes, message: bytes) -> int:
    return int(siphash24(key, np.frombuffer(message, np.uint8)[None, :])[0])


@pytest.mark.parametrize("length", PUBLISHED)
def test_the_authors_vectors(length: int) -> None:
    message = bytes(range(length))
    assert one(KEY, message).to_bytes(8, "little").hex() == PUBLISHED[length]
    assert siphash(KEY, message) == one(KEY, message)


@given(key=st.binary(min_size=16, max_size=16), message=st.binary(max_size=300))
def test_any_message_as_the_plain_implementation_has_it(key: bytes, message: bytes) -> None:
    assert one(key, message) == siphash(key, message)


def test_many_messages_are_hashed_as_one_by_one() -> None:
    messages = np.random.default_rng(1).integers(0, 256, (8_192 + 3, 16), np.uint8)
    hashes = siphash24(KEY, messages)
    assert hashes.dtype == np.uint64
    for place in (0, 1, 8_191, 8_192, 8_194):
        assert int(hashes[place]) == siphash(KEY, messages[place].tobytes())


def test_messages_are_not_changed() -> None:
    messages = np.arange(32, dtype=np.uint8).reshape(2, 16)
    siphash24(KEY, messages)
    assert messages.tolist() == np.arange(32).reshape(2, 16).tolist()


def test_of_no_messages_there_are_no_hashes() -> None:
    assert len(siphash24(KEY, np.empty((0, 16), np.uint8))) == 0


@pytest.mark.parametrize("key", [b"", bytes(15), bytes(17)])
def test_a_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        siphash24(key, np.zeros((1, 16), np.uint8))


@pytest.mark.parametrize("messages", [np.zeros(16, np.uint8), np.zeros((1, 16), np.int64)])
def test_messages_of_another_kind_are_refused(messages: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        siphash24(KEY, messages)
