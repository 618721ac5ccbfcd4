#!/usr/bin/env python3
"""Make a talking-head video (mp4) from a portrait and speech. This command starts its own ComfyUI.

Needs Python 3.10+ and access to PyPI. Everything else is installed to `.venv/` and `.comfyui/` beside this folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In place of this folder, whose test.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from scripts._environment import ROOT, EnvironmentFault, bootstrap, say
from scripts._workflow import Graph, read_graph

if TYPE_CHECKING:
    from scripts._client import ComfyClient

WORKFLOW = ROOT / "workflows" / "api" / "asymtalker_nano.json"
ASSETS = ROOT / "workflows" / "assets"
UI_DATA = ROOT / ".comfyui-data"


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options, checked as far as that needs nothing installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portrait", type=Path, help="picture of a face (default: the bundled example)")
    parser.add_argument("--audio", type=Path, help="speech, in any format ffmpeg reads (default: the bundled example)")
    parser.add_argument(
        "--output", type=Path, default=Path("asymtalker.mp4"), help="video to write (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, help="the same seed gives the same video; -1 picks one at random (default: the graph's)"
    )
    parser.add_argument("--steps", type=int, help="denoising steps per chunk (default: the graph's)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="set any other node input, for example --set AsymTalkerMux.crf=23; repeatable",
    )
    parser.add_argument("--workflow", type=Path, default=WORKFLOW, help="graph in API form (default: nano)")
    parser.add_argument("--cpu", action="store_true", help="do not use the GPU")
    parser.add_argument(
        "--ui", action="store_true", help="open ComfyUI in the browser and keep it running until Ctrl-C"
    )
    parser.add_argument("--port", type=int, help="port of the server (default: a free one)")
    options = parser.parse_args()
    for path in (options.portrait, options.audio, options.workflow):
        if path is not None and not path.is_file():
            parser.error(f"no such file: {path}")
    if options.output.is_dir() or not options.output.resolve().parent.is_dir():
        parser.error(f"--output {options.output}: name a file in a folder that exists")
    return options


def set_input(graph: Graph, class_type: str, name: str, value: Any) -> None:
    """Set an input on every node of a type.

    Raises:
        ValueError: the graph has no such node, or the node no such input.
    """
    nodes = [node for node in graph.values() if node["class_type"] == class_type]
    if not nodes:
        present = sorted({node["class_type"] for node in graph.values()})
        raise ValueError(f"the graph has no node {class_type}; it has {present}")
    for node in nodes:
        if name not in node["inputs"]:
            raise ValueError(f"{class_type} has no input {name}; it has {sorted(node['inputs'])}")
        node["inputs"][name] = value


def load_graph(options: argparse.Namespace) -> Graph:
    """Return the graph with --seed, --steps and --set in it.

    Raises:
        ValueError: an option does not fit the graph, or the file is no graph.
    """
    graph = read_graph(options.workflow)
    if options.seed is not None:
        seed = random.randrange(2**32) if options.seed < 0 else options.seed
        set_input(graph, "AsymTalkerSampler", "seed", seed)
    if options.steps is not None:
        set_input(graph, "AsymTalkerSampler", "steps", options.steps)
    for assignment in options.set:
        target, separator, value = assignment.partition("=")
        class_type, dot, name = target.partition(".")
        if not (separator and dot):
            raise ValueError(f"--set {assignment}: NODE.INPUT=VALUE is expected")
        try:
            set_input(graph, class_type, name, json.loads(value))
        except json.JSONDecodeError:
            set_input(graph, class_type, name, value)
    return graph


def upload_media(client: ComfyClient, graph: Graph, options: argparse.Namespace) -> Path:
    """Upload portrait and speech, name them in the graph, and return the speech file.

    What the options do not name is the file that the graph names, out of the shipped assets.
    """
    inputs = {node["class_type"]: node["inputs"] for node in graph.values()}
    portrait = options.portrait or ASSETS / inputs["LoadImage"]["image"]
    audio = options.audio or ASSETS / inputs["LoadAudio"]["audio"]
    set_input(graph, "LoadImage", "image", client.upload(portrait))
    set_input(graph, "LoadAudio", "audio", client.upload(audio))
    return audio


def make_video(client: ComfyClient, graph: Graph, options: argparse.Namespace) -> Path:
    """Run the graph and return the path of the finished video."""
    from scripts._client import videos
    from scripts._progress import RunProgress, audio_seconds

    audio = upload_media(client, graph, options)
    with RunProgress(graph, audio_seconds(audio)) as progress:
        history = client.run(graph, progress.on_event)
    files = videos(history)
    if not files:
        raise ValueError(f"{options.workflow.name} ran, but saved no video")
    target = options.output.resolve()
    # The old file stays until the new one is whole.
    partial = target.with_name(target.name + ".partial")
    try:
        client.download(files[0], partial).replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def open_ui(client: ComfyClient, pack_name: str) -> None:
    """Open the Quick start, whose portrait and speech the pack itself puts into the input folder; wait for Ctrl-C."""
    import webbrowser
    from urllib.parse import quote

    from scripts.graphs import ui_stem

    url = f"{client.url}/?asymtalker_template={quote(ui_stem(WORKFLOW.stem))}"
    print(f"ComfyUI is at {url} (more graphs: Workflow > Browse Templates > {pack_name}; Ctrl-C stops it)", flush=True)
    webbrowser.open(url)
    signal.pause() if hasattr(signal, "pause") else input()


@contextlib.contextmanager
def work_folder(options: argparse.Namespace) -> Iterator[Path]:
    """Give the server's folder: one that stays for --ui, else a temporary one."""
    if options.ui:
        yield UI_DATA
        return
    folder = Path(tempfile.mkdtemp(prefix="asymtalker-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(options: argparse.Namespace, graph: Graph, comfyui: Path) -> None:
    """Start the server and do what the options ask for."""
    import torch

    from scripts._client import ComfyClient
    from scripts._server import ComfyServer

    cpu = options.cpu or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    say(f"Starting ComfyUI on the {'CPU' if cpu else 'GPU'} ...")
    with (
        work_folder(options) as folder,
        ComfyServer(
            comfyui, folder, cpu=cpu, only_this_pack=not options.ui, api_nodes=options.ui, port=options.port
        ) as server,
    ):
        client = ComfyClient(server.url)
        if options.ui:
            open_ui(client, server.pack_name)
        else:
            print(make_video(client, graph, options))


def main() -> int:
    """Run the command and return its exit status."""
    options = parse_arguments()
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            # As an exception, so that the server is stopped on the way out.
            signal.signal(getattr(signal, name), lambda number, frame: sys.exit(128 + number))
    try:
        graph = load_graph(options)
        run(options, graph, bootstrap())
    except KeyboardInterrupt:
        say("Stopped.")
        return 130
    except (EnvironmentFault, RuntimeError, ValueError, OSError) as error:
        say(f"Error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
