"""A real ComfyUI server, and nano's graph for it with speech of any length."""

from __future__ import annotations

import json
import wave
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..scripts._client import ComfyClient, Graph
from ..scripts._environment import ROOT, find_comfyui
from ..scripts._server import ComfyServer
from .speech import PORTRAIT, repeated_speech

GRAPH = ROOT / "workflows" / "api" / "asymtalker_nano.json"


def start_server(
    workdir: Path, cpu: bool = True, dies_with_us: bool = False, options: Sequence[str] = ()
) -> ComfyServer:
    """A real ComfyUI with its files in ``workdir``. Raises FileNotFoundError where there is none."""
    comfyui = find_comfyui()
    if comfyui is None:
        raise FileNotFoundError("this runs a real ComfyUI: name one in COMFYUI_PATH")
    return ComfyServer(comfyui, workdir, cpu=cpu, dies_with_us=dies_with_us, options=options)


def nano_graph(client: ComfyClient, seconds: float, workdir: Path, portrait: Path = PORTRAIT) -> Graph:
    """The shipped nano graph with speech of that length; its files are uploaded."""
    graph: Graph = json.loads(GRAPH.read_text(encoding="utf-8"))
    speech = write_speech(workdir / f"speech_{seconds:g}s.wav", repeated_speech(seconds))
    names = {"LoadImage": ("image", client.upload(portrait)), "LoadAudio": ("audio", client.upload(speech))}
    for entry in graph.values():
        if entry["class_type"] in names:
            key, value = names[entry["class_type"]]
            entry["inputs"][key] = value
    return graph


def node_id(graph: Graph, class_type: str) -> str:
    """The id of the first node of a type."""
    return next(key for key, entry in graph.items() if entry["class_type"] == class_type)


def write_speech(path: Path, speech: Tensor) -> Path:
    """Write mono float32 [M] at 16 kHz as a WAV."""
    samples = (speech * 32767).round().clamp(-32768, 32767).short().numpy()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return path
