"""The rollout's network over a MODEL: what a chunk's steps share is prepared once, every step goes through core.

The denoising loop of a chunk is one sampling in core's sense (``comfy.samplers.CFGGuider``), with core's order of
wrappers and callbacks around it: OUTER_SAMPLE, PREPARE_SAMPLING, ON_PRE_RUN, SAMPLER_SAMPLE, then for every step
PREDICT_NOISE, CALC_COND_BATCH, ON_PREPARE_STATE and the network (APPLY_MODEL, DIFFUSION_MODEL), at last ON_CLEANUP.
State that nodes keep from step to step (such as EasyCache's) therefore starts again with every chunk. A chunk that is
regenerated after a collapse is a sampling of its own.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from comfy import model_management, sampler_helpers, samplers
from comfy.model_patcher import ModelPatcher, create_model_options_clone
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor

from ..models.audio import frames_of_windows, windows_of_frames
from ..models.blinks import silenced
from ..models.flow import Denoise
from ..models.layers import AudioKeyValue, OtherAudio, RotaryTables
from ..models.rollout import SamplingLoop
from ..models.transfer import send
from .cores import one_thread
from .model import TalkingHeadModel, talking_head

COND, UNCOND = 0, 1
"""Core's cond_or_uncond."""

CHANGES = ("optimized_attention_override", "patches", "patches_replace", "wrappers")
"""What nodes put into the transformer options to change how the network computes."""


@dataclass(frozen=True)
class Condition:
    """One side of the guidance; ``uuid`` identifies it in caches of its outputs.

    With ``other``, it holds both sides: tokens where guidance holds are also computed with the other audio.
    """

    role: int
    uuid: uuid.UUID
    reference: Tensor
    audio_kv: list[AudioKeyValue]
    tables: RotaryTables
    other: Sequence[OtherAudio] = ()


class ChunkNetwork:
    """``network(windows, reference_latents, guidance) -> denoise(x, u) -> x0`` for one generation.

    ``run_sampling`` is the rollout's: what a chunk's loop is run by.

    Args:
        model: the MODEL, with whatever LoRA, wrappers and options core's nodes have put on it.
        bring: loads the weights to the device; by default through core.
        guided: where guidance holds, 0..1 [1, 1, 1, h, w] of the latents, in the last step alone; None stands for
            everywhere and all steps.
        strength: of the audio's part in the cross-attention, against that of silence; 1 is as trained.
        silence: gives the features [blocks, channels] of silence; needed for another strength than 1.
    """

    def __init__(
        self,
        model: ModelPatcher,
        bring: Callable[[], None] | None = None,
        strength: float = 1.0,
        silence: Callable[[], Tensor] | None = None,
        guided: Tensor | None = None,
    ) -> None:
        self._model, self._network = model, talking_head(model)
        self._audio = self._network.checkpoint.config.audio
        self._bring = bring
        self._guided_area = None if guided is None else send(guided, model.load_device)
        self._strength, self._encode_silence = strength, silence
        self._silence: Tensor | None = None
        self._held: dict[bool, list[AudioKeyValue]] = {}

    @torch.no_grad()
    def __call__(self, windows: Tensor, reference_latents: Tensor, guidance: float) -> ChunkGuider:
        """Prepare a chunk.

        Args:
            windows: audio feature windows [1, F, 5, blocks, channels].
            reference_latents: [1, C, T, h, w] in the MODEL's latent space.
            guidance: weight of the audio against silence; 1 is off and costs nothing.
        """
        if self._strength != 1 and self._silence is None and self._encode_silence is not None:
            # Before the weights are loaded, because an audio encoder may evict them.
            self._silence = self._encode_silence()
        device, shape = self._model.load_device, reference_latents.shape
        bring = self._bring or partial(load, self._model, shape)
        bring()
        reference = send(reference_latents, device)
        tables = self._network.diffusion_model.rotary_tables(shape, device)
        conditions = [Condition(COND, uuid.uuid4(), reference, self._speech(windows), tables)]
        if guidance != 1 or self._model.model_options.get("disable_cfg1_optimization", False):
            unvoiced = self._without_speech(windows, None)
            conditions.append(Condition(UNCOND, uuid.uuid4(), reference, unvoiced, tables))
        at_once = self._at_once(*conditions) if len(conditions) > 1 else None
        return ChunkGuider(self._model, self._network, conditions, guidance, bring, self._guided_area, at_once)

    def _at_once(self, voiced: Condition, unvoiced: Condition) -> Condition | None:
        """Both sides in one run, on a CPU: its time is proportional to the number of tokens, and few are guided."""
        if self._guided_area is None or self._guided_area.device.type != "cpu":
            return None
        places = self._network.diffusion_model.places_of(self._guided_area, voiced.reference.shape[2])
        return replace(voiced, other=[OtherAudio(places, audio_kv) for audio_kv in unvoiced.audio_kv])

    def run_sampling(self, loop: SamplingLoop, denoise: Denoise, levels: Tensor, noise: Tensor) -> Tensor:
        """Run a chunk's ``loop`` as one sampling of core's."""
        assert isinstance(denoise, ChunkGuider)
        return denoise.sample(loop, levels, noise)

    def _speech(self, windows: Tensor) -> list[AudioKeyValue]:
        """Keys and values interpolated from those of silence (strength 0) to those of the audio (1), and beyond.

        Zeros are not used for silence: no network was trained without cross-attention, and nano's mouth is half open
        with zeros.
        """
        speech = self._keys_values(windows)
        if self._silence is None:
            return speech
        silence = self._without_speech(windows, self._silence)
        pairs = zip(silence, speech, strict=True)
        return [(torch.lerp(k0, k, self._strength), torch.lerp(v0, v, self._strength)) for (k0, v0), (k, v) in pairs]

    def _without_speech(self, windows: Tensor, silence: Tensor | None) -> list[AudioKeyValue]:
        """Keys and values of ``silence``, or of zeros; the same for every chunk, if no blinks are in them."""
        heard = silence is not None
        if self._audio.lids or heard not in self._held:
            self._held[heard] = self._keys_values(silenced(windows, self._audio, silence))
        return self._held[heard]

    def _keys_values(self, windows: Tensor) -> list[AudioKeyValue]:
        network, device = self._network.diffusion_model, self._model.load_device
        windows = send_windows(windows, device, compute_dtype(self._network))
        with one_thread(device):
            return network.audio_keys_values(network.encode_audio(windows))


class ChunkGuider:
    """Takes the place of core's ``CFGGuider`` for wrappers.

    It has that class's ``model_patcher``, ``model_options``, ``inner_model`` and ``conds``. Wrappers may replace
    ``model_options`` for the sampling that they surround.
    """

    def __init__(
        self,
        model: ModelPatcher,
        network: TalkingHeadModel,
        conditions: list[Condition],
        guidance: float,
        bring: Callable[[], None],
        guided: Tensor | None = None,
        at_once: Condition | None = None,
    ) -> None:
        self.model_patcher = model
        self.model_options = model.model_options
        self.inner_model = network
        self.conds: dict[str, Any] = {}
        self.cfg = guidance
        self._conditions = conditions
        self._bring, self._guided_area = bring, guided
        # Both sides at once; used where nothing surrounds or replaces a part of the network.
        self._at_once = at_once
        self._last_level, self._is_guided_step = 0.0, True

    @torch.no_grad()
    def sample(self, loop: SamplingLoop, levels: Tensor, noise: Tensor) -> Tensor:
        """One chunk's latents, on the device of ``noise`` [1, C, T, h, w]."""
        self._last_level = float(levels[-2:][0])
        own_options = self.model_options
        self.model_options = create_model_options_clone(own_options)
        try:
            sampler_helpers.prepare_model_patcher(self.model_patcher, self.conds, self.model_options)
            executor = self._executor(self._outer_sample, WrappersMP.OUTER_SAMPLE, self.model_options)
            arguments = noise, torch.zeros_like(noise), ChunkSampler(loop), levels
            return executor.execute(*arguments, None, None, True, None, latent_shapes=[noise.shape])
        finally:
            samplers.cast_to_load_options(self.model_options, device=self.model_patcher.offload_device)
            self.model_options = own_options
            self.model_patcher.restore_hook_patches()

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """x0 of ``x`` [1, C, T, h, w] at level ``u`` [], by a sampling of one step."""
        return self.sample(lambda denoise, levels, noise: denoise(noise, levels[0]), u.reshape(1), x)

    def predict(self, x: Tensor, u: Tensor, options: dict[str, Any]) -> Tensor:
        """x0 of ``x`` [1, C, T, h, w] at level ``u`` [], on the device of ``x``."""
        device = self.model_patcher.load_device
        self._is_guided_step = self._guided_area is None or float(u) <= self._last_level
        # Created on the device: the host would wait for a copy.
        sigma = torch.full((x.shape[0],), float(u), dtype=torch.float32, device=device)
        executor = self._executor(self._predict_noise, WrappersMP.PREDICT_NOISE, options)
        return executor.execute(x.to(device), sigma, options, None).to(x.device)

    def _outer_sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        sampler: ChunkSampler,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Any = None,
        disable_pbar: bool = True,
        seed: int | None = None,
        **newer: Any,
    ) -> Tensor:
        patcher = self.model_patcher
        executor = self._executor(self._prepare_sampling, WrappersMP.PREPARE_SAMPLING, self.model_options)
        executor.execute(patcher, noise.shape, self.conds, model_options=self.model_options)
        samplers.cast_to_load_options(self.model_options, device=patcher.load_device, dtype=patcher.model_dtype())
        options = create_model_options_clone(self.model_options)
        options.setdefault("transformer_options", {})["sample_sigmas"] = sigmas
        extra = {"model_options": options, "seed": seed}
        try:
            patcher.pre_run()
            executor = WrapperExecutor.new_class_executor(
                sampler.sample, sampler, get_all_wrappers(WrappersMP.SAMPLER_SAMPLE, options, is_model_options=True)
            )
            return executor.execute(self, sigmas, extra, callback, noise, latent_image, denoise_mask, disable_pbar)
        finally:
            patcher.cleanup()

    def _prepare_sampling(
        self,
        model: ModelPatcher,
        noise_shape: torch.Size,
        conds: dict[str, Any],
        model_options: Any = None,
        **newer: Any,
    ) -> tuple[Any, dict[str, Any], list[ModelPatcher]]:
        self._bring()
        return model.model, conds, []

    def _predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict[str, Any], seed: int | None) -> Tensor:
        """Core's ``sampling_function``: both sides of the guidance, and one from the two."""
        # Wrappers that keep both sides, as caches do, need both in every step.
        is_alone = not (self._is_guided_step or self._needs_each(model_options))
        conditions = self._conditions[:1] if is_alone else self._conditions
        cfg = self.cfg if self._is_guided_step else 1.0
        silent = [None] * (2 - len(conditions))
        sides = [*conditions, *silent]
        if self._at_once is not None and self._is_guided_step and not self._is_changed(model_options):
            (both,) = _calc_cond_batch(self.inner_model, [self._at_once], x, timestep, model_options)
            voiced, unvoiced = both.chunk(2)
        else:
            executor = WrapperExecutor.new_executor(
                _calc_cond_batch, get_all_wrappers(WrappersMP.CALC_COND_BATCH, model_options, is_model_options=True)
            )
            voiced, unvoiced = executor.execute(self.inner_model, sides, x, timestep, model_options)
        if self._guided_area is not None and len(conditions) > 1:
            # Where both sides are the same, guidance changes nothing.
            unvoiced = torch.lerp(voiced, unvoiced, self._guided_area.to(voiced.dtype))
        outputs = [voiced, unvoiced]
        for function in model_options.get("sampler_pre_cfg_function", []):
            outputs = function(
                {
                    "conds": sides,
                    "conds_out": outputs,
                    "cond_scale": cfg,
                    "timestep": timestep,
                    "input": x,
                    "sigma": timestep,
                    "model": self.inner_model,
                    "model_options": model_options,
                }
            )
        if {"sampler_cfg_function", "sampler_post_cfg_function"} & model_options.keys():
            return samplers.cfg_function(
                self.inner_model,
                outputs[0],
                outputs[1],
                cfg,
                x,
                timestep,
                model_options,
                cond=sides[0],
                uncond=sides[1],
            )
        return outputs[0] if cfg == 1 else torch.lerp(outputs[1], outputs[0], cfg)

    def _is_changed(self, options: dict[str, Any]) -> bool:
        """Whether something surrounds or replaces a part of the network, which then runs once for each side."""
        patcher, inside = self.model_patcher, options.get("transformer_options", {})
        changes = [inside.get(name) for name in CHANGES]
        changes += [patcher.object_patches, patcher.injections, options.get("model_function_wrapper")]
        return self._needs_each(options) or any(map(without_empty, changes))

    def _needs_each(self, options: dict[str, Any]) -> bool:
        """Whether something needs each side in every step."""
        return bool(options.get("disable_cfg1_optimization") or without_empty(self.model_patcher.wrappers))

    def _executor(self, original: Any, kind: str, options: dict[str, Any]) -> WrapperExecutor:
        wrappers = get_all_wrappers(kind, options, is_model_options=True)
        return WrapperExecutor.new_class_executor(original, self, wrappers)


class ChunkSampler:
    """Takes the place of core's ``Sampler``: one chunk's denoising loop."""

    def __init__(self, loop: SamplingLoop) -> None:
        self._loop = loop

    def sample(
        self,
        model_wrap: ChunkGuider,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = True,
    ) -> Tensor:
        """Latents of the chunk."""
        options = extra_args["model_options"]
        return self._loop(lambda x, u: model_wrap.predict(x, u, options), sigmas, noise)


def without_empty(value: Any) -> Any:
    """``value`` without the empty containers that nodes leave in it, at any depth."""
    if not isinstance(value, Mapping):
        return value
    kept = {key: without_empty(item) for key, item in value.items()}
    return {key: item for key, item in kept.items() if not isinstance(item, (Mapping, list, tuple)) or item}


def compute_dtype(network: TalkingHeadModel) -> torch.dtype:
    """The data type in which the network computes, which may differ from that of its weights."""
    return network.manual_cast_dtype or network.get_dtype()


def noise_dtype(network: TalkingHeadModel, device: torch.device) -> torch.dtype | None:
    """The data type in which noise is copied to a GPU: 16 bits if the network computes in 16 bits."""
    is_short = torch.finfo(compute_dtype(network)).bits == 16
    return torch.float16 if is_short and device.type == "cuda" else None


def load(model: ModelPatcher, latent_shape: torch.Size) -> None:
    """Bring the weights to the device (a no-op when they are there), leaving room for one chunk's activations."""
    memory = model.memory_required(latent_shape)
    models = [model, *model.get_nested_additional_models()]
    model_management.load_models_gpu(models, memory_required=memory)


def send_windows(windows: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Feature windows [1, F, 5, blocks, channels] of consecutive frames on ``device``; copies shared frames once."""
    if device.type == "cpu":
        return windows.to(dtype)
    frames = send(frames_of_windows(windows), device, dtype)
    return windows_of_frames(frames, windows.shape[2])


def _calc_cond_batch(
    model: Any, conds: list[Condition | None], x_in: Tensor, timestep: Tensor, model_options: dict[str, Any]
) -> list[Tensor]:
    """x0 of each side, one after the other; zeros where there is none, as in core."""
    patcher = model.current_patcher
    if patcher is not None:
        # Later versions of core pass the options on.
        newer = len(inspect.signature(patcher.prepare_state).parameters) > 1
        patcher.prepare_state(timestep, *([model_options] if newer else []))
    return [
        torch.zeros_like(x_in) if side is None else _evaluate(model, side, x_in, timestep, model_options)
        for side in conds
    ]


def _evaluate(model: Any, side: Condition, x: Tensor, timestep: Tensor, model_options: dict[str, Any]) -> Tensor:
    step_options = {
        **model_options["transformer_options"],
        "cond_or_uncond": [side.role],
        "uuids": [side.uuid],
        "sigmas": timestep,
    }
    conditions = {
        "reference": side.reference,
        "audio_kv": side.audio_kv,
        "tables": side.tables,
        "transformer_options": step_options,
    }
    if side.other:
        conditions["other"] = side.other
    wrapper = model_options.get("model_function_wrapper")
    if wrapper is None:
        return model.apply_model(x, timestep, **conditions)
    return wrapper(
        model.apply_model, {"input": x, "timestep": timestep, "c": conditions, "cond_or_uncond": [side.role]}
    )
