"""Single steps of the scripts that are broken: the calls that a user makes of a store.

It deliberately puts no script together (``crash_workloads``).

Invariants:
    1. A step is one call that is all or nothing, or an opening or closing, which change nothing that a user sees.
    2. A step that failed may be made again.
"""

from __future__ import annotations

from typing import Final

from einthoven_bench.crash_script import Hands, Step
from einthoven_bench.crash_windows import window
from einthoven_protocol.messages import AnnotationRow, Register, ResultId

SYNC_KEY: Final = b"k" * 32
DEVICE_ALIAS: Final = 7


def append(seed: int) -> Step:
    """Keep one window."""
    return Step(f"append window {seed}", lambda hands: ignore(hands.opened().append_window(*window(seed))))


def append_batch(first_seed: int, count: int) -> Step:
    """Keep several windows at once."""
    windows = [window(seed) for seed in range(first_seed, first_seed + count)]
    return Step(f"append {count} windows", lambda hands: ignore(hands.opened().append_windows(windows)))


def annotate(counter: int, comment: str, hlc: int) -> Step:
    """Say something about a result."""
    row = annotation(counter, "p1", comment, hlc)
    return Step(f"annotate {counter}", lambda hands: ignore(hands.opened().annotate(row)))


def put_setting(name: str, value: bytes) -> Step:
    """Keep a setting."""
    return Step(f"setting {name}", lambda hands: hands.opened().put_setting(name, value))


OPEN: Final = Step("open", lambda hands: ignore(hands.opened()))
CLOSE: Final = Step("close", Hands.closed)


def annotation(counter: int, author: str, comment: str, hlc: int) -> AnnotationRow:
    """An annotation of one result of the first epoch."""
    return AnnotationRow(
        target=ResultId(DEVICE_ALIAS, 1, counter),
        author=author,
        rhythm=Register("A", hlc),
        comment=Register(comment, hlc),
    )


def ignore(_: object) -> None:
    """What a call returned is not looked at here."""
