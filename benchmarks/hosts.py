"""Run nano's shipped graphs in several ComfyUI versions and compare the frames bit by bit.

Both the frames that the Samplers keep on disk and those decoded from the saved videos are compared. Each version runs
under its own interpreter. All should have the same PyTorch, because its kernels affect the last bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import torch

from ..media import SpoolReader, list_spools
from ..scripts._client import ComfyClient, Graph, videos
from ..scripts._environment import ROOT
from ..scripts._server import ComfyServer
from .command import command_parser
from .report import aligned, machine

GRAPHS = ROOT / "workflows" / "api"
ASSETS = ROOT / "workflows" / "assets"

Figures = dict[str, dict[str, Any]]
"""Graph -> its frames, their hashes and the seconds that it took."""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = command_parser(" hosts", __doc__)
    parser.add_argument(
        "hosts", nargs="+", type=_host, metavar="COMFYUI=PYTHON", help="a ComfyUI folder and its Python interpreter"
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=ROOT / "docs" / "hosts.json",
        help="JSON file for the figures (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def _host(text: str) -> tuple[Path, Path]:
    comfyui, equals, python = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text}: COMFYUI=PYTHON is needed")
    # An interpreter of a virtual environment is a link that must not be resolved.
    return Path(comfyui).resolve(), Path(python).absolute()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 where frames differ."""
    options = parse_arguments(arguments)
    figures: dict[str, Figures] = {}
    for comfyui, python in options.hosts:
        version, of_host = _run(comfyui, python)
        figures[version] = of_host
    result = {"machine": machine(torch.device("cpu")), "hosts": figures}
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(figures))
    return int(bool(differing(figures)))


def nano_graphs() -> dict[str, Graph]:
    """The shipped graphs that need no download, with Samplers that keep their frames."""
    graphs: dict[str, Graph] = {}
    for file in sorted(GRAPHS.glob("*.json")):
        graph: Graph = json.loads(file.read_text(encoding="utf-8"))
        if any(entry["inputs"].get("model") == "nano" for entry in graph.values()):
            graphs[file.stem] = graph
    for graph in graphs.values():
        for entry in graph.values():
            if entry["class_type"] == "AsymTalkerSampler":
                entry["inputs"]["keep"] = "for extending"
    return graphs


def _run(comfyui: Path, python: Path) -> tuple[str, Figures]:
    """One version's number and figures; every graph gets a server without frames of another one."""
    version, figures = "", Figures()
    for name, graph in nano_graphs().items():
        with (
            tempfile.TemporaryDirectory(prefix="asymtalker-") as folder,
            ComfyServer(comfyui, Path(folder), cpu=True, python=python) as server,
        ):
            client = ComfyClient(server.url)
            version = client.get("/system_stats")["system"]["comfyui_version"]
            print(f"{version}: {name} ...", file=sys.stderr, flush=True)
            figures[name] = _run_graph(client, graph, Path(folder))
    return version, figures


def _run_graph(client: ComfyClient, graph: Graph, folder: Path) -> dict[str, Any]:
    for asset in sorted(ASSETS.iterdir()):
        client.upload(asset)
    started = time.monotonic()
    history = client.run(graph)
    seconds = time.monotonic() - started
    spools = list_spools(folder / "user" / "asymtalker" / "spool")
    kept = sorted(frames_digest(SpoolReader(spool.folder).frames()) for spool in spools)
    saved = sorted(_saved_digest(client, file, folder / "video.mp4") for file in videos(history))
    return {"kept": kept, "saved": saved, "seconds": round(seconds, 1)}


def _saved_digest(client: ComfyClient, file: dict[str, str], target: Path) -> str:
    with av.open(str(client.download(file, target))) as container:
        return frames_digest(frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))


def frames_digest(frames: Iterable[Any]) -> str:
    """Number of frames and a hash of every byte of them."""
    digest, count = hashlib.sha256(), 0
    for frame in frames:
        digest.update(frame.tobytes())
        count += 1
    return f"{count} {digest.hexdigest()}"


def differing(figures: dict[str, Figures]) -> list[str]:
    """The graphs whose frames are not the same in all versions."""
    first = next(iter(figures.values()))
    return [
        name
        for name in first
        if any(other[name][kind] != first[name][kind] for other in figures.values() for kind in ("kept", "saved"))
    ]


def table(figures: dict[str, Figures]) -> str:
    """Frames and seconds of each graph, and whether all versions made the same."""
    differ = differing(figures)
    rows = [("graph", "frames", *(f"{version}, s" for version in figures), "frames are")]
    for name, of_graph in next(iter(figures.values())).items():
        count = sum(int(text.split()[0]) for text in of_graph["saved"])
        seconds = [f"{of_host[name]['seconds']:.1f}" for of_host in figures.values()]
        rows.append((name, str(count), *seconds, "different" if name in differ else "identical"))
    return aligned(rows)
