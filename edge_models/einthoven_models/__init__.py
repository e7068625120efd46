"""The shipped models: ``<name>.tflite``, its manifest ``<name>.json`` and its card ``<name>.md``, as bytes.

It deliberately checks nothing (``einthoven.models`` does), and imports nothing of ours and no numpy.
"""

from __future__ import annotations

from importlib.resources import files

MAX_RESOURCE_BYTES = 4_000_000


def read_resource(file_name: str) -> bytes:
    """Return a shipped file's bytes.

    Args:
        file_name: Such as ``rhythm.tflite``; no folder in it.

    Raises:
        FileNotFoundError: Nothing of that name is shipped.
    """
    if "/" in file_name or "\\" in file_name or file_name.startswith("."):
        raise FileNotFoundError(file_name)
    resource = files(__name__).joinpath(file_name)
    with resource.open("rb") as stream:
        return stream.read(MAX_RESOURCE_BYTES)
