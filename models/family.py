"""The supported checkpoints: geometry, files, sizes, licences, and where each is published.

Everything that names a published file or geometry reads this table: the loader and its messages, training, benchmarks.
Tests compare the README, the help page and the bundled weights with it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from .config import FAMILY_VAE_STRIDES, AudioConfig, DiTConfig, SamplingConfig
from .config import LEAPTALK as LEAPTALK_SAMPLING

APACHE, MIT = "Apache-2.0", "MIT"

NANO_DIRECTORY = Path(__file__).resolve().parent / "nano"
NANO_NETWORK = NANO_DIRECTORY / "asymtalker_nano.safetensors"
NANO_VAE = NANO_DIRECTORY / "asymtalker_nano_vae.safetensors"


@dataclass(frozen=True)
class Weights:
    """Published weights of one network.

    Args:
        repository: ``organisation/name`` on Hugging Face; empty for files that come with the pack or from elsewhere.
        folder: where the files are in the repository, empty for its root; the weights are the last of ``files``.
        single_file: the usual name of the same weights as one file in ComfyUI's own model folder; empty for none.
    """

    title: str
    repository: str
    folder: str
    files: tuple[str, ...]
    gigabytes: float
    licence: str
    single_file: str = ""

    @property
    def main_file(self) -> str:
        """The file with the weights."""
        return self.files[-1]

    @property
    def organisation(self) -> str:
        return self.repository.partition("/")[0]

    @property
    def repository_name(self) -> str:
        return self.repository.partition("/")[2]

    @property
    def cache_folder(self) -> str:
        """The repository's folder in Hugging Face's cache layout."""
        return f"models--{self.organisation}--{self.repository_name}"

    @property
    def file_link(self) -> str:
        """Address of the weights themselves; empty for those that come with the pack or from elsewhere."""
        path = "/".join(filter(None, (self.folder, self.main_file)))
        return f"https://huggingface.co/{self.repository}/resolve/main/{path}" if self.repository else ""

    @property
    def size(self) -> str:
        """The download's size as text."""
        return f"{self.gigabytes:g} GB" if self.gigabytes >= 0.1 else f"{self.gigabytes * 1000:.0f} MB"

    @property
    def link(self) -> str:
        """Page of the files; empty for those that come with the pack or from elsewhere."""
        tree = f"/tree/main/{self.folder}" if self.folder else ""
        return f"https://huggingface.co/{self.repository}{tree}" if self.repository else ""


@dataclass(frozen=True)
class ModelSpec:
    """One checkpoint and the networks that belong to it.

    Args:
        size: usual width and height of its videos, in pixels.
        audio_encoder: None for log-mel features, which need no network.
        fast_vae: a smaller, faster VAE of the same latents.
        face_share: the face's longer side as a share of the frame's shorter one, as the network was trained.
        tries: in how many places of a face the mouth is tried (see ``jobs.places``); 1 for networks that need none.
        mouth_alone: whether nothing but the mouth is left to the network where a face is known. Distilled networks are
            then guided by the audio there alone, and in the last step alone, which does as much as all steps; and
            detail transfer shows the portrait everywhere else.
        sampling: how it is sampled; None if its file says so or the defaults apply.
        adapter_of: the network that ``network`` is an adapter of; None for a network of its own.
    """

    title: str
    config: DiTConfig
    size: int
    network: Weights
    vae: Weights
    audio_encoder: Weights | None = None
    fast_vae: Weights | None = None
    face_share: float = 0.5
    tries: int = 1
    mouth_alone: bool = False
    sampling: SamplingConfig | None = None
    adapter_of: ModelSpec | None = None


FLASHHEAD = "Soul-AILab/SoulX-FlashHead-1_3B"
_DIFFUSERS_FILES = ("config.json", "diffusion_pytorch_model.safetensors")

WAV2VEC2 = Weights(
    title="wav2vec2-base-960h",
    repository="facebook/wav2vec2-base-960h",
    folder="",
    files=("model.safetensors",),
    gigabytes=0.4,
    licence=APACHE,
    single_file="wav2vec2-base-960h.safetensors",
)

NANO = ModelSpec(
    title="nano",
    config=DiTConfig(
        dim=192,
        ffn_dim=768,
        num_heads=6,
        num_layers=8,
        in_dim=96,
        out_dim=48,
        text_dim=8,
        vae_stride=(4, 16, 16),
        audio=AudioConfig(blocks=1, channels=320, context_tokens=4, context_layers=5, context_dim=256),
        prediction="reference_residual",
    ),
    size=256,
    face_share=0.61,
    tries=9,
    mouth_alone=True,
    network=Weights("nano", "", "", (NANO_NETWORK.name,), 0.02, APACHE),
    vae=Weights("nano's VAE", "", "", (NANO_VAE.name,), 0.005, APACHE),
)

PRO = ModelSpec(
    title="FlashHead Pro",
    config=DiTConfig(
        dim=1536,
        ffn_dim=8960,
        num_heads=12,
        num_layers=30,
        in_dim=32,
        out_dim=16,
        vae_stride=FAMILY_VAE_STRIDES[16],
        has_audio_emb=True,
    ),
    size=512,
    network=Weights("FlashHead Pro", FLASHHEAD, "Model_Pro", _DIFFUSERS_FILES, 6.0, APACHE),
    vae=Weights("Wan 2.1 VAE", FLASHHEAD, "VAE_Wan", ("Wan2.1_VAE.pth",), 0.5, APACHE, "wan_2.1_vae.safetensors"),
    audio_encoder=WAV2VEC2,
    fast_vae=Weights("taew2_1", "", "", ("taew2_1.safetensors",), 0.022, MIT, "taew2_1.safetensors"),
)

LITE = ModelSpec(
    title="FlashHead Lite",
    config=dataclasses.replace(
        PRO.config, in_dim=256, out_dim=128, vae_stride=FAMILY_VAE_STRIDES[128], patch_size=(1, 1, 1)
    ),
    size=512,
    network=Weights("FlashHead Lite", FLASHHEAD, "Model_Lite", _DIFFUSERS_FILES, 6.1, APACHE),
    vae=Weights("LTX-Video 0.9.0 VAE", FLASHHEAD, "VAE_LTX", _DIFFUSERS_FILES, 1.7, "see its model card"),
    audio_encoder=WAV2VEC2,
)

LEAPTALK = dataclasses.replace(
    PRO,
    title="LeapTalk",
    network=Weights(
        title="LeapTalk",
        repository="z-rx/leaptalk",
        folder="",
        files=("taew2_1.pth", "audio_proj_step_10400.pt", "lora/adapter_config.json", "lora/adapter_model.safetensors"),
        gigabytes=0.4,
        licence="see its model card",
    ),
    sampling=LEAPTALK_SAMPLING,
    adapter_of=PRO,
)
"""An adapter of FlashHead Pro with which one step is enough: a LoRA, an audio projection, and Pro's fast VAE."""

MODELS = {"nano": NANO, "pro": PRO, "lite": LITE}
"""Networks by the name used in commands. Add new checkpoints here first."""

ADAPTERS = {"leaptalk": LEAPTALK}
"""Adapters of these networks."""

PUBLISHED = tuple(spec for spec in (*MODELS.values(), *ADAPTERS.values()) if spec.network.repository)
"""What can be downloaded, in the loader's order."""


def spec_by_audio(config: DiTConfig) -> ModelSpec:
    """The first network with the same number of feature blocks per frame; Pro for any other number.

    nano's features have one block per frame, wav2vec2's one per transformer layer.
    """
    return next((spec for spec in MODELS.values() if spec.config.audio.blocks == config.audio.blocks), PRO)
