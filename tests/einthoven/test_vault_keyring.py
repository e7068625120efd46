"""Which keyrings are taken, and what becomes of what they say."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("keyring")

from keyring import errors, get_keyring, set_keyring
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from tests.einthoven.keyring_doubles import Chain, NotRecommendedKeyring, ProcessKeyring, UnloadedKeyring

from einthoven.errors import KeyUnavailable
from einthoven.vault_keyring import KeyringVault, fit_backend

SECRET = bytes(range(200, 232))


class NullUnderAnotherName(null.Keyring):
    """What an app might make to silence a keyring."""

    priority = 9  # type: ignore[assignment]


def alternative(name: str) -> KeyringBackend:
    """A backend as ``keyrings.alt`` has them: its module's name is all that is known of it here."""
    kind = type("PlaintextKeyring", (ProcessKeyring,), {"__module__": name})
    made = kind()
    assert isinstance(made, KeyringBackend)
    return made


def test_a_secret_is_kept_in_base64_under_the_service_s_name() -> None:
    backend = ProcessKeyring()
    KeyringVault("my app", backend=backend).put("key", SECRET)

    assert backend.entries == {("my app", "key"): base64.b64encode(SECRET).decode()}


@pytest.mark.parametrize(
    "backend",
    [
        fail.Keyring(),
        null.Keyring(),
        NullUnderAnotherName(),
        NotRecommendedKeyring(),
        alternative("keyrings.alt.file"),
        alternative("keyrings.alt"),
    ],
    ids=["fail", "null", "null's child", "not recommended", "plain text", "alt"],
)
def test_a_keyring_that_protects_nothing_is_refused_also_in_a_chain(backend: KeyringBackend) -> None:
    for refused in (backend, Chain(backend), Chain(backend, backend)):
        with pytest.raises(KeyUnavailable, match="does not protect what it keeps"):
            KeyringVault(backend=refused)


def test_a_name_that_only_begins_like_a_refused_one_is_not_refused() -> None:
    backend = alternative("keyrings.alternate")

    assert fit_backend(backend) is backend


def test_of_a_chain_the_first_that_is_fit_is_used_alone() -> None:
    plain, first, second = alternative("keyrings.alt.file"), ProcessKeyring(), ProcessKeyring()
    vault = KeyringVault(backend=Chain(plain, first, second))
    vault.put("key", SECRET)
    second.entries["einthoven", "other"] = base64.b64encode(SECRET).decode()

    assert isinstance(plain, ProcessKeyring)
    assert (plain.entries, set(first.entries)) == ({}, {("einthoven", "key")})
    assert vault.get("other") is None


def test_the_keyring_that_is_set_up_is_used_if_none_is_given() -> None:
    before = get_keyring()
    backend = ProcessKeyring()
    set_keyring(backend)
    try:
        KeyringVault().put("key", SECRET)
        set_keyring(null.Keyring())
        with pytest.raises(KeyUnavailable, match="null"):
            KeyringVault()
    finally:
        set_keyring(before)

    assert set(backend.entries) == {("einthoven", "key")}


@pytest.mark.parametrize(
    "failure", [errors.KeyringLocked("secret words"), errors.InitError("secret words"), OSError(111, "secret words")]
)
def test_whatever_a_backend_raises_is_one_line_without_its_words(failure: Exception) -> None:
    backend = ProcessKeyring()
    vault = KeyringVault(backend=backend)
    vault.put("key", SECRET)
    backend.failing = failure

    for use in (lambda: vault.get("key"), lambda: vault.put("key", SECRET), lambda: vault.delete("key")):
        with pytest.raises(KeyUnavailable, match=type(failure).__name__) as refused:
            use()
        assert "secret words" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_backend_that_finds_out_late_that_it_is_not_there_is_refused() -> None:
    with pytest.raises(KeyUnavailable, match="does not answer"):
        KeyringVault(backend=UnloadedKeyring())


@pytest.mark.parametrize("text", ["hunter2!", "é", "AAA", "QUJD\n"])
def test_an_entry_of_somebody_else_s_is_refused_and_left(text: str) -> None:
    backend = ProcessKeyring()
    backend.entries["einthoven", "key"] = text

    with pytest.raises(KeyUnavailable, match="not one that this software made") as refused:
        KeyringVault(backend=backend).get("key")
    assert text not in str(refused.value)
    assert backend.entries == {("einthoven", "key"): text}


def test_neither_the_package_nor_its_absence_matters_until_a_vault_is_made() -> None:
    """In a fresh interpreter from which ``keyring`` is kept away."""
    script = (
        "import sys\n"
        "sys.modules['keyring'] = None\n"
        "from einthoven.errors import KeyUnavailable\n"
        "from einthoven.vault_keyring import KeyringVault\n"
        "try:\n"
        "    KeyringVault()\n"
        "except KeyUnavailable as error:\n"
        "    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout

    assert said.startswith("the package keyring is not installed; pip install")


@pytest.mark.skipif(
    shutil.which("dbus-run-session") is None or shutil.which("gnome-keyring-daemon") is None,
    reason="no Secret Service here: needs dbus-run-session and gnome-keyring-daemon",
)
def test_a_real_secret_service_keeps_a_secret_across_processes(tmp_path: Path) -> None:
    put = "KeyringVault().put('key', bytes(range(32)))"
    get = "assert KeyringVault().get('key') == bytes(range(32)); KeyringVault().delete('key')"
    gone = "assert KeyringVault().get('key') is None; print(KeyringVault())"
    python = f"{sys.executable} -c 'from einthoven.vault_keyring import KeyringVault; {{}}'"
    steps = " && ".join(python.format(step.replace("'", '"')) for step in (put, get, gone))
    said = subprocess.run(
        [
            "dbus-run-session",
            "--",
            "sh",
            "-c",
            f"printf x | gnome-keyring-daemon --unlock --components=secrets && {steps}",
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    ).stdout

    assert "SecretService" in said or "libsecret" in said
