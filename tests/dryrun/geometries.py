"""Pro, Lite and nano as the loader makes them, with weights that have shapes only."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from asymtalker.benchmarks.comfyui import WAN_VAE, WAV2VEC2_BASE
from asymtalker.models.checkpoint import read_checkpoint
from asymtalker.models.dit import tensor_shapes
from asymtalker.models.family import MODELS, NANO_VAE
from asymtalker.tests.helpers import Import

from .device import SimulatedCuda

LAYERS = 2
"""Of the network's blocks, which are all alike."""


@dataclass(frozen=True)
class Loaded:
    """What the loader's sockets give."""

    model: Any
    vae: Any
    audio_encoder: Any


def load(cuda: SimulatedCuda, pack: Import, kind: str, weight_dtype: str, file_dtype: torch.dtype) -> Loaded:
    """MODEL, VAE and AUDIO_ENCODER of a ``kind`` whose file stores ``file_dtype``; Pro and Lite share the others."""
    # With values, which reading a file needs.
    nano_vae = _nano_vae_file()
    model = _model(cuda, pack, kind, weight_dtype, file_dtype)
    with cuda.weightless():
        if kind == "nano":
            vae = pack("host.vae").load_nano_vae(*nano_vae)
            return Loaded(model, vae, pack("host.audio").LogMelAudioEncoder())
        return Loaded(model, _vae(kind), _wav2vec2(pack))


def _model(cuda: SimulatedCuda, pack: Import, kind: str, weight_dtype: str, file_dtype: torch.dtype) -> Any:
    """The MODEL. As the loader does, it says how to load another copy of it."""
    config = dataclasses.replace(MODELS[kind].config, num_layers=LAYERS)

    def again(disable_dynamic: bool = False) -> Any:
        with cuda.weightless():
            weights = _weights(tensor_shapes(config), file_dtype)
            more = {"name": kind, "weight_dtype": weight_dtype, "dynamic": not disable_dynamic}
            return pack("host.model").load_model(weights, config.to_metadata(), **more)

    model = again()
    if hasattr(model, "cached_patcher_init"):
        model.cached_patcher_init = (again, ())
    return model


@functools.cache
def _nano_vae_file() -> Any:
    return read_checkpoint(NANO_VAE)


@functools.cache
def _vae(kind: str) -> Any:
    with torch.device("meta"):
        if kind == "pro":
            network = importlib.import_module("comfy.ldm.wan.vae").WanVAE(dim=96, **WAN_VAE, dropout=0.0)
        else:
            network = importlib.import_module("comfy.ldm.lightricks.vae.causal_video_autoencoder").VideoVAE(version=0)
    vae = importlib.import_module("comfy.sd").VAE(sd=_weights_of(network), metadata={})
    if kind == "pro":
        _without_repetition(vae.first_stage_model.encoder.downsamples)
        _without_repetition(vae.first_stage_model.decoder.upsamples)
    return vae


def _without_repetition(layers: nn.Sequential) -> None:
    """Remove the residual blocks of Wan's VAE that follow another one and keep its width."""
    for index in reversed(range(1, len(layers))):
        same = type(layers[index]) is type(layers[index - 1])
        if same and isinstance(getattr(layers[index], "shortcut", None), nn.Identity):
            del layers[index]


@functools.cache
def _wav2vec2(pack: Import) -> Any:
    core = importlib.import_module("comfy.audio_encoders.wav2vec2")
    with torch.device("meta"):
        network = core.Wav2Vec2Model(**WAV2VEC2_BASE, operations=nn)
    return pack("host.checkpoints.wav2vec2").load_wav2vec2(_weights_of(network), "wav2vec2")


def _weights(shapes: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: torch.empty(tuple(shape), dtype=dtype) for name, shape in shapes.items()}


def _weights_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return _weights({name: tensor.shape for name, tensor in network.state_dict().items()}, torch.float32)
