"""Two real servers with one input, output and user folder; and what a server leaves behind after each kind of end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asymtalker.media import list_spools
from asymtalker.scripts._client import ComfyClient, Graph, PromptFailed, PromptInterrupted, videos
from asymtalker.scripts._server import ComfyServer, link_folder
from asymtalker.tests.server.graphs import MakeGraph, node
from asymtalker.tests.server.media import probe

pytestmark = [pytest.mark.server, pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")]


@pytest.fixture(scope="module")
def second(comfyui: Path, server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyClient]:
    """A client of another server over the first one's folders."""
    workdir = tmp_path_factory.mktemp("second")
    for name in ("input", "output", "user"):
        link_folder(workdir / name, server.workdir / name)
    with ComfyServer(comfyui, workdir, cpu=not torch.cuda.is_available()) as running:
        yield ComfyClient(running.url)


def spools(server: ComfyServer) -> list[Path]:
    return [spool.folder for spool in list_spools(server.workdir / "user" / "asymtalker" / "spool")]


def outputs(server: ComfyServer) -> set[Path]:
    return {path for path in (server.workdir / "output").rglob("*") if path.is_file()}


def told(text: str, act: Callable[[], Any]) -> Callable[[str, dict[str, Any]], None]:
    """An on_event that acts once, when the Sampler says something that begins with ``text``."""
    done = threading.Event()

    def on_event(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress_text" and data["text"].startswith(text) and not done.is_set():
            done.set()
            act()

    return on_event


def frames_of(client: ComfyClient, graph: Graph, target: Path) -> tuple[str, np.ndarray[Any, Any]]:
    (file,) = videos(client.run(graph))
    return file["filename"], probe(client.download(file, target)).frames


def test_one_job_in_two_servers_is_refused_and_another_one_runs(
    client: ComfyClient, second: ComfyClient, make_graph: MakeGraph, tmp_path: Path
) -> None:
    graph, other = make_graph(90.0, prefix="shared", as_shipped=True), make_graph(0.3, prefix="shared")
    refusals: list[str] = []
    frames: list[np.ndarray[Any, Any]] = []

    def meanwhile() -> None:
        try:
            with pytest.raises(PromptFailed) as refused:
                second.run(graph)
            refusals.append(str(refused.value))
            frames.append(frames_of(second, other, tmp_path / "other.mp4")[1])
        finally:
            client.interrupt()

    with pytest.raises(PromptInterrupted):
        client.run(graph, told("chunk 1 of", lambda: threading.Thread(target=meanwhile).start()))
    assert "in use by process" in refusals[0] and "queue again" in refusals[0]
    assert len(frames[0]) == 8


def test_two_servers_saving_under_one_prefix_get_a_file_each(
    client: ComfyClient, second: ComfyClient, server: ComfyServer, make_graph: MakeGraph, tmp_path: Path
) -> None:
    graphs = []
    for seed in (1, 2):
        graph = make_graph(0.3, prefix="pair")
        node(graph, "AsymTalkerSampler")["seed"] = seed
        graphs.append(graph)
    # On the other server, which has no outputs of the same graph to take up afterwards.
    _, expected = frames_of(second, graphs[0], tmp_path / "alone.mp4")
    with ThreadPoolExecutor() as threads:
        made = list(
            threads.map(
                lambda job: frames_of(*job),
                [(client, graphs[0], tmp_path / "first.mp4"), (second, graphs[1], tmp_path / "second.mp4")],
            )
        )
    names = [name for name, _ in made]
    assert len({*names, "pair_00001_.mp4"}) == 3
    assert np.array_equal(made[0][1], expected) and not np.array_equal(made[1][1], expected)
    assert {path.name for path in outputs(server) if path.name.startswith("pair")} == {*names, "pair_00001_.mp4"}


class TestLeftovers:
    """After an end of each kind there are no files but results and resumable frames, no processes, no open handles."""

    @pytest.fixture(autouse=True)
    def nothing_open(self, client: ComfyClient, server: ComfyServer, make_graph: MakeGraph) -> Iterator[None]:
        # ComfyUI drops the results of the graph before when it runs another one.
        self.other = make_graph(0.04, prefix="other")
        yield
        assert server.process is not None
        pid = server.process.pid
        own = [server.workdir / name for name in ("user/asymtalker", "output")]
        handles = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
        # A video that ComfyUI still has in its cache holds its spool.
        kept = {folder / "held" for folder in spools(server)}
        assert [path for path in handles if any(folder in path.parents for folder in own) and path not in kept] == []
        assert [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children") if file.read_text()] == []
        assert list(server.workdir.rglob("*.part")) == []

    def forget(self, client: ComfyClient) -> None:
        client.free()
        client.run(self.other)

    def test_success(self, client: ComfyClient, server: ComfyServer, make_graph: MakeGraph) -> None:
        self.forget(client)
        before, files = set(spools(server)), outputs(server)
        client.run(make_graph(0.6, prefix="success"))
        assert len(set(spools(server)) - before) == 1
        self.forget(client)
        assert set(spools(server)) == before
        assert {path.name for path in outputs(server) - files if "success" in path.name} == {"success_00001_.mp4"}

    def test_cancel_keeps_what_can_be_resumed_unless_told_not_to(
        self, client: ComfyClient, server: ComfyServer, make_graph: MakeGraph
    ) -> None:
        for keep, chunks in (("until saved", 1), ("never", 0)):
            graph = make_graph(21.0, prefix="cancel", as_shipped=True)
            node(graph, "AsymTalkerSampler")["keep"] = keep
            before, files = set(spools(server)), outputs(server)
            with pytest.raises(PromptInterrupted):
                client.run(graph, told("chunk 2 of", client.interrupt))
            left = list_spools(server.workdir / "user" / "asymtalker" / "spool")
            assert all(spool.num_segments >= chunks for spool in left if spool.folder not in before)
            assert bool(set(spools(server)) - before) == bool(chunks)
            assert outputs(server) == files
            if chunks:
                self.remove(client, before, server)

    def remove(self, client: ComfyClient, before: set[Path], server: ComfyServer) -> None:
        (kept,) = set(spools(server)) - before
        listing = {"class_type": "AsymTalkerKeptJobs", "inputs": {"remove": ""}}
        (text,) = client.run({"list": listing})["outputs"]["list"]["text"]
        (line,) = [line for line in text.splitlines() if line.startswith(kept.name[:8])]
        assert "unfinished" in line and " of 21.0 s (" in line
        listing["inputs"]["remove"] = kept.name[:8]
        client.run({"list": listing})
        assert not kept.exists()

    def test_error(self, client: ComfyClient, server: ComfyServer, make_graph: MakeGraph) -> None:
        graph = make_graph(0.6, prefix="error")
        # Through a link it is not known when the graph is queued.
        graph["prefix"] = {"class_type": "PrimitiveString", "inputs": {"value": "../outside"}}
        node(graph, "AsymTalkerMux")["filename_prefix"] = ["prefix", 0]
        files = outputs(server)
        with pytest.raises(PromptFailed):
            client.run(graph)
        assert outputs(server) == files
        self.forget(client)
