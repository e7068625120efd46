"""The ``SignalStore`` port's acceptance suite: every adapter, and a stand-in for S3 over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from aiohttp import web

from einthoven_server.errors import Busy, SignalStoreUnavailable
from einthoven_server.signals.signal_store import SignalStore
from einthoven_server.signals.signal_store_obstore import open_signal_store

ADAPTERS = ("folder", "file", "memory", "s3")


class Bucket:
    """As much of S3 as an adapter uses: PUT, GET, bulk DELETE, and listing by prefix."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failing = False

    async def handle(self, request: web.Request) -> web.Response:
        if self.failing:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        name = request.path.removeprefix("/signals-bucket").lstrip("/")
        if request.method == "PUT":
            self.objects[name] = await request.read()
            return web.Response(headers={"ETag": f'"{hashlib.md5(self.objects[name]).hexdigest()}"'})
        if request.method == "POST" and "delete" in request.query:
            keys = re.findall("<Key>([^<]*)</Key>", await request.text())
            for key in keys:
                self.objects.pop(key, None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            return web.Response(text=f"<DeleteResult>{deleted}</DeleteResult>", content_type="application/xml")
        if "list-type" in request.query:
            return self._listed(request.query.get("prefix", ""))
        if name not in self.objects:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        headers = {"ETag": '"e"', "Last-Modified": "Sun, 01 Nov 2026 00:00:00 GMT"}
        return web.Response(body=self.objects[name], headers=headers)

    def _listed(self, prefix: str) -> web.Response:
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-11-01T00:00:00.000Z</LastModified>"
            f"<ETag>e</ETag><Size>{len(content)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for name, content in sorted(self.objects.items())
            if name.startswith(prefix)
        )
        text = f"<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        return web.Response(text=text, content_type="application/xml")


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    bucket, app = Bucket(), web.Application()
    app.router.add_route("*", "/{tail:.*}", bucket.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    yield bucket
    await runner.cleanup()


def url_of(adapter: str, folder: Path) -> str | None:
    return {
        "folder": None,
        "file": (folder / "elsewhere").as_uri(),
        "memory": "memory://",
        "s3": "s3://signals-bucket",
    }[adapter]


@pytest.fixture(params=ADAPTERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path, bucket: Bucket) -> SignalStore:
    return await open_signal_store(url_of(request.param, tmp_path), tmp_path)


async def test_what_is_put_is_got(store: SignalStore) -> None:
    content = os.urandom(300_000)
    await store.put("tenant/patient/7/abc", content)
    assert await store.get("tenant/patient/7/abc") == content
    await store.put("tenant/patient/7/empty", b"")
    assert await store.get("tenant/patient/7/empty") == b""


async def test_what_is_not_there_is_none(store: SignalStore) -> None:
    assert await store.get("tenant/none") is None


async def test_putting_again_replaces(store: SignalStore) -> None:
    await store.put("a/b", b"one" * 100)
    await store.put("a/b", b"two")
    assert await store.get("a/b") == b"two"


async def test_deleting_twice_is_allowed(store: SignalStore) -> None:
    await store.put("a/b", b"one")
    await store.delete("a/b")
    await store.delete("a/b")
    assert await store.get("a/b") is None


async def test_names_are_those_in_a_folder(store: SignalStore) -> None:
    for name in ("t/p1/7/aa", "t/p1/8/bb", "t/p10/7/cc", "t/p2/7/dd"):
        await store.put(name, b"x")
    assert sorted(await store.names("t/p1")) == ["t/p1/7/aa", "t/p1/8/bb"]
    assert await store.names("nobody") == []


async def test_many_at_once(store: SignalStore) -> None:
    await asyncio.gather(*(store.put(f"many/{n}", bytes([n]) * n) for n in range(32)))
    assert len(await store.names("many")) == 32
    assert await asyncio.gather(*(store.get(f"many/{n}") for n in range(32))) == [bytes([n]) * n for n in range(32)]


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\\b", "a b", "ä", "a\0", "a/" * 9 + "b", "x" * 129]
)
async def test_a_name_that_could_lead_elsewhere_is_an_error_of_the_caller(store: SignalStore, name: str) -> None:
    with pytest.raises(ValueError, match="name of an object"):
        await store.put(name, b"x")
    with pytest.raises(ValueError, match="name of an object"):
        await store.get(name)


@pytest.mark.parametrize("adapter", ["folder", "file"])
async def test_a_folder_is_private_and_outlives_the_process(tmp_path: Path, adapter: str) -> None:
    url = url_of(adapter, tmp_path)
    store = await open_signal_store(url, tmp_path)
    await store.put("a/b", b"kept")
    again = await open_signal_store(url, tmp_path)
    assert await again.get("a/b") == b"kept"
    folder = tmp_path / ("signals" if adapter == "folder" else "elsewhere")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["b"]


async def test_a_folder_that_fails_is_busy(tmp_path: Path) -> None:
    store = await open_signal_store(None, tmp_path)
    (tmp_path / "signals" / "a").write_bytes(b"a file where a folder should be")
    with pytest.raises(Busy) as problem:
        await store.put("a/b", b"x")
    assert problem.value.code == "signals_unavailable"


async def test_a_bucket_that_refuses_is_busy_later_and_no_start_at_first(bucket: Bucket, tmp_path: Path) -> None:
    store = await open_signal_store("s3://signals-bucket", tmp_path)
    bucket.failing = True
    for doing in (store.put("a/b", b"x"), store.get("a/b"), store.delete("a/b"), store.names("a")):
        with pytest.raises(Busy):
            await doing
    with pytest.raises(SignalStoreUnavailable, match="check --signals"):
        await open_signal_store("s3://signals-bucket", tmp_path)


@pytest.mark.parametrize("url", ["nonsense", "ftp://host/x", "s3://", "file:///proc/none/here"])
async def test_a_url_that_leads_nowhere_is_no_start(url: str, tmp_path: Path) -> None:
    with pytest.raises(SignalStoreUnavailable, match="--signals"):
        await open_signal_store(url, tmp_path)
