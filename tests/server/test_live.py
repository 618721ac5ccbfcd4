"""The routes of the live player: a job is watched over HTTP while it runs, and nothing else is served."""

from __future__ import annotations

import asyncio
import io
import json
import time
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
import requests

from asymtalker.scripts._client import ComfyClient, Graph, PromptInterrupted
from asymtalker.tests.server.graphs import MakeGraph, node, node_id

pytestmark = pytest.mark.server

ROUTE = "/asymtalker/live"
SECONDS = 4.0
FRAMES = 100
SPANS = [(0, 33), (33, 28), (61, 28), (89, 11)]


@pytest.fixture
def graph(make_graph: MakeGraph) -> Graph:
    """A job of four small chunks, another one for every test."""
    made = make_graph(SECONDS)
    node(made, "AsymTalkerSampler")["seed"] = time.time_ns() % 2**32
    return made


def get(client: ComfyClient, path: str) -> requests.Response:
    return requests.get(client.url + path, timeout=60)


def watch(client: ComfyClient, graph: Graph, **options: Any) -> list[dict[str, Any]]:
    """Run a graph and return the events of its job."""
    sampler, events = node_id(graph, "AsymTalkerSampler"), []

    async def watch() -> None:
        address = f"{client.url.replace('http', 'ws', 1)}/ws?clientId=somebody-else"
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            run = asyncio.create_task(asyncio.to_thread(client.queue, graph, **options))
            async for message in socket:
                if message.type != aiohttp.WSMsgType.TEXT:
                    continue
                event = json.loads(message.data)
                if event["type"] == "asymtalker.live" and event["data"]["job"]["node"] == sampler:
                    events.append(event["data"])
                    if event["data"]["job"]["state"] != "running":
                        break
            await run

    asyncio.run(watch())
    return events


def test_any_client_is_told_of_each_chunk(client: ComfyClient, graph: Graph) -> None:
    events = watch(client, graph, workflow={"id": "a-workflow", "nodes": [], "links": []})
    assert [event["job"]["done"] for event in events] == [0, 1, 2, 3, 4, 4]
    assert [event["job"]["state"] for event in events] == ["running"] * 5 + ["finished"]
    assert {event["job"]["workflow"] for event in events} == {"a-workflow"}
    assert events[0]["job"]["chunks"] == 4 and events[0]["job"]["made_fps"] is None
    assert all(event["job"]["made_fps"] > 0 and event["job"]["seconds_left"] >= 0 for event in events[1:])
    chunks = [event["chunk"] for event in events[1:-1]]
    assert [(chunk["first_frame"], chunk["frames"]) for chunk in chunks] == SPANS
    for chunk in chunks:
        assert chunk["stats"].keys() >= {"reference_distance", "sharpness", "color_distance"}


def test_the_chunks_are_the_video(client: ComfyClient, graph: Graph) -> None:
    job = watch(client, graph)[-1]["job"]
    shown = get(client, f"{ROUTE}/{job['id']}").json()
    assert shown["job"] == job and len(shown["chunks"]) == 4
    assert job in client.get(ROUTE)
    init = get(client, f"{ROUTE}/{job['id']}/init")
    assert (
        init.headers["Content-Type"].startswith('video/mp4; codecs="avc1.') and "mp4a" in init.headers["Content-Type"]
    )
    parts = [get(client, f"{ROUTE}/{job['id']}/{index}") for index in range(4)]
    assert all(part.ok and "immutable" in part.headers["Cache-Control"] for part in parts)
    whole = init.content + b"".join(part.content for part in parts)
    with av.open(io.BytesIO(whole)) as container:
        frames = [frame.pts * frame.time_base * 25 for frame in container.decode(video=0)]
    assert frames == list(range(FRAMES))
    with av.open(io.BytesIO(whole)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(sound) >= SECONDS * 16_000 and np.abs(sound).max() > 0.05
    # As one file, for browsers that may not put chunks together.
    stream = get(client, f"{ROUTE}/{job['id']}/stream")
    assert stream.content == whole
    assert get(client, f"{ROUTE}/{job['id']}/stream?first=3").content == init.content + parts[3].content


def test_a_chunk_can_be_had_while_the_next_is_made(client: ComfyClient, graph: Graph) -> None:
    prompt_id = client.queue(graph)
    deadline = time.monotonic() + 120
    while not (jobs := [job for job in client.get(ROUTE) if job["prompt"] == prompt_id and job["done"] > 0]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    part = get(client, f"{ROUTE}/{jobs[0]['id']}/0")
    state = get(client, f"{ROUTE}/{jobs[0]['id']}").json()["job"]["state"]
    assert part.ok and len(part.content) > 1000
    assert state == "running" or jobs[0]["done"] == 4
    while get(client, f"{ROUTE}/{jobs[0]['id']}").json()["job"]["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_previews_end_when_somebody_watches(client: ComfyClient, make_graph: MakeGraph) -> None:
    graph = make_graph(12.0)
    node(graph, "AsymTalkerSampler").update(steps=4, seed=time.time_ns() % 2**32)
    sampler = node_id(graph, "AsymTalkerSampler")
    chunk, watched_from, previews = 0, 99, []

    def on_event(kind: str, data: dict[str, Any]) -> None:
        nonlocal chunk, watched_from
        if kind == "preview":
            previews.append(chunk)
        elif kind == "progress_text" and data["node"] == sampler and data["text"].startswith("chunk "):
            chunk = int(data["text"].split()[1])
            if chunk == 2:
                job = next(job for job in client.get(ROUTE) if job["state"] == "running")
                assert get(client, f"{ROUTE}/{job['id']}/0").ok
                watched_from = get(client, f"{ROUTE}/{job['id']}").json()["job"]["done"]

    client.run(graph, on_event)
    assert chunk == 11 and watched_from < 9
    # A preview of the chunk that was being made may have been on its way.
    assert previews and max(previews) <= watched_from + 1


def test_a_cancelled_job_is_stopped(client: ComfyClient, graph: Graph) -> None:
    def cancel(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress":
            client.interrupt()

    with pytest.raises(PromptInterrupted):
        client.run(graph, cancel)
    assert client.get(ROUTE)[-1]["state"] == "stopped"


def test_nothing_else_is_served(client: ComfyClient, graph: Graph) -> None:
    job = watch(client, graph)[-1]["job"]["id"]
    assert get(client, f"{ROUTE}/{job}/0").ok
    unknown = ["nothing", "nothing/init", "nothing/0", "nothing/stream", "..%2f..%2fspool", "%2fetc%2fpasswd/init"]
    beside = ["4", "-1", "9999999", "..%2fjob.json", "job.json", "lock", "000000.segment"]
    paths = unknown + [f"{job}/{name}" for name in beside]
    assert {path: get(client, f"{ROUTE}/{path}").status_code for path in paths} == dict.fromkeys(paths, 404)
