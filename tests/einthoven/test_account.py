"""An account's key in a file: written once, read only where nobody else can."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from einthoven.account import Account, load_account
from einthoven.errors import KeyUnavailable


def test_a_key_that_was_saved_is_read_again(tmp_path: Path) -> None:
    path, account = tmp_path / "key.json", Account("me")
    account.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read = load_account(path)
    assert (read.client_id, read.public_key) == ("me", account.public_key)
    assert read.sign(b"x") == account.sign(b"x")
    with pytest.raises(KeyUnavailable):
        account.save(path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    Account("me").save(path)
    path.chmod(0o640)
    with pytest.raises(KeyUnavailable):
        load_account(path)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"d": "AA", "x": "AA"}', b'{"d": 5, "x": ""}', b"\xff" * 9])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyUnavailable):
        load_account(path)
    with pytest.raises(KeyUnavailable):
        load_account(tmp_path / "none")


def test_nothing_that_opens_anything_is_shown() -> None:
    account = Account("me")
    assert repr(account) == "Account(client_id='me')"
    assert "d" not in account.public_jwks()["keys"][0]  # type: ignore[index]
