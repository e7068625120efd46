"""The KeyProvider port's acceptance suite, on every adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from einthoven.errors import KeyUnavailable
from einthoven.key_provider_file import FileKeyProvider
from einthoven.keys import StaticKeyProvider
from einthoven.ports import KeyProvider

KEY = bytes(range(32))


def from_file(path: Path, key: bytes) -> KeyProvider:
    path.touch(mode=0o600)
    path.write_bytes(key)
    return FileKeyProvider(path)


def from_memory(path: Path, key: bytes) -> KeyProvider:
    return StaticKeyProvider(key)


@pytest.fixture(params=[from_file, from_memory])
def provide(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bytes], KeyProvider]:
    return lambda key: request.param(tmp_path / "key", key)


def test_the_key_is_what_was_kept_each_time(provide: Callable[[bytes], KeyProvider]) -> None:
    provider = provide(KEY)

    assert provider.load() == KEY
    assert provider.load() == KEY


@pytest.mark.parametrize("key", [b"", b"k" * 31, KEY + b"x", b"\0" * 32], ids=["none", "short", "long", "all zero"])
def test_what_is_no_key_is_refused_in_one_line_without_its_bytes(
    provide: Callable[[bytes], KeyProvider], key: bytes
) -> None:
    with pytest.raises(KeyUnavailable) as refused:
        provide(key).load()

    assert "\n" not in str(refused.value)
    assert "kkk" not in str(refused.value)


def test_a_provider_does_not_show_its_key(provide: Callable[[bytes], KeyProvider]) -> None:
    provider = provide(KEY)
    provider.load()

    shown = repr(provider) + str(provider) + repr(vars(provider) if isinstance(provider, FileKeyProvider) else "")

    assert KEY.hex() not in shown
    assert repr(KEY) not in shown
