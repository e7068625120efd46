"""Who is believed: formats, several keys, rotation, revocation."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from einthoven.errors import InputError, ModelCorrupt, ModelError, ModelUnverified
from einthoven.model_signature import (
    HEADER,
    MAX_SIGNATURES,
    SIGNED_PREFIX,
    Revocation,
    Trust,
    TrustedKey,
    believed_key,
    read_signatures,
    signed_bytes,
    write_signatures,
)
from einthoven.model_signature_keys import REVOCATIONS

MANIFEST = b'{"name": "rhythm"}\n'


class Signer:
    def __init__(self, seed: int, oldest_version: tuple[int, int, int] = (0, 0, 0)) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public = TrustedKey(self.private.public_key().public_bytes_raw(), oldest_version)

    def entry(self, manifest: bytes = MANIFEST) -> tuple[str, bytes]:
        return self.public.key_id, self.private.sign(signed_bytes(manifest))


OLD, NEW, STRANGER = Signer(1), Signer(2), Signer(3)


def test_a_published_vector() -> None:
    """The key of RFC 8032, 7.1, TEST 1; the signature of an empty manifest was made with ``openssl pkeyutl -rawin``."""
    private = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signer = Ed25519PrivateKey.from_private_bytes(private)
    public = TrustedKey(signer.public_key().public_bytes_raw())
    assert public.text == "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert public.key_id == hashlib.sha256(public.public_key).hexdigest()[:16]
    assert SIGNED_PREFIX == b"einthoven model manifest 1\n"
    signature = bytes.fromhex(
        "5d0f0ed56f5ebf3501f6ac5423b7bd41c8f732672153550b1c1634fcb3d7bc74"
        "0d4cbd4f8bfafa92a141c3e247d2bb3d734153c179404877c1adb97d922e9009"
    )
    assert signer.sign(signed_bytes(b"")) == signature
    file = write_signatures([(public.key_id, signature)])
    assert believed_key(b"", file, Trust((public,))) == public


def test_a_signature_of_the_bare_manifest_is_not_one() -> None:
    """Domain separation: what the same key signed for another purpose is no signature of a model."""
    file = write_signatures([(NEW.public.key_id, NEW.private.sign(MANIFEST))])
    with pytest.raises(ModelUnverified, match="not the one that was signed"):
        believed_key(MANIFEST, file, Trust((NEW.public,)))


def test_write_and_read() -> None:
    entries = (OLD.entry(), NEW.entry())
    file = write_signatures(entries)
    assert read_signatures(file) == entries
    assert file.startswith(HEADER)
    assert file.count(b"\n") == 3


@pytest.mark.parametrize(
    "content",
    [
        HEADER,
        HEADER + b"\n",
        write_signatures([NEW.entry()]) + b"\n",
        write_signatures([NEW.entry()]) + b" ",
        write_signatures([NEW.entry()])[:-1],
        write_signatures([NEW.entry()]).replace(b"\n", b"\r\n"),
        write_signatures([NEW.entry()]).replace(b"signature 1", b"signature 2"),
        write_signatures([NEW.entry()]).replace(b"ed25519 ", b"ed448 "),
        write_signatures([NEW.entry()]).replace(b"ed25519 ", b"ed25519  "),
        b"\xef\xbb\xbf" + write_signatures([NEW.entry()]),
        write_signatures([(Signer(seed).entry()) for seed in range(MAX_SIGNATURES + 1)]),
    ],
)
def test_another_spelling_is_corrupt(content: bytes) -> None:
    with pytest.raises(ModelCorrupt, match="damaged"):
        read_signatures(content)


def test_upper_case_digits_are_another_spelling() -> None:
    head, line = write_signatures([NEW.entry()]).split(b"\n", 1)
    with pytest.raises(ModelCorrupt):
        read_signatures(head + b"\n" + b"ed25519 " + line.removeprefix(b"ed25519 ").upper())


def test_a_key_twice_is_corrupt() -> None:
    with pytest.raises(ModelCorrupt, match="twice"):
        read_signatures(write_signatures([NEW.entry(), NEW.entry()]))


@given(st.binary(max_size=400))
def test_any_other_file_is_refused_with_a_typed_error(content: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        believed_key(MANIFEST, content, Trust((NEW.public,)))
    assert "\n" not in str(caught.value)


# --- rotation


def test_rotation() -> None:
    """1 signed by the old key; 2 by both, while both kinds of SDK are in use; 3 by the new one alone."""
    old_sdk, both, new_sdk = Trust((OLD.public,)), Trust((OLD.public, NEW.public)), Trust((NEW.public,))
    by_old = write_signatures([OLD.entry()])
    by_both = write_signatures([OLD.entry(), NEW.entry()])
    by_new = write_signatures([NEW.entry()])
    accepted = {
        (sdk, file)
        for sdk, trust in enumerate((old_sdk, both, new_sdk))
        for file, content in enumerate((by_old, by_both, by_new))
        if believes(content, trust)
    }
    assert accepted == {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)}


def believes(file: bytes, trust: Trust) -> bool:
    try:
        believed_key(MANIFEST, file, trust)
    except ModelUnverified:
        return False
    return True


def test_one_bad_signature_by_a_trusted_key_spoils_the_rest() -> None:
    trust = Trust((OLD.public, NEW.public))
    for entries in ([OLD.entry(b"other"), NEW.entry()], [NEW.entry(), OLD.entry(b"other")]):
        with pytest.raises(ModelUnverified, match="not the one that was signed"):
            believed_key(MANIFEST, write_signatures(entries), trust)


def test_a_strangers_signature_beside_a_good_one_does_no_harm() -> None:
    file = write_signatures([STRANGER.entry(b"other"), NEW.entry()])
    assert believed_key(MANIFEST, file, Trust((NEW.public,))) == NEW.public


def test_a_signature_of_another_manifest_is_not_believed() -> None:
    with pytest.raises(ModelUnverified):
        believed_key(MANIFEST, write_signatures([NEW.entry(b"another manifest")]), Trust((NEW.public,)))


def test_a_signature_under_another_keys_name_is_not_believed() -> None:
    _, signature = STRANGER.entry()
    with pytest.raises(ModelUnverified):
        believed_key(MANIFEST, write_signatures([(NEW.public.key_id, signature)]), Trust((NEW.public,)))


def test_a_public_key_that_is_no_point_is_unverified() -> None:
    """A constant that was mistyped ends in a typed error, never in a traceback."""
    broken = TrustedKey(b"\xff" * 32)
    with pytest.raises(ModelUnverified):
        believed_key(MANIFEST, write_signatures([(broken.key_id, bytes(64))]), Trust((broken,)))


# --- revocation


def test_a_revoked_key_is_refused_with_its_reason() -> None:
    revocation = Revocation(OLD.public.key_id, "2027-01-31", "the key was on a stolen laptop")
    trust = Trust((OLD.public, NEW.public), (revocation,))
    with pytest.raises(
        ModelUnverified, match="revoked on 2027-01-31: the key was on a stolen laptop; update einthoven"
    ):
        believed_key(MANIFEST, write_signatures([OLD.entry()]), trust)
    assert believed_key(MANIFEST, write_signatures([OLD.entry(), NEW.entry()]), trust) == NEW.public


def test_an_app_can_not_bring_a_revoked_key_back() -> None:
    trust = Trust((NEW.public,), (Revocation(OLD.public.key_id, "2027-01-31", "lost"),)).with_keys([OLD.public])
    with pytest.raises(ModelUnverified, match="revoked"):
        believed_key(MANIFEST, write_signatures([OLD.entry()]), trust)


def test_a_revoked_model_is_refused_whoever_signed_it() -> None:
    withdrawn = Revocation(hashlib.sha256(MANIFEST).hexdigest(), "2027-02-01", "it missed AF at 200 beats/min")
    trust = Trust((OLD.public, NEW.public), (withdrawn,))
    with pytest.raises(ModelUnverified, match="this model was revoked on 2027-02-01: it missed AF"):
        believed_key(MANIFEST, write_signatures([OLD.entry(), NEW.entry()]), trust)
    assert believed_key(b"other", write_signatures([NEW.entry(b"other")]), trust) == NEW.public


def test_what_is_revoked_here_is_spelled_so_that_it_can_match() -> None:
    for entry in REVOCATIONS:
        assert len(entry.revoked) in {16, 64}
        assert set(entry.revoked) <= set("0123456789abcdef")


# --- downgrade


def test_of_two_believed_keys_the_more_lenient_counts() -> None:
    strict = replace(NEW.public, oldest_version=(2, 0, 0))
    trust = Trust((strict, OLD.public))
    file = write_signatures([NEW.entry(), OLD.entry()])
    assert believed_key(MANIFEST, file, trust) == OLD.public


def test_an_app_can_not_lower_what_a_release_key_is_believed_for() -> None:
    """The same key named again with a lower oldest version does not replace the release's."""
    strict = replace(NEW.public, oldest_version=(2, 0, 0))
    trust = Trust((strict,)).with_keys([NEW.public])
    assert believed_key(MANIFEST, write_signatures([NEW.entry()]), trust).oldest_version == (2, 0, 0)


# --- keys as text


def test_a_public_key_goes_through_text() -> None:
    assert TrustedKey.from_text(f" {NEW.public.text}\n") == NEW.public


@pytest.mark.parametrize("text", ["", "ed25519:", "ed25519:" + "0" * 63, "ed25519:" + "g" * 64, "0" * 64, "\n"])
def test_other_text_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match="no public key"):
        TrustedKey.from_text(text)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_public_key_has_32_bytes(length: int) -> None:
    with pytest.raises(InputError, match="32 bytes"):
        TrustedKey(bytes(length))
