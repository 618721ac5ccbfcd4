"""The face landmarks' network: MediaPipe's Face Mesh (Kartynnik et al., 2019), 0.6 million weights.

The weights are those of face_landmark.tflite (see THIRD_PARTY.md), in which batch normalisation is folded into the
convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

WEIGHTS = Path(__file__).with_suffix(".safetensors")

INPUT_SIZE = 192
LANDMARKS = 468

WIDTHS = (16, 32, 64, 128, 128)
"""Channels at each size, from half of the input's on."""

BLOCKS_PER_SIZE = 2
HEAD_WIDTH = 32


class Pointwise(nn.Conv2d):
    """A convolution of one pixel as a product of matrices: for channels that lie together, the faster form on a CPU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 1)

    def forward(self, input: Tensor) -> Tensor:
        """[B, channels_in, H, W] -> [B, channels_out, H, W]."""
        return functional.linear(input.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


class Residual(nn.Module):
    """A depthwise convolution of 3x3 and a pointwise one, added to what came in; PReLU behind the sum."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        # With a stride of 2 the padding is TensorFlow's: at the end only (see _padded).
        padding = 1 if stride == 1 else 0
        self.dw = nn.Conv2d(channels_in, channels_in, 3, stride, padding, groups=channels_in)
        self.pw = Pointwise(channels_in, channels_out)
        self.act = nn.PReLU(channels_out)
        self.stride = stride
        self.widening = channels_out - channels_in

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels_in, H, W] -> [B, channels_out, H / stride, W / stride]."""
        if self.stride == 1:
            return self.act(x + self.pw(self.dw(x)))
        # The channels that are new begin at zero.
        shortcut = functional.pad(functional.max_pool2d(x, 2), (0, 0, 0, 0, 0, self.widening))
        return self.act(shortcut + self.pw(self.dw(_padded(x))))


class Head(nn.Sequential):
    """[B, 128, 6, 6] -> [B, values, 1, 1], by way of 3x3 cells."""

    def __init__(self, blocks: int, values: int) -> None:
        width = WIDTHS[-1]
        super().__init__(
            Residual(width, width, 2),
            *(Residual(width, width) for _ in range(blocks)),
            Pointwise(width, HEAD_WIDTH),
            nn.PReLU(HEAD_WIDTH),
            Residual(HEAD_WIDTH, HEAD_WIDTH),
            nn.Conv2d(HEAD_WIDTH, values, 3),
        )


class FaceMesh(nn.Module):
    """RGB in 0..1 of an upright face to landmarks, and whether there is a face."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 3, stride=2)
        self.act = nn.PReLU(WIDTHS[0])
        self.trunk = nn.Sequential(*_trunk())
        self.landmarks = Head(2, 3 * LANDMARKS)
        self.presence = Head(0, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, 192, 192] -> landmarks [B, 468, 2] (x, y) in pixels of the input, probability of a face [B]."""
        x = self.trunk(self.act(self.stem(_padded(image))))
        # The third number of each is its depth.
        landmarks = self.landmarks(x).flatten(1).unflatten(1, (LANDMARKS, 3))[..., :2]
        return landmarks, self.presence(x).flatten().sigmoid()


def _trunk() -> Iterator[Residual]:
    """The blocks from half of the input's size to a thirty-second of it."""
    before = None
    for width in WIDTHS:
        if before is not None:
            yield Residual(before, width, 2)
        for _ in range(BLOCKS_PER_SIZE):
            yield Residual(width, width)
        before = width


def _padded(x: Tensor) -> Tensor:
    """A row and a column of zeros at the end: what TensorFlow's SAME is for 3x3, a stride of 2 and even sizes."""
    return functional.pad(x, (0, 1, 0, 1))


@cache
def face_mesh(device: torch.device) -> FaceMesh:
    """The network with its weights, in float32, for inference."""
    # It is kept: made in inference mode, it could not be used outside of it.
    with torch.inference_mode(False):
        network = FaceMesh().requires_grad_(False)
        # The file has 16 bits; they are read into the network's 32.
        network.load_state_dict(load_file(WEIGHTS))
        # Depthwise convolutions are faster on a CPU in this layout.
        return network.eval().to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
