"""What a Linux machine says of its power, as folders of small files."""

from __future__ import annotations

from pathlib import Path

import pytest

from einthoven.power_sysfs import read_surroundings
from einthoven.sync_policy import Surroundings

MAINS_OFF = {"type": "Mains", "online": "0"}
MAINS_ON = {"type": "Mains", "online": "1"}


def battery(capacity: str, status: str = "Discharging", **more: str) -> dict[str, str]:
    return {"type": "Battery", "capacity": capacity, "status": status, **more}


@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        ({}, Surroundings()),
        ({"AC": MAINS_ON}, Surroundings(charging=True)),
        ({"AC": MAINS_OFF, "BAT0": battery("42")}, Surroundings(battery_percent=42)),
        ({"AC": MAINS_ON, "BAT0": battery("42")}, Surroundings(battery_percent=42, charging=True)),
        ({"BAT0": battery("42", "Charging")}, Surroundings(battery_percent=42, charging=True)),
        ({"BAT0": battery("7"), "BAT1": battery("90")}, Surroundings(battery_percent=90)),
        ({"BAT0": battery("400")}, Surroundings(battery_percent=100)),
        ({"mouse": battery("3", scope="Device")}, Surroundings()),
        ({"BAT0": battery("a lot")}, Surroundings()),
        ({"BAT0": {"type": "Battery"}}, Surroundings()),
        ({"BAT0": battery("-5"), "AC": MAINS_OFF}, Surroundings()),
    ],
)
def test_what_is_read(tmp_path: Path, supplies: dict[str, dict[str, str]], expected: Surroundings) -> None:
    for name, files in supplies.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text + "\n", encoding="ascii")
    assert read_surroundings(tmp_path) == expected


def test_what_can_not_be_read_is_not_known(tmp_path: Path) -> None:
    assert read_surroundings(tmp_path / "absent", metered=True) == Surroundings(metered=True)
    (tmp_path / "BAT0" / "type").mkdir(parents=True)
    assert read_surroundings(tmp_path) == Surroundings()
