"""The error tree: one line each, and whole after a trip between processes."""

from __future__ import annotations

import pickle

import pytest

from einthoven_conversion import errors


@pytest.mark.parametrize("kind", errors.ConversionError.__subclasses__())
def test_an_error_travels_between_processes(kind: type[errors.ConversionError]) -> None:
    error = pickle.loads(pickle.dumps(kind("it broke", "mend it")))
    assert type(error) is kind
    assert str(error) == "it broke; mend it"
    assert error.exit_status in (2, 3, 4)


def test_every_error_is_drawn_in_the_tree() -> None:
    for kind in errors.ConversionError.__subclasses__():
        assert kind.__name__ in (errors.__doc__ or "")
