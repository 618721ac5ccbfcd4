"""Stock VAE objects: the rollout's codec over any video VAE, and nano's own VAE presented as one of core's."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from comfy import latent_formats, model_management, model_patcher
from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE
from comfy.ldm.wan.vae import WanVAE
from comfy.sd import VAE
from comfy.taesd.taehv import TAEHV
from torch import Tensor

from ..models.codec import Parts, Views, frames_before
from ..models.family import LITE, MODELS, PRO, ModelSpec
from ..models.nano_vae import SPATIAL_STRIDE, STRIDE_T, NanoVAE
from ..models.pictures import Window
from .checkpoints import ltx_keys
from .messages import with_article
from .model import TalkingHeadModel, loaded_fingerprint
from .precision import prefers_bf16

WAN_CHANNELS, LTX_CHANNELS = PRO.config.latent_channels, LITE.config.latent_channels
LTX_GENERATION = "0.9.0"
PICTURE_CHANNELS = 3


def _advice(spec: ModelSpec) -> str:
    vae = spec.vae
    if not vae.repository:
        return f"set `vae` of Load AsymTalker to `default`, which loads {spec.title}'s own VAE"
    if vae.single_file:
        return f"load the {vae.title} ({vae.single_file} or {vae.main_file}, folder models/vae)"
    return f"load the {vae.title} (folder {vae.folder} of the published files, or models/vae)"


VAE_ADVICE = {spec.config.latent_channels: _advice(spec) for spec in MODELS.values()}
"""Which VAE to load, by latent channels."""


class StockVideoCodec:
    """The rollout's VideoCodec over a stock VAE: pixels in [-1, 1] <-> latents normalised as the MODEL expects them.

    Core's own ``encode`` and ``decode`` return results through the CPU; here they stay on the device.

    Args:
        device: where latents and pixels go; core's device if not given.
        load: loads the VAE to its device; by default through core.
    """

    def __init__(
        self,
        vae: VAE,
        model: TalkingHeadModel,
        device: torch.device | None = None,
        load: Callable[[], None] | None = None,
    ) -> None:
        check_vae(vae, model)
        self._vae = vae
        self._device = device or model_management.get_torch_device()
        self._load = load
        self._format = _on_device(_latent_format(vae, model.latent_format), self._device)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """[1, 3, F, H, W] in [-1, 1] -> float32 [1, C, T, h, w] on the MODEL's device, F = 1 + k * stride."""
        frames = pixels[0].movedim(0, -1).mul(0.5).add_(0.5)
        latents = self._run(self._encode, self._vae.encode, frames)
        return self._format.process_in(latents.to(self._device, torch.float32))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """[1, C, T, h, w] -> float32 [1, 3, F, H, W] in [-1, 1] on the MODEL's device; Lite's overshoot a little."""
        return self._as_pixels(self._run(self._decode, self._vae.decode, self._format.process_out(latents)))

    @property
    def has_parts(self) -> bool:
        """Whether parts of latents can be decoded: nano's own VAE on a CPU decodes latent frames one by one."""
        is_on_cpu = self._vae.device.type == self._device.type == "cpu"
        return is_on_cpu and isinstance(self._vae.first_stage_model, NanoVAE) and _is_plain(self._vae)

    @torch.no_grad()
    def decode_parts(self, latents: Tensor) -> Parts | None:
        """What decodes parts of ``latents``, where it ``has_parts``."""
        if not self.has_parts:
            return None
        network: Any = self._vae.first_stage_model
        self._bring(self._vae.memory_used_decode, latents.shape)
        latents = self._format.process_out(latents).to(self._vae.device, self._vae.vae_dtype)
        return _StockParts(
            network.decode_parts(latents), lambda pixels: self._as_pixels(self._as_frames(pixels.float()))
        )

    def _as_pixels(self, frames: Tensor) -> Tensor:
        """[1, F, H, W, 3] in 0..1 -> [1, 3, F, H, W] in [-1, 1]."""
        frames = frames.to(self._device, torch.float32)
        return _in_place(lambda: frames.mul_(2).sub_(1)).movedim(-1, 1)

    def _run(self, directly: Callable[[Tensor], Tensor], by_core: Callable[[Tensor], Any], values: Tensor) -> Tensor:
        """The VAE's result for ``values``: without copies if its methods are core's, else through these methods."""
        if not _is_plain(self._vae):
            return by_core(values)
        try:
            with _current_device(self._vae.device):
                return directly(values)
        except model_management.OOM_EXCEPTION:
            logging.warning("AsymTalker: the VAE does not fit into memory; it is applied in tiles")
        # Outside the handler, which would keep the allocated memory. Core chooses the size of tiles.
        return by_core(values)

    def _encode(self, frames: Tensor) -> Tensor:
        vae: Any = self._vae
        pixels = vae.process_input(frames.movedim(-1, 0)[None]).to(vae.vae_dtype)
        self._bring(vae.memory_used_encode, pixels.shape)
        return vae.first_stage_model.encode(pixels.to(vae.device)).float()

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self._vae
        self._bring(vae.memory_used_decode, latents.shape)
        network: Any = vae.first_stage_model
        latents = latents.to(vae.device, vae.vae_dtype)
        if getattr(network, "comfy_has_chunked_io", False):
            # Later versions of core decode some VAEs in parts and return them on the CPU.
            pixels = torch.empty(network.decode_output_shape(latents.shape), device=vae.device)
            network.decode(latents, output_buffer=pixels)
        else:
            pixels = network.decode(latents).float()
        if isinstance(network, VideoVAE):
            # Core clips here, but colours must be matched before clipping, as in the published pipeline.
            return _in_place(lambda: pixels.add_(1).mul_(0.5)).movedim(1, -1)
        return self._as_frames(pixels)

    def _as_frames(self, pixels: Tensor) -> Tensor:
        """What the VAE gives, [1, 3, F, H, W], as core's ``decode`` returns it: [1, F, H, W, 3] in 0..1."""
        return self._vae.process_output(pixels).movedim(1, -1)

    def _bring(self, memory_used: Callable[[Any, torch.dtype], float], shape: torch.Size) -> None:
        if self._load is not None:
            self._load()
            return
        memory = int(memory_used(shape, self._vae.vae_dtype))
        full = self._vae.disable_offload
        model_management.load_models_gpu([self._vae.patcher], memory_required=memory, force_full_load=full)


@dataclass(frozen=True)
class _StockParts:
    """Parts that a network decodes, ``finished`` as ``decode`` finishes its result."""

    parts: Parts
    finished: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, first: int, stop: int) -> Tensor:
        return self.finished(self.parts(first, stop))

    @torch.no_grad()
    def views(self, first: int, stop: int, window: Window, frame: int) -> Views:
        part, whole = map(self.finished, self.parts.views(first, stop, window, frame))
        return Views(part, whole)


def _is_plain(vae: VAE) -> bool:
    """Whether the VAE processes pixels and latents only as core's ``encode`` and ``decode`` do."""
    plain = type(vae).decode is VAE.decode and type(vae).encode in (VAE.encode, NanoStockVAE.encode)
    return plain and getattr(vae, "format_encoded", None) is None


def _current_device(device: torch.device) -> AbstractContextManager[None]:
    """Core's own context for kernels on another GPU than the first, where this version has one."""
    return getattr(model_management, "cuda_device_context", lambda device: nullcontext())(device)


def _on_device(latent_format: latent_formats.LatentFormat, device: torch.device) -> latent_formats.LatentFormat:
    """``latent_format`` with its statistics on ``device``; otherwise it would copy them on every call."""
    own = copy.copy(latent_format)
    for name, value in vars(own).items():
        if isinstance(value, Tensor):
            setattr(own, name, value.to(device))
    return own


def vae_identity(vae: VAE) -> str:
    """Identity of a VAE: everything that its frames depend on."""
    # What differs from an earlier version of the pack, which put copies of the first frame in front of what tiny VAEs
    # encode (their authors repeat the last one, and so does core), and clipped what LTX-Video's decodes.
    ways: dict[type, str] = {TAEHV: " padded at the end", VideoVAE: " not clipped"}
    return loaded_fingerprint(vae) + ways.get(type(vae.first_stage_model), "")


def check_vae(vae: Any, model: TalkingHeadModel) -> None:
    """Refuse a VAE whose latents the MODEL cannot use.

    Raises:
        ValueError: names what was given and which VAE to load.
    """
    config = model.checkpoint.config
    advice = VAE_ADVICE.get(config.latent_channels, "load the VAE that this checkpoint was trained with")
    wanted = _describe(config.latent_channels, config.vae_stride[0], config.vae_stride[1])
    needs = f"{model.checkpoint.name} needs {wanted}: {advice}"
    network = getattr(vae, "first_stage_model", None)
    if network is None or not isinstance(vae, VAE):
        given = "" if vae is None or isinstance(vae, VAE) else f" (got {with_article(type(vae).__name__)})"
        raise ValueError(f"vae: no usable VAE is connected{given}; {needs}")
    if vae.latent_dim != 3:
        raise ValueError(f"vae: an image VAE is connected; {needs}")
    found = (vae.latent_channels, vae.temporal_compression_decode(), vae.spacial_compression_decode())
    if found != (config.latent_channels, config.vae_stride[0], config.vae_stride[1]):
        raise ValueError(f"vae: the VAE has {_describe(*found)}; {needs}")
    other = _other_model(network, config.latent_channels)
    if other:
        raise ValueError(f"vae: this is the VAE of {other}, whose latent space differs; {needs}")


def _other_model(network: torch.nn.Module, latent_channels: int) -> str:
    """Whose VAE it is that has a published space's channels and strides, but is not of that space."""
    names = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if latent_channels == WAN_CHANNELS and isinstance(network, WanVAE):
        colours = names["decoder.head.2.weight"][0] if "decoder.head.2.weight" in names else PICTURE_CHANNELS
        return "" if colours == PICTURE_CHANNELS else f"a variant of Wan 2.1's with {colours} output channels"
    if latent_channels == LTX_CHANNELS and isinstance(network, VideoVAE):
        generation = ltx_keys.generation(names)
        return "" if generation == LTX_GENERATION else f"LTX-Video {generation}"
    known = latent_channels not in (WAN_CHANNELS, LTX_CHANNELS) or isinstance(network, (NanoVAE, WanVAE))
    tiny_wan = latent_channels == WAN_CHANNELS and isinstance(network, TAEHV)
    return "" if known or tiny_wan else f"another model ({type(network).__name__})"


def load_nano_vae(state_dict: Mapping[str, Tensor], metadata: Mapping[str, str] | None) -> NanoStockVAE:
    """Nano's VAE from its checkpoint, as a stock VAE."""
    return NanoStockVAE(NanoVAE.from_checkpoint(state_dict, metadata))


class WholePatcher(model_patcher.ModelPatcher):
    """Loads a network whole, however little memory is free.

    nano's VAE has a few megabytes, and its layers are PyTorch's own: what core leaves behind of such layers, where
    memory is short, it does not bring when they are used.
    """

    def load(
        self,
        device_to: Any = None,
        lowvram_model_memory: int = 0,
        force_patch_weights: bool = False,
        full_load: bool = False,
        **newer: Any,
    ) -> None:
        super().load(device_to, lowvram_model_memory, force_patch_weights, full_load=True, **newer)


class NanoStockVAE(VAE):
    """nano's VAE with core's interface: IMAGE batches [F, H, W, 3] <-> latents [1, C, T, h, w], tiling included."""

    def __init__(self, network: NanoVAE) -> None:
        with without_core_warnings():
            # Core's constructor recognises VAEs by tensor names; given none, it only sets every attribute's default.
            super().__init__(sd={})
        self.first_stage_model = network
        self.latent_channels = network.config.latent_channels
        self.latent_dim = 3
        self.upscale_ratio = (_frames_of, SPATIAL_STRIDE, SPATIAL_STRIDE)
        self.downscale_ratio = (_latents_of, SPATIAL_STRIDE, SPATIAL_STRIDE)
        self.upscale_index_formula = (STRIDE_T, SPATIAL_STRIDE, SPATIAL_STRIDE)
        self.downscale_index_formula = (STRIDE_T, SPATIAL_STRIDE, SPATIAL_STRIDE)
        self.working_dtypes = [torch.float32]
        self.process_output = _to_unit_range
        width = network.config.width
        # Widest tensors: two of `width` channels at an eighth of the size when encoding, at a quarter when decoding.
        self.memory_used_encode = lambda shape, dtype: _nano_bytes(shape[-3:], width // 16 + 12, dtype)
        self.memory_used_decode = lambda shape, dtype: _nano_bytes(
            (_frames_of(shape[-3]), shape[-2] * SPATIAL_STRIDE, shape[-1] * SPATIAL_STRIDE), width // 16 + 12, dtype
        )
        self.device = model_management.vae_device()
        self.vae_dtype = _nano_dtype(self.device, self.working_dtypes)
        self.output_device = model_management.intermediate_device()
        network.to(self.vae_dtype)
        offload_device = model_management.vae_offload_device()
        self.patcher = WholePatcher(network, load_device=self.device, offload_device=offload_device)
        self.model_size()

    def encode(self, pixel_samples: Tensor) -> Tensor:
        """[F, H, W, 3] in 0..1 -> latents; like core's video VAEs, frames beyond the last full group are left out."""
        frames_axis = pixel_samples.ndim - 4
        usable = _frames_of(1 + (pixel_samples.shape[frames_axis] - 1) // STRIDE_T)
        # Core would return None for no pixels at all, of which a batch has at least one frame.
        return super().encode(pixel_samples.narrow(frames_axis, 0, usable))  # pyright: ignore[reportReturnType]


def _nano_dtype(device: torch.device, working: list[torch.dtype]) -> torch.dtype:
    """Core's choice, or bfloat16 where a CPU is faster with it: the error is smaller than that of 8-bit rounding."""
    if prefers_bf16(device, ("fp32_vae", "fp16_vae", "bf16_vae", "force_fp32")):
        return torch.bfloat16
    return model_management.vae_dtype(device, working)


def _to_unit_range(decoded: Tensor) -> Tensor:
    """Pixels fresh from the decoder, [-1, 1] -> 0..1; core's own makes three copies."""
    return _in_place(lambda: decoded.add_(1).mul_(0.5).clamp_(0, 1))


def _in_place(change: Callable[[], Tensor]) -> Tensor:
    """``change`` a chunk's pixels where they are: new memory of that size costs more than the arithmetic.

    What core makes in inference mode may be changed in that mode only, and other tensors may be changed in it too.
    """
    with torch.inference_mode():
        return change()


def _frames_of(num_latents: int) -> int:
    return frames_before(num_latents, STRIDE_T)


def _latents_of(num_frames: int) -> int:
    return max(0, (num_frames + STRIDE_T - 1) // STRIDE_T)


def _nano_bytes(size: tuple[int, ...], values_per_pixel: int, dtype: torch.dtype) -> int:
    frames, height, width = size
    return frames * height * width * values_per_pixel * model_management.dtype_size(dtype)


def _latent_format(vae: VAE, wanted: latent_formats.LatentFormat) -> latent_formats.LatentFormat:
    """The scaling between what the VAE object takes and the MODEL's latents.

    Core's own loader takes a float16 TAEHV of 16 channels for HunyuanVideo's and scales its latents for it, but
    `taew2_1` works on Wan latents as the MODEL normalises them: undoing the VAE object's own scaling gives it just
    those. The pack's loader gives every tiny VAE the scaling that it needs.
    """
    own = getattr(vae.first_stage_model, "latent_format", None)
    if isinstance(vae.first_stage_model, TAEHV) and own is latent_formats.HunyuanVideo:
        logging.info("AsymTalker: this tiny VAE is treated as taew2_1; choose lighttaew2_1 in `vae` of Load AsymTalker")
        return own()
    return wanted


def _describe(channels: int, stride_t: int | None, stride_space: Any) -> str:
    return f"{channels} latent channels at strides {stride_t} (time) and {stride_space} (space)"


@contextmanager
def without_core_warnings() -> Iterator[None]:
    """While a VAE is built only to be looked at: core's log lines about it would not be true."""
    thread = threading.get_ident()

    def wanted(record: logging.LogRecord) -> bool:
        return record.thread != thread or "VAE" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(wanted)
    try:
        yield
    finally:
        root.removeFilter(wanted)
