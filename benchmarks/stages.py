"""The stages of a video, each measured alone on the shapes that it has there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..faces.portrait_face import with_face
from ..media import SpoolHeader, SpoolWriter, encode_video
from ..models.audio import FPS, SAMPLE_RATE, audio_windows, log_mel_features, wav2vec2_features
from ..models.chunks import continuity_frames
from ..models.color import match_color
from ..models.detail import DetailTransfer
from ..models.draft import to_uint8
from ..models.flow import velocity_to_x0
from ..models.layers import RotaryTables
from ..models.reference import Reference, fit_portrait, temporal_reference
from .geometries import Geometry
from .speech import read_portrait
from .timing import median_seconds

CONTINUITY_LATENTS = 2


@dataclass(frozen=True)
class Stage:
    """One stage's cost: ``seconds`` for one call and the ``frames`` of video that it serves (0: once a video).

    ``calls_per_chunk`` is how often a chunk needs it; 0 for what is done once a video.
    """

    name: str
    seconds: float
    frames: float
    calls_per_chunk: int

    @property
    def fps(self) -> float | None:
        """Frames a second if a chunk were this stage alone."""
        return self.frames / (self.seconds * max(1, self.calls_per_chunk)) if self.frames else None


def measure(geometry: Geometry, audio_seconds: float, repeats: int) -> Iterator[Stage]:
    """Every stage that the geometry has, in the order of a video."""
    bench = Bench(geometry, audio_seconds)
    for name, (run, frames, calls) in bench.stages().items():
        with torch.inference_mode():
            seconds = median_seconds(run, geometry.device, repeats)
        yield Stage(name, seconds, frames, calls)


class Bench:
    """Inputs of one geometry's stages."""

    def __init__(self, geometry: Geometry, audio_seconds: float) -> None:
        self.geometry = geometry
        config, size = geometry.network.config, geometry.size
        frames = geometry.sampling.frames_per_chunk
        self.num_frames = max(1, round(audio_seconds * FPS))
        self.overlap = continuity_frames(CONTINUITY_LATENTS, config.vae_stride[0])
        self.new_frames = frames - self.overlap
        latent = (
            config.out_dim,
            config.latent_frames(frames),
            size // config.vae_stride[1],
            size // config.vae_stride[2],
        )
        self.speech = self._random(self.num_frames * SAMPLE_RATE // FPS)
        self.features = self._random(frames, config.audio.blocks, config.audio.channels + config.audio.lids)
        self.portrait = self._random(1, 3, 1, size, size).tanh()
        self.latents = self._random(1, *latent)
        self.pixels = self._random(1, 3, frames, size, size).tanh()
        # Smooth frames with grain: pure noise compresses like no video.
        smooth = torch.nn.functional.interpolate(
            self.pixels[0, :, :, ::32, ::32].movedim(1, 0), size=(size, size), mode="bicubic"
        )
        grain = 0.02 * self.pixels[0].movedim(1, 0)
        self.frames = to_uint8((smooth + grain).movedim(0, 1)[None, :, : self.new_frames]).cpu()

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.geometry.device)

    def stages(self) -> dict[str, tuple[Callable[[], object], float, int]]:
        """{name: (one call, frames of video that it serves, calls per chunk)}."""
        new, evaluations = (
            self.new_frames,
            self.geometry.sampling.steps * (2 if self.geometry.sampling.guidance != 1 else 1),
        )
        found: dict[str, tuple[Callable[[], object], float, int]] = {}
        if self.geometry.network.config.audio.blocks == 1:
            found["audio features"] = (self._log_mel, self.num_frames, 0)
        elif self.geometry.speech_encoder is not None:
            found["audio features"] = (self._wav2vec2, self.num_frames, 0)
        codec = self.geometry.codec
        if codec is not None:
            frames = self.geometry.sampling.frames_per_chunk
            found["reference"] = (lambda: temporal_reference(codec.encode, self.portrait, frames), 0, 0)
        found["audio keys and values"] = (self._audio_keys_values, new, 1)
        found["network, one step"] = (self.step(), new, evaluations)
        if codec is not None:
            found["decode"] = (lambda: codec.decode(self.latents), new, 1)
        found["colour"] = (self._colour, new, 1)
        if self.geometry.sampling.detail:
            found["detail"] = (self._detail(), new, 1)
        if codec is not None:
            found["continuity encode"] = (lambda: codec.encode(self.pixels[:, :, -self.overlap :]), new, 1)
        found["hand-over to the spool"] = (self._spool, new, 1)
        found["mp4 encode"] = (self._mp4, new, 0)
        return found

    def _log_mel(self) -> Tensor:
        return log_mel_features(self.speech, self.num_frames)

    def _wav2vec2(self) -> Tensor:
        return wav2vec2_features(self.geometry.speech_encoder, self.speech, self.num_frames)

    def _audio_keys_values(self) -> list[tuple[Tensor, Tensor]]:
        network = self.geometry.network
        windows = audio_windows(self.features, 0, self.geometry.sampling.frames_per_chunk)
        return network.audio_keys_values(network.encode_audio(windows.to(self.geometry.dtype)))

    def step(self, tables: RotaryTables | None = None) -> Callable[[], Tensor]:
        """One denoising step as the rollout takes it, from x to x0; ``tables`` if not the network's own."""
        network, dtype = self.geometry.network, self.geometry.dtype
        with torch.inference_mode():
            audio_kv = self._audio_keys_values()
        x, u = self.latents.to(dtype), torch.tensor([0.8], device=self.geometry.device)
        tables = tables or network.rotary_tables(x.shape, x.device)
        return lambda: velocity_to_x0(x, u.to(dtype), network.velocity(x, 1000 * u, audio_kv, x, tables))

    def _detail(self) -> Callable[[], Tensor]:
        """Detail transfer to frames in which the example's face is seen, as in a video of it."""
        size, frames = self.geometry.size, self.geometry.sampling.frames_per_chunk
        portrait = fit_portrait(read_portrait(), size, size).to(self.geometry.device)
        reference = with_face(Reference(self.latents, portrait, frames))
        video = portrait[0].expand(-1, frames, -1, -1).contiguous()
        stride = reference.stride_t
        transfer = DetailTransfer.of(
            portrait[0, :, 0], portrait[0, :, 0], reference.face, stride=stride, mouth_alone=True, is_guided=True
        )
        part, poses = video[:, self.overlap :][(..., *transfer.shown(1.0))], video[:, stride::stride]
        return lambda: transfer.apply(part, poses, 1.0)

    def _colour(self) -> Tensor:
        """Correction of the new frames, and their conversion to what is stored."""
        return to_uint8(match_color(self.pixels[:, :, self.overlap :], self.portrait, 1.0)).cpu()

    def _spool(self) -> None:
        """A chunk's new frames, compressed and synced to disk (in a video this overlaps with the next chunk)."""
        size = self.geometry.size
        with (
            tempfile.TemporaryDirectory() as folder,
            SpoolWriter(folder, SpoolHeader("benchmark", size, size)) as spool,
        ):
            spool.append(self.frames.numpy(), b"")
            spool.flush()

    def _mp4(self) -> None:
        size = self.geometry.size
        with tempfile.TemporaryDirectory() as folder:
            encode_video(iter(self.frames.numpy()), Path(folder) / "video.mp4", width=size, height=size, fps=FPS)
