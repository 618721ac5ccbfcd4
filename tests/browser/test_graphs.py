"""Every shipped graph opened in a browser, run where its weights are here; a saved mp4 gives its graph back."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from asymtalker.scripts._environment import ROOT
from asymtalker.scripts.graphs import TEMPLATES, ui_stem
from asymtalker.tests.browser.frontend import TWO_FRAMES, FrontEnd
from asymtalker.tests.browser.servers import FRONT_ENDS, NEWEST, SHORT_SPEECH
from asymtalker.tests.helpers import shipped

if TYPE_CHECKING:
    from playwright.sync_api import APIResponse, Route

GRAPHS = [template.name for template in TEMPLATES]
# nano's weights come with the pack: how many files a run saves.
RUNNABLE = {
    "asymtalker_nano": 1,
    "asymtalker_long_speech": 1,
    "asymtalker_continuity_comparison": 2,
    "asymtalker_portrait_batch": 2,
    "asymtalker_larger_picture": 1,
    "asymtalker_two_people": 1,
    "asymtalker_dubbing": 1,
}
HELP_PICTURES = [
    name
    for page in sorted((ROOT / "web" / "docs").glob("*.md"))
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
]
SHOWN_NODES = "() => window.app.graph.nodes.map((node) => [node.type, node.has_errors ?? false])"
SHOWN_WIDGETS = """type => window.app.graph.nodes.find((node) => node.type === type)
    ?.widgets.map((widget) => widget.value)"""
SET_SEED = """seed => { const node = window.app.graph.nodes.find((node) => node.type === "AsymTalkerSampler");
    node.widgets.find((widget) => widget.name === "seed").value = seed; }"""
ADD_KEPT_JOBS = """() => { const { canvas, graph } = window.app;
    graph.clear();
    const node = window.LiteGraph.createNode("AsymTalkerKeptJobs");
    node.pos = [300, 200];
    graph.add(node);
    [canvas.ds.scale, canvas.ds.offset] = [1, [0, 0]];
    canvas.setDirty(true, true); }"""
KEPT_ROWS = "() => document.querySelectorAll('.asymtalker-kept tr').length"
PLAY = """async url => { const sound = await new AudioContext().decodeAudioData(await (await fetch(url)).arrayBuffer());
    window.heard = sound.duration; }"""
DROP = """async ([url, name]) => {
    const file = new File([await (await fetch(url)).blob()], name, { type: "video/mp4" });
    await window.app.handleFile(file); }"""


def shortened(workflow: dict[str, Any]) -> dict[str, Any]:
    """The graph with a speech of one chunk."""
    for node in workflow["nodes"]:
        if node["type"] == "LoadAudio":
            node["widgets_values"][0] = SHORT_SPEECH
    return workflow


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("tab", FRONT_ENDS, indirect=True)
def test_the_graph_opens_whole(tab: FrontEnd, name: str) -> None:
    workflow = shipped(name)
    tab.load(workflow)
    shown = tab.page.evaluate(SHOWN_NODES)
    # Where files are missing, newer front ends mark the loader at once.
    may_lack = [] if name in RUNNABLE else ["AsymTalkerLoader"]
    assert sorted(kind for kind, _ in shown) == sorted(node["type"] for node in workflow["nodes"])
    assert [kind for kind, has_errors in shown if has_errors and kind not in may_lack] == []
    assert tab.page.evaluate("() => window.app.graph.links.size") == len(workflow["links"])


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_graph_runs(tab: FrontEnd, name: str) -> None:
    tab.load(shortened(shipped(name)))
    saved = tab.run()
    assert len(saved) == RUNNABLE[name] and all(file["filename"].endswith(".mp4") for file in saved)


def test_a_graph_that_an_earlier_version_saved_opens_and_runs(tab: FrontEnd) -> None:
    """`audio` of Mux & Save was a required input then, between two others."""
    file = ROOT / "tests" / "data" / "graphs" / "quick_start_first_release.json"
    workflow = shortened(json.loads(file.read_text(encoding="utf-8")))
    tab.load(workflow)
    assert tab.page.evaluate("() => window.app.graph.links.size") == len(workflow["links"])
    (saved,) = tab.run()
    query = "&".join(f"{key}={value}" for key, value in saved.items())
    tab.page.evaluate(PLAY, f"{tab.client.url}/view?{query}")
    assert tab.page.evaluate("() => window.heard") > 0


@pytest.mark.parametrize("tab", FRONT_ENDS, indirect=True)
def test_a_graph_without_its_weights_says_what_to_download(tab: FrontEnd) -> None:
    tab.load(shipped("asymtalker_flashhead_pro"))
    # Older front ends list them in a dialogue, newer ones among the errors.
    listed = tab.page.get_by_text("Missing Models").or_(tab.page.get_by_text("View details"))
    tab.wait_until(lambda: listed.count() > 0, "the front end lists the missing files")
    tab.page.keyboard.press("Escape")
    tab.page.evaluate("() => window.app.queuePrompt(0, 1)")
    message = tab.page.get_by_text("Model_Pro/diffusion_pytorch_model.safetensors and", exact=False)
    # Newer front ends tell the node and the input first, and the node's own words on request.
    details = tab.page.get_by_text("View details")
    tab.wait_until(lambda: message.or_(details).count() > 0, "the graph is refused")
    if details.count():
        details.click()
        tab.page.get_by_label("Info for Load AsymTalker - model").click()
    tab.wait_until(lambda: message.count() > 0, "the message names the file")
    tab.page.keyboard.press("Escape")


@pytest.mark.parametrize("tab", FRONT_ENDS, indirect=True)
def test_a_saved_mp4_gives_its_graph_back(tab: FrontEnd) -> None:
    workflow = shortened(shipped("asymtalker_long_speech"))
    tab.load(workflow)
    tab.page.evaluate(SET_SEED, 41)
    (file,) = tab.run()
    tab.page.evaluate("() => window.app.graph.clear()")
    query = "&".join(f"{key}={value}" for key, value in file.items())
    tab.page.evaluate(DROP, [f"{tab.client.url}/view?{query}", file["filename"]])
    nodes = len(workflow["nodes"])
    tab.wait_until(lambda: tab.page.evaluate("() => window.app.graph.nodes.length") == nodes, "the graph is back")
    assert tab.page.evaluate(SHOWN_WIDGETS, "AsymTalkerSampler")[0] == 41
    assert tab.page.evaluate(SHOWN_WIDGETS, "AsymTalkerLoader") == ["nano", "default", "default", "default"]


@pytest.mark.parametrize("tab", FRONT_ENDS, indirect=True)
def test_the_loaders_choices_say_what_is_there(tab: FrontEnd) -> None:
    tab.load(shipped("asymtalker_flashhead_pro"))
    labels, value = tab.page.evaluate(
        """() => { const widget = window.app.graph.nodes.find((node) => node.type === "AsymTalkerLoader").widgets[0];
            return [widget.options.values.map(widget.options.getOptionLabel), widget.value]; }"""
    )
    assert "nano (bundled, no download)" in labels
    assert "FlashHead Pro (not installed, 6 GB)" in labels and "FlashHead Lite (not installed, 6.1 GB)" in labels
    # Its name as a file, by which the front end's dialogue on missing models knows it.
    assert value == "SoulX-FlashHead-1_3B-Model_Pro.safetensors"


def keep_for_extending(sampler: dict[str, Any]) -> None:
    values = sampler["widgets_values"]
    values[values.index("until saved")] = "for extending"


def test_kept_jobs_shows_a_table(tab: FrontEnd) -> None:
    workflow = shipped("asymtalker_long_speech")
    (sampler,) = [node for node in workflow["nodes"] if node["type"] == "AsymTalkerSampler"]
    keep_for_extending(sampler)
    tab.load(workflow)
    tab.run()
    tab.page.evaluate(ADD_KEPT_JOBS)
    tab.wait_until(lambda: tab.page.evaluate(KEPT_ROWS) > 0, "the table lists the job")
    height = tab.page.evaluate("() => document.querySelector('.asymtalker-kept').getBoundingClientRect().height")
    assert height >= 100 and tab.page.locator(".asymtalker-kept img").count() > 0


@pytest.mark.parametrize("tab", [NEWEST], indirect=True)
def test_what_kept_jobs_removed_does_not_come_back_with_an_earlier_list(tab: FrontEnd) -> None:
    workflow = shortened(shipped("asymtalker_long_speech"))
    (sampler,) = [node for node in workflow["nodes"] if node["type"] == "AsymTalkerSampler"]
    keep_for_extending(sampler)
    tab.load(workflow)
    tab.run()

    def is_freed() -> bool:
        # Again each time: what a viewer still reads while the server collects garbage stays until the next time.
        tab.client.free()
        return not any(job["in_use"] for job in tab.client.get("/asymtalker/kept")["jobs"])

    # The results hold what they were made from, which is in use until they are freed.
    tab.wait_until(is_freed, "the results are freed")
    tab.page.evaluate(ADD_KEPT_JOBS)
    table = tab.page.locator(".asymtalker-kept")
    removals = table.locator("td button")
    tab.wait_until(lambda: removals.count() > 0, "the table lists the job")
    rows = table.locator("tr").count()
    held: list[tuple[Route, APIResponse]] = []
    tab.page.route("**/asymtalker/kept", lambda route: held.append((route, route.fetch())), times=1)
    table.get_by_text("Refresh").click()
    tab.wait_until(lambda: bool(held), "the list is asked for")
    removals.first.click()
    tab.wait_until(lambda: table.locator("tr").count() == rows - 1, "the row is removed")
    (route, earlier), *_ = held
    with tab.page.expect_response("**/asymtalker/kept"):
        route.fulfill(response=earlier)
    tab.page.evaluate(TWO_FRAMES)
    assert table.locator("tr").count() == rows - 1


@pytest.mark.parametrize("picture", HELP_PICTURES)
def test_the_help_pages_pictures_are_served(tab: FrontEnd, picture: str) -> None:
    size = tab.page.evaluate(
        """async url => { const image = new Image(); image.src = url; await image.decode();
            return [image.naturalWidth, image.naturalHeight]; }""",
        f"{tab.client.url}/extensions/{tab.pack_name}/docs/{picture}",
    )
    assert min(size) > 50


def test_the_address_that_the_command_opens_shows_the_quick_start(tab: FrontEnd) -> None:
    """As `scripts/talk.py --ui` opens it."""
    tab.page.goto(f"{tab.client.url}/?asymtalker_template={quote(ui_stem('asymtalker_nano'))}")
    shown = "() => window.app?.graph?.nodes?.map((node) => node.title)"
    tab.wait_until(lambda: "Talking head" in (tab.page.evaluate(shown) or []), "the template is open")
    assert "asymtalker_template" not in tab.page.url
