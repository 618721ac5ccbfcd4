"""The pack inside ComfyUI's modules, for the VAEs and wav2vec2 of the published networks."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...models.audio import SAMPLE_RATE, num_video_frames, wav2vec2_features
from ...models.checkpoint import read_checkpoint
from ...models.codec import VideoCodec
from ...models.config import DiTConfig, SamplingConfig
from ...scripts._environment import ROOT, find_comfyui
from .config import TrainingError


def use_comfyui() -> None:
    """Make ComfyUI's modules importable in this process, and the pack's folders known to it.

    Raises:
        TrainingError: there is no ComfyUI.
    """
    comfyui = find_comfyui()
    if comfyui is None:
        raise TrainingError("Pro and Lite work with ComfyUI's VAEs: name a ComfyUI in COMFYUI_PATH")
    if str(comfyui) in sys.path:
        return
    # First: the working directory may be on the path too, with a `nodes` of its own.
    sys.path.insert(0, str(comfyui))
    importlib.import_module("comfy.options").enable_args_parsing(False)
    importlib.import_module("comfy.cli_args").args.cpu = not torch.cuda.is_available()
    from ...host.checkpoints import folders

    folders.register()


def stock_codec(config: DiTConfig, name: str, vae_file: Any) -> Any:
    """Encoder and decoder of a network's latents (the rollout's VideoCodec) over ComfyUI's VAE in ``vae_file``.

    Args:
        vae_file: None finds the one that belongs to the network in ComfyUI's folders, as the loader does.

    Raises:
        FileNotFoundError: names the file that is missing and where it goes.
        ValueError: the VAE is another one than the network needs.
    """
    use_comfyui()
    from ...host import model
    from ...host.checkpoints import companions, folders
    from ...host.checkpoints.vae_files import load_vae
    from ...host.vae import StockVideoCodec

    if vae_file is None:
        located = folders.Located(ROOT / name, None)
        vae_file = companions.locate_vae(folders.DEFAULT, located, config.latent_channels).file
    checkpoint = model.Checkpoint(name, config, SamplingConfig(), reference=None, weights_id="")
    # On the meta device it has shapes and the latents' scaling, and no weights.
    model_config = model.TalkingHeadConfig(config)
    model_config.set_inference_dtype(torch.float32, None)
    target = model.TalkingHeadModel(model_config, checkpoint, device="meta")
    return StockVideoCodec(load_vae(vae_file), target)


class BatchCodec:
    """A stock codec, which takes one clip at a time, for batches, in its own precision."""

    def __init__(self, codec: VideoCodec) -> None:
        self._codec = codec

    def encode(self, pixels: Tensor) -> Tensor:
        """[B, 3, F, H, W] in [-1, 1] -> [B, C, T, h, w]."""
        return self._each(self._codec.encode, pixels)

    def decode(self, latents: Tensor) -> Tensor:
        """[B, C, T, h, w] -> [B, 3, F, H, W] in [-1, 1]."""
        return self._each(self._codec.decode, latents)

    def _each(self, convert: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        with torch.autocast(values.device.type, enabled=False):
            return torch.cat([convert(value[None].float()) for value in values]).to(values.device)


class SpeechEncoder:
    """The published networks' audio encoder: [N] at 16 kHz -> [frames, 12, 768]."""

    def __init__(self, name: str, encoder_file: Any) -> None:
        use_comfyui()
        from ...host.checkpoints import companions, folders
        from ...host.checkpoints.wav2vec2 import load_wav2vec2

        if encoder_file is None:
            located = folders.Located(ROOT / name, None)
            encoder_file = companions.locate_audio_encoder(folders.DEFAULT, located).file
        weights, _ = read_checkpoint(encoder_file)
        self._encoder: Any = load_wav2vec2(weights, str(encoder_file))

    @torch.no_grad()
    def __call__(self, audio: Tensor) -> Tensor:
        encoder = self._encoder
        importlib.import_module("comfy.model_management").load_models_gpu([encoder.patcher])
        num_frames = num_video_frames(audio.shape[0], SAMPLE_RATE)
        return wav2vec2_features(encoder.model, audio, num_frames, device=encoder.load_device).cpu()
