"""The calls to the Keychain, on a double in C: what arrives there, and what is released."""

from __future__ import annotations

import ctypes
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from einthoven.errors import KeyUnavailable
from einthoven.keychain_ios import SecurityFramework
from einthoven.vault_ios import KeychainVault

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here to build the double")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    built = tmp_path_factory.mktemp("keychain") / "libkeychain.so"
    source = Path(__file__).with_name("keychain_double.c")
    subprocess.run(["cc", "-std=c11", "-shared", "-fPIC", "-o", built, source], check=True)
    return str(built)


def live_objects(library: str) -> int:
    return ctypes.c_long.in_dll(ctypes.CDLL(library), "live_objects").value


def test_secrets_go_in_and_come_out_and_nothing_is_leaked(library: str) -> None:
    vault = KeychainVault("my app é", items=SecurityFramework(library, library))
    secrets_by_name = {f"key {i} ü": secrets.token_bytes(n) for i, n in enumerate((1, 32, 512))}
    secrets_by_name["zeros"] = b"\0" * 32
    for _ in range(2):
        for name, secret in secrets_by_name.items():
            assert vault.get(name) is None
            vault.put(name, b"first")
            vault.put(name, secret)
        assert {name: vault.get(name) for name in secrets_by_name} == secrets_by_name
        assert KeychainVault("another app", items=SecurityFramework(library, library)).get("zeros") is None
        for name in secrets_by_name:
            vault.delete(name)
            vault.delete(name)

    assert live_objects(library) == 0


def test_a_machine_without_memory_is_one_clear_line(library: str) -> None:
    vault = KeychainVault(items=SecurityFramework(library, library))
    failing = ctypes.c_int.in_dll(ctypes.CDLL(library), "fail_to_make")
    failing.value = 1
    try:
        with pytest.raises(KeyUnavailable, match="no memory"):
            vault.put("key", b"secret")
    finally:
        failing.value = 0

    assert vault.get("key") is None
    assert live_objects(library) == 0
