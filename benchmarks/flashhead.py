"""FlashHead's own code (a checkout of Soul-AILab/SoulX-FlashHead) on given weights, without its files and downloads.

Its modules are imported from the checkout as they are. What they import beyond PyTorch, diffusers and transformers, and
do not use here (several GPUs, face detection, logging), is replaced by empty modules.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..models.dit import TalkingHeadDiT
from .comfyui import WAN_VAE

UNUSED = (
    "xfuser",
    "xfuser.core",
    "xfuser.core.distributed",
    "xfuser.core.long_ctx_attention",
    "pyloudnorm",
    "mediapipe",
)
PIPELINE = "flash_head.src.pipeline.flash_head_pipeline"


class Unused(ModuleType):
    """A module whose names exist and are not used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **options: None


class TorchWithDraws(ModuleType):
    """PyTorch as their pipeline's module has it, with ``randn`` from ``draws`` and without a GPU to wait for."""

    def __init__(self) -> None:
        super().__init__("torch")
        self.draws: Iterator[Tensor] = iter(())
        self.cuda = Unused("cuda") if not torch.cuda.is_available() else torch.cuda

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def randn(self, *shape: Any, dtype: torch.dtype, device: Any, **options: Any) -> Tensor:
        """The next draw; where the last step asks for noise that it multiplies by zero, zeros."""
        size = torch.Size(shape[0] if isinstance(shape[0], torch.Size) else shape)
        return next(self.draws, torch.zeros(size)).reshape(size).to(device, dtype)


class FlashHead:
    """Their pipeline for one portrait, on the weights of a network and a VAE of ours.

    Args:
        checkout: the folder with ``flash_head``.
        network: weights, shared and not copied, and the geometry.
        vae: core's Wan or LTX-Video VAE, whose weights are shared.
        portrait: [1, 3, 1, H, W] in [-1, 1].
        levels: noise levels [steps + 1] from 1 to 0.

    Raises:
        ImportError: a package that their code needs is not installed; names it.
    """

    def __init__(
        self, checkout: Path, network: TalkingHeadDiT, vae: nn.Module, portrait: Tensor, levels: Tensor, frames: int
    ) -> None:
        self._module: Any = import_pipeline(checkout)
        self._torch = TorchWithDraws()
        self._module.torch = self._torch
        config, parameter = network.config, next(network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        pipeline = self._module.FlashHeadPipeline.__new__(self._module.FlashHeadPipeline)
        pipeline.model = self._network(network)
        pipeline.config = pipeline.model.config
        pipeline.vae = lite_vae(vae) if config.latent_channels == 128 else pro_vae(vae, self.device)
        pipeline.param_dtype, pipeline.device = self.dtype, self.device
        pipeline.rank, pipeline.use_usp, pipeline.num_timesteps = 1, False, 1000
        pipeline.model_type = "lite" if config.latent_channels == 128 else "pro"
        pipeline.generator, pipeline.color_correction_strength = None, 1.0
        pipeline.frame_num, pipeline.motion_frames_num = frames, config.vae_stride[0] + 1
        pipeline.lat_h, pipeline.lat_w = (
            size // stride for size, stride in zip(portrait.shape[-2:], config.vae_stride[1:], strict=True)
        )
        pipeline.timesteps = [1000 * level[None].to(self.device) for level in levels]
        pipeline.original_color_reference = portrait.to(self.device, self.dtype)
        video = pipeline.original_color_reference.repeat(1, 1, frames, 1, 1)
        pipeline.ref_img_latent = pipeline.vae.encode(video)
        pipeline.latent_motion_frames = pipeline.ref_img_latent[:, :1].clone()
        self.pipeline = pipeline

    def _network(self, network: TalkingHeadDiT) -> nn.Module:
        config = network.config
        with torch.device("meta"):
            theirs = importlib.import_module("flash_head.src.modules.flash_head_model").WanModelAudioProject(
                dim=config.dim,
                in_dim=config.in_dim,
                ffn_dim=config.ffn_dim,
                out_dim=config.out_dim,
                text_dim=config.text_dim,
                freq_dim=config.freq_dim,
                eps=config.eps,
                vae_stride=config.vae_stride,
                patch_size=config.patch_size,
                num_heads=config.num_heads,
                num_layers=config.num_layers,
                has_image_input=False,
            )
        # The rotary table is no parameter, and was made on the meta device with them.
        module = importlib.import_module("flash_head.src.modules.flash_head_model")
        theirs.freqs = module.precompute_freqs_cis_3d(config.head_dim)
        theirs.load_state_dict(network.state_dict(), assign=True)
        return theirs.eval().requires_grad_(False)

    def chunk(self, windows: Tensor, draws: Iterator[Tensor]) -> Tensor:
        """The next chunk [3, F, H, W] in [-1, 1], with ``draws`` [1, C, T, h, w] as its noise."""
        self._torch.draws = draws
        return self.pipeline.generate(windows.to(self.device))

    def flow(self, x: Tensor, timestep: Tensor, windows: Tensor, reference: Tensor) -> Tensor:
        """One evaluation of the network."""
        return self.pipeline.model(x=x, timestep=timestep, context=windows, y=reference)

    def color(self, video: Tensor) -> Tensor:
        """Colour correction of [1, 3, F, H, W]."""
        return self._module.match_and_blend_colors_torch(video, self.pipeline.original_color_reference, 1.0)


def import_pipeline(checkout: Path) -> ModuleType:
    """Their pipeline's module."""
    for name in UNUSED:
        sys.modules.setdefault(name, Unused(name))
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    return importlib.import_module(PIPELINE)


def lite_vae(ours: nn.Module) -> Any:
    """Their LTX-Video VAE on the weights of core's."""
    module = importlib.import_module("flash_head.ltx_video.ltx_vae")
    core: Any = ours
    with torch.device("meta"):
        model = module.CausalVideoAutoencoder.from_config({**core.guess_config(0), "dims": 3})
    held = {name: tensor for name, tensor in ours.state_dict().items() if not name.startswith("per_channel")}
    # Their own method does not accept these tensors.
    nn.Module.load_state_dict(model, held, assign=True)
    device = next(ours.parameters()).device
    model.register_buffer("std_of_means", torch.ones(128, device=device))
    model.register_buffer("mean_of_means", torch.zeros(128, device=device))
    vae = module.LtxVAE.__new__(module.LtxVAE)
    vae.model = model.eval().requires_grad_(False)
    return vae


def pro_vae(ours: nn.Module, device: torch.device) -> Any:
    """Their Wan VAE on the weights of core's; latents as they are, without statistics."""
    module = importlib.import_module("flash_head.wan.modules.vae")
    with torch.device("meta"):
        model = module.WanVAE_(dim=96, **WAN_VAE)
    model.load_state_dict(ours.state_dict(), assign=True)
    vae = module.WanVAE.__new__(module.WanVAE)
    parameter = next(ours.parameters())
    vae.dtype, vae.device, vae.parallel, vae.use_tiling = parameter.dtype, device, False, False
    vae.scale = [torch.zeros(16, device=device, dtype=vae.dtype), torch.ones(16, device=device, dtype=vae.dtype)]
    vae.model = model.eval().requires_grad_(False)
    return vae
