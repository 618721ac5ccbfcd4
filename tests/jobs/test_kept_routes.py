"""The routes behind the table of Kept Jobs, in a real aiohttp server."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from asymtalker.tests.helpers import Import, generate

BAD_BODIES = (b"", b"[]", b"{", b"{}", b'{"remove": 5}', b'{"remove": null}')


@pytest.fixture
def ask(pack: Import, folders: Any) -> Any:
    """Return a function that sends one request and gives the status and the answer."""
    routes = pack("jobs.kept_routes")

    async def send(method: str, body: Any) -> tuple[int, Any]:
        app = web.Application()
        app.router.add_get(routes.ROUTE, routes.list_jobs)
        app.router.add_post(routes.ROUTE, routes.remove_jobs)
        async with TestClient(TestServer(app)) as client, client.request(method, routes.ROUTE, **body) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await answer.json() if is_json else await answer.text()

    return lambda method, **body: asyncio.run(send(method, body))


def test_jobs_are_listed_and_removed(pack: Import, scene: SimpleNamespace, ask: Any) -> None:
    generate(pack, scene, keep="for extending")
    status, table = ask("GET")
    (job,) = table["jobs"]
    assert status == 200 and job["state"] == "finished" and table["failures"] == []
    status, table = ask("POST", json={"remove": job["id"]})
    assert status == 200 and table["jobs"] == [] and table["summary"].startswith("0 kept")


def test_what_cannot_be_removed_is_told(ask: Any) -> None:
    status, text = ask("POST", json={"remove": "zzz"})
    assert status == 400 and text.startswith("remove: no kept job has an id that begins with 'zzz'")


@pytest.mark.parametrize("body", BAD_BODIES)
def test_other_bodies_are_refused(ask: Any, body: bytes) -> None:
    status, text = ask("POST", data=body, headers={"Content-Type": "application/json"})
    assert status == 400 and text.startswith("remove: use ids")
