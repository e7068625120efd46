"""Passphrases: one however it was typed, dear to guess, bounded, and useless without the device half."""

from __future__ import annotations

import struct
import time
import tracemalloc
import unicodedata
from pathlib import Path

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import assume, given
from hypothesis import strategies as st

from einthoven.errors import KeyUnavailable, WrongKey
from einthoven.key_provider_passphrase import PassphraseKeyProvider
from einthoven.passphrases import (
    MAX_ITERATIONS,
    MAX_LANES,
    MAX_MEMORY_KIB,
    MAX_PASSPHRASE_BYTES,
    OWASP_MINIMUM,
    RFC_9106_SECOND,
    Argon2Cost,
    spelled,
    stretched,
)
from einthoven.vault_memory import MemoryVault

DATA_KEY = bytes(range(100, 132))
STORE_ID = bytes(range(16))
PASSPHRASE = "mijn snaar-galvanometer"
CHEAP = Argon2Cost(memory_kib=32, iterations=1, lanes=1)


def test_argon2id_gives_what_rfc_9106_says() -> None:
    """Section 5.3, without secret and associated data, is not printed there; this is the reference program's vector."""
    # phc-winner-argon2, test.c, version 0x13: t=2, m=2**8 KiB, p=1, "password", "somesalt" (Argon2id).
    expected = "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"

    assert stretched(b"password", b"somesalt", Argon2Cost(256, 2, 1)).hex() == expected


def test_the_wrapped_key_is_what_its_description_says(tmp_path: Path) -> None:
    """Opened by hand, from the passphrase, the device half and the layout in the docstrings alone."""
    wrapped = PassphraseKeyProvider(PASSPHRASE, tmp_path / "half", cost=CHEAP).wrap(DATA_KEY, STORE_ID)
    version, kind, flags, memory_kib, iterations, lanes, salt = struct.unpack_from(">BBBIHB16s", wrapped)
    assert (version, kind, flags, memory_kib, iterations, lanes) == (1, 2, 1, 32, 1, 1)
    header, nonce, ciphertext = wrapped[:26], wrapped[26:38], wrapped[38:]

    slow = Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=32).derive(PASSPHRASE.encode())
    half = (tmp_path / "half").read_bytes()
    wrapping = HKDF(SHA256(), 32, salt=half, info=b"einthoven/passphrase-and-device-half/1\0").derive(slow)
    cipher_key = HKDF(SHA256(), 32, salt=STORE_ID, info=b"einthoven/wrapping-key/1\0").derive(wrapping)

    bound_to = b"einthoven/wrapped-data-key/1\0" + STORE_ID + header

    assert AESGCM(cipher_key).decrypt(nonce, ciphertext, bound_to) == DATA_KEY


def test_the_default_costs_are_those_of_rfc_9106_and_travel_with_the_key() -> None:
    wrapped = PassphraseKeyProvider(PASSPHRASE, None).wrap(DATA_KEY, STORE_ID)

    assert (
        struct.unpack_from(">IHB", wrapped, 3)
        == (64 * 1024, 3, 4)
        == (
            RFC_9106_SECOND.memory_kib,
            RFC_9106_SECOND.iterations,
            RFC_9106_SECOND.lanes,
        )
    )
    assert PassphraseKeyProvider(PASSPHRASE, None, cost=OWASP_MINIMUM).unwrap(wrapped, STORE_ID) == DATA_KEY


def test_a_guess_costs_what_it_is_meant_to_cost() -> None:
    """The ratio of the two costs, in one run: what was asked for is really done."""

    def processor_s(cost: Argon2Cost) -> float:
        started_s = time.process_time()
        stretched(b"guess", b"s" * 16, cost)
        return time.process_time() - started_s

    dear = min(processor_s(RFC_9106_SECOND) for _ in range(3))
    cheap = min(processor_s(Argon2Cost(64, 1, 1)) for _ in range(3))
    assert dear > 50 * cheap


@pytest.mark.parametrize("wrong", ["mijn snaar-galvanometeR", "mijn snaar-galvanometer ", " mijn snaar-galvanometer"])
def test_another_passphrase_does_not_open_it(wrong: str) -> None:
    wrapped = PassphraseKeyProvider(PASSPHRASE, None, cost=CHEAP).wrap(DATA_KEY, STORE_ID)

    with pytest.raises(WrongKey):
        PassphraseKeyProvider(wrong, None).unwrap(wrapped, STORE_ID)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u00e9lektrokardiogram", "e\u0301lektrokardiogram"),  # composed and decomposed
        ("\u00c5ngstr\u00f6m en Einthoven", "\u212bngstro\u0308m en Einthoven"),  # the sign of the unit
        ("mijn snaar galvano", "mijn\u00a0snaar\u3000galvano"),  # no-break and ideographic space
    ],
)
def test_a_passphrase_is_one_however_it_was_typed(one: str, other: str) -> None:
    assert one != other
    wrapped = PassphraseKeyProvider(one, None, cost=CHEAP).wrap(DATA_KEY, STORE_ID)

    assert PassphraseKeyProvider(other, None).unwrap(wrapped, STORE_ID) == DATA_KEY


@pytest.mark.parametrize(
    ("one", "other"), [("ﬁne words, long ones", "fine words, long ones"), ("x² and more of it", "x2 and more of it")]
)
def test_passphrases_that_only_look_alike_are_two(one: str, other: str) -> None:
    assert spelled(one, 8) != spelled(other, 8)


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), min_size=15, max_size=40))
def test_any_text_is_a_passphrase_and_its_spelling_is_spelled_like_itself(text: str) -> None:
    assume(len(unicodedata.normalize("NFC", text)) >= 15 and text.strip())
    spelling = spelled(text, 15)

    assert spelled(spelling.decode(), 15) == spelling
    assert spelled(unicodedata.normalize("NFD", text), 15) == spelling


@pytest.mark.parametrize("text", ["geheim", "geheim\tgeheim geheim", "geheim " * 200])
def test_a_refused_passphrase_is_not_shown(text: str) -> None:
    with pytest.raises(KeyUnavailable) as refused:
        spelled(text, 8)

    assert "geheim" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(len(text)) not in str(refused.value)


@pytest.mark.parametrize("least", [8, 15])
def test_short_passphrases_are_refused_up_to_the_limit(least: int, tmp_path: Path) -> None:
    half = tmp_path / "half" if least == 8 else None
    PassphraseKeyProvider("é" * least, half)

    for short in ("", "x" * (least - 1), "e\u0301" * (least - 1), " " * 40):
        with pytest.raises(KeyUnavailable, match=f"fewer than {least} characters"):
            PassphraseKeyProvider(short, half)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x" * (MAX_PASSPHRASE_BYTES + 1), "more than"),
        ("é" * (MAX_PASSPHRASE_BYTES // 2 + 1), "more than"),
        ("tab\tand more text", "control"),
        ("pasted with an end\n", "control"),
        ("half a pair \ud800 of surrogates", "control"),
    ],
)
def test_what_no_keyboard_types_is_refused(text: str, why: str) -> None:
    with pytest.raises(KeyUnavailable, match=why):
        PassphraseKeyProvider(text, None)


def test_the_longest_passphrase_is_one() -> None:
    longest = "é" * (MAX_PASSPHRASE_BYTES // 2)
    wrapped = PassphraseKeyProvider(longest, None, cost=CHEAP).wrap(DATA_KEY, STORE_ID)

    assert PassphraseKeyProvider(longest, None).unwrap(wrapped, STORE_ID) == DATA_KEY


@pytest.mark.parametrize(
    "cost",
    [
        (MAX_MEMORY_KIB + 1, 1, 1),
        (2**32 - 1, 1, 1),
        (1_024, MAX_ITERATIONS + 1, 1),
        (1_024, 2**16 - 1, 1),
        (1_024, 0, 1),
        (1_024, 1, 0),
        (1_024, 1, MAX_LANES + 1),
        (7, 1, 1),
        (0, 1, 1),
        (8 * MAX_LANES - 1, 1, MAX_LANES),
    ],
)
def test_a_wrapped_key_can_not_ask_for_more_than_the_limits(cost: tuple[int, int, int]) -> None:
    provider = PassphraseKeyProvider(PASSPHRASE, None, cost=CHEAP)
    wrapped = provider.wrap(DATA_KEY, STORE_ID)
    bomb = wrapped[:3] + struct.pack(">IHB", *cost) + wrapped[10:]
    started_s = time.process_time()

    with pytest.raises(WrongKey, match="more work than is allowed"):
        provider.unwrap(bomb, STORE_ID)
    assert time.process_time() - started_s < 0.5
    with pytest.raises(ValueError, match="Argon2id takes"):
        Argon2Cost(*cost)


def test_the_device_half_is_made_once_private_and_not_to_unwrap(tmp_path: Path) -> None:
    half = tmp_path / "kept" / "half"
    provider = PassphraseKeyProvider(PASSPHRASE, str(half), cost=CHEAP)
    assert not half.exists()
    wrapped = provider.wrap(DATA_KEY, STORE_ID)
    made = half.read_bytes()
    provider.wrap(DATA_KEY, STORE_ID)

    assert half.read_bytes() == made
    assert half.stat().st_mode & 0o777 == 0o600
    half.unlink()
    with pytest.raises(KeyUnavailable, match="there is no key file"):
        provider.unwrap(wrapped, STORE_ID)
    assert not half.exists()


def test_another_device_half_does_not_open_it(tmp_path: Path) -> None:
    wrapped = PassphraseKeyProvider(PASSPHRASE, tmp_path / "a", cost=CHEAP).wrap(DATA_KEY, STORE_ID)
    other = PassphraseKeyProvider(PASSPHRASE, tmp_path / "b", cost=CHEAP)
    other.wrap(DATA_KEY, STORE_ID)

    with pytest.raises(WrongKey):
        other.unwrap(wrapped, STORE_ID)


def test_with_and_without_a_half_are_two_kinds_of_key(tmp_path: Path) -> None:
    alone = PassphraseKeyProvider(PASSPHRASE, None, cost=CHEAP)
    halved = PassphraseKeyProvider(PASSPHRASE, tmp_path / "half", cost=CHEAP)
    wrapped_alone, wrapped_halved = (provider.wrap(DATA_KEY, STORE_ID) for provider in (alone, halved))

    with pytest.raises(WrongKey, match="with a device half as well"):
        alone.unwrap(wrapped_halved, STORE_ID)
    with pytest.raises(WrongKey, match="without the device half that was given"):
        halved.unwrap(wrapped_alone, STORE_ID)
    # Not even by saying so in the header.
    with pytest.raises(WrongKey):
        alone.unwrap(wrapped_halved[:2] + b"\0" + wrapped_halved[3:], STORE_ID)


def test_two_stores_in_one_vault_have_two_halves() -> None:
    vault = MemoryVault()
    first = PassphraseKeyProvider(PASSPHRASE, vault, half_name="first", cost=CHEAP)
    second = PassphraseKeyProvider(PASSPHRASE, vault, half_name="second", cost=CHEAP)
    wrapped = second.wrap(DATA_KEY, STORE_ID)
    first.wrap(DATA_KEY, STORE_ID)
    first.destroy()

    assert second.unwrap(wrapped, STORE_ID) == DATA_KEY
    with pytest.raises(ValueError, match="half_name"):
        PassphraseKeyProvider(PASSPHRASE, vault)


def test_a_half_that_can_not_be_destroyed_is_said_and_tried_again(tmp_path: Path) -> None:
    half = tmp_path / "half"
    provider = PassphraseKeyProvider(PASSPHRASE, half, cost=CHEAP)
    wrapped = provider.wrap(DATA_KEY, STORE_ID)
    kept = half.rename(tmp_path / "kept")
    half.mkdir()
    with pytest.raises(KeyUnavailable, match="not a regular file"):
        provider.destroy()
    half.rmdir()
    kept.rename(half)
    assert provider.unwrap(wrapped, STORE_ID) == DATA_KEY

    provider.destroy()

    assert list(tmp_path.iterdir()) == []


def test_a_build_without_argon2id_and_a_machine_without_memory_are_one_clear_line() -> None:
    def not_there(**parameters: object) -> object:
        raise UnsupportedAlgorithm("This version of OpenSSL does not support argon2id")

    def no_memory(**parameters: object) -> object:
        raise MemoryError

    with pytest.raises(KeyUnavailable, match=r"has no Argon2id.*OpenSSL 3\.2"):
        stretched(b"x", b"s" * 16, CHEAP, argon2id=not_there)
    with pytest.raises(KeyUnavailable, match="64 MiB of memory"):
        stretched(b"x", b"s" * 16, RFC_9106_SECOND, argon2id=no_memory)


def test_a_refused_bomb_asks_python_for_no_memory() -> None:
    provider = PassphraseKeyProvider(PASSPHRASE, None, cost=CHEAP)
    wrapped = provider.wrap(DATA_KEY, STORE_ID)
    bomb = wrapped[:3] + b"\xff" * 7 + wrapped[10:]
    tracemalloc.start()
    try:
        with pytest.raises(WrongKey):
            provider.unwrap(bomb, STORE_ID)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2**20
