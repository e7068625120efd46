"""A device that goes from one server to another: the next one gets everything that is still kept, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contracts.conftest import window
from tests.e2e.conftest import Admin

from einthoven import FileKeyProvider, SqlCipherStore, annotate, enroll, sync
from einthoven.errors import DeviceRefused
from einthoven.identity import IDENTITY_SETTING
from einthoven.store_values import RetentionPolicy
from einthoven_demo.server_process import ServerProcess

N_RESULTS, N_DROPPED = 12, 5


def open_store(home: Path) -> SqlCipherStore:
    return SqlCipherStore.open(home / "store.db", FileKeyProvider(home / "store.key", create=True))


async def on_server(admin: Admin, patient: str) -> list[tuple[int, list[str]]]:
    """Starts of a patient's results, and what is said of each."""
    status, listed = await admin.call("GET", f"/v1/patients/{patient}/results", token=await admin.clinician(patient))
    assert status == 200
    return sorted(
        (row["started_at_ms"], [words["comment"] for words in row["annotations"]]) for row in listed["results"]
    )


@pytest.mark.parametrize("n_dropped", [0, N_DROPPED], ids=["all kept", "the first dropped"])
async def test_the_next_server_holds_all_that_is_kept(admin: Admin, home: Path, tmp_path: Path, n_dropped: int) -> None:
    with ServerProcess(tmp_path / "next" / "data") as next_server, open_store(home) as store:
        next_server.start()
        next_admin = Admin(next_server)
        for number in range(3):  # so that the device gets another alias there
            with open_store(tmp_path / f"other-{number}") as other:
                await enroll(other, await next_admin.code())
        await enroll(store, await admin.code())
        kept = [store.append_window(*window(seed)) for seed in range(N_RESULTS)][n_dropped:]
        annotate(store, kept[1].counter, comment="felt dizzy")
        before = await sync(store)
        assert (before.state.waiting, before.state.last_digest_equal) == (0, True)
        if n_dropped:
            dropped = store.retain(RetentionPolicy(results_max_age_ms=0), at_ms=kept[0].started_at_ms)
            assert dropped.results == n_dropped

        patient = await next_admin.patient()
        code = await next_admin.code(patient)
        identity = await enroll(store, code)
        assert store.sync_state().waiting == len(kept) + 1
        report = await sync(store)

        assert (report.results_up, report.annotations_up, report.state.waiting) == (len(kept), 1, 0)
        assert report.state.last_digest_equal is True
        assert report.state.digest == report.server_digest
        assert report.state.digest.count == len(kept) + 1
        expected = [(result.started_at_ms, ["felt dizzy"] * (result == kept[1])) for result in kept]
        assert await on_server(next_admin, patient) == expected
        again = await sync(store)
        assert (again.round_trips, again.results_up, again.annotations_up) == (1, 0, 0)

        # Cut off after the server knew the device, and finished with the same code: the same sync key, nothing anew.
        store.put_setting("pending_signing_key", identity.signing_key)
        store.put_setting(IDENTITY_SETTING, b"")
        assert await enroll(store, code) == identity
        assert store.sync_state() == again.state
        assert (await sync(store)).results_up == 0
        assert await on_server(next_admin, patient) == expected


async def test_the_same_server_under_another_name_is_another_one(admin: Admin, home: Path) -> None:
    """A revoked device that gets a new code."""
    with open_store(home) as store:
        first = await enroll(store, await admin.code())
        for seed in range(3):
            store.append_window(*window(seed))
        annotate(store, 2, comment="felt dizzy")
        await sync(store)
        status, _ = await admin.call("POST", f"/v1/devices/{first.device_id}/revoke", {})
        assert status in {200, 204}
        with pytest.raises(DeviceRefused):
            await sync(store)

        patient = await admin.patient()
        second = await enroll(store, await admin.code(patient))
        assert second.device_alias != first.device_alias
        report = await sync(store)

        assert (report.results_up, report.annotations_up, report.state.waiting) == (3, 1, 0)
        assert report.state.last_digest_equal is True
        assert [words for _, words in await on_server(admin, patient)] == [[], ["felt dizzy"], []]
