"""Where the live player is in ComfyUI, in a real browser, while a real server generates."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from asymtalker.scripts._client import ComfyClient
from asymtalker.tests.browser.conftest import Tabs
from asymtalker.tests.browser.frontend import FrontEnd
from asymtalker.tests.browser.servers import NEWEST, REQUIRED
from asymtalker.tests.helpers import shipped
from asymtalker.tests.server.media import speech_like, write_wav

# A job that no test waits for the end of.
LONG_S = 600.0
SAMPLER, MUX, SUBGRAPH = "AsymTalkerSampler", "AsymTalkerMux", "subgraph"
# In the required front end, Nodes 2.0 is a trial that does not draw all widgets that a node gets later.
CANVASES = pytest.mark.parametrize(
    ("tab", "nodes_2"), [(REQUIRED, False), (NEWEST, False), (NEWEST, True)], indirect=["tab"]
)

# In the page: what the player shows that is on a node of a type ("app": in app mode); null if there is none.
LOOK = """type => {
    const all = [...document.querySelectorAll('.asymtalker-live')];
    const graph = window.app.canvas.graph ?? window.app.graph;
    const node = graph.nodes.find((one) => (one.subgraph ? 'subgraph' : one.type) === type);
    const widget = node?.widgets?.find((one) => one.name === 'asymtalker_live');
    const element = type === 'app' ? document.querySelector('#linearCenterPanel .asymtalker-live') : widget?.element;
    if (!element) return null;
    const video = element.querySelector('video');
    // What Nodes 2.0 and the canvas show themselves: a preview, or the result of an earlier run.
    const inNodes2 = element.closest('[data-node-id]');
    const own = inNodes2
        ? [...inNodes2.querySelectorAll('img, video')].filter((one) => one !== video && one.offsetHeight > 0)
        : (node?.widgets ?? []).filter((one) => /image-preview|video-preview/.test(one.name) && !one.hidden);
    return { ...element.dataset, height: video.isConnected ? video.offsetHeight : 0, picture: video.videoWidth > 0,
        paused: video.paused, muted: video.muted, error: video.error?.message ?? null, source: video.currentSrc,
        status: element.querySelector('.asymtalker-live-bar span').textContent, otherPictures: own.length,
        curves: element.querySelectorAll('.asymtalker-drift path:not(.even)').length };
}"""
SIZES = "type => window.app.graph.serialize().nodes.find((node) => node.type === type).size[1]"
VALUES = "() => window.app.graph.serialize().nodes.map((node) => node.widgets_values)"
SET_SEED = """seed => { window.app.graph.nodes.find((node) => node.type === 'AsymTalkerSampler').widgets
    .find((widget) => widget.name === 'seed').value = seed; }"""
SET_SPEECH = """nodes => { const name = nodes.find((node) => node.type === 'LoadAudio').widgets_values[0];
    const widget = window.app.graph.nodes.find((node) => node.type === 'LoadAudio').widgets[0];
    widget.options.values = [name];
    widget.value = name; }"""
INTO_SUBGRAPH = """types => { const { graph } = window.app;
    graph.convertToSubgraph(new Set(graph.nodes.filter((node) => types.includes(node.type)))); }"""
OPEN_SUBGRAPH = """() => { const { canvas, graph } = window.app;
    const node = graph.nodes.find((node) => node.subgraph);
    canvas.openSubgraph(node.subgraph, node); }"""
LEAVE_SUBGRAPH = "() => window.app.canvas.setGraph(window.app.graph)"
SET_MODE = """([type, mode]) => { window.app.graph.nodes.find((node) => node.type === type).mode = mode; }"""
COLLAPSE = "type => window.app.graph.nodes.find((node) => node.type === type).collapse()"
WHEEL = """type => { const node = window.app.graph.nodes.find((one) => one.type === type);
    const video = node.widgets.find((one) => one.name === 'asymtalker_live').element.querySelector('video');
    const { x, y } = video.getBoundingClientRect();
    const before = window.app.canvas.ds.scale;
    video.dispatchEvent(new WheelEvent('wheel', { deltaY: -120, clientX: x + 20, clientY: y + 20, bubbles: true,
        cancelable: true }));
    return window.app.canvas.ds.scale / before; }"""
COUNT_PREVIEWS = """() => { window.previews = 0;
    window.comfyAPI.api.api.addEventListener('b_preview_with_metadata', () => { window.previews += 1; }); }"""
MUTED, BYPASSED = 2, 4


def make_workflow(client: ComfyClient, folder: Path, seconds: float) -> dict[str, Any]:
    """The shipped long speech graph for a speech of a length, small and in one step, with a seed of its own."""
    workflow = shipped("asymtalker_long_speech")
    speech = client.upload(write_wav(folder / f"speech_{seconds}.wav", speech_like(seconds, 16000, 1), 16000))
    values = {entry["type"]: entry["widgets_values"] for entry in workflow["nodes"] if "widgets_values" in entry}
    values["LoadAudio"][0] = speech
    values["AsymTalkerReference"][:2] = [64, 64]
    values[SAMPLER][0] = time.time_ns() % 2**32
    values[SAMPLER][2] = 1
    return workflow


def player(tab: FrontEnd, place: str, condition: str) -> dict[str, Any]:
    """Wait until the player in a place is as JavaScript says of `it`; what it shows then."""
    tab.wait(f"type => {{ const it = ({LOOK})(type); return it && {condition}; }}", place)
    return tab.page.evaluate(LOOK, place)


def no_player(tab: FrontEnd, place: str) -> None:
    """Wait until there is none."""
    tab.wait(f"type => ({LOOK})(type) === null", place)


@CANVASES
def test_it_takes_the_place_of_the_nodes_picture_and_gives_it_back(
    tab: FrontEnd, tmp_path: Path, nodes_2: bool
) -> None:
    tab.use_nodes_2(nodes_2)
    tab.load(make_workflow(tab.client, tmp_path, 3.0))
    tab.look_at(SAMPLER)
    sampler_size, values = tab.page.evaluate(SIZES, SAMPLER), tab.page.evaluate(VALUES)
    prompt_id = tab.queue()
    working = player(tab, SAMPLER, "it.height >= 240")
    assert working["otherPictures"] == 0 and working["error"] is None
    tab.finish(prompt_id)
    result = player(tab, SAMPLER, "it.state === 'result' && it.picture")
    assert "/view?" in result["source"] and result["live"] == "false" and result["curves"] == 3
    no_player(tab, MUX)
    # The front end keeps its own text of the progress behind a node's values.
    after = tab.page.evaluate(VALUES)
    assert [new and new[: len(old)] for new, old in zip(after, values, strict=True)] == values
    assert tab.page.evaluate(SIZES, SAMPLER) == sampler_size, "what is saved has the node's own size"
    # A second run, with the results of the first on the nodes.
    sizes = [tab.page.evaluate(SIZES, type_) for type_ in (SAMPLER, MUX)]
    tab.page.evaluate(SET_SPEECH, make_workflow(tab.client, tmp_path, LONG_S)["nodes"])
    tab.queue()
    mux = player(tab, MUX, "it.height >= 240 && it.otherPictures === 0")
    again = player(tab, SAMPLER, "it.height >= 240 && it.otherPictures === 0 && it.picture")
    assert mux["job"] == again["job"] != result["job"]
    assert tab.page.evaluate(WHEEL, SAMPLER) > 1
    assert [tab.page.evaluate(SIZES, type_) for type_ in (SAMPLER, MUX)] == sizes
    tab.client.interrupt()
    stopped = player(tab, SAMPLER, "it.state === 'stopped'")
    assert "Run resumes from chunk" in stopped["status"] and stopped["live"] == "false"


@CANVASES
def test_it_stands_on_the_subgraph_and_in_it(tab: FrontEnd, tmp_path: Path, nodes_2: bool) -> None:
    tab.use_nodes_2(nodes_2)
    tab.load(make_workflow(tab.client, tmp_path, LONG_S))
    tab.page.evaluate(INTO_SUBGRAPH, [SAMPLER])
    tab.look_at(SUBGRAPH)
    tab.queue()
    on_node = player(tab, SUBGRAPH, "it.height >= 240 && it.picture && it.otherPictures === 0")
    player(tab, MUX, f"it.job === '{on_node['job']}'")
    tab.page.evaluate(OPEN_SUBGRAPH)
    tab.look_at(SAMPLER)
    player(tab, SAMPLER, "it.height >= 240 && it.picture")
    tab.page.evaluate(LEAVE_SUBGRAPH)
    tab.look_at(SUBGRAPH)
    assert player(tab, SUBGRAPH, "it.height >= 240 && !it.paused")["job"] == on_node["job"]


@pytest.mark.parametrize("tab", [NEWEST], indirect=True)
def test_it_is_in_app_mode(tab: FrontEnd, tmp_path: Path) -> None:
    workflow = make_workflow(tab.client, tmp_path, LONG_S)
    ids = {node["type"]: node["id"] for node in workflow["nodes"]}
    inputs = [[ids["LoadImage"], "image"], [ids["LoadAudio"], "audio"], [ids[SAMPLER], "seed"]]
    workflow["extra"] |= {"linearMode": True, "linearData": {"inputs": inputs, "outputs": [ids[MUX]]}}
    tab.load(workflow)
    tab.queue()
    player(tab, "app", "it.height >= 240 && it.picture && it.state === 'playing'")
    # The canvas behind it has players too, which nobody sees.
    unseen = player(tab, SAMPLER, "it.height === 0")
    assert unseen["paused"] and unseen["muted"]
    tab.client.interrupt()
    player(tab, "app", "it.state === 'stopped'")


@CANVASES
def test_collapsed_it_rests_and_comfyuis_own_previews_go_on(tab: FrontEnd, tmp_path: Path, nodes_2: bool) -> None:
    tab.use_nodes_2(nodes_2)
    tab.page.evaluate(COUNT_PREVIEWS)
    tab.load(make_workflow(tab.client, tmp_path, LONG_S))
    tab.look_at(SAMPLER)
    tab.queue()
    player(tab, SAMPLER, "it.picture && it.state === 'playing'")
    for type_ in (SAMPLER, MUX):
        tab.page.evaluate(COLLAPSE, type_)
    rests = player(tab, SAMPLER, "it.paused && it.muted")
    assert rests["height"] == 0
    tab.page.evaluate("() => { window.previews = 0; }")
    tab.wait("() => window.previews > 0")
    tab.page.evaluate(COLLAPSE, SAMPLER)
    # On a slow machine the next chunk may not be there yet.
    player(tab, SAMPLER, "it.height >= 240 && (!it.paused || it.state === 'waiting')")


def test_the_next_job_of_the_queue_takes_over(tab: FrontEnd, tmp_path: Path) -> None:
    tab.use_nodes_2(False)
    tab.load(make_workflow(tab.client, tmp_path, 1.0))
    tab.look_at(SAMPLER)
    tab.queue()
    tab.page.evaluate(SET_SEED, time.time_ns() % 2**32)
    prompt_id = tab.queue()
    tab.finish(prompt_id)
    (job,) = [job["id"] for job in tab.client.get("/asymtalker/live") if job["prompt"] == prompt_id]
    player(tab, SAMPLER, f"it.job === '{job}' && it.state === 'result'")


def test_a_reload_and_another_browser_find_the_running_job(tab: FrontEnd, open_tab: Tabs, tmp_path: Path) -> None:
    tab.use_nodes_2(False)
    workflow = make_workflow(tab.client, tmp_path, LONG_S)
    tab.load(workflow)
    tab.look_at(SAMPLER)
    tab.queue()
    job = player(tab, SAMPLER, "it.picture")["job"]
    tab.open()
    viewers = [tab, open_tab(REQUIRED)]
    for viewer in viewers:
        viewer.load(workflow)
        viewer.look_at(SAMPLER)
        assert player(viewer, SAMPLER, "it.picture")["job"] == job
    tab.client.interrupt()
    for viewer in viewers:
        player(viewer, SAMPLER, "it.state === 'stopped'")
        assert viewer.own_messages() == []


def test_muted_and_bypassed_nodes(tab: FrontEnd, tmp_path: Path) -> None:
    tab.load(make_workflow(tab.client, tmp_path, 0.4))
    for mode in (BYPASSED, MUTED):
        tab.page.evaluate(SET_MODE, ["AsymTalkerContinuity", mode])
        assert len(tab.run()) == 1
    # The front end itself remarks that nothing passes through the bypassed node.
    tab.messages[:] = [text for text in tab.messages if "resolveOutput" not in text]
