"""The pack in this process as ComfyUI has it, with folders of its own, and videos made through the nodes' functions."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..models.config import AudioConfig, DiTConfig
from ..models.dit import TalkingHeadDiT
from ..scripts._environment import find_comfyui
from ..training.core.host import use_comfyui
from .speech import read_portrait, repeated_speech

SMALL = DiTConfig(
    dim=96,
    ffn_dim=192,
    num_heads=2,
    num_layers=2,
    in_dim=96,
    out_dim=48,
    text_dim=8,
    vae_stride=(4, 16, 16),
    audio=AudioConfig(blocks=1, channels=320, intermediate_dim=64, context_tokens=4),
)
SIZES = {"nano": 256, "small": 512}
"""nano as it is shipped, and a small random network with nano's VAE; with the width and height of their videos."""


@dataclass(frozen=True)
class Made:
    """A finished video and what the Sampler reported."""

    video: Any
    report: str
    audio: dict[str, Any]


class Host:
    """What a graph's nodes would hold: MODEL, VAE, AUDIO_ENCODER and reference of a geometry.

    Raises:
        FileNotFoundError: there is no ComfyUI.
    """

    def __init__(self, geometry: str, workdir: Path) -> None:
        if find_comfyui() is None:
            raise FileNotFoundError("videos are made through ComfyUI: name one in COMFYUI_PATH")
        use_comfyui()
        paths: Any = importlib.import_module("folder_paths")
        paths.set_user_directory(str(workdir / "user"))
        paths.set_output_directory(str(workdir / "output"))
        size = SIZES[geometry]
        self.model, self.vae, self.encoder = self.module("host.checkpoints.loading").load_all(
            "nano", "default", "default", "default"
        )
        if geometry == "small":
            self.model = self._small()
        portrait = read_portrait()
        self.reference = self.module("host.portrait").encode_reference(
            self.model, self.vae, portrait, size, size, "temporal", None
        )

    def module(self, name: str) -> Any:
        """A module of the pack by its path from the root."""
        return importlib.import_module(f"..{name}", __package__)

    def _small(self) -> Any:
        torch.manual_seed(0)
        network = TalkingHeadDiT(SMALL)
        network.initialise()
        nn.init.normal_(network.head.head.weight, std=0.02)
        return self.module("host.model").load_model(network.state_dict(), SMALL.to_metadata(), name="small")

    def make(self, seconds: float, **changes: Any) -> Made:
        """A video of ``seconds``; ``changes`` are fields of ContinuityOptions."""
        audio = {"waveform": repeated_speech(seconds)[None, None], "sample_rate": 16_000}
        features = self.module("host.audio").audio_features(self.encoder, audio)
        options = self.module("models.rollout").ContinuityOptions(**changes)
        settings = self.module("jobs.sampling").Settings(7, 0, "auto", 0.0, 0.0, options)
        with torch.inference_mode():
            video, report = self.module("jobs.sampling").generate(
                self.model, self.vae, self.reference, features, settings, None
            )
        return Made(video, report, audio)

    def save(self, made: Made, file: Path) -> None:
        """Mux it, as AsymTalker Mux & Save does."""
        samples = made.audio["waveform"][0].numpy()
        track = (samples, made.audio["sample_rate"])
        self.module("video.writing").write_mp4(made.video, file, track, crf=18, metadata=None)

    def spool_bytes(self) -> int:
        """What all jobs have on disk."""
        root = self.module("jobs.job").spool_root()
        return sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
