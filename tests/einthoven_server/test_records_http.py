"""What clinicians read and write."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.einthoven_server.site import Answer, Device, ManualClock, Site, running_site

from einthoven.account import Account
from einthoven.errors import DeviceRefused
from einthoven_protocol.merge import base_mark
from einthoven_protocol.messages import AnnotationRow, Capability, Register, ResultId
from einthoven_server import limits


@pytest.fixture
async def device(site: Site) -> Device:
    device = await site.new_device()
    await device.exchange(device.rows(1, 5))
    return device


@pytest.fixture
async def clinician(site: Site) -> str:
    return (await site.new_principal("clinician"))[1]


@pytest.fixture
async def other_site(data_folder: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Site]:
    """Another tenant in the same database."""
    async with running_site(data_folder, database_url, clock, str(uuid.uuid4())) as site:
        yield site


def results_path(device: Device, query: str = "") -> str:
    return f"/v1/patients/{device.identity.patient_id}/results{query}"


async def test_results_are_listed_in_order_with_everything_the_device_said(
    site: Site, device: Device, clinician: Account
) -> None:
    answer = await site.send("GET", results_path(device), token=clinician)
    assert answer.status == 200
    assert answer.json["next"] is None
    listed = answer.json["results"]
    assert [result["id"] for result in listed] == [f"{device.alias}-1-{n}" for n in range(1, 6)]
    (row,) = device.rows(1, 1)
    said = {name: getattr(row, name) for name in row.__struct_fields__ if name != "extra"}
    said |= {"model_digest": row.model_digest.hex(), "logits": list(row.logits)}
    assert said.items() <= listed[0].items()


async def test_pages_are_followed_by_their_next(site: Site, device: Device, clinician: Account) -> None:
    seen, after = [], ""
    while after is not None:
        query = f"?limit=2&after={after}" if after else "?limit=2"
        page = (await site.send("GET", results_path(device, query), token=clinician)).json
        seen += [result["counter"] for result in page["results"]]
        after = page["next"]
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "query",
    [f"?limit={text}" for text in ("0", "-1", "1001", "abc", "", "9999999999", "²")]
    + [f"?after={text}" for text in ("1", "1-1", "1-1-99999999999", "x-y-z", "1-0-1", "';--")],
)
async def test_a_bad_page_is_400(site: Site, device: Device, clinician: Account, query: str) -> None:
    answer = await site.send("GET", results_path(device, query), token=clinician)
    assert (answer.status, answer.error) == (400, "malformed")


def seen_by_client(answer: Answer) -> tuple[int, bytes, dict[str, str]]:
    return answer.status, answer.body, {name: value for name, value in answer.headers.items() if name != "Date"}


async def test_another_tenants_patient_and_an_unknown_one_look_the_same(
    site: Site, other_site: Site, clinician: Account
) -> None:
    other = await other_site.new_device()
    await other.exchange(other.rows(1, 1))
    foreign = await site.send("GET", results_path(other), token=clinician)
    unknown = await site.send("GET", f"/v1/patients/{uuid.uuid4()}/results", token=clinician)
    assert seen_by_client(foreign) == seen_by_client(unknown)
    assert (foreign.status, foreign.error) == (404, "not_found")


async def test_another_tenants_token_and_device_are_nobodys_here(site: Site, other_site: Site, device: Device) -> None:
    _, foreign = await other_site.new_principal("clinician")
    theirs = await other_site.authorization(foreign).headers(other_site.http, "GET", results_path(device))
    assert (await site.send("GET", results_path(device), headers=theirs)).status == 401
    with pytest.raises(DeviceRefused):  # no token here, either
        await site.send("GET", results_path(device), token=foreign)
    stranger = await other_site.new_device()
    stranger.site = site
    assert (await stranger.post(stranger.request())).status == 401


async def test_another_tenants_result_can_not_be_annotated(site: Site, other_site: Site, clinician: Account) -> None:
    other = await other_site.new_device()
    await other.exchange(other.rows(1, 1))
    answer = await site.send("PUT", f"/v1/results/{other.alias}-1-1/annotation", token=clinician, json={"comment": "x"})
    assert (answer.status, answer.error) == (404, "not_found")


async def test_an_annotation_is_put_read_and_changed_field_by_field(
    site: Site, device: Device, clinician: Account
) -> None:
    path = f"/v1/results/{device.alias}-1-2/annotation"
    first = await site.send("PUT", path, token=clinician, json={"rhythm": "A", "comment": "irregular"})
    assert (first.status, first.json["rhythm"], first.json["comment"]) == (200, "A", "irregular")
    second = await site.send("PUT", path, token=clinician, json={"comment": "on second thought"})
    assert (second.json["rhythm"], second.json["comment"]) == ("A", "on second thought")
    listed = (await site.send("GET", results_path(device), token=clinician)).json["results"]
    assert listed[1]["annotations"] == [second.json]
    assert listed[0]["annotations"] == []


async def test_a_later_word_wins_also_when_the_servers_clock_went_back(
    site: Site, device: Device, clinician: Account
) -> None:
    path = f"/v1/results/{device.alias}-1-2/annotation"
    await site.send("PUT", path, token=clinician, json={"comment": "first"})
    site.clock.offset_ms -= 3_600_000
    await site.send("PUT", path, token=clinician, json={"comment": "second"})
    listed = (await site.send("GET", results_path(device), token=clinician)).json["results"]
    assert listed[1]["annotations"][0]["comment"] == "second"


async def test_two_clinicians_keep_their_own_words(site: Site, device: Device, clinician: Account) -> None:
    _, second = await site.new_principal("clinician")
    path = f"/v1/results/{device.alias}-1-1/annotation"
    await asyncio.gather(
        site.send("PUT", path, token=clinician, json={"rhythm": "A"}),
        site.send("PUT", path, token=second, json={"rhythm": "O"}),
    )
    listed = (await site.send("GET", results_path(device), token=clinician)).json["results"]
    assert sorted(said["rhythm"] for said in listed[0]["annotations"]) == ["A", "O"]


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"rhythm": null}',
        b'{"rhythm": "X"}',
        b'{"rhythm": 1}',
        b'{"comment": 5}',
        b'{"comment": "a\\u0000b"}',
        b'{"comment": "\\ud800"}',
        b'{"comment": "x", "author": "someone"}',
        b'{"comment": "' + b"x" * (limits.COMMENT_MAX_CHARS + 1) + b'"}',
        b"[]",
        b"",
        b"\xff",
    ],
)
async def test_a_malformed_annotation_is_400(site: Site, device: Device, clinician: Account, body: bytes) -> None:
    path = f"/v1/results/{device.alias}-1-1/annotation"
    answer = await site.send("PUT", path, token=clinician, data=body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.error) == (400, "malformed"), answer.body


@pytest.mark.parametrize("result", ["1-1-99", "9-1-1", "0-1-1", "x", "1-1", "1-1-1-1", "01-1-1", "1-1-4294967296"])
async def test_a_result_that_is_not_there_is_404(site: Site, device: Device, clinician: Account, result: str) -> None:
    answer = await site.send("PUT", f"/v1/results/{result}/annotation", token=clinician, json={"comment": "x"})
    assert (answer.status, answer.error) == (404, "not_found")


async def test_text_of_all_kinds_survives(site: Site, device: Device, clinician: Account) -> None:
    text = "Vorhofflimmern? – 心房細動 🫀 \u202e '; DROP TABLE annotation; --\n\ttab"
    path = f"/v1/results/{device.alias}-1-1/annotation"
    assert (await site.send("PUT", path, token=clinician, json={"comment": text})).json["comment"] == text
    (row,) = (await device.exchange()).annotations
    assert row.comment.value == text


async def test_a_longest_comment_in_the_widest_characters_is_taken(
    site: Site, device: Device, clinician: Account
) -> None:
    path = f"/v1/results/{device.alias}-1-1/annotation"
    text = "🫀" * limits.COMMENT_MAX_CHARS
    assert (await site.send("PUT", path, token=clinician, json={"comment": text})).status == 200


async def test_a_lost_write_is_shown_beside_what_won_and_what_was_written_over_as_history(
    site: Site, clinician: Account
) -> None:
    patient = await site.new_patient()
    first, second = await site.new_device(patient), await site.new_device(patient)
    await first.exchange(first.rows(1, 1), capabilities=Capability.FEED)
    target = ResultId(first.alias, 1, 1)

    async def say(device: Device, comment: str, hlc: int, base: int) -> None:
        row = AnnotationRow(target=target, author=patient, rhythm=Register("", 0), comment=Register(comment, hlc))
        await device.exchange(annotations=(row,), annotation_bases=((0, base),), capabilities=Capability.FEED)

    await say(first, "palpitations", 1 << 16, 0)
    await say(second, "was running", 2 << 16, 0)  # had not seen it
    await say(second, "was running, fine now", 3 << 16, base_mark(2 << 16))  # had seen its own
    (shown,) = (await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)).json["results"]
    assert [said["comment"] for said in shown["annotations"]] == ["was running, fine now"]
    said = {"author": patient, "field": "comment"}
    assert shown["superseded"] == [
        said | {"value": "palpitations", "written_at_ms": 1, "concurrent": True},
        said | {"value": "was running", "written_at_ms": 2, "concurrent": False},
    ]
