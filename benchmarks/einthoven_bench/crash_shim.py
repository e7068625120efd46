"""Builds and drives the library that stands between a process and its files (``crash_shim.c``).

The library is compiled with the system's C compiler when it is needed, into a folder of the caller's, and loaded by the
dynamic linker before any other (``LD_PRELOAD``), so it must be named in the environment of a process that is yet to be
started. It deliberately decides nothing about what is to fail, and reads no recording (``crash_disk_states``).

Invariants:
    1. Where there is no compiler, or no such linker, there is a typed error and no measurement.
    2. The numbers of modes and kinds are those of ``crash_shim.c``.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess  # runs the compiler on our own source
import sys
from collections.abc import Mapping
from enum import IntEnum
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from einthoven_bench.errors import CompilerNotFound, ShimNotLoaded

COMPILERS: Final = ("cc", "gcc", "clang")
"""Tried in this order; ``CC`` in the environment goes before them."""
PRELOAD_VARIABLE: Final = "LD_PRELOAD"
COMPILE_TIMEOUT_S: Final = 60


class Mode(IntEnum):
    """What happens at the chosen call."""

    OFF = 0
    COUNT = 1
    KILL = 2
    TEAR = 3
    FAIL_ONCE = 4
    FAIL_ON = 5
    FULL = 6


class CallKind(IntEnum):
    """What a call does to the watched folder."""

    OPEN = 1
    CREATE = 2
    READ = 3
    WRITE = 4
    SYNC = 5
    TRUNCATE = 6
    RENAME = 7
    UNLINK = 8
    MKDIR = 9
    LINK = 10
    ALLOCATE = 11
    MARK = 12
    RMDIR = 13


CHANGES: Final = frozenset(CallKind) - {CallKind.OPEN, CallKind.READ, CallKind.MARK}
"""Calls after which the disk is, or is promised to be, another."""
CALLS: Final = frozenset(CallKind) - {CallKind.MARK}
"""Every call that is counted."""
TAKES_ROOM: Final = frozenset(
    {CallKind.CREATE, CallKind.WRITE, CallKind.MKDIR, CallKind.LINK, CallKind.ALLOCATE, CallKind.RENAME}
)
"""Calls that a full disk may refuse."""


def build_shim(folder: Path) -> Path:
    """Compile the library into a folder and return its path.

    Raises:
        CompilerNotFound: There is no compiler, it failed, or the system's linker has no ``LD_PRELOAD``.
    """
    if not sys.platform.startswith("linux"):
        raise CompilerNotFound("crash points need Linux and its LD_PRELOAD", "run them on Linux")
    named = os.environ.get("CC")
    compiler = next((found for name in ((named,) if named else COMPILERS) if (found := shutil.which(name))), None)
    if compiler is None:
        raise CompilerNotFound("crash points need a C compiler and there is none", "install one (apt install gcc)")
    library = folder / "crash_shim.so"
    with as_file(files("einthoven_bench") / "crash_shim.c") as source:
        command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-lpthread"]
        built = subprocess.run(command, capture_output=True, timeout=COMPILE_TIMEOUT_S, check=False)  # noqa: S603
    if built.returncode:
        raise CompilerNotFound(f"{Path(compiler).name} could not build crash_shim.c", "install the C library's headers")
    return library


def environment_with(library: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is to run behind the library."""
    before = environment.get(PRELOAD_VARIABLE)
    return {**environment, PRELOAD_VARIABLE: f"{library}:{before}" if before else str(library)}


class Shim:
    """The library in front of this process."""

    def __init__(self) -> None:
        """Find it.

        Raises:
            ShimNotLoaded: It is not there.
        """
        self._library = ctypes.CDLL(None)
        if not hasattr(self._library, "crash_shim_arm"):
            raise ShimNotLoaded("this process does not run behind crash_shim", "start it through crash_points.run")
        self._library.crash_shim_counted.restype = ctypes.c_long
        self._library.crash_shim_kind_at.argtypes = (ctypes.c_long,)
        self._library.crash_shim_mark.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
        self._library.crash_shim_arm.argtypes = (
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_long,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
        )

    def watch(self, folder: Path) -> None:
        """Watch the files under an absolute folder, and no others."""
        self._library.crash_shim_watch(os.fsencode(folder.resolve()))

    def arm(
        self,
        mode: Mode,
        kinds: frozenset[CallKind],
        *,
        at: int = 0,
        error: int = 0,
        cut_permille: int = 0,
        to_sector: bool = False,
    ) -> None:
        """Count calls from here on and do something at one of them.

        Args:
            mode: What to do.
            kinds: Which calls are counted.
            at: Number of the chosen call, from 1.
            error: ``errno`` for ``FAIL_ONCE`` and ``FAIL_ON``.
            cut_permille: For ``TEAR``: how much of the write is done, in 1/1000.
            to_sector: Cut at a multiple of 512 bytes.
        """
        mask = sum(1 << kind for kind in kinds)
        self._library.crash_shim_arm(int(mode), mask, at, error, cut_permille, int(to_sector))

    def lift(self) -> None:
        """The fault is gone; go on counting."""
        self._library.crash_shim_lift()

    def record_to(self, descriptor: int, kept: Path) -> None:
        """Write every change to a descriptor outside the folder, and keep every file made under a second name.

        Args:
            descriptor: Where the recording goes.
            kept: Folder on the same file system for the second names: decimal inode numbers.
        """
        self._library.crash_shim_record(descriptor, os.fsencode(kept))

    def mark(self, text: str) -> None:
        """Put a line of the caller's into the recording."""
        line = text.encode()
        self._library.crash_shim_mark(line, len(line))

    def counted(self) -> int:
        """Calls since ``arm``."""
        return int(self._library.crash_shim_counted())

    def fired(self) -> bool:
        """Whether the chosen call was reached."""
        return bool(self._library.crash_shim_fired())

    def kind_at(self, number: int) -> CallKind:
        """Kind of the call with this number, from 1."""
        return CallKind(self._library.crash_shim_kind_at(number - 1))
