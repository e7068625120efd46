"""Keys and signatures from the command's side: what is made, what is refused, what the SDK then accepts."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import sys
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from einthoven.errors import ModelCorrupt, ModelUnverified
from einthoven.model_manifest import OWN_PARTS, PARTS
from einthoven.model_signature import TrustedKey, read_signatures
from einthoven.models import load_model, read_model_files
from einthoven_conversion.errors import SigningKeyError
from einthoven_conversion.signing import make_key, public_half, read_key, sign_folder

SHIPPED = Path(__import__("einthoven_models").__file__).parent
FILES = ("rhythm.tflite", "rhythm.json", *OWN_PARTS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as training leaves it: unsigned."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in FILES:
        shutil.copy(SHIPPED / name, folder / name)
    return folder


@pytest.fixture
def keyfile(tmp_path: Path) -> Path:
    make_key(tmp_path / "a.key")
    return tmp_path / "a.key"


def convert(*arguments: object, cwd: Path | None = None) -> CompletedProcess[str]:
    command = [sys.executable, "-m", "einthoven_conversion.cli", *map(str, arguments)]
    return run(command, capture_output=True, text=True, check=False, timeout=300, cwd=cwd)


# --- keys


def test_a_key_is_private_from_its_first_moment(keyfile: Path) -> None:
    assert stat.S_IMODE(keyfile.stat().st_mode) == 0o600
    assert keyfile.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_a_key_is_never_overwritten(keyfile: Path) -> None:
    before = keyfile.read_bytes()
    with pytest.raises(SigningKeyError, match="exists already"):
        make_key(keyfile)
    assert keyfile.read_bytes() == before


def test_a_key_that_others_can_read_is_not_used(keyfile: Path) -> None:
    keyfile.chmod(0o640)
    with pytest.raises(SigningKeyError, match="others can read"):
        read_key(keyfile)


def test_two_keys_are_two(tmp_path: Path) -> None:
    assert make_key(tmp_path / "1") != make_key(tmp_path / "2")


def test_what_is_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    for name, content in {"other": other, "locked": locked, "empty": b"", "text": b"ed25519"}.items():
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(SigningKeyError):
            read_key(path)
    with pytest.raises(SigningKeyError, match="can't be read"):
        read_key(tmp_path / "nowhere")
    with pytest.raises(SigningKeyError, match="can't be written"):
        make_key(tmp_path / "nowhere" / "deep" / "key")


# --- signing


def test_signed_is_accepted_by_who_trusts_the_key_only(folder: Path, keyfile: Path) -> None:
    key = read_key(keyfile)
    signed = sign_folder(folder, [key])
    assert load_model("rhythm", folder, trusted_keys=[public_half(key)]) == signed
    with pytest.raises(ModelUnverified, match="not trusted here"):
        load_model("rhythm", folder)
    with pytest.raises(ModelUnverified, match="not trusted here"):
        load_model("rhythm", folder, trusted_keys=[TrustedKey(bytes(32))])


def test_signing_changes_nothing_that_was_right(folder: Path, keyfile: Path) -> None:
    before = (folder / "rhythm.json").read_bytes()
    signed = sign_folder(folder, [read_key(keyfile)])
    assert (folder / "rhythm.json").read_bytes() == before
    assert signed.digest == hashlib.sha256(before).digest() == load_model().digest


def test_signing_names_the_parts_as_they_are_now(folder: Path, keyfile: Path) -> None:
    """A table was fitted again: the manifest that still names the old one is brought up to date, then signed."""
    manifest = json.loads((folder / "rhythm.json").read_text(encoding="utf-8"))
    manifest["parts"] = dict.fromkeys(PARTS, "0" * 64)
    (folder / "rhythm.json").write_text(json.dumps(manifest), encoding="utf-8")
    signed = sign_folder(folder, [read_key(keyfile)])
    parts = read_model_files("rhythm", folder).parts
    assert signed.manifest.parts == {name: hashlib.sha256(parts[name]).hexdigest() for name in PARTS}
    assert signed.digest == load_model().digest


def test_two_keys_sign_while_one_replaces_the_other(folder: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "old")
    make_key(tmp_path / "new")
    keys = [read_key(tmp_path / name) for name in ("old", "new")]
    sign_folder(folder, keys)
    assert len(read_signatures((folder / "rhythm.json.sig").read_bytes())) == 2
    for key in keys:
        load_model("rhythm", folder, trusted_keys=[public_half(key)])


def test_signing_again_leaves_no_older_signature(folder: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "old")
    make_key(tmp_path / "new")
    sign_folder(folder, [read_key(tmp_path / "old")])
    sign_folder(folder, [read_key(tmp_path / "new")])
    with pytest.raises(ModelUnverified):
        load_model("rhythm", folder, trusted_keys=[public_half(read_key(tmp_path / "old"))])


def test_what_does_not_hold_together_is_not_left_signed_quietly(folder: Path, keyfile: Path) -> None:
    (folder / "rhythm.tflite").write_bytes(b"another model")
    with pytest.raises(ModelUnverified, match="bytes are not those"):
        sign_folder(folder, [read_key(keyfile)])
    (folder / "rhythm.json").write_bytes(b"{}")
    with pytest.raises(ModelCorrupt):
        sign_folder(folder, [read_key(keyfile)])


# --- the commands


def test_keygen_sign_and_load(folder: Path, tmp_path: Path) -> None:
    made = convert("keygen", tmp_path / "my.key")
    assert made.returncode == 0, made.stderr
    public = TrustedKey.from_text(made.stdout.split()[0])
    done = convert("sign", "--key", tmp_path / "my.key", folder)
    assert done.returncode == 0, done.stderr
    model = load_model("rhythm", folder, trusted_keys=[public])
    assert model.digest.hex() in done.stdout
    assert model.digest.hex() in (folder / "rhythm.md").read_text(encoding="utf-8")
    assert model.digest.hex() in (folder / "rhythm.cdx.json").read_text(encoding="utf-8")


def test_an_own_model_is_evaluated_by_who_names_its_key(folder: Path, keyfile: Path, make_dataset: object) -> None:
    key = read_key(keyfile)
    sign_folder(folder, [key])
    data = make_dataset(4, folds=None)  # type: ignore[operator]
    arguments = ("evaluate", "--data", data, "--model", folder, "--json")
    refused = convert(*arguments)
    assert (refused.returncode, refused.stderr.count("\n")) == (4, 1)
    assert "not trusted here" in refused.stderr
    done = convert(*arguments, "--trusted-key", public_half(key).text)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("keygen", "{key}"), 2, "exists already"),
        (("sign", "--key", "{key}", "{nowhere}"), 4, "can't be read"),
        (("sign", "--key", "{nowhere}", "{folder}"), 2, "can't be read"),
        (("train", "--key", "{nowhere}", "--data", "{nowhere}"), 2, "can't be read"),
        (("card", "{folder}"), 4, "not signed"),
        (("card", "{folder}", "--trusted-key", "nonsense"), 2, "no public key"),
        (("vectors", "--model", "{folder}"), 4, "not signed"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    arguments: tuple[str, ...], status: int, words: str, folder: Path, keyfile: Path, tmp_path: Path
) -> None:
    places = {"key": keyfile, "folder": folder, "nowhere": tmp_path / "nowhere"}
    done = convert(*(argument.format(**places) for argument in arguments), cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
