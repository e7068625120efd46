"""SipHash-2-4 (Aumasson and Bernstein, 2012) over many short messages at once: a keyed hash that nobody can aim.

It deliberately takes messages of one length only, and is no digest of rows: ``digests`` is.

Invariants:
    1. Bit for bit the published function (64-bit output), on any machine: integer arithmetic modulo 2**64 alone.
    2. Work and memory grow with the number of messages and nothing else; no message is looked into.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

KEY_BYTES: Final = 16

_WORD_BYTES: Final = 8
_INITIAL: Final = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
_CHUNK: Final = 8_192
"""Messages hashed together: their state stays in a core's own cache."""

_Words = NDArray[np.uint64]


def siphash24(key: bytes, messages: NDArray[np.uint8]) -> _Words:
    """Return the hash of each message.

    Args:
        key: 16 bytes.
        messages: uint8 [n, length].

    Returns:
        uint64 [n].

    Raises:
        ValueError: The key is not 16 bytes long, or the messages are no such array.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a SipHash key is {KEY_BYTES} bytes long")
    if messages.dtype != np.uint8 or messages.ndim != 2:
        raise ValueError("messages are uint8 [n, length]")
    hashes = np.empty(len(messages), np.uint64)
    for start in range(0, len(messages), _CHUNK):
        hashes[start : start + _CHUNK] = _hash(key, messages[start : start + _CHUNK])
    return hashes


def _hash(key: bytes, messages: NDArray[np.uint8]) -> _Words:
    low, high = (int.from_bytes(key[at : at + _WORD_BYTES], "little") for at in (0, _WORD_BYTES))
    n = len(messages)
    state = [np.full(n, initial ^ half, np.uint64) for initial, half in zip(_INITIAL, (low, high) * 2, strict=True)]
    words = _padded_words(messages)
    scratch = np.empty(n, np.uint64)
    for place in range(words.shape[1]):
        word = np.ascontiguousarray(words[:, place])
        state[3] ^= word
        _round(state, scratch)
        _round(state, scratch)
        state[0] ^= word
    state[2] ^= np.uint64(0xFF)
    for _ in range(4):
        _round(state, scratch)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _padded_words(messages: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return each message as little-endian words, the last with the length (mod 256) in its highest byte."""
    n, length = messages.shape
    n_words = length // _WORD_BYTES + 1
    padded = np.zeros((n, n_words * _WORD_BYTES), np.uint8)
    padded[:, :length] = messages
    padded[:, -1] = length % 256
    return padded.view("<u8").astype(np.uint64, copy=False)


def _round(state: list[_Words], scratch: _Words) -> None:
    v0, v1, v2, v3 = state
    v0 += v1
    v2 += v3
    _rotate(v1, 13, scratch)
    _rotate(v3, 16, scratch)
    v1 ^= v0
    v3 ^= v2
    _rotate(v0, 32, scratch)
    v2 += v1
    v0 += v3
    _rotate(v1, 17, scratch)
    _rotate(v3, 21, scratch)
    v1 ^= v2
    v3 ^= v0
    _rotate(v2, 32, scratch)


def _rotate(words: _Words, bits: int, scratch: _Words) -> None:
    """Turn each word left, in place."""
    np.right_shift(words, np.uint64(64 - bits), out=scratch)
    np.left_shift(words, np.uint64(bits), out=words)
    np.bitwise_or(words, scratch, out=words)
