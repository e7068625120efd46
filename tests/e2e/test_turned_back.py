"""A device that is restored from a backup, against the real server: everything written since ends there, once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.conftest import window
from tests.e2e.conftest import Admin

from einthoven import FileKeyProvider, SqlCipherStore, annotate, enroll, sync
from einthoven.store_events import ForkReason, StoreForked

N_BEFORE, N_LOST, N_AFTER = 20, 10, 5


def open_store(home: Path) -> SqlCipherStore:
    return SqlCipherStore.open(home / "store.db", FileKeyProvider(home / "store.key", create=True))


def append(store: SqlCipherStore, first_seed: int, count: int) -> list[int]:
    """Keep results; return their starts."""
    return [store.append_window(*window(seed)).started_at_ms for seed in range(first_seed, first_seed + count)]


def forks(store: SqlCipherStore) -> list[StoreForked]:
    return [event for event in store.take_events() if isinstance(event, StoreForked)]


def restore(backup: Path, home: Path, *, but: str = "nothing") -> None:
    """Put files back in place, so that each keeps its inode, as when a disk's image is restored."""
    kept = {file.name for file in backup.iterdir()}
    for file in home.iterdir():
        if file.name not in kept:
            file.unlink()
    for file in backup.iterdir():
        if file.name != but:
            (home / file.name).write_bytes(file.read_bytes())


async def on_server(admin: Admin, patient: str) -> list[dict[str, Any]]:
    status, listed = await admin.call("GET", f"/v1/patients/{patient}/results", token=await admin.clinician(patient))
    assert status == 200
    found: list[dict[str, Any]] = listed["results"]
    return found


@pytest.mark.parametrize("anchor_restored", [True, False], ids=["unnoticed", "noticed at open"])
async def test_a_restored_device_loses_and_doubles_nothing(
    admin: Admin, home: Path, tmp_path: Path, anchor_restored: bool
) -> None:
    patient = await admin.patient()
    with open_store(home) as store:
        await enroll(store, await admin.code(patient))
        starts = append(store, 0, N_BEFORE)
        assert (await sync(store)).results_up == N_BEFORE
    shutil.copytree(home, tmp_path / "backup")
    with open_store(home) as store:
        starts += append(store, N_BEFORE, N_LOST)
        annotate(store, N_BEFORE, comment="written after the backup")
        assert (await sync(store)).results_up == N_LOST

    restore(tmp_path / "backup", home, but="nothing" if anchor_restored else "store.db.anchor")
    with open_store(home) as store:
        found_out = forks(store)
        assert [event.reason for event in found_out] == ([] if anchor_restored else [ForkReason.TURNED_BACK])
        starts += append(store, 1_000, N_AFTER)
        annotate(store, store.results(limit=100)[-1].counter, comment="felt dizzy")
        report = await sync(store)

        assert report.forked is anchor_restored
        assert report.state.waiting == 0
        assert report.results_up == N_AFTER
        if anchor_restored:
            assert [event.reason for event in forks(store)] == [ForkReason.COUNTER_REUSED]
        epoch = report.state.epoch
        assert epoch > 1
        listed = await on_server(admin, patient)
        assert sorted(row["started_at_ms"] for row in listed) == sorted(starts)
        places = {tuple(int(part) for part in row["id"].split("-")[-2:]) for row in listed}
        assert len(places) == len(starts)
        # What this device said itself, and forgot, it hears again.
        assert {row.comment.value for row in store.annotations()} == {"written after the backup", "felt dizzy"}
        (dizzy,) = [row for row in store.annotations() if row.target.epoch == epoch]
        assert dizzy.target.counter == N_AFTER

        again = await sync(store)
        assert (again.round_trips, again.results_up, again.forked) == (1, 0, False)
        assert again.state.epoch == epoch
        starts += append(store, 2_000, 2)
        assert (await sync(store)).results_up == 2
        assert len(await on_server(admin, patient)) == len(starts)
        assert store.check().sound


async def test_a_restored_device_with_nothing_new_finds_out_all_the_same(
    admin: Admin, home: Path, tmp_path: Path
) -> None:
    with open_store(home) as store:
        await enroll(store, await admin.code())
        append(store, 0, 3)
        await sync(store)
    shutil.copytree(home, tmp_path / "backup")
    with open_store(home) as store:
        append(store, 3, 2)
        await sync(store)
    restore(tmp_path / "backup", home)
    with open_store(home) as store:
        report = await sync(store)
        assert report.forked
        assert [event.reason for event in forks(store)] == [ForkReason.SERVER_AHEAD]
        assert (await sync(store)).round_trips == 1
        append(store, 9, 1)
        assert (await sync(store)).state.waiting == 0
