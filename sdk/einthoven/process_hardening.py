"""Keeps a process that holds keys from leaving its memory behind when it crashes.

A core dump holds the data key and whatever is being recorded in plain text, for whoever gets the disk. Calling this
costs a system call; opening a store does so unless told not to. It deliberately does not lock memory (ADR 14: what swap
holds is the business of an encrypted swap), and does nothing about a debugger unless asked: an app's own crash reporter
and profilers read ``/proc/self``, which belongs to root in a process that is not dumpable.

Invariants:
    1. Limits are only lowered, and only the soft one: whoever wants a dump of a process can still raise it.
    2. Nothing is raised: a platform without these means (Windows, a sandbox) is told of by what is returned.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

CORE_LIMIT_BYTES: Final = 1
"""Below the least that Linux writes to a file, so no file; and 1, other than 0, also keeps it from starting the program
that ``core_pattern`` pipes dumps to (core(5); fs/coredump.c, ``do_coredump``)."""

_PR_SET_DUMPABLE: Final = 4
"""linux/prctl.h."""


def protect_process(*, hide_from_debuggers: bool = False) -> bool:
    """Turn core dumps of this process off, and of those that it starts from now on.

    Args:
        hide_from_debuggers: On Linux, also keep other processes of the same user from reading this one's memory
            (``PR_SET_DUMPABLE``): no debugger attaches, and ``/proc/self`` belongs to root.

    Returns:
        Whether it dumps no core now, and is hidden if that was asked for.
    """
    protected = _without_core_dumps()
    return _hidden() and protected if hide_from_debuggers else protected


def _without_core_dumps() -> bool:
    try:
        resource = import_module("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        # RLIM_INFINITY is negative where Python shows it as -1.
        if not 0 <= soft <= CORE_LIMIT_BYTES:
            lowered = CORE_LIMIT_BYTES if hard < 0 else min(CORE_LIMIT_BYTES, hard)
            resource.setrlimit(resource.RLIMIT_CORE, (lowered, hard))
    except (ImportError, AttributeError, OSError, ValueError):
        return False
    return True


def _hidden() -> bool:
    if not sys.platform.startswith(("linux", "android")):
        return False
    try:
        prctl = import_module("ctypes").CDLL(None).prctl
    except (ImportError, AttributeError, OSError):
        return False
    return bool(prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
