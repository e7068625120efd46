"""`einthoven sync --watch`, a real process, told to stop in the midst of a long sync: it does, and nothing is lost."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from tests.contracts.conftest import window
from tests.e2e.conftest import Admin

from einthoven import enroll, sync
from einthoven.cli_options import open_store
from einthoven.cli_stopping import STOP_GRACE_S
from einthoven.identity import load_identity, save_identity
from einthoven.ports import Store
from einthoven.results import WindowResult
from einthoven.store_rules import SYNC_KEY_SETTING
from einthoven_bench.counting_proxy import CountingProxy
from einthoven_demo.server_process import ServerProcess
from einthoven_protocol.limits import MAX_RESULTS_PER_EXCHANGE, MAX_TIME_MS

PATIENCE_S = 60
ROWS = MAX_RESULTS_PER_EXCHANGE + 2_000
ENDING_S = STOP_GRACE_S + 4.5
"""On an idle machine it is one second; one that runs other tests too gets more."""


@dataclass
class Home:
    """Where a device lives, and how to lead it elsewhere."""

    path: Path

    async def enrol(self, code: str) -> None:
        self.path.mkdir()
        with open_store(self.path, create=True) as store:
            await enroll(store, code)

    def lead_to(self, port: int) -> None:
        with open_store(self.path, create=False) as store:
            _lead(store, port)

    async def stop_watching_when(self, number: signal.Signals, ready: Callable[[], bool]) -> bytes:
        """Watch, stop by a signal as soon as it is ready; return what was said."""
        command = [sys.executable, "-m", "einthoven.cli", "sync", "--watch", "--json", "--home", str(self.path)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not ready():
                    assert process.returncode is None
                    await asyncio.sleep(0.002)
            process.send_signal(number)
            said, complaint = await asyncio.wait_for(process.communicate(), ENDING_S)
            assert (process.returncode, complaint) == (0, b"")
            return said
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _results() -> list[WindowResult]:
    """Results that no compression makes small: a push of them takes its time."""
    drawn = random.Random(0)
    made = (window(seed)[0] for seed in range(ROWS))
    return [replace(one, logits=(drawn.getrandbits(30), drawn.getrandbits(30), 0, 0)) for one in made]


def _lead(store: Store, port: int) -> None:
    identity = load_identity(store)
    moved = msgspec.structs.replace(identity, url=f"https://{urlsplit(identity.url).hostname}:{port}")
    save_identity(store, moved, store.setting(SYNC_KEY_SETTING) or b"")


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_it_stops_in_the_midst_of_a_long_sync_and_nothing_is_lost(
    server: ServerProcess, admin: Admin, tmp_path: Path
) -> None:
    patient = await admin.patient()
    writing, reading = Home(tmp_path / "writing"), Home(tmp_path / "reading")
    for home in (writing, reading):
        await home.enrol(await admin.code(patient))
    with open_store(writing.path, create=False) as store:
        store.append_results(_results())
    port = urlsplit(server.url).port or 443
    with CountingProxy(port) as proxy:
        writing.lead_to(proxy.port)
        reading.lead_to(proxy.port)
        # The first push is under way.
        said = await writing.stop_watching_when(signal.SIGTERM, lambda: proxy.traffic().up > 20_000)
        assert said == b""
        with open_store(writing.path, create=False) as store:
            before = store.sync_state()
            report = await sync(store)
            state = store.sync_state()
        assert before.waiting > 0
        assert (before.acknowledged + report.results_up, state.waiting, state.refused) == (ROWS, 0, ())
        assert (report.server_digest.count, state.last_digest_equal) == (ROWS, True)
        # The first page of the feed has begun to come.
        proxy.reset()
        said = await reading.stop_watching_when(signal.SIGINT, lambda: proxy.traffic().down > 20_000)
        assert said == b""
        with open_store(reading.path, create=False) as store:
            held = len(store.replicas(0, MAX_TIME_MS, limit=2 * ROWS))
            report = await sync(store)
            assert held + report.results_down == len(store.replicas(0, MAX_TIME_MS, limit=2 * ROWS)) == ROWS
            assert report.state.last_digest_equal
