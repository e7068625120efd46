"""A D-Bus of our own, so that no test ever talks to the machine's; without a dbus-daemon, a skip of one line."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

DAEMON = shutil.which("dbus-daemon")

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
    {more}
  </policy>
</busconfig>
"""


@asynccontextmanager
async def private_bus(folder: Path, more_policy: str = "") -> AsyncIterator[str]:
    """Run a bus daemon; yield its address."""
    if DAEMON is None:
        pytest.skip("needs dbus-daemon (Debian package dbus)")
    socket, config = folder / "bus", folder / "bus.conf"
    config.write_text(CONFIG.format(socket=socket, more=more_policy), encoding="utf-8")
    daemon = await asyncio.create_subprocess_exec(
        DAEMON,
        f"--config-file={config}",
        "--nofork",
        "--nopidfile",
        "--print-address",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert daemon.stdout is not None
    try:
        address = (await asyncio.wait_for(daemon.stdout.readline(), 10)).decode().strip()
        assert address.startswith("unix:path=")
        yield address
    finally:
        daemon.terminate()
        await daemon.wait()
