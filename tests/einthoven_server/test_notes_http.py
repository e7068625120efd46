"""A patient's diary as clinicians read it, add to it, and take back what they wrote."""

from __future__ import annotations

import uuid

import pytest
from tests.einthoven_server.site import Device, Site

from einthoven_protocol.limits import MAX_NOTE_CHARACTERS
from einthoven_protocol.messages import Capability, NoteRow, RowKind, Tombstone
from einthoven_server import limits


@pytest.fixture
async def device(site: Site) -> Device:
    return await site.new_device()


@pytest.fixture
async def clinician(site: Site) -> str:
    return (await site.new_principal("clinician"))[1]


def path(device: Device, rest: str = "") -> str:
    return f"/v1/patients/{device.identity.patient_id}/notes{rest}"


def diary_note(device: Device, counter: int, text: str) -> NoteRow:
    return NoteRow(
        device_alias=device.alias,
        epoch=device.epoch,
        counter=counter,
        author=device.identity.patient_id,
        at_ms=1_700_000_000_000,
        text=text,
    )


async def test_a_note_of_the_console_is_added_listed_and_reaches_the_device(
    site: Site, device: Device, clinician: str
) -> None:
    added = await site.send("POST", path(device), token=clinician, json={"text": "call us", "at_ms": 5})
    assert (added.status, added.json["text"], added.json["at_ms"], added.json["device_alias"]) == (201, "call us", 5, 0)
    listed = (await site.send("GET", path(device), token=clinician)).json
    assert listed == {"notes": [added.json], "next": None}
    response = await device.exchange(capabilities=Capability.FEED)
    assert [(row.device_alias, row.text, row.author) for row in response.notes] == [
        (0, "call us", added.json["author"])
    ]
    alias, epoch, counter = (int(part) for part in added.json["id"].split("-"))
    assert (alias, epoch, counter) == (0, response.notes[0].epoch, response.notes[0].counter)


async def test_without_a_moment_a_note_speaks_of_now(site: Site, device: Device, clinician: str) -> None:
    site.clock.stop()
    added = await site.send("POST", path(device), token=clinician, json={"text": "x"})
    assert added.json["at_ms"] == site.clock.now_ms()


async def test_notes_of_devices_and_of_the_console_stand_in_one_list_that_is_paged(
    site: Site, device: Device, clinician: str
) -> None:
    notes = tuple(diary_note(device, counter, f"note {counter}") for counter in (1, 2, 3))
    await device.exchange(notes=notes, capabilities=Capability.FEED)
    await site.send("POST", path(device), token=clinician, json={"text": "ours"})
    seen: list[str] = []
    query = "?limit=2"
    while query:
        page = (await site.send("GET", path(device, query), token=clinician)).json
        seen += [note["text"] for note in page["notes"]]
        query = f"?limit=2&after={page['next']}" if page["next"] else ""
    assert seen == ["ours", "note 1", "note 2", "note 3"]


async def test_a_deleted_note_is_gone_here_and_on_the_device(site: Site, device: Device, clinician: str) -> None:
    added = (await site.send("POST", path(device), token=clinician, json={"text": "oops"})).json
    assert len((await device.exchange(capabilities=Capability.FEED)).notes) == 1
    gone = await site.send("DELETE", path(device, f"/{added['id']}"), token=clinician)
    assert (gone.status, gone.json) == (200, {"id": added["id"]})
    assert (await site.send("GET", path(device), token=clinician)).json["notes"] == []
    response = await device.exchange(capabilities=Capability.FEED)
    _, epoch, counter = (int(part) for part in added["id"].split("-"))
    assert response.tombstones == (Tombstone(RowKind.NOTE, 0, epoch, counter),)
    assert (await site.send("DELETE", path(device, f"/{added['id']}"), token=clinician)).status == 404


async def test_only_its_author_takes_a_note_back(site: Site, device: Device, clinician: str) -> None:
    await device.exchange(notes=(diary_note(device, 1, "mine"),), capabilities=Capability.FEED)
    added = (await site.send("POST", path(device), token=clinician, json={"text": "ours"})).json
    _, other = await site.new_principal("clinician")
    for note_id in (added["id"], f"{device.alias}-1-1"):
        answer = await site.send("DELETE", path(device, f"/{note_id}"), token=other)
        assert (answer.status, answer.error) == (403, "forbidden")
    assert len((await site.send("GET", path(device), token=clinician)).json["notes"]) == 2


async def test_another_patients_note_and_none_look_the_same(site: Site, device: Device, clinician: str) -> None:
    stranger = await site.new_device()
    added = (await site.send("POST", path(stranger), token=clinician, json={"text": "x"})).json
    foreign = await site.send("DELETE", path(device, f"/{added['id']}"), token=clinician)
    unknown = await site.send("DELETE", path(device, "/0-1-99"), token=clinician)
    assert (foreign.status, foreign.body) == (unknown.status, unknown.body) == (404, unknown.body)


@pytest.mark.parametrize(
    "note_id", ["x", "1-1", "0-0-1", "0-1-0", "01-1-1", "0-9223372036854775808-1", "0-1-2147483648"]
)
async def test_what_is_no_note_id_is_404(site: Site, device: Device, clinician: str, note_id: str) -> None:
    assert (await site.send("DELETE", path(device, f"/{note_id}"), token=clinician)).status == 404


@pytest.mark.parametrize("query", ["?limit=0", "?limit=1001", "?limit=x", "?after=x", "?after=0-0-1"])
async def test_a_bad_page_is_400(site: Site, device: Device, clinician: str, query: str) -> None:
    answer = await site.send("GET", path(device, query), token=clinician)
    assert (answer.status, answer.error) == (400, "malformed")


async def test_an_unknown_patient_is_404_everywhere(site: Site, clinician: str) -> None:
    base = f"/v1/patients/{uuid.uuid4()}/notes"
    for method, rest, more in (
        ("GET", "", {}),
        ("POST", "", {"json": {"text": "x"}}),
        ("DELETE", "/0-1-1", {}),
    ):
        answer = await site.send(method, base + rest, token=clinician, **more)
        assert (answer.status, answer.error) == (404, "not_found"), method


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"text": ""}',
        b'{"text": 5}',
        b'{"text": "a\\u0000b"}',
        b'{"text": "\\ud800"}',
        b'{"text": "x", "text": "y"}',
        b'{"text": "x", "author": "someone"}',
        b'{"text": "x", "at_ms": -1}',
        b'{"text": "x", "at_ms": 1.5}',
        b'{"text": "x", "at_ms": NaN}',
        b'{"text": "x", "at_ms": ' + b"9" * 60_000 + b"}",
        b'{"text": "x", "at_ms": 99999999999999}',
        b'{"text": ' + b"[" * 30_000,
        b'{"text": "' + b"x" * (MAX_NOTE_CHARACTERS + 1) + b'"}',
        b"",
        b"\xff",
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
async def test_a_malformed_note_is_400(site: Site, device: Device, clinician: str, body: bytes) -> None:
    answer = await site.send(
        "POST", path(device), token=clinician, data=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status, answer.error) == (400, "malformed"), answer.body


async def test_an_oversized_or_encoded_note_is_refused(site: Site, device: Device, clinician: str) -> None:
    large = b'{"text": "' + b"x" * limits.JSON_BODY_MAX_BYTES + b'"}'
    headers = {"Content-Type": "application/json"}
    assert (await site.send("POST", path(device), token=clinician, data=large, headers=headers)).status == 413
    headers["Content-Encoding"] = "gzip"
    assert (await site.send("POST", path(device), token=clinician, data=b"\x1f\x8b", headers=headers)).status == 415


async def test_a_longest_note_in_the_widest_characters_survives(site: Site, device: Device, clinician: str) -> None:
    text = "🫀" * MAX_NOTE_CHARACTERS
    assert (await site.send("POST", path(device), token=clinician, json={"text": text})).json["text"] == text
    assert (await device.exchange(capabilities=Capability.FEED)).notes[0].text == text
