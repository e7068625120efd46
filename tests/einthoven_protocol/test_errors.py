"""The tree of errors: as drawn, with a code each."""

from __future__ import annotations

import inspect
import re

from einthoven_protocol import errors
from einthoven_protocol.errors import ProtocolError, UnsupportedVersion


def _tree() -> list[type[ProtocolError]]:
    return [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, ProtocolError)]


def test_every_error_is_in_the_drawing() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or "")) | {"ProtocolError"}
    assert {found.__name__ for found in _tree()} == drawn


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [found.code for found in _tree()]
    assert len(set(codes)) == len(codes)


def test_an_unsupported_version_is_one_line_and_says_what_to_do() -> None:
    assert str(UnsupportedVersion(2)) == "protocol version 2 is not spoken here; update the older side"
