"""The place of a face in which its mouth opens furthest, found by trying.

nano sees pictures in patches of 32 pixels, and moves an unknown mouth well in some places of a patch, hardly in others:
what decides is chance. So a second of speech is generated in several places. The video does not move: see
``models.placing``.
"""

from __future__ import annotations

import logging
import wave
from dataclasses import replace

import numpy as np
import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from comfy.utils import ProgressBar
from torch import Tensor

from ..faces.portrait_face import openings
from ..host.cores import cpu_share
from ..host.example_files import EXAMPLES
from ..host.model import talking_head
from ..host.network import ChunkNetwork, noise_dtype
from ..host.residence import Residence
from ..host.vae import StockVideoCodec
from ..models.audio import MEL_CHANNELS, AudioFeatures, log_mel_features, to_mono_16k
from ..models.blinks import with_blinks
from ..models.chunks import Carry, ContinuityOptions
from ..models.draft import to_uint8
from ..models.family import spec_by_audio
from ..models.placing import shifted
from ..models.record import COLLAPSED
from ..models.reference import Reference, Shift, temporal_reference
from ..models.rollout import RolloutError, rollout

SPEECH = EXAMPLES / "asymtalker_speech.wav"

PLACES: tuple[Shift, ...] = (
    *((0, 0), (-6, -6), (-12, 6), (-12, -6), (0, -6), (-6, 6), (-12, 0), (-6, 0), (0, 6)),
    *((0, -12), (6, 0), (-18, -6), (6, -6)),
)
"""The places in the order in which they are tried. On average, mouths open furthest a little to the left and up."""

LEAST_GAIN = 1.1
"""A place has to be this many times as good as the portrait's own: near ties would depend on the machine."""
NEEDS_GUIDANCE = 0.3, 0.4
"""Openings up to the first need all of the guidance, from the second on none: drawn faces open by 0.4 and more."""
MOST_GUIDANCE = 2.0
OPEN_AT_REST = 0.12
"""An opening of the portrait's mouth beyond which its teeth are seen."""

WIDEST = 0.95
"""The quantile of the openings that counts. The mean says less: some mouths hang open."""
EVERY = 2
"""Every second frame is read."""


def best_place(model: ModelPatcher, vae: VAE, reference: Reference, tries: int) -> Reference:
    """``reference`` with its portrait moved to where the mouth opens furthest, and the guidance that it then needs.

    ``reference`` has to be a temporal one. It stays as it is if no face is found in it, or if the MODEL does not follow
    nano's features, which are those of the speech here.

    Args:
        tries: how many places are tried, 1 for none; -1 stands for the MODEL's own number.

    Raises:
        InterruptProcessingException: the user cancelled.
    """
    config = talking_head(model).checkpoint.config
    places = PLACES[: spec_by_audio(config).tries if tries < 0 else tries]
    follows = (config.audio.blocks, config.audio.channels) == (1, MEL_CHANNELS)
    if reference.face is None or len(places) < 2 or not follows:
        return reference
    trial, bar = _Trial(model, vae, reference), ProgressBar(len(places))
    tried: list[tuple[float, Reference]] = []
    with cpu_share(model.load_device) as share:
        for shift in share.between(places):
            placed = trial.placed(shift)
            tried.append((trial.opening(placed), placed))
            bar.update(1)
    (in_place, _), (widest, best) = tried[0], max(tried, key=lambda pair: pair[0])
    if widest < LEAST_GAIN * in_place:
        widest, best = tried[0]
    (at_rest,) = openings(to_uint8(reference.portrait), reference).tolist()
    best = replace(best, guidance=guidance_for(widest, at_rest))
    message = (
        "AsymTalker: the face is moved by %s pixels for the network, guidance is %.2g: the mouth opens by %.2f (%.2f)"
    )
    logging.info(message, best.shift, best.guidance, widest, in_place)
    return best


def guidance_for(opening: float, at_rest: float) -> float:
    """The audio guidance that a mouth needs which opens by ``opening`` of its width without it, ``at_rest`` by that.

    It widens openings by a quarter at most; with more, mouths look torn, and so do smiles that show teeth with any.
    An opening of 0 could not be measured.
    """
    if at_rest > OPEN_AT_REST or opening == 0:
        return 1.0
    low, high = NEEDS_GUIDANCE
    share = min(max((high - opening) / (high - low), 0.0), 1.0)
    return 1 + share * (MOST_GUIDANCE - 1)


class _Trial:
    """A portrait that says a little in one place after the other."""

    def __init__(self, model: ModelPatcher, vae: VAE, reference: Reference) -> None:
        network = talking_head(model)
        residence = Residence(model, vae, reference)
        self._reference = reference
        self._codec = StockVideoCodec(vae, network, residence.device, residence.bring_vae)
        self._network = ChunkNetwork(model, residence.bring_network)
        self._noise_dtype = noise_dtype(network, residence.device)
        # Neither detail nor blinks change how far a mouth opens.
        self._sampling = replace(network.checkpoint.sampling, detail=0.0, blinks=0.0)
        audio = AudioFeatures(_speech(reference.frames_per_chunk), "log-mel")
        self._audio = with_blinks(audio, network.checkpoint.config.audio, 0, 0.0)

    def placed(self, shift: Shift) -> Reference:
        """The reference whose latents are those of the portrait moved by ``shift``."""
        if shift == self._reference.shift:
            return self._reference
        portrait = shifted(self._reference.portrait, shift)
        latents = temporal_reference(self._codec.encode, portrait, self._reference.frames_per_chunk)
        return replace(self._reference, latents=latents, shift=shift)

    def opening(self, placed: Reference) -> float:
        """How far the mouth opens at its widest, as a share of its width; 0 if that fails or the face is lost."""
        chunks = rollout(
            self._network,
            self._codec,
            placed,
            self._audio,
            self._sampling,
            ContinuityOptions(Carry.LATENTS, latents=1),
            seed=0,
            on_step=_stop_if_interrupted,
            run_sampling=self._network.run_sampling,
            noise_dtype=self._noise_dtype,
        )
        try:
            ((chunk, _),) = chunks
        except RolloutError as error:
            logging.warning("AsymTalker: a place of the face is not used: %s", error)
            return 0.0
        if COLLAPSED in chunk.record.stats:
            return 0.0
        return float(openings(chunk.frames[::EVERY], self._reference).quantile(WIDEST))


def _stop_if_interrupted(chunk: int, step: int, x0: Tensor) -> None:
    model_management.throw_exception_if_processing_interrupted()


def _speech(num_frames: int) -> Tensor:
    """The features of the example speech's beginning [num_frames, 1, 320]."""
    with wave.open(str(SPEECH)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        sound = to_mono_16k(torch.from_numpy(samples / 2.0**15)[None].float(), file.getframerate())
    return log_mel_features(sound, num_frames)
