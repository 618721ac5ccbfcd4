"""The inputs of a generation, and checks that they belong together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property, partial

from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ..host.model import TalkingHeadModel, talking_head
from ..models.audio import RecordingFeatures
from ..models.blinks import LidTrack, lids, with_blinks
from ..models.choices import Keep
from ..models.chunks import ContinuityOptions
from ..models.config import SAMPLERS, SamplingConfig
from ..models.family import spec_by_audio
from ..models.mouth import mouth_in_latents
from ..models.reference import Reference

AUTO = "auto"
SAMPLER_CHOICES = (AUTO, *SAMPLERS)


@dataclass(frozen=True)
class Settings:
    """The Sampler's widgets.

    0, ``auto``, and -1 for ``detail`` and ``blinks``, stand for the checkpoint's own values; an ``audio_guidance`` of 0
    also for what the reference needs. ``keep`` may be its text.
    """

    seed: int
    steps: int
    sampler: str
    shift: float
    audio_guidance: float
    continuity: ContinuityOptions
    keep: Keep = Keep.UNTIL_SAVED
    detail: float = -1.0
    blinks: float = -1.0

    def __post_init__(self) -> None:
        # An unknown value must not determine which frames are kept.
        object.__setattr__(self, "keep", Keep.parse(self.keep, "keep"))

    def resolve(self, own: SamplingConfig, frames_per_chunk: int) -> SamplingConfig:
        """The checkpoint's ``own`` configuration with what the user set. Raises ConfigError for impossible values."""
        return SamplingConfig(
            sampler=own.sampler if self.sampler == AUTO else self.sampler,
            steps=self.steps or own.steps,
            shift=self.shift or own.shift,
            guidance=self.audio_guidance or own.guidance,
            frames_per_chunk=frames_per_chunk,
            # A slider passes values between auto and none: none.
            detail=own.detail if self.detail <= -1 else max(self.detail, 0.0),
            blinks=own.blinks if self.blinks <= -1 else max(self.blinks, 0.0),
        )


@dataclass(frozen=True)
class Inputs:
    """The Sampler's inputs.

    Raises (when first used):
        ValueError: ``model`` is another architecture's, or a setting is impossible for it.
    """

    model: ModelPatcher
    vae: VAE
    reference: Reference
    audio: RecordingFeatures
    settings: Settings

    @cached_property
    def network(self) -> TalkingHeadModel:
        """The network in ``model``."""
        return talking_head(self.model)

    @cached_property
    def sampling(self) -> SamplingConfig:
        """How the checkpoint is sampled under these settings."""
        sampling = self.settings.resolve(self.network.checkpoint.sampling, self.reference.frames_per_chunk)
        if self.settings.audio_guidance or not self._guides_mouth(sampling):
            return sampling
        return replace(sampling, guidance=max(sampling.guidance, self.reference.guidance))

    @property
    def mouth_alone(self) -> bool:
        """Whether the network's pixels are needed at the mouth alone."""
        return self.reference.face is not None and spec_by_audio(self.network.checkpoint.config).mouth_alone

    def _guides_mouth(self, sampling: SamplingConfig) -> bool:
        return self.mouth_alone and sampling.sampler == "few_step"

    @cached_property
    def guided(self) -> Tensor | None:
        """Where guidance holds, in the last step alone: at the mouth. None stands for everywhere and all steps."""
        holds_at_mouth = self.sampling.guidance != 1 and self._guides_mouth(self.sampling)
        return mouth_in_latents(self.reference) if holds_at_mouth else None

    @property
    def uses_face(self) -> bool:
        """Whether the landmarks of the portrait change frames."""
        if self.reference.face is None:
            return False
        return bool(self.sampling.detail) or self.drawn_lids is not None or self.guided is not None

    @cached_property
    def condition(self) -> RecordingFeatures:
        """What the network follows: the audio, and blinks if it takes them."""
        config = self.network.checkpoint.config.audio
        return with_blinks(self.audio, config, self._blink_seed, self.sampling.blinks) if config.lids else self.audio

    @cached_property
    def drawn_lids(self) -> LidTrack | None:
        """When blinks are drawn over the frames, because the network does not take them; None if there are none."""
        is_told = self.network.checkpoint.config.audio.lids
        has_none = is_told or self.reference.face is None or self.sampling.blinks == 0
        return None if has_none else partial(lids, self._blink_seed, per_minute=self.sampling.blinks)

    @property
    def blinks(self) -> float:
        """Blinks a minute that can be seen: none without a face, if the network does not make them itself."""
        is_told = self.network.checkpoint.config.audio.lids
        return self.sampling.blinks if is_told or self.drawn_lids else 0.0

    @cached_property
    def _blink_seed(self) -> str:
        # Not the seed alone: two people in one picture, made with the same seed, do not blink together.
        portrait = self.reference.portrait.float().cpu().numpy().tobytes()
        return f"{self.settings.seed}/{hashlib.blake2b(portrait, digest_size=8).hexdigest()}"

    def check(self) -> None:
        """Check that the inputs belong together. Raises ValueError that names the input and the remedy."""
        # Impossible settings are errors before anything is hashed.
        _ = self.sampling
        config, name = self.network.checkpoint.config, self.network.checkpoint.name
        channels = self.reference.latents.shape[1]
        if channels != config.latent_channels:
            raise ValueError(
                f"reference: it was encoded for {channels} latent channels, {name} has {config.latent_channels}; "
                "connect the same MODEL and VAE to AsymTalker Temporal Reference Encode"
            )
        given, wanted = self.audio.shape, (config.audio.blocks, config.audio.channels)
        if given != wanted:
            raise ValueError(
                f"audio_features: {self.audio.encoder} gives {given[0]} x {given[1]} values per frame, {name} needs "
                f"{wanted[0]} x {wanted[1]}; use the AUDIO_ENCODER of the same Load AsymTalker"
            )
