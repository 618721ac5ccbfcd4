"""Progress bar, previews and ComfyUI's cancel button during a generation."""

from __future__ import annotations

import latent_preview
import torch
from comfy import model_management
from comfy.cli_args import LatentPreviewMethod, args
from comfy.latent_formats import LatentFormat
from comfy.utils import ProgressBar
from PIL import Image
from torch import Tensor

from ..host.progress import duration, notify
from ..live.jobs import LiveJob
from ..models.placing import shifted
from ..models.rates import FPS
from ..models.reference import Reference
from ..models.rollout import Chunk
from .pace import Laps

PreviewImage = tuple[str, Image.Image, int]
RIDGE = 1e-2


class RolloutProgress:
    """Reports steps and chunks of one generation.

    Args:
        live: the started job that viewers watch.
        steps: denoising steps per chunk.
        reference: gives previews where core has no colours for the latent format.
        laps: takes the time of each chunk.
    """

    def __init__(
        self, live: LiveJob, steps: int, latent_format: LatentFormat, reference: Reference, laps: Laps
    ) -> None:
        self._live, self._node_id = live, live.origin.node_id
        self._num_chunks, self._steps = live.num_chunks, steps
        self._bar = ProgressBar(self._num_chunks * steps, self._node_id)
        self._previewer = _previewer(latent_format, reference)
        self._laps = laps
        self._frames_done = self._steps_done = 0

    def on_step(self, chunk_index: int, step: int, x0: Tensor) -> None:
        """After each denoising step. Raises ComfyUI's InterruptProcessingException when the user cancelled."""
        model_management.throw_exception_if_processing_interrupted()
        wanted = self._previewer is not None and not self._live.is_watched
        preview = self._latent_preview(x0) if wanted else None
        self._show(chunk_index * self._steps + step + 1, preview)

    def on_chunk(self, chunk: Chunk) -> None:
        """After each chunk: its last frame, and how long the rest will take."""
        model_management.throw_exception_if_processing_interrupted()
        self._laps.add()
        self._frames_done += chunk.record.frames
        done = chunk.record.index + 1
        preview = None
        if not self._live.is_watched:
            preview = ("JPEG", Image.fromarray(chunk.frames[-1].cpu().numpy()), args.preview_size)
        self._show(done * self._steps, preview)
        left = (self._laps.usual or 0.0) * (self._num_chunks - done)
        fps = self._frames_done / max(sum(self._laps.seconds), 1e-6)
        self._live.add(chunk, fps, left)
        again = ", regenerated after it collapsed" if chunk.record.is_regenerated else ""
        speed = f"{fps:.1f} fps ({fps / FPS:.2f}x real time), {duration(left)} left"
        notify(self._node_id, f"chunk {done} of {self._num_chunks}{again}, {speed}")

    def _show(self, steps: int, preview: PreviewImage | None) -> None:
        # A chunk may be finished during the next one's steps.
        self._steps_done = max(self._steps_done, steps)
        self._bar.update_absolute(self._steps_done, preview=preview)

    def _latent_preview(self, x0: Tensor) -> PreviewImage:
        assert self._previewer is not None
        # The last latent frame is new; the first ones repeat the previous chunk.
        # The method that core's previewers override has no types and returns nothing.
        return self._previewer.decode_latent_to_preview_image("JPEG", x0[:, :, -1:])  # pyright: ignore[reportReturnType]


def _previewer(latent_format: LatentFormat, reference: Reference) -> latent_preview.LatentPreviewer | None:
    if args.preview_method == LatentPreviewMethod.NoPreviews:
        return None
    device = model_management.get_torch_device()
    known = latent_preview.get_previewer(device, latent_format)
    if known is not None:
        return known
    portrait = shifted(reference.portrait, reference.shift)
    factors, bias = fit_rgb_factors(reference.latents[0], portrait[0, :, 0])
    return latent_preview.Latent2RGBPreviewer(factors.tolist(), bias.tolist())


def fit_rgb_factors(latents: Tensor, portrait: Tensor) -> tuple[Tensor, Tensor]:
    """Least-squares colours of a latent space, from one picture known in both.

    Args:
        latents: [C, T, h, w] of the portrait.
        portrait: [3, H, W] in [-1, 1].

    Returns:
        Factors [C, 3] and bias [3]: rgb in [-1, 1] = latent @ factors + bias.
    """
    frames, height, width = latents.shape[1:]
    colours = torch.nn.functional.adaptive_avg_pool2d(portrait[None].float().cpu(), (height, width))
    target = colours[0].flatten(1).T.repeat(frames, 1).double()
    values = latents.float().cpu().flatten(1).T.double()
    inputs = torch.cat((values, torch.ones_like(values[:, :1])), dim=1)
    penalty = RIDGE * len(inputs) * torch.eye(inputs.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ target).float()
    return solution[:-1], solution[-1]
