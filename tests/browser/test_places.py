"""The live player in a real browser, while a real server generates."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from asymtalker.scripts._client import ComfyClient
from asymtalker.scripts._environment import ROOT
from asymtalker.tests.browser.conftest import OpenFrontEnd
from asymtalker.tests.browser.frontend import FrontEnd
from asymtalker.tests.server.media import speech_like, write_wav

CHUNK_S = 28 / 25
# A job that no test waits for the end of.
LONG_S = 600.0
FOLLOWED_S = 15

# In the page: of each player (the Sampler's, then Mux's) what it shows.
PLAYERS = """() => [...document.querySelectorAll('.asymtalker-live')].map((element) => {
    const video = element.querySelector('video');
    const { buffered } = video;
    return { ...element.dataset, time: video.currentTime, paused: video.paused, muted: video.muted,
        picture: video.readyState >= 2, error: video.error?.message ?? null, source: video.currentSrc,
        duration: video.duration, edge: buffered.length ? buffered.end(buffered.length - 1) : 0,
        status: element.querySelector('.asymtalker-live-bar span').textContent,
        curves: element.querySelectorAll('.asymtalker-drift path:not(.even)').length };
})"""
# In the page: whether the Sampler shows a preview of the front end's own.
HAS_PREVIEW = """() => window.app.graph.nodes.some((node) => node.type === 'AsymTalkerSampler'
    && (node.imgs?.length || node.widgets.some((widget) => widget.name.includes('image-preview'))))"""
# Notes when the server tells of the first chunk, and when the player shows its first picture.
CLOCK = """() => {
    window.firstChunk = window.firstPicture = null;
    window.comfyAPI.api.api.addEventListener('asymtalker.live', ({ detail }) => {
        if (detail.job.done && window.firstChunk === null) window.firstChunk = performance.now();
    });
    const look = () => {
        const video = document.querySelector('.asymtalker-live video');
        if (video?.readyState >= 2) window.firstPicture = performance.now();
        else requestAnimationFrame(look);
    };
    look();
}"""


def make_workflow(client: ComfyClient, folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """The shipped nano graph for a speech of a length, small and in one step."""
    workflow = json.loads((ROOT / "workflows" / "asymtalker_nano.json").read_text(encoding="utf-8"))
    speech = client.upload(write_wav(folder / f"speech_{seconds}.wav", speech_like(seconds, 16000, 1), 16000))
    values = {entry["type"]: entry["widgets_values"] for entry in workflow["nodes"] if "widgets_values" in entry}
    values["LoadAudio"][0] = speech
    values["AsymTalkerReference"][:2] = [64, 64]
    values["AsymTalkerSampler"][0] = seed
    values["AsymTalkerSampler"][2] = 1
    return workflow


def players(front_end: FrontEnd) -> list[dict[str, Any]]:
    """What the players on the page show."""
    return front_end.page.evaluate(PLAYERS)


def wait_for_chunks(front_end: FrontEnd, count: int) -> None:
    """Until so many chunks have reached the Sampler's player."""
    front_end.wait_until(
        lambda: any(player["edge"] > (count - 1) * CHUNK_S for player in players(front_end)[:1]), f"{count} chunks"
    )


def wait_for_picture(front_end: FrontEnd) -> None:
    """Until the Sampler's player shows a picture."""
    front_end.wait_until(lambda: any(player["picture"] for player in players(front_end)[:1]), "a picture")


@pytest.fixture
def seed() -> int:
    """Another one for every test, so that no frames are there already."""
    return time.time_ns() % 2**32


def test_it_plays_while_the_video_is_made_and_then_the_file(
    front_end: FrontEnd, client: ComfyClient, tmp_path: Path, seed: int
) -> None:
    front_end.load(make_workflow(client, tmp_path, 6.0, seed=seed))
    front_end.page.evaluate(CLOCK)
    prompt_id = front_end.queue()
    wait_for_picture(front_end)
    first_chunk, first_picture = front_end.page.evaluate("() => [window.firstChunk, window.firstPicture]")
    print(f"first picture {first_picture - first_chunk:.0f} ms after the first chunk was told")
    assert 0 <= first_picture - first_chunk < 60_000
    front_end.wait_until(lambda: players(front_end)[0]["time"] > 0.2, "it plays")
    sampler = players(front_end)[0]
    assert sampler["error"] is None and not sampler["muted"]
    assert sampler["duration"] == pytest.approx(6.0, abs=0.1)
    assert "chunk" in sampler["status"] and "real time" in sampler["status"]
    assert sampler["curves"] == 3
    front_end.finish(prompt_id)
    front_end.wait_until(lambda: players(front_end)[0]["state"] == "result", "the saved file takes over")
    # On Mux & Save the front end shows it by its own means.
    (sampler,) = players(front_end)
    assert "/view?" in sampler["source"] and "AsymTalker" in sampler["source"] and sampler["error"] is None
    assert front_end.own_messages() == []


def test_no_stalls_while_following(front_end: FrontEnd, client: ComfyClient, tmp_path: Path, seed: int) -> None:
    """Where the machine is too crowded for a job faster than real time, stalls cannot be helped."""
    front_end.load(make_workflow(client, tmp_path, LONG_S, seed=seed))
    prompt_id = front_end.queue()
    wait_for_picture(front_end)
    pace, stop = [], time.monotonic() + FOLLOWED_S
    while time.monotonic() < stop:
        front_end.page.wait_for_timeout(500)
        (job,) = [job for job in client.get("/asymtalker/live") if job["prompt"] == prompt_id]
        pace.append((job["made_fps"] or 0) / job["fps"])
    player = players(front_end)[0]
    print(f"{player['stalls']} stalls in {player['time']:.1f} s of video, {min(pace):.2f} times real time at worst")
    client.interrupt()
    assert player["error"] is None and player["time"] > 1
    if min(pace) > 1.2:
        assert player["stalls"] == "0"
    assert front_end.own_messages() == []


def test_it_can_be_paused_and_scrubbed_back(
    front_end: FrontEnd, client: ComfyClient, tmp_path: Path, seed: int
) -> None:
    front_end.load(make_workflow(client, tmp_path, LONG_S, seed=seed))
    front_end.queue()
    wait_for_chunks(front_end, 4)
    front_end.wait_until(lambda: len(players(front_end)) == 2, "Mux & Save shows it too")
    assert players(front_end)[1]["muted"]
    front_end.wait_until(lambda: not front_end.page.evaluate(HAS_PREVIEW), "the player takes the place of the preview")
    video = front_end.page.locator(".asymtalker-live video").first
    video.evaluate("(video) => { video.pause(); video.currentTime = 0.5; }")
    front_end.page.wait_for_timeout(1000)
    player = players(front_end)[0]
    assert player["paused"] and player["time"] == pytest.approx(0.5)
    # Beyond what is finished there is nothing to see: the newest chunks are shown instead.
    video.evaluate("(video, time) => { video.currentTime = time; }", LONG_S - 1)
    front_end.page.wait_for_timeout(300)
    assert CHUNK_S < players(front_end)[0]["time"] < LONG_S - 1
    front_end.page.locator(".asymtalker-live button").first.dispatch_event("click")
    front_end.wait_until(lambda: not players(front_end)[0]["paused"], "it plays on")
    client.interrupt()
    front_end.wait_until(lambda: players(front_end)[0]["state"] == "stopped", "it says that the job was stopped")
    assert "stopped" in players(front_end)[0]["status"]
    assert front_end.own_messages() == []


def test_a_reload_and_another_browser_find_the_running_job(
    front_end: FrontEnd, open_front_end: OpenFrontEnd, client: ComfyClient, tmp_path: Path, seed: int
) -> None:
    workflow = make_workflow(client, tmp_path, LONG_S, seed=seed)
    front_end.load(workflow)
    front_end.queue()
    wait_for_chunks(front_end, 4)
    job = players(front_end)[0]["job"]
    front_end.open()
    other = open_front_end()
    for viewer in (front_end, other):
        viewer.load(workflow)
        wait_for_picture(viewer)
        player = players(viewer)[0]
        assert player["job"] == job and player["error"] is None
        # From what is being made on, not from the beginning.
        viewer.wait_until(lambda viewer=viewer: players(viewer)[0]["time"] > CHUNK_S, "it is near the live edge")
    client.interrupt()
    for viewer in (front_end, other):
        viewer.wait_until(lambda viewer=viewer: players(viewer)[0]["state"] == "stopped", "the end is told")
        assert viewer.own_messages() == []


def test_the_next_job_of_the_queue_takes_over(
    front_end: FrontEnd, client: ComfyClient, tmp_path: Path, seed: int
) -> None:
    front_end.load(make_workflow(client, tmp_path, 20.0, seed=seed))
    front_end.queue()
    front_end.page.evaluate(
        """(seed) => { window.app.graph.nodes.find((node) => node.type === 'AsymTalkerSampler').widgets
            .find((widget) => widget.name === 'seed').value = seed; }""",
        seed + 1,
    )
    front_end.queue()
    jobs = []
    while client.get("/prompt")["exec_info"]["queue_remaining"]:
        jobs += [player["job"] for player in players(front_end) if "job" in player and player["picture"]]
        front_end.page.wait_for_timeout(100)
    assert len(dict.fromkeys(jobs)) == 2
    assert front_end.own_messages() == []


def test_nothing_of_it_is_saved_with_the_graph(
    front_end: FrontEnd, client: ComfyClient, tmp_path: Path, seed: int
) -> None:
    front_end.load(make_workflow(client, tmp_path, 1.0, seed=seed))
    values = "() => window.app.graph.serialize().nodes.map((node) => node.widgets_values)"
    before = front_end.page.evaluate(values)
    front_end.run()
    front_end.wait_until(lambda: players(front_end)[0]["state"] == "result", "the saved file takes over")
    # The front end keeps its own text of the progress behind a node's values.
    after = front_end.page.evaluate(values)
    assert [new and new[: len(old)] for new, old in zip(after, before, strict=True)] == before
