"""What the figures were measured on: processor, cores, versions. No host name, no user name, no path."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("einthoven", "numpy", "ai-edge-litert", "pcodec", "zstandard", "sqlcipher3")
"""Whose versions bear on the figures."""


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Describe this machine.

    Args:
        cpuinfo: Where Linux names the processor; other systems have no such file.
    """
    described: dict[str, Any] = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": processor(cpuinfo),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            described[package] = version(package)
        except PackageNotFoundError:
            described[package] = None
    return described


def processor(cpuinfo: Path) -> str:
    """The processor's model; on arm64 its implementer and part numbers, which is all that Linux tells."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    entries: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            entries.setdefault(name.strip(), value.strip())
    if entries.get("model name"):
        return entries["model name"]
    numbers = [f"{name} {entries[name]}" for name in ("CPU implementer", "CPU part") if entries.get(name)]
    return ", ".join(numbers) or platform.processor() or "unknown"
