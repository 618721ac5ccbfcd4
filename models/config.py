"""Configurations of the checkpoint family, read from a checkpoint's own tensors and metadata."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

# The published family (SoulX-FlashHead 1.3B): values that tensor shapes do not show.
FAMILY_HEAD_DIM = 128
FAMILY_AUDIO_BLOCKS = 12
FAMILY_AUDIO_CHANNELS = 768
FAMILY_VAE_STRIDES = {16: (4, 8, 8), 128: (8, 32, 32)}

AUDIO_WINDOW = 5
SAMPLERS = ("few_step", "euler", "bridge")
PREDICTIONS = ("flow", "reference_residual")
TEXT_TENSOR = "text_embedding.0.weight"

CONFIG_FILE = "config_file"
"""Metadata entry beside ``config``: the file that it was read from, where it was not the checkpoint's own."""

# Far beyond any network of the family, and small enough that no number overflows.
MAX_DIMENSION = 1 << 20
MAX_LAYERS = 1000
MAX_STRIDE = 64
MAX_WINDOW = 255
MAX_FRAMES = 1 << 14
MAX_BLINKS = 60

Config = TypeVar("Config")
StateDict = Mapping[str, torch.Tensor]
Metadata = Mapping[str, str]


class ConfigError(ValueError):
    """A configuration that is inconsistent, or a checkpoint that is not of this family."""


def parse_object(text: str, source: str) -> dict[str, Any]:
    """The JSON object in ``text``. Raises ConfigError, which names ``source``, for anything else."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must be a JSON object, got {type(values).__name__}")
    return values


def parse_config(kind: type[Config], text: str, source: str) -> Config:
    """The configuration that the JSON object in ``text`` describes. Raises ConfigError, which names ``source``."""
    values = parse_object(text, source)
    try:
        return kind(**values)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{source} is wrong: {error}") from error


def check_integer(name: str, value: object, least: int, most: int) -> None:
    """Raises ConfigError unless ``value`` is an integer (which True is not) in ``least``..``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{name} must be an integer in {least}..{most}, got {short(value)}")


def check_number(name: str, value: object, least: float, most: float) -> None:
    """Raises ConfigError unless ``value`` is a finite number in ``least``..``most``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ConfigError(f"{name} must be a number in {least:g}..{most:g}, got {short(value)}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises ConfigError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} must be one of {choices}, got {short(value)}")


def short(value: object) -> str:
    """``value`` for a message, at most 60 characters of it."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 1 << 64 else "a huge integer"
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class AudioConfig:
    """Shape of the audio condition: ``window`` feature frames of ``blocks`` x ``channels`` around each video frame.

    ``context_layers`` convolutions of width ``context_dim`` over a chunk's feature frames come first: nano's features
    are spectra without context from before and after; those of the published family (0 layers) have it.

    ``lids``: the windows have one more channel, which says how far the lids are closed (see ``blinks``). It takes the
    place of the last hidden units, one for each frame of a latent frame, so that no weights are added.
    """

    window: int = AUDIO_WINDOW
    blocks: int = FAMILY_AUDIO_BLOCKS
    channels: int = FAMILY_AUDIO_CHANNELS
    intermediate_dim: int = 512
    context_tokens: int = 32
    context_layers: int = 0
    context_dim: int = 0
    lids: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.lids, bool):
            raise ConfigError(f"audio.lids must be true or false, got {short(self.lids)}")
        for item in dataclasses.fields(self):
            if item.name == "lids":
                continue
            least = 0 if item.name in ("context_layers", "context_dim") else 1
            most = {"window": MAX_WINDOW, "context_layers": MAX_LAYERS}.get(item.name, MAX_DIMENSION)
            check_integer(f"audio.{item.name}", getattr(self, item.name), least, most)
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
    ``has_text_embedding`` and ``has_audio_emb`` say whether the checkpoint carries these tensors of the family, which
    no talking-head network uses.

    ``prediction`` is what the head's output means: the ``flow`` itself (the published family), or
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
    has_text_embedding: bool = True
    has_audio_emb: bool = False
    prediction: str = "flow"

    def __post_init__(self) -> None:
        for name in ("dim", "ffn_dim", "num_heads", "in_dim", "out_dim", "freq_dim", "text_dim"):
            check_integer(name, getattr(self, name), 1, MAX_DIMENSION)
        check_integer("num_layers", self.num_layers, 1, MAX_LAYERS)
        check_number("eps", self.eps, 1e-12, 1.0)
        check_choice("prediction", self.prediction, PREDICTIONS)
        for name in ("vae_stride", "patch_size"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) != 3:
                raise ConfigError(f"{name} must be three positive integers (t, h, w), got {short(value)}")
            for axis, size in zip("thw", value, strict=True):
                check_integer(f"{name} ({axis})", size, 1, MAX_STRIDE)
        if self.vae_stride[0] < 2 or self.patch_size[0] != 1:
            raise ConfigError(
                "the family compresses time in the VAE only: "
                f"vae_stride {self.vae_stride}, patch_size {self.patch_size}"
            )
        if self.audio.lids and self.audio.intermediate_dim < self.vae_stride[0]:
            raise ConfigError(f"audio.lids take {self.vae_stride[0]} of {self.audio.intermediate_dim} hidden units")
        if self.in_dim != 2 * self.out_dim:
            raise ConfigError(f"in_dim must be 2 x out_dim (noisy + reference), got {self.in_dim} and {self.out_dim}")
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
        del values["has_audio_emb"], values["has_text_embedding"]
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
        source = (metadata or {}).get(CONFIG_FILE, "the checkpoint's `config` metadata")
        declared = parse_object(metadata["config"], source) if metadata and "config" in metadata else {}
        shapes = {name: tuple(tensor.shape) for name, tensor in sd.items()}
        try:
            return _from_shapes(shapes, declared)
        except KeyError as error:
            raise ConfigError(
                "not a checkpoint of the AsymTalker family (FlashHead Pro/Lite, AKD students, nano): no tensor "
                f"{error}; choose another file"
            ) from error
        except ConfigError as error:
            if not declared:
                raise
            raise ConfigError(f"{error} (configuration: {source}{_whose(declared)})") from error


def _whose(declared: dict[str, Any]) -> str:
    """The model that a configuration names, as most published ones do."""
    for name in ("_class_name", "architectures", "model_type"):
        if isinstance(declared.get(name), (str, list)):
            return f", which describes a {short(declared[name])}; put the network's own config.json beside it"
    return ""


def _shape(shapes: dict[str, tuple[int, ...]], name: str, dimensions: int) -> tuple[int, ...]:
    shape = shapes[name]
    if len(shape) != dimensions or 0 in shape:
        raise ConfigError(f"the tensor {name} must have {dimensions} dimensions, got the shape {list(shape)}")
    return shape


def _num_layers(shapes: dict[str, tuple[int, ...]]) -> int:
    found = {name.split(".", 2)[1] for name in shapes if name.startswith("blocks.")}
    wanted = {str(index) for index in range(len(found))}
    if found != wanted:
        raise ConfigError(
            f"the tensors are of {len(found)} blocks, of which {sorted(wanted - found)[:3]} are missing: the file is "
            f"incomplete, or of another architecture ({sorted(short(index) for index in found - wanted)[:3]})"
        )
    return len(found)


def _from_shapes(shapes: dict[str, tuple[int, ...]], declared: dict[str, Any]) -> DiTConfig:
    dim, in_dim, *patch = _shape(shapes, "patch_embedding.weight", 5)
    out_dim = _shape(shapes, "head.head.weight", 2)[0] // math.prod(patch)
    vae_stride = _vae_stride(out_dim, declared)
    measured = {
        "dim": dim,
        "in_dim": in_dim,
        "out_dim": out_dim,
        "patch_size": tuple(patch),
        "ffn_dim": _shape(shapes, "blocks.0.ffn.0.weight", 2)[0],
        "num_layers": _num_layers(shapes),
        "freq_dim": _shape(shapes, "time_embedding.0.weight", 2)[1],
    }
    has_text_embedding = TEXT_TENSOR in shapes
    if has_text_embedding:
        measured["text_dim"] = _shape(shapes, TEXT_TENSOR, 2)[1]
    for name, value in measured.items():
        stated = declared.get(name, value)
        stated = tuple(stated) if isinstance(stated, list) else stated
        if stated != value:
            raise ConfigError(f"{name} is {short(stated)} in the config, but {value} in the tensors")
    return DiTConfig(
        **measured,
        vae_stride=vae_stride,
        num_heads=declared.get("num_heads", max(1, dim // FAMILY_HEAD_DIM)),
        eps=declared.get("eps", 1e-6),
        audio=_audio(shapes, dim, vae_stride[0], declared.get("audio", {})),
        has_text_embedding=has_text_embedding,
        has_audio_emb="audio_emb.proj.0.weight" in shapes,
        prediction=declared.get("prediction", "flow"),
    )


def _vae_stride(latent_channels: int, declared: dict[str, Any]) -> tuple[int, int, int]:
    if "vae_stride" in declared:
        stride = declared["vae_stride"]
        if not isinstance(stride, list) or len(stride) != 3:
            raise ConfigError(f"vae_stride must be three positive integers (t, h, w), got {short(stride)}")
        for axis, size in zip("thw", stride, strict=True):
            check_integer(f"vae_stride ({axis})", size, 1, MAX_STRIDE)
        t, h, w = stride
        return t, h, w
    if latent_channels not in FAMILY_VAE_STRIDES:
        raise ConfigError(
            f"{latent_channels} latent channels match no published VAE {sorted(FAMILY_VAE_STRIDES)}: "
            "the checkpoint needs a `config` metadata entry (or a config.json beside it) with vae_stride"
        )
    return FAMILY_VAE_STRIDES[latent_channels]


def _audio(shapes: dict[str, tuple[int, ...]], dim: int, stride_t: int, declared: Any) -> AudioConfig:
    if not isinstance(declared, dict):
        raise ConfigError(f"audio must be an object with window, blocks and channels, got {short(declared)}")
    intermediate_dim, first_width = _shape(shapes, "audio_proj.proj1.weight", 2)
    is_context = "audio_proj.context.input.weight" in shapes
    audio = AudioConfig(
        window=declared.get("window", AUDIO_WINDOW),
        blocks=declared.get("blocks", FAMILY_AUDIO_BLOCKS),
        channels=declared.get("channels", FAMILY_AUDIO_CHANNELS),
        intermediate_dim=intermediate_dim,
        context_tokens=_shape(shapes, "audio_proj.proj3.weight", 2)[0] // dim,
        context_layers=sum(name.startswith("audio_proj.context.") and name.endswith(".conv.weight") for name in shapes),
        context_dim=_shape(shapes, "audio_proj.context.input.weight", 2)[0] if is_context else 0,
        lids=declared.get("lids", False),
    )
    vector = audio.blocks * audio.channels
    expected = (audio.window * vector, audio.later_vectors(stride_t) * vector)
    found = (first_width, _shape(shapes, "audio_proj.proj1_vf.weight", 2)[1])
    if expected != found:
        raise ConfigError(
            f"audio projections take {found} values, but window {audio.window}, "
            f"{audio.blocks} x {audio.channels} features "
            f"and a time stride of {stride_t} give {expected}: the `config` metadata is missing or wrong"
        )
    return audio


@dataclass(frozen=True)
class SamplingConfig:
    """How a checkpoint is to be sampled; the safetensors metadata entry ``sampling`` (JSON).

    ``few_step`` predicts x0 and re-noises it (distilled students), ``euler`` integrates the flow (teachers), ``bridge``
    leads from the reference latents to the chunk (LeapTalk).
    ``steps`` 1..50, ``shift`` > 0, ``guidance`` >= 1 against zero audio (1 is off), ``frames_per_chunk`` pixel frames.
    ``detail`` 0..1 is how much of what the VAE loses of the portrait the frames get back (see ``models.detail``).
    ``blinks`` 0..60 is their number per minute. Networks whose audio condition has ``lids`` are told of them; over
    the frames of others, they are drawn (see ``models.eyelids``).
    """

    sampler: str = "few_step"
    steps: int = 4
    shift: float = 5.0
    guidance: float = 1.0
    frames_per_chunk: int = 33
    detail: float = 0.0
    blinks: float = 0.0

    def __post_init__(self) -> None:
        check_choice("sampler", self.sampler, SAMPLERS)
        check_integer("steps", self.steps, 1, 50)
        check_number("shift", self.shift, 1e-3, 1000)
        check_number("audio guidance (1 is off)", self.guidance, 1, 1000)
        check_integer("frames_per_chunk", self.frames_per_chunk, 2, MAX_FRAMES)
        check_number("detail", self.detail, 0, 1)
        check_number("blinks", self.blinks, 0, MAX_BLINKS)

    def to_metadata(self) -> dict[str, str]:
        return {"sampling": json.dumps(dataclasses.asdict(self))}

    @classmethod
    def from_metadata(cls, metadata: Metadata | None, *, distilled: bool = True) -> SamplingConfig:
        """The checkpoint's own values, else the published students' defaults, or those of an undistilled network."""
        if not metadata or "sampling" not in metadata:
            return cls() if distilled else UNDISTILLED
        return parse_config(cls, metadata["sampling"], "the checkpoint's `sampling` metadata")


LEAPTALK = SamplingConfig(sampler="bridge", steps=1)
"""How LeapTalk's one-step adapter of FlashHead Pro is sampled."""

UNDISTILLED = SamplingConfig(sampler="euler", steps=20, guidance=3.0)
"""How the family's teachers are sampled."""
