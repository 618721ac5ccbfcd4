"""Configurations of the checkpoint family, read off a checkpoint's own tensors and metadata."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

# The published family (SoulX-FlashHead 1.3B): what tensor shapes alone cannot tell.
FAMILY_HEAD_DIM = 128
FAMILY_AUDIO_BLOCKS = 12
FAMILY_AUDIO_CHANNELS = 768
FAMILY_VAE_STRIDES = {16: (4, 8, 8), 128: (8, 32, 32)}

AUDIO_WINDOW = 5
SAMPLERS = ("few_step", "euler")
PREDICTIONS = ("flow", "reference_residual")

StateDict = Mapping[str, torch.Tensor]
Metadata = Mapping[str, str]


class ConfigError(ValueError):
    """A configuration that is inconsistent, or a checkpoint that is not of this family."""


@dataclass(frozen=True)
class AudioConfig:
    """Shape of the audio condition: ``window`` feature frames of ``blocks`` x ``channels`` around each video frame.

    ``context_layers`` convolutions of width ``context_dim`` over a chunk's feature frames come first: nano's features
    are spectra that know nothing of what is said before and after, those of the published family (0 layers) do.
    """

    window: int = AUDIO_WINDOW
    blocks: int = FAMILY_AUDIO_BLOCKS
    channels: int = FAMILY_AUDIO_CHANNELS
    intermediate_dim: int = 512
    context_tokens: int = 32
    context_layers: int = 0
    context_dim: int = 0

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            least = 0 if item.name in ("context_layers", "context_dim") else 1
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"audio.{item.name} must be an integer of at least {least}, got {value!r}")
        if (self.context_layers > 0) != (self.context_dim > 0):
            raise ConfigError(
                f"audio.context_layers {self.context_layers} and audio.context_dim {self.context_dim} go together"
            )
        if self.window % 2 == 0:
            raise ConfigError(f"audio.window must be odd (it is centred on a frame), got {self.window}")

    def later_vectors(self, stride_t: int) -> int:
        """Feature vectors that describe one latent frame after the first: both ends keep half a window."""
        return stride_t - 2 + 2 * (self.window // 2 + 1)


@dataclass(frozen=True)
class DiTConfig:
    """Dimensions of a ``TalkingHeadDiT``; names follow the published ``config.json``.

    ``in_dim`` is noisy plus reference latent channels (2 x ``out_dim``); ``vae_stride``, ``patch_size`` are (t, h, w).
    ``has_audio_emb`` says whether the checkpoint carries the family's unused ``audio_emb`` tensors.

    ``prediction`` says what the head's output means: the ``flow`` itself (the published family), or
    ``reference_residual``, x0 minus the reference. A network that is no wider than its patches hold values cannot pass
    their noise through to a flow (arXiv 2511.13720 makes the case for predicting x0); nano is one.
    """

    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    in_dim: int
    out_dim: int
    freq_dim: int = 256
    text_dim: int = 4096
    eps: float = 1e-6
    vae_stride: tuple[int, int, int] = (4, 8, 8)
    patch_size: tuple[int, int, int] = (1, 2, 2)
    audio: AudioConfig = field(default_factory=AudioConfig)
    has_audio_emb: bool = False
    prediction: str = "flow"

    def __post_init__(self) -> None:
        for name in ("dim", "ffn_dim", "num_heads", "num_layers", "in_dim", "out_dim", "freq_dim", "text_dim"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} must be a positive integer, got {value!r}")
        for name in ("vae_stride", "patch_size"):
            value = getattr(self, name)
            if len(value) != 3 or any(not isinstance(v, int) or v < 1 for v in value):
                raise ConfigError(f"{name} must be three positive integers (t, h, w), got {value!r}")
        if self.vae_stride[0] < 2 or self.patch_size[0] != 1:
            raise ConfigError(
                "the family compresses time in the VAE only: "
                f"vae_stride {self.vae_stride}, patch_size {self.patch_size}"
            )
        if self.in_dim != 2 * self.out_dim:
            raise ConfigError(f"in_dim must be 2 x out_dim (noisy + reference), got {self.in_dim} and {self.out_dim}")
        if self.prediction not in PREDICTIONS:
            raise ConfigError(f"prediction must be one of {PREDICTIONS}, got {self.prediction!r}")
        if self.freq_dim % 2:
            raise ConfigError(f"freq_dim must be even, got {self.freq_dim}")
        if self.dim % self.num_heads:
            raise ConfigError(f"dim {self.dim} is not a multiple of num_heads {self.num_heads}")
        if self.head_dim % 2 or (self.head_dim // 3) % 2:
            raise ConfigError(f"head_dim {self.head_dim} cannot be split for 3D rotary embedding (needs d//3 even)")

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def latent_channels(self) -> int:
        return self.out_dim

    @property
    def pixel_multiple(self) -> tuple[int, int]:
        """Width and height in pixels must be multiples of these, as (height, width)."""
        return self.vae_stride[1] * self.patch_size[1], self.vae_stride[2] * self.patch_size[2]

    def latent_frames(self, num_frames: int) -> int:
        """Latent frames of ``num_frames`` pixel frames (1 + a multiple of the time stride)."""
        if (num_frames - 1) % self.vae_stride[0]:
            raise ConfigError(f"a chunk has 1 + k x {self.vae_stride[0]} frames, got {num_frames}")
        return 1 + (num_frames - 1) // self.vae_stride[0]

    def to_dict(self) -> dict[str, Any]:
        """The published ``config.json`` form plus ``audio``."""
        values = dataclasses.asdict(self)
        del values["has_audio_emb"]
        values["vae_stride"], values["patch_size"] = list(self.vae_stride), list(self.patch_size)
        return values

    def to_metadata(self) -> dict[str, str]:
        """The ``config`` entry of a safetensors file's metadata."""
        return {"config": json.dumps(self.to_dict())}

    @classmethod
    def from_state_dict(cls, sd: StateDict, metadata: Metadata | None = None) -> DiTConfig:
        """Read a configuration off a checkpoint.

        Shapes give every dimension but the number of heads, the VAE stride and audio blocks x channels; those come from
        the metadata's ``config`` (JSON), else from the family's defaults.

        Raises:
            ConfigError: the tensors are not of this family, or metadata and shapes disagree.
        """
        declared = _declared(metadata)
        shapes = {name: tuple(tensor.shape) for name, tensor in sd.items()}
        try:
            return _from_shapes(shapes, declared)
        except KeyError as error:
            raise ConfigError(
                f"not a checkpoint of the AsymTalker family (FlashHead Pro/Lite, AKD students, nano): no tensor {error}"
            ) from error


def _declared(metadata: Metadata | None) -> dict[str, Any]:
    if not metadata or "config" not in metadata:
        return {}
    try:
        values = json.loads(metadata["config"])
    except json.JSONDecodeError as error:
        raise ConfigError(f"the checkpoint's `config` metadata is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"the checkpoint's `config` metadata must be a JSON object, got {type(values).__name__}")
    return values


def _from_shapes(shapes: dict[str, tuple[int, ...]], declared: dict[str, Any]) -> DiTConfig:
    dim, in_dim, *patch = shapes["patch_embedding.weight"]
    patch_volume = math.prod(patch)
    out_dim = shapes["head.head.weight"][0] // patch_volume
    vae_stride = _vae_stride(out_dim, declared)
    measured = {
        "dim": dim,
        "in_dim": in_dim,
        "out_dim": out_dim,
        "patch_size": tuple(patch),
        "ffn_dim": shapes["blocks.0.ffn.0.weight"][0],
        "num_layers": 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")),
        "freq_dim": shapes["time_embedding.0.weight"][1],
        "text_dim": shapes["text_embedding.0.weight"][1],
    }
    for name, value in measured.items():
        stated = declared.get(name, value)
        stated = tuple(stated) if isinstance(stated, list) else stated
        if stated != value:
            raise ConfigError(f"the config says {name} = {stated}, the tensors have {value}")
    return DiTConfig(
        **measured,
        vae_stride=vae_stride,
        num_heads=declared.get("num_heads", max(1, dim // FAMILY_HEAD_DIM)),
        eps=declared.get("eps", 1e-6),
        audio=_audio(shapes, dim, vae_stride[0], declared.get("audio", {})),
        has_audio_emb="audio_emb.proj.0.weight" in shapes,
        prediction=declared.get("prediction", "flow"),
    )


def _vae_stride(latent_channels: int, declared: dict[str, Any]) -> tuple[int, int, int]:
    if "vae_stride" in declared:
        t, h, w = declared["vae_stride"]
        return t, h, w
    if latent_channels not in FAMILY_VAE_STRIDES:
        raise ConfigError(
            f"{latent_channels} latent channels belong to no published VAE {sorted(FAMILY_VAE_STRIDES)}: "
            "the checkpoint needs a `config` metadata entry (or a config.json beside it) with vae_stride"
        )
    return FAMILY_VAE_STRIDES[latent_channels]


def _audio(shapes: dict[str, tuple[int, ...]], dim: int, stride_t: int, declared: dict[str, Any]) -> AudioConfig:
    intermediate_dim, first_width = shapes["audio_proj.proj1.weight"]
    audio = AudioConfig(
        window=declared.get("window", AUDIO_WINDOW),
        blocks=declared.get("blocks", FAMILY_AUDIO_BLOCKS),
        channels=declared.get("channels", FAMILY_AUDIO_CHANNELS),
        intermediate_dim=intermediate_dim,
        context_tokens=shapes["audio_proj.proj3.weight"][0] // dim,
        context_layers=sum(name.startswith("audio_proj.context.") and name.endswith(".conv.weight") for name in shapes),
        context_dim=shapes.get("audio_proj.context.input.weight", (0,))[0],
    )
    vector = audio.blocks * audio.channels
    expected = (audio.window * vector, audio.later_vectors(stride_t) * vector)
    found = (first_width, shapes["audio_proj.proj1_vf.weight"][1])
    if expected != found:
        raise ConfigError(
            f"audio projections take {found} values, but window {audio.window}, "
            f"{audio.blocks} x {audio.channels} features "
            f"and a time stride of {stride_t} give {expected}: the `config` metadata is missing or wrong"
        )
    return audio


@dataclass(frozen=True)
class SamplingConfig:
    """How a checkpoint wants to be sampled; the safetensors metadata entry ``sampling`` (JSON).

    ``few_step`` predicts x0 and re-noises it (distilled students), ``euler`` integrates the flow (teachers).
    ``steps`` 1..50, ``shift`` > 0, ``guidance`` >= 1 against zero audio (1 is off), ``frames_per_chunk`` pixel frames.
    """

    sampler: str = "few_step"
    steps: int = 4
    shift: float = 5.0
    guidance: float = 1.0
    frames_per_chunk: int = 33

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"sampler must be one of {SAMPLERS}, got {self.sampler!r}")
        if not 1 <= self.steps <= 50:
            raise ConfigError(f"steps must be 1..50, got {self.steps}")
        if not self.shift > 0:
            raise ConfigError(f"shift must be positive, got {self.shift}")
        if not self.guidance >= 1:
            raise ConfigError(f"audio guidance must be at least 1 (1 is off), got {self.guidance}")
        if self.frames_per_chunk < 2:
            raise ConfigError(f"frames_per_chunk must be at least 2, got {self.frames_per_chunk}")

    def to_metadata(self) -> dict[str, str]:
        return {"sampling": json.dumps(dataclasses.asdict(self))}

    @classmethod
    def from_metadata(cls, metadata: Metadata | None) -> SamplingConfig:
        """The checkpoint's own wish, else the published students' defaults."""
        if not metadata or "sampling" not in metadata:
            return cls()
        try:
            return cls(**json.loads(metadata["sampling"]))
        except (json.JSONDecodeError, TypeError) as error:
            raise ConfigError(f"the checkpoint's `sampling` metadata is wrong: {error}") from error
