"""The face detector's network: YuNet (Wu, Peng and Yu, Machine Intelligence Research 20, 2023), 54 thousand weights.

The weights are those of libfacedetection (see THIRD_PARTY.md), in which batch normalisation is folded into the
convolutions; the modules here are named as its tensors are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
SIZE_MULTIPLE = STRIDES[-1]


class Separable(nn.Module):
    """A pointwise convolution, then a depthwise one of 3x3; ReLU behind both unless it is a head."""

    def __init__(self, channels_in: int, channels_out: int, *, relu: bool = True) -> None:
        super().__init__()
        self.pw = nn.Conv2d(channels_in, channels_out, 1)
        self.dw = nn.Conv2d(channels_out, channels_out, 3, padding=1, groups=channels_out)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels_in, H, W] -> [B, channels_out, H, W]."""
        x = self.dw(self.pw(x))
        return functional.relu(x) if self.relu else x


class Stem(nn.Module):
    """The first stage, at half the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.dp = Separable(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, channels, H / 2, W / 2]."""
        return self.dp(functional.relu(self.conv(x)))


class Stage(nn.Module):
    """Two separable convolutions, the second of which may widen."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.dp1 = Separable(channels_in, channels_in)
        self.dp2 = Separable(channels_in, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels_in, H, W] -> [B, channels_out, H, W]."""
        return self.dp2(self.dp1(x))


class YuNet(nn.Module):
    """BGR pixels in 0..255 to anchor-free predictions on three grids, decoded to pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem(16)
        self.stages = nn.ModuleList(Stage(*widths) for widths in ((16, 32), (32, 64), (64, 64), (64, 64), (64, 64)))
        self.neck = nn.ModuleList(Separable(64, 64) for _ in STRIDES)
        heads = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
        self.heads = nn.ModuleDict(
            {name: nn.ModuleList(Separable(64, n, relu=False) for _ in STRIDES) for name, n in heads.items()}
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[1, 3, H, W], H and W multiples of 32 -> scores [N], boxes [N, 4] (x, y, width, height), landmarks [N, 5, 2].

        Landmarks are the right eye, left eye, nose, right and left corner of the mouth, of the person.
        """
        scores, boxes, landmarks = [], [], []
        for level, x in enumerate(self._pyramid(image)):
            stride = STRIDES[level]
            values = {name: self._flat(heads, level, x) for name, heads in self.heads.items()}
            points = _grid(x.shape[-2], x.shape[-1], stride, x.device)
            # A cell is a face where it is both: one of the class, and one that the box is good for.
            scores.append((values["cls"].sigmoid() * values["obj"].sigmoid()).sqrt()[:, 0])
            size = values["bbox"][:, 2:].exp() * stride
            boxes.append(torch.cat((values["bbox"][:, :2] * stride + points - size / 2, size), dim=1))
            landmarks.append(values["kps"].unflatten(1, (5, 2)) * stride + points[:, None])
        return torch.cat(scores), torch.cat(boxes), torch.cat(landmarks)

    @staticmethod
    def _flat(heads: nn.Module, level: int, x: Tensor) -> Tensor:
        """A head's values [N, n] on the grid of a level."""
        assert isinstance(heads, nn.ModuleList)
        return heads[level](x)[0].flatten(1).T

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        """Features [1, 64, H / stride, W / stride] of each stride, the coarser added to the finer."""
        x = functional.max_pool2d(self.stem(image), 2)
        x = self.stages[1](self.stages[0](x))
        levels = []
        for stage in list(self.stages)[2:]:
            x = stage(functional.max_pool2d(x, 2))
            levels.append(x)
        for level in reversed(range(len(STRIDES))):
            if level + 1 < len(STRIDES):
                levels[level] = levels[level] + functional.interpolate(levels[level + 1], scale_factor=2.0)
            levels[level] = self.neck[level](levels[level])
        return levels


def _grid(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """The pixels [height * width, 2] (x, y) that the cells stand for."""
    rows = torch.arange(height, device=device) * stride
    columns = torch.arange(width, device=device) * stride
    return torch.stack((columns.repeat(height), rows.repeat_interleave(width)), dim=1).float()
