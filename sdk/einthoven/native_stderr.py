"""Keeps a native library's chatter off a terminal whose every line is meant.

LiteRT announces its delegate on file descriptor 2 and offers no switch. Only programs that own their process use this
(the commands, the demo): redirecting a descriptor takes what other threads write there meanwhile along. The library
itself never does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR_FD = 2


@contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Send what is written to file descriptor 2 to nowhere while the block runs; errors are raised as ever."""
    sys.stderr.flush()
    saved = os.dup(_STDERR_FD)
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDERR_FD)
        os.close(nowhere)
        yield
    finally:
        os.dup2(saved, _STDERR_FD)
        os.close(saved)
