"""Runs an action in a child process that is killed at one of its calls that may change a file.

Python's audit events stand for the calls, so nothing of ours is replaced; what SQLite does between two of them is not
told apart (``einthoven_bench.crash_*`` kills at system calls).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

EVENTS_THAT_CHANGE_FILES = {"open", "os.rename", "os.remove", "os.truncate", "os.link", "os.mkdir"}


def killed_at(number: int, action: Callable[[], object]) -> bool:
    """Run in a child that is killed at its ``number``-th call that may change a file; whether it came that far."""
    child = os.fork()
    if child == 0:
        calls = 0

        def count(event: str, arguments: object) -> None:
            nonlocal calls
            if event in EVENTS_THAT_CHANGE_FILES:
                calls += 1
                if calls == number:
                    os._exit(9)

        sys.addaudithook(count)
        try:
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 9
