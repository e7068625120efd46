"""kill -9 at random moments: what was reported as durable is there, without a hole, and the file opens."""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
import threading
from pathlib import Path

from einthoven.keys import StaticKeyProvider
from einthoven.store_sqlcipher import SqlCipherStore

KILLS = 20
WRITER = """
import sys
from dataclasses import replace
from fractions import Fraction
import numpy as np
from einthoven.keys import StaticKeyProvider
from einthoven.ports import Segment
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.segments import segment_digest
from einthoven.store_sqlcipher import SqlCipherStore

store = SqlCipherStore.open(sys.argv[1], StaticKeyProvider(bytes.fromhex(sys.stdin.readline())))
# A small log is moved into the file often, so that kills hit that as well.
store._writer.rows.connection.execute("PRAGMA wal_autocheckpoint = 8")
base = store.stats().results
rng = np.random.default_rng(base)
print("open", flush=True)
while True:
    segment = Segment(Fraction(128), rng.integers(-500, 500, 3_840, dtype=np.int32))
    result = WindowResult(
        counter=0, started_at_ms=1_700_000_000_000, duration_ms=30_000, n_steps=30, usable_s=30,
        quality=Quality.USABLE, rhythm=Rhythm.NORMAL, confidence_permille=900, logits=(1, 2, 3, 4),
        tier=RiskTier.ROUTINE, reason=InconclusiveReason.NONE, model_digest=b"m" * 32, front_end_version=1,
        segment_digest=segment_digest(segment),
    )
    stored = store.append_window(result, segment)
    print(stored.counter, stored.segment_digest.hex(), flush=True)
"""


def write_until_killed(path: Path, key: bytes, after_s: float) -> dict[int, str]:
    """What the writer reported before it was killed: digest of the segment by counter."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    with writer:
        writer.stdin.write(key.hex() + "\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "open\n"
        killer = threading.Timer(after_s, writer.kill)
        killer.start()
        # A line that was cut in half was not reported.
        lines = [line for line in writer.stdout if line.endswith("\n")]
        killer.join()
    return {int(counter): digest for counter, digest in (line.split() for line in lines)}


def test_no_reported_row_is_lost_whenever_the_writer_is_killed(tmp_path: Path) -> None:
    path, key, rng = tmp_path / "store.db", secrets.token_bytes(32), random.Random(20)
    reported: dict[int, str] = {}
    for _ in range(KILLS):
        reported |= write_until_killed(path, key, rng.uniform(0, 0.06))

        with SqlCipherStore.open(path, StaticKeyProvider(key), create=False) as store:
            results = store.results(limit=100_000)
            kept = {result.counter: result.segment_digest.hex() for result in results}
            assert list(kept) == list(range(1, len(kept) + 1))
            assert kept.items() >= reported.items()
            assert store.stats().segments == len(kept)
            last = store.segment(results[-1].segment_digest) if results else None
            assert last is not None or not results
            assert store.check().sound
            # Nothing was turned back, so no crash may look like it.
            assert store.take_events() == []

    assert len(reported) > KILLS


def test_a_store_that_was_being_made_when_the_process_died_can_be_made_again(tmp_path: Path) -> None:
    key, rng = secrets.token_bytes(32), random.Random(4)
    script = (
        "import sys; from einthoven.keys import StaticKeyProvider; "
        "from einthoven.store_sqlcipher import SqlCipherStore; key = bytes.fromhex(sys.stdin.readline()); "
        "print('ready', flush=True); SqlCipherStore.open(sys.argv[1], StaticKeyProvider(key))"
    )
    for number in range(10):
        path = tmp_path / f"{number}.db"
        with subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as maker:
            assert maker.stdin is not None
            assert maker.stdout is not None
            maker.stdin.write(key.hex() + "\n")
            maker.stdin.flush()
            assert maker.stdout.readline() == "ready\n"
            killer = threading.Timer(rng.uniform(0, 0.01), maker.kill)
            killer.start()
            maker.stdout.read()
            killer.join()

        with SqlCipherStore.open(path, StaticKeyProvider(key)) as store:
            assert store.stats().results == 0
        left = {file.name for file in tmp_path.iterdir() if file.name.startswith(f"{number}.")}
        assert left == {path.name, f"{path.name}.keys", f"{path.name}.anchor"}
