"""One parcel against a server of which every answer is written down: it goes on, begins anew, waits, or gives up."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import pytest

from einthoven.errors import ServerBusy, ServerRejected
from einthoven.ports import Answer
from einthoven.signal_uploading import MAX_REQUESTS, ParcelUpload
from einthoven_protocol.signal_chunks import chunk_name

PARCEL = bytes(range(100))
CHUNK = b"a chunk"
HERE = "/v1/uploads/one"


class Script:
    """Answers in order; the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, str, bytes, dict[str, str]]] = []

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        expected: Collection[int] = frozenset({200}),
    ) -> Answer:
        self.asked.append((method, path, body, dict(headers)))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        assert answer.status in expected
        return answer

    async def close(self) -> None:
        raise AssertionError("not ours to close")


def created(offset: int, path: str = HERE) -> Answer:
    return Answer(201, {"Location": path, "Upload-Offset": str(offset)}, b"")


def at(offset: int, status: int = 204) -> Answer:
    return Answer(status, {"Upload-Offset": str(offset)}, b"")


def problem(status: int, code: str = "") -> Answer:
    return Answer(status, {}, b'{"error": "%s"}' % code.encode())


async def sent(script: Script, *, known_new: bool = False) -> tuple[bool, ParcelUpload]:
    upload = ParcelUpload(script, PARCEL, CHUNK)
    return await upload.send(known_new=known_new), upload


def asked(script: Script) -> list[tuple[str, int, str]]:
    return [(method, len(body), headers.get("Upload-Offset", "")) for method, _, body, headers in script.asked]


async def test_what_is_new_goes_in_one_request() -> None:
    script = Script(created(100))
    kept, upload = await sent(script, known_new=True)
    assert (kept, upload.requests, upload.bytes_up) == (True, 1, 100)
    (method, path, body, headers) = script.asked[0]
    assert (method, path, body) == ("POST", "/v1/uploads", PARCEL)
    assert headers == {
        "Tus-Resumable": "1.0.0",
        "Content-Type": "application/offset+octet-stream",
        "Upload-Length": "100",
        "Upload-Metadata": f"chunk {base64.b64encode(chunk_name(CHUNK)).decode()}",
    }


async def test_what_may_have_been_begun_is_looked_at_first() -> None:
    script = Script(created(40), at(100))
    assert (await sent(script))[0]
    assert asked(script) == [("POST", 0, ""), ("PATCH", 60, "40")]
    assert script.asked[1][2] == PARCEL[40:]


@pytest.mark.parametrize("answer", [problem(409), problem(400, "broken_off")])
async def test_it_goes_on_from_where_head_says(answer: Answer) -> None:
    script = Script(created(0), answer, at(30, 200), at(100))
    assert (await sent(script))[0]
    assert asked(script) == [("POST", 0, ""), ("PATCH", 100, "0"), ("HEAD", 0, ""), ("PATCH", 70, "30")]


async def test_a_creation_that_broke_off_is_looked_at() -> None:
    script = Script(problem(400, "broken_off"), created(25), at(100))
    assert (await sent(script, known_new=True))[0]
    assert asked(script) == [("POST", 100, ""), ("POST", 0, ""), ("PATCH", 75, "25")]


@pytest.mark.parametrize("gone", [[problem(404)], [problem(410)], [problem(409), problem(410)]])
async def test_what_is_gone_is_begun_anew(gone: Sequence[Answer]) -> None:
    script = Script(created(50), *gone, created(0), at(100))
    assert (await sent(script))[0]
    assert asked(script)[-2:] == [("POST", 0, ""), ("PATCH", 100, "0")]


@pytest.mark.parametrize("code", ["chunk_damaged", "signal_unproven"])
async def test_what_is_refused_is_said(code: str) -> None:
    assert not (await sent(Script(problem(400, code)), known_new=True))[0]
    assert not (await sent(Script(created(0), problem(400, code))))[0]


async def test_a_locked_upload_is_for_later() -> None:
    with pytest.raises(ServerBusy, match="has not ended"):
        await sent(Script(created(0), problem(423)))


@pytest.mark.parametrize(
    "answers",
    [
        [problem(400, "malformed")],
        [Answer(400, {}, b"not JSON")],
        [Answer(201, {}, b"")],
        [created(0, "https://elsewhere/v1/uploads/x")],
        [Answer(201, {"Location": HERE, "Upload-Offset": "-1"}, b"")],
        [created(0), problem(400, "malformed")],
        [created(0), Answer(204, {}, b"")],
        [created(0), problem(409), Answer(200, {"Upload-Offset": "x"}, b"")],
        [created(10), at(10)],
        [created(10), problem(400, "broken_off"), at(10, 200)],
    ],
)
async def test_a_server_that_does_not_keep_to_it_is_given_up(answers: Sequence[Answer]) -> None:
    script = Script(*answers)
    with pytest.raises(ServerRejected):
        await sent(script, known_new=len(answers) == 1)
    assert len(script.asked) <= 3


async def test_a_server_that_never_comes_to_an_end_is_given_up() -> None:
    answers = [answer for _ in range(MAX_REQUESTS) for answer in (created(0), problem(404))]
    script = Script(*answers)
    with pytest.raises(ServerRejected, match="come to an end"):
        await sent(script)
    assert len(script.asked) <= MAX_REQUESTS + 1
