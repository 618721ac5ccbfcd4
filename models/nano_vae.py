"""nano's VAE: compact, causal in time (stride 4), 16 x 16 in space, made for CPUs.

Pixels are folded into channels first, so that every convolution works at an eighth of the resolution or less; time is
folded the same way (the first frame alone, then groups of four) and mixed causally at the lowest resolution, where a
convolution over two time taps is a 1x1 convolution over stacked channels (CPUs lack fast 3D convolutions).

Between pixels and latents, tensors are [B*T, h, w, C] ("sites"): a 1x1 convolution there is one matrix product without
a copy, and the other convolutions read the same memory as channels-last.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from .checkpoint import CheckpointError, differences
from .codec import DecodedParts, Views, frames_before
from .config import ConfigError, Metadata, check_integer, check_number, parse_config
from .pictures import EVERYWHERE, Window

PATCH = 8
CELL = PATCH // 2
STRIDE_T = 4
SPATIAL_STRIDE = 16


@dataclass(frozen=True)
class NanoVAEConfig:
    """Widths at an eighth (``width``) and a sixteenth (2 x ``width``) of the resolution and blocks at each.

    Latents are multiplied by ``latent_scale`` (one number for all channels: whitening each channel would turn the weak
    ones into noise for the diffusion model), so that their overall standard deviation is 1.
    """

    latent_channels: int = 48
    width: int = 128
    encoder_blocks: int = 2
    decoder_blocks: int = 3
    latent_scale: float = 1.0

    def __post_init__(self) -> None:
        check_integer("latent_channels", self.latent_channels, 1, 4096)
        check_integer("width", self.width, 2, 16384)
        check_integer("encoder_blocks", self.encoder_blocks, 0, 100)
        check_integer("decoder_blocks", self.decoder_blocks, 0, 100)
        check_number("latent_scale", self.latent_scale, 1e-6, 1e6)

    def to_metadata(self) -> dict[str, str]:
        return {"nano_vae": json.dumps(dataclasses.asdict(self))}

    @classmethod
    def from_metadata(cls, metadata: Metadata | None) -> NanoVAEConfig:
        if not metadata or "nano_vae" not in metadata:
            raise ConfigError("not a nano VAE: the file's metadata has no `nano_vae` entry")
        return parse_config(cls, metadata["nano_vae"], "the `nano_vae` metadata")


def pointwise(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution of sites."""
    return nn.functional.linear(x, convolution.weight.flatten(1), convolution.bias)


def as_images(x: Tensor) -> Tensor:
    """Sites [N, h, w, C] as what convolutions take, without a copy: [N, C, h, w] in channels-last memory."""
    return x.movedim(-1, 1)


def as_sites(x: Tensor) -> Tensor:
    """[N, C, h, w] as sites [N, h, w, C], copied unless it is in channels-last memory."""
    return x.movedim(1, -1).contiguous()


class Block(nn.Module):
    """Residual block: 5x5 depthwise convolution, then a two-layer perceptron per site; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.expand = nn.Conv2d(width, 2 * width, 1)
        self.project = nn.Conv2d(2 * width, width, 1)
        nn.init.zeros_(self.project.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Sites -> sites."""
        hidden = pointwise(self.expand, as_sites(self.depthwise(as_images(x))))
        return x + pointwise(self.project, nn.functional.silu(hidden))


class CausalMix(nn.Module):
    """A causal convolution over two time steps: each latent frame depends on itself and the previous one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.past = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.past.weight)

    def forward(self, x: Tensor, num_latents: int) -> Tensor:
        """Sites [B*T, h, w, C] -> the same; the first frame of each clip depends on no other."""
        frames = x.unflatten(0, (-1, num_latents))
        past = nn.functional.silu(pointwise(self.past, frames[:, :-1]))
        return torch.cat((frames[:, :1], frames[:, 1:] + past), dim=1).flatten(0, 1)


class Encoder(nn.Module):
    def __init__(self, config: NanoVAEConfig) -> None:
        super().__init__()
        fine, coarse, pixels = config.width, 2 * config.width, 3 * PATCH * PATCH
        self.first = nn.Conv2d(pixels, fine, 1)
        self.later = nn.Conv2d(STRIDE_T * pixels, fine, 1)
        self.fine = nn.Sequential(*(Block(fine) for _ in range(config.encoder_blocks)))
        self.down = nn.Conv2d(4 * fine, coarse, 1)
        self.coarse = nn.ModuleList(Block(coarse) for _ in range(config.encoder_blocks))
        self.mix = nn.ModuleList(CausalMix(coarse) for _ in range(config.encoder_blocks))
        self.out = nn.Conv2d(coarse, config.latent_channels, 1)

    def forward(self, first: Tensor, later: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] and [B, T-1, 4*3, H, W] -> [B, C, T, H/16, W/16]."""
        frames = [pointwise(self.first, _fold(first, PATCH))[:, None]]
        if later.shape[1]:
            frames.append(pointwise(self.later, _fold(later.flatten(0, 1), PATCH)).unflatten(0, later.shape[:2]))
        x = torch.cat(frames, dim=1)
        num_latents = x.shape[1]
        x = self.fine(x.flatten(0, 1))
        x = pointwise(self.down, _fold(as_images(x), 2))
        for block, mix in zip(self.coarse, self.mix, strict=True):
            x = mix(block(x), num_latents)
        return rearrange(pointwise(self.out, x), "(b t) h w c -> b c t h w", t=num_latents)


class Decoder(nn.Module):
    def __init__(self, config: NanoVAEConfig) -> None:
        super().__init__()
        finest, fine, coarse = config.width // 2, config.width, 2 * config.width
        self.stem = nn.Conv2d(config.latent_channels, coarse, 3, padding=1)
        self.coarse = nn.ModuleList(Block(coarse) for _ in range(config.decoder_blocks))
        self.mix = nn.ModuleList(CausalMix(coarse) for _ in range(config.decoder_blocks))
        self.up = nn.Conv2d(coarse, 4 * fine, 1)
        self.fine = nn.Sequential(*(Block(fine) for _ in range(config.decoder_blocks)))
        self.up_fine = nn.Conv2d(fine, 4 * finest, 1)
        self.finest = Block(finest)
        pixels = 3 * CELL**2
        self.first = nn.Conv2d(finest, pixels, 3, padding=1)
        self.later = nn.Conv2d(finest, STRIDE_T * pixels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Latents [B, C, T, h, w] -> pixels [B, 3, 1 + 4*(T-1), 16h, 16w]."""
        return self.paint(self.features(z), 0, z.shape[2])

    def features(self, z: Tensor) -> Tensor:
        """Latents [B, C, T, h, w] -> [B, T, h, w, C'], from which each latent frame is painted alone."""
        num_latents = z.shape[2]
        x = as_sites(self.stem(as_images(rearrange(z, "b c t h w -> (b t) h w c"))))
        for block, mix in zip(self.coarse, self.mix, strict=True):
            x = mix(block(x), num_latents)
        return x.unflatten(0, (-1, num_latents))

    def paint(self, x: Tensor, first: int, stop: int) -> Tensor:
        """The pixels [B, 3, f, 16h, 16w] of the latent frames [first, stop) of ``x``, which ``features`` gave."""
        pixels = x.new_empty(x.shape[0], 3, _frames(first, stop), *_size(x))
        done = 0
        # On a CPU, one frame at a time fits the cache and needs no new memory from the system.
        for latents in self._latents(first, stop, x.device.type == "cpu" and not x.requires_grad):
            head, frames = self._head(latents.start)
            target = pixels[:, :, done : done + frames * (latents.stop - latents.start)]
            _place(head(self._finest(x[:, latents])), target, frames)
            done += target.shape[2]
        return pixels

    def look(self, x: Tensor, first: int, stop: int, window: Window, frame: int) -> Views:
        """The ``window`` of what ``paint`` gives, and the whole of frame ``frame`` of each latent frame."""
        (height, width), (rows, columns) = _size(x), window
        shape = len(range(height)[rows]), len(range(width)[columns])
        part = x.new_empty(x.shape[0], 3, _frames(first, stop), *shape)
        whole = x.new_empty(x.shape[0], 3, stop - first, height, width)
        done = 0
        for index, latent in enumerate(range(first, stop)):
            head, frames = self._head(latent)
            finest = self._finest(x[:, latent : latent + 1])
            _place(_one_frame(head, finest, frames, min(frame, frames - 1)), whole[:, :, index : index + 1], 1)
            part[:, :, done : done + frames] = _in_window(head, finest, frames, window)
            done += frames
        return Views(part, whole)

    def _latents(self, first: int, stop: int, one_by_one: bool) -> list[slice]:
        """The latent frames that are painted together: the first one is painted alone."""
        if one_by_one:
            return [slice(latent, latent + 1) for latent in range(first, stop)]
        alone = [slice(0, 1)] if first == 0 < stop else []
        rest = slice(max(first, 1), stop)
        return alone + [rest] * (rest.start < stop)

    def _head(self, latent: int) -> tuple[nn.Conv2d, int]:
        """What paints a latent frame, and the number of its frames."""
        return (self.later, STRIDE_T) if latent else (self.first, 1)

    def _finest(self, x: Tensor) -> Tensor:
        """Sites [B, T, h, w, C] -> what a head takes, [B*T, C', 4h, 4w]."""
        x = self.fine(_unfold(pointwise(self.up, x.flatten(0, 1)), 2))
        return as_images(self.finest(_unfold(pointwise(self.up_fine, x), 2)))


def _frames(first: int, stop: int) -> int:
    return frames_before(stop, STRIDE_T) - frames_before(first, STRIDE_T)


def _size(x: Tensor) -> tuple[int, int]:
    """The size of the pictures whose coarse sites are [B, T, h, w, C]."""
    return x.shape[2] * SPATIAL_STRIDE, x.shape[3] * SPATIAL_STRIDE


def _one_frame(head: nn.Conv2d, x: Tensor, frames: int, frame: int) -> Tensor:
    """What ``head`` gives for one of its ``frames``: their channels follow one another."""
    channels = head.out_channels // frames
    own = slice(frame * channels, (frame + 1) * channels)
    return nn.functional.conv2d(x, head.weight[own], None if head.bias is None else head.bias[own], padding=1)


def _in_window(head: nn.Conv2d, x: Tensor, frames: int, window: Window) -> Tensor:
    """The ``window`` of the pixels that ``head`` gives: [B, 3, frames, h, w]."""
    inner, outer, crop = [], [], []
    for side, length in zip(window, x.shape[-2:], strict=True):
        pixels = range(length * CELL)[side]
        start, stop = pixels.start // CELL, -(-pixels.stop // CELL)
        # With the neighbours that the convolution reads.
        outer.append(slice(max(0, start - 1), min(stop + 1, length)))
        inner.append(slice(start - outer[-1].start, stop - outer[-1].start))
        crop.append(slice(pixels.start - start * CELL, pixels.stop - start * CELL))
    values = head(x[(..., *outer)])[(..., *inner)]
    height, width = (length * CELL for length in values.shape[-2:])
    pixels = x.new_empty(x.shape[0], 3, frames, height, width)
    _place(values, pixels, frames)
    return pixels[(..., *crop)]


def _fold(x: Tensor, patch: int) -> Tensor:
    """[N, C, H, W] -> sites [N, H/patch, W/patch, C*patch*patch] in ``pixel_unshuffle``'s order of channels."""
    return rearrange(x, "n c (h p) (w q) -> n h w (c p q)", p=patch, q=patch)


def _unfold(x: Tensor, patch: int) -> Tensor:
    """Sites [N, h, w, C*patch*patch] -> sites [N, h*patch, w*patch, C]."""
    return as_sites(nn.functional.pixel_shuffle(as_images(x), patch))


def _place(values: Tensor, pixels: Tensor, frames: int) -> None:
    """Write ``values`` [B*T, frames*3*p*p, h, w] to where they belong in ``pixels`` [B, 3, T*frames, h*p, w*p]."""
    batch, patch = pixels.shape[0], CELL
    source = rearrange(values, "(b t) (f c p q) h w -> b t f c p q h w", b=batch, f=frames, p=patch, q=patch)
    # A view: to split dimensions never copies.
    target = rearrange(pixels, "b c (t f) (h p) (w q) -> b t f c p q h w", f=frames, p=patch, q=patch)
    target.copy_(source)


class NanoVAE(nn.Module):
    """Video autoencoder: pixels [B, 3, F, H, W] in [-1, 1] <-> latents [B, C, T, H/16, W/16], F = 1 + 4*(T-1)."""

    def __init__(self, config: NanoVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        # PyTorch's stub has no overload of `to` that takes a memory format alone.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def encode(self, pixels: Tensor) -> Tensor:
        """Raises ValueError where frames or size are not multiples of the strides."""
        frames, height, width = pixels.shape[2:]
        if (frames - 1) % STRIDE_T or height % SPATIAL_STRIDE or width % SPATIAL_STRIDE:
            raise ValueError(
                f"nano's VAE takes 1 + k x {STRIDE_T} frames in multiples of {SPATIAL_STRIDE} pixels, "
                f"got {frames} frames of {width}x{height}"
            )
        groups = (frames - 1) // STRIDE_T
        later = rearrange(pixels[:, :, 1:], "b c (t f) h w -> b t (f c) h w", t=groups, f=STRIDE_T)
        return self.encoder(pixels[:, :, 0], later) * self.config.latent_scale

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents / self.config.latent_scale)

    def decode_parts(self, latents: Tensor) -> NanoParts:
        """What decodes parts of ``latents``."""
        return NanoParts(self.decoder, self.decoder.features(latents / self.config.latent_scale))

    @classmethod
    def from_checkpoint(cls, sd: Mapping[str, Tensor], metadata: Metadata | None) -> NanoVAE:
        """The VAE of a nano checkpoint, in float32 for inference.

        Raises:
            ConfigError: the metadata does not describe a nano VAE.
            CheckpointError: the tensors are not those that it describes.
        """
        config = NanoVAEConfig.from_metadata(metadata)
        with torch.device("meta"):
            expected = {name: tensor.shape for name, tensor in cls(config).state_dict().items()}
        # Compared before anything is allocated.
        unlike = differences(expected, sd, [name for name in sd if name not in expected])
        if unlike:
            raise CheckpointError(f"{unlike}: the file is incomplete, or its `nano_vae` metadata is wrong ({config})")
        vae = cls(config)
        vae.load_state_dict(sd)
        return vae.float().eval().requires_grad_(False)


@dataclass(frozen=True)
class NanoParts:
    """Parts of the latents whose ``features`` a decoder gave."""

    decoder: Decoder
    features: Tensor

    def __call__(self, first: int, stop: int) -> Tensor:
        """The pixels of the latents [first, stop)."""
        return self.decoder.paint(self.features, first, stop)

    def views(self, first: int, stop: int, window: Window, frame: int) -> Views:
        """See ``codec.Parts``."""
        if window == EVERYWHERE:
            return DecodedParts(self(first, stop), first, STRIDE_T).views(first, stop, window, frame)
        return self.decoder.look(self.features, first, stop, window, frame)
