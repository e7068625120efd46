"""Blocking calls made from asyncio, in modules that are mostly used without it.

It deliberately imports asyncio only when it is called, that is when a loop runs: asyncio brings TLS, subprocesses and
logging with it, 3 MB and 30 ms that a recorder without a loop does not pay.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(call: Callable[..., Result], *args: object) -> Result:
    """Run a blocking call in a thread, so that the running event loop goes on.

    Args:
        call: What blocks.
        args: Its arguments.
    """
    result: Result = await import_module("asyncio").to_thread(call, *args)
    return result
