"""Battery and charger as Linux shows them under /sys/class/power_supply.

It deliberately knows no other platform (a phone's app asks its own) and nothing of networks.

Invariants:
    1. It never raises: what can't be read is not known, and a device of which nothing is known counts as plugged in.
    2. Of several batteries the fullest counts; those of mice and headsets do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from einthoven.sync_policy import Surroundings

POWER_SUPPLIES: Final = Path("/sys/class/power_supply")
_MAX_CHARACTERS: Final = 64


def read_surroundings(folder: Path = POWER_SUPPLIES, *, metered: bool = False) -> Surroundings:
    """Return what this machine says of its power.

    Args:
        folder: Where the kernel shows it.
        metered: Whether the network counts bytes, which is not shown there.
    """
    try:
        supplies = sorted(folder.iterdir())
    except OSError:
        supplies = []
    batteries = [one for one in supplies if _read(one, "type") == "Battery" and _read(one, "scope") != "Device"]
    percents = [int(text) for one in batteries if (text := _read(one, "capacity")).isdecimal()]
    plugged = any(_read(one, "type") != "Battery" and _read(one, "online") == "1" for one in supplies)
    charging = plugged or any(_read(one, "status") in {"Charging", "Full"} for one in batteries)
    return Surroundings(
        battery_percent=min(100, max(percents)) if percents else None, charging=charging, metered=metered
    )


def _read(supply: Path, name: str) -> str:
    try:
        with (supply / name).open(encoding="ascii", errors="replace") as file:
            return file.read(_MAX_CHARACTERS).strip()
    except OSError:
        return ""
