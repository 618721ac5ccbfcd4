"""From an IMAGE and a size to the reference that conditions every chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional

from ..models.config import DiTConfig
from ..models.family import spec_by_audio
from ..models.reference import Reference, ReferenceKind, fit_portrait, static_reference, temporal_reference
from .guards import ChunkSize, check_memory
from .messages import quoted
from .model import Checkpoint, talking_head
from .progress import notify
from .tensors import finite_range, picture_values, plain_tensor
from .vae import StockVideoCodec

MODES = {"temporal": ReferenceKind.TRE, "static": ReferenceKind.STATIC}
"""The node's names for the kinds of reference, and those in checkpoints."""
Framing = Callable[[Tensor, int, int, float], tuple[Tensor, list[str]]]
"""(a picture [1, H, W, 3], width, height of the video, ``ModelSpec.face_share``) -> the part that the video shows,
and notes."""

SMALLEST_PORTRAIT = 16
SHAPE_TOLERANCE = 0.02
"""How far the aspect ratios of a mask and its picture may differ: sizes are rounded when pictures are scaled."""
LOWEST_OVERSHOOT = -0.5
"""Scaling overshoots a little; a picture below this has the range -1..1."""
ROUNDING = 1e-3
LITTLE_KEPT = 0.4
"""Share of a picture in the video below which most of it is lost; of a 9:16 portrait a square keeps 0.56."""
MOST_ENLARGED = 2
"""Factor above which a picture is visibly blurred."""
PLAIN = 2 / 255
"""Spread of the values of a channel below which a picture is blank."""


def encode_reference(
    model: Any,
    vae: Any,
    image: Tensor,
    width: int,
    height: int,
    mode: str,
    node_id: str | None,
    mask: Tensor | None = None,
    frame: Framing | None = None,
) -> Reference:
    """Temporal Reference Encoding of a portrait (or its static baseline) for a MODEL.

    width, height: 0 stands for the size that the MODEL was trained for.
    frame: chooses the part of the picture that the video shows.

    Raises:
        ValueError: the image, mask, MODEL or VAE cannot be used; the message names the input.
        MemoryError: main memory has no room for a chunk of that size; nothing was encoded.
    """
    if mode not in MODES:
        raise ValueError(f"mode: {quoted(mode)} is not a choice; use one of {', '.join(MODES)}")
    network = talking_head(model)
    config, frames_per_chunk = network.checkpoint.config, network.checkpoint.sampling.frames_per_chunk
    codec = StockVideoCodec(vae, network, model.load_device)
    rgb, notes = checked_portrait(image, mask)
    _refuse_plain(rgb)
    spec = spec_by_audio(config)
    width, height, rounded = rounded_size(width or spec.size, height or spec.size, config)
    check_memory(model, vae, ChunkSize((width, height), frames_per_chunk))
    if frame is not None:
        rgb, about_face = frame(rgb, width, height, spec.face_share)
        notes = [*notes, *about_face]
    fit = fit_notes(rgb.shape[2], rgb.shape[1], width, height)
    notify(node_id, *notes, *rounded, *fit, *_unknown_mode(network.checkpoint, mode), outside=True)
    # Colours are matched to the portrait on the network's device.
    portrait = fit_portrait(rgb, width, height).to(model.load_device)
    if MODES[mode] is ReferenceKind.STATIC:
        num_latents = config.latent_frames(frames_per_chunk)
        latents = static_reference(codec.encode, portrait, num_latents)
    else:
        latents = temporal_reference(codec.encode, portrait, frames_per_chunk)
    return Reference(latents, portrait, frames_per_chunk)


def preview(reference: Reference) -> Tensor:
    """The portrait as the model sees it, an IMAGE [1, H, W, 3] in 0..1."""
    return (reference.portrait[:, :, 0].movedim(1, -1).float().cpu() + 1) / 2


def _refuse_plain(rgb: Tensor) -> None:
    """Raise ValueError for a picture [1, H, W, 3] of one plain colour."""
    pixels = rgb.flatten(0, 2)
    if float((pixels.amax(dim=0) - pixels.amin(dim=0)).max()) < PLAIN:
        raise ValueError(
            "image: the portrait is one plain colour. Look at the preview of Load Image, which gives this for some "
            "damaged files and for grey pictures of 16 or 32 bits; save the picture again as an 8-bit PNG"
        )


def _unknown_mode(checkpoint: Checkpoint, mode: str) -> list[str]:
    """A note if the MODEL was trained with the other kind of reference, so that the video will look wrong."""
    trained = next((word for word, kind in MODES.items() if kind == checkpoint.reference), mode)
    if trained == mode:
        return []
    return [f"{checkpoint.name} was trained with mode {trained}; with {mode}, the video will look wrong"]


def checked_portrait(image: Any, mask: Any = None) -> tuple[Tensor, list[str]]:
    """One RGB picture [1, H, W, 3] in 0..1 of an IMAGE, and notes on what was changed.

    Areas covered by a MASK (Load Image's covers the transparent areas) and areas that are transparent in the picture's
    own alpha become white.

    Raises:
        ValueError: a batch, an empty or tiny picture, NaN, an unknown number of channels, or a mask of another picture.
    """
    image = plain_tensor("image", image)
    if image.ndim != 4 or 0 in image.shape:
        raise ValueError(f"image: expected an IMAGE [1, H, W, 3], got shape {tuple(image.shape)}")
    batch, height, width, channels = image.shape
    if batch > 1:
        raise ValueError(
            f"image: {batch} portraits in a batch, but a video shows one. For an animated GIF or WebP, or a video, "
            "take the first picture: put ImageFromBatch (batch_index 0, length 1) before this node. For one video per "
            "portrait, put Rebatch Images (batch_size 1) before it: the graph then runs once per portrait"
        )
    if min(height, width) < SMALLEST_PORTRAIT:
        raise ValueError(
            f"image: {width}x{height} is too small for a portrait (at least {SMALLEST_PORTRAIT} pixels a side)"
        )
    if channels not in (1, 3, 4):
        raise ValueError(f"image: {channels} channels; RGB, RGBA and grey are supported")
    image, notes = _within_range(picture_values("image", image))
    rgb = image[..., :3].expand(-1, -1, -1, 3)
    if channels == 1:
        notes.append("the portrait is grey: used as RGB")
    if channels == 4 and bool((image[..., 3] < 1).any()):
        rgb = over_white(rgb, image[..., 3])
        notes.append("the portrait has transparency: composited over white")
    if mask is not None:
        cover, about_mask = checked_mask(mask, width, height)
        rgb = rgb if cover is None else over_white(rgb, 1 - cover)
        notes += about_mask
    return rgb, notes


def _within_range(image: Tensor) -> tuple[Tensor, list[str]]:
    """The picture clipped to 0..1, and a note if that changed it. Raises ValueError for NaN and other ranges."""
    lowest, highest = finite_range("image: the portrait", image)
    if lowest >= 0 and highest <= 1:
        return image, []
    if lowest < LOWEST_OVERSHOOT or float(image.mean()) > 1:
        raise ValueError(
            f"image: the portrait's values reach from {lowest:.3g} to {highest:.3g}, but an IMAGE holds 0 to 1; the "
            "node that made it returns invalid data"
        )
    notes: list[str] = []
    if lowest < -ROUNDING or highest > 1 + ROUNDING:
        notes.append(f"values of the portrait outside of 0 to 1 ({lowest:.3g} to {highest:.3g}) are clipped")
    return image.clamp(0, 1), notes


def fit_notes(width: int, height: int, video_width: int, video_height: int) -> list[str]:
    """Notes if little of a picture of that size is left in the video, or if its pixels are few for the video."""
    scale = max(video_width / width, video_height / height)
    kept_width, kept_height = min(width, round(video_width / scale)), min(height, round(video_height / scale))
    notes = []
    if kept_width * kept_height < LITTLE_KEPT * width * height:
        notes.append(f"of {width}x{height} pixels only the middle {kept_width}x{kept_height} is in the video")
    if scale > MOST_ENLARGED:
        size = f"{video_width}x{video_height}"
        notes.append(f"{kept_width}x{kept_height} pixels are enlarged to {size}: the video will be blurred")
    return notes


def over_white(rgb: Tensor, alpha: Tensor) -> Tensor:
    """``rgb`` [1, H, W, 3] with opacity ``alpha`` [1, H, W] over white."""
    alpha = alpha[..., None]
    return rgb * alpha + (1 - alpha)


def checked_mask(mask: Any, width: int, height: int) -> tuple[Tensor | None, list[str]]:
    """A MASK [1, H, W] in 0..1 for a picture of that size, None if it covers nothing, and notes on what it does.

    Load Image gives an empty one of 64x64 for a picture without transparency.

    Raises:
        ValueError: it is of another shape, covers everything, or holds NaN.
    """
    mask = picture_values("mask", plain_tensor("mask", mask))
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or 0 in mask.shape:
        raise ValueError(f"mask: expected a MASK [1, H, W], got shape {tuple(mask.shape)}")
    batch, (mask_height, mask_width) = mask.shape[0], mask.shape[1:]
    mask = mask[:1]
    lowest, highest = finite_range("mask: it", mask)
    if highest <= 0:
        return None, []
    if lowest >= 1:
        raise ValueError("mask: it covers the whole picture, which would become white. Invert it with InvertMask")
    if abs(mask_width * height - mask_height * width) > SHAPE_TOLERANCE * mask_height * width:
        raise ValueError(
            f"mask: it is {mask_width}x{mask_height}, the picture {width}x{height}, a different aspect ratio; connect "
            "the MASK of the same picture"
        )
    notes = ["masked areas are white"]
    if batch > 1:
        notes.append(f"the first of {batch} masks in the batch is used")
    if (mask_height, mask_width) != (height, width):
        mask = functional.interpolate(mask[None], (height, width), mode="bilinear", antialias=True)[0]
        notes.append(f"the mask is scaled from {mask_width}x{mask_height} to {width}x{height}")
    return mask.clamp(0, 1), notes


def rounded_size(width: int, height: int, config: DiTConfig) -> tuple[int, int, list[str]]:
    """The nearest size that the MODEL can make, and a note if it differs from the requested one."""
    step_y, step_x = config.pixel_multiple
    fitted = max(step_x, round(width / step_x) * step_x), max(step_y, round(height / step_y) * step_y)
    if fitted == (width, height):
        return width, height, []
    note = f"{width}x{height} is not a multiple of {step_x}x{step_y}: the video will be {fitted[0]}x{fitted[1]}"
    return *fitted, [note]
