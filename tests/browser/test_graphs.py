"""Every shipped graph opened in a browser, run where its weights are here; a saved mp4 gives its graph back."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from asymtalker.scripts._environment import ROOT
from asymtalker.scripts.graphs import TEMPLATES, ui_stem
from asymtalker.tests.browser.frontend import FrontEnd
from asymtalker.tests.browser.servers import FRONT_ENDS, SHORT_SPEECH
from asymtalker.tests.helpers import shipped

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
PLAY = """async url => { const sound = await new AudioContext().decodeAudioData(await (await fetch(url)).arrayBuffer());
    window.heard = sound.duration; }"""
DROP = """async ([url, name]) => {
    const file = new File([await (await fetch(url)).blob()], name, { type: "video/mp4" });
    await window.app.handleFile(file); }"""


def shortened(workflow: dict[str, Any]) -> dict[str, Any]:
    """The graph with a speech of one chunk, in its subgraphs too."""
    inner = workflow.get("definitions", {}).get("subgraphs", [])
    for node in [*workflow["nodes"], *(node for subgraph in inner for node in subgraph["nodes"])]:
        if node["type"] == "LoadAudio" and "speech" in node["widgets_values"][0]:
            node["widgets_values"][0] = SHORT_SPEECH
    return workflow


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("tab", FRONT_ENDS, indirect=True)
def test_the_graph_opens_whole(tab: FrontEnd, name: str) -> None:
    workflow = shipped(name)
    tab.load(workflow)
    shown = tab.page.evaluate(SHOWN_NODES)
    assert sorted(shown) == sorted([node["type"], False] for node in workflow["nodes"])
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
    pro = "asymtalker/SoulX-FlashHead-1_3B/Model_Pro"
    assert "nano (bundled, nothing to download)" in labels
    assert "FlashHead Pro (not installed, 6 GB)" in labels and "FlashHead Lite (not installed, 6.1 GB)" in labels
    assert value == pro


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
