"""The shipped files as bytes: a model, what says and proves what it is, and the tables that decide beside it.

``<name>.tflite``, its manifest ``<name>.json`` and that one's signature ``<name>.json.sig``; its card for people
``<name>.md`` and for tools ``<name>.cdx.json``.

It deliberately checks nothing (``einthoven.models`` does), and imports nothing of ours and no numpy.

Invariants:
    1. A file is read once a process, so the bytes that were checked are the bytes that are used.
"""

from __future__ import annotations

from functools import lru_cache
from pkgutil import get_data

MAX_RESOURCE_BYTES = 4_000_000
MAX_RESOURCES = 32
"""Files kept; more than are shipped."""


@lru_cache(maxsize=MAX_RESOURCES)
def read_resource(file_name: str) -> bytes:
    """Return a shipped file's bytes.

    Args:
        file_name: Such as ``rhythm.tflite``; no folder in it.

    Raises:
        FileNotFoundError: Nothing of that name is shipped.
    """
    if "/" in file_name or "\\" in file_name or file_name.startswith("."):
        raise FileNotFoundError(file_name)
    # Works in a zip as ``importlib.resources`` does, which costs a megabyte more: it imports tempfile and zipfile.
    content = get_data(__name__, file_name)
    if content is None:
        raise FileNotFoundError(file_name)
    return content[:MAX_RESOURCE_BYTES]
