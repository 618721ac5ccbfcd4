"""Measure how fast frames go to disk when they arrive without a pause, and how large they are there.

The frames are a photograph that sways, turns its mouth and has sensor noise: --noise 0 is as smooth as generated video.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from ..media import SpoolHeader, SpoolReader, SpoolWriter
from ..media.segments import Frames
from .command import command_parser

PHOTOGRAPH = Path(__file__).parents[1] / "tests" / "data" / "astronaut.jpg"
CHUNK_FRAMES = 28


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command_parser(" spool", __doc__)
    parser.add_argument("--image", type=Path, default=PHOTOGRAPH, help="the photograph (default: %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="width and height in pixels (default: %(default)s)")
    parser.add_argument("--chunks", type=int, default=40, help="chunks of 28 frames (default: %(default)s)")
    parser.add_argument("--noise", type=float, default=0.0, help="noise in levels of 255 (default: %(default)s)")
    options = parser.parse_args(arguments)
    frames = moving_photograph(options.image, options.size, CHUNK_FRAMES, options.noise)
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        with SpoolWriter(folder, SpoolHeader("benchmark", options.size, options.size)) as writer:
            for _ in range(options.chunks):
                writer.append(frames)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        reader = SpoolReader(folder)
        count = reader.num_frames
        size = sum(segment.video_bytes for segment in reader.segments)
        codecs = Counter(segment.codec for segment in reader.segments)
        lossless = all(map(np.array_equal, reader.frames(count - CHUNK_FRAMES), frames))
    print(
        f"{count} frames of {options.size}x{options.size}: {count / wall:.0f} per second, {count / cpu:.0f} per second "
        f"of CPU time, {size / count / 1000:.0f} kB each, {'lossless' if lossless else 'NOT LOSSLESS'}; "
        f"chunks by codec: {dict(codecs)}"
    )
    return 0 if lossless else 1


def moving_photograph(path: Path, size: int, count: int, noise: float) -> Frames:
    """uint8 [count, size, size, 3]: the photograph's centre under a sway of the head and movements of the mouth."""
    with Image.open(path) as image:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = (
            image.convert("RGB")
            .crop((left, top, left + side, top + side))
            .resize((size, size), Image.Resampling.LANCZOS)
        )
    picture = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float()
    generator = torch.Generator().manual_seed(0)
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    head, mouth = torch.exp(-2 * (x**2 + y**2)), torch.exp(-20 * x**2 - 30 * (y - 0.2) ** 2)
    frames: list[Tensor] = []
    for index in range(count):
        seconds = index / 25
        dx = 0.02 * math.sin(2 * seconds) * head
        dy = 0.012 * math.cos(1.3 * seconds) * head + 0.03 * math.sin(12 * seconds) * mouth
        grid = torch.stack((x + dx, y + dy), dim=-1)[None]
        moved = grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=True)[0]
        moved += noise * torch.randn(moved.shape, generator=generator)
        frames.append(moved.round().clamp(0, 255).byte().permute(1, 2, 0))
    return torch.stack(frames).numpy()


if __name__ == "__main__":
    sys.exit(main())
