"""An open mouth in plausible colours.

Guidance opens a mouth further, and drives its colours beyond what a mouth can have: bluish teeth brighter than the
face, black holes, bright and dark spots on lips. Between the lips, a pixel's lightness is kept, and its colour becomes
that of teeth, tongue or throat in the portrait's light. Lips are limited to the range of the portrait's colours
and tints around its lips.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from .landmarks import (
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    LIPS,
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
    UNDER_EYES,
    UPPER_INNER_LIP,
    UPPER_OUTER_LIP,
)
from .pictures import LUMA, filled, grown, heights_along, luma_of, pixel_places
from .transfer import send

# Throat, tongue, gums and teeth: their lightness and their colours, as shares of what is white in the portrait's light.
LIGHTNESS = (0.0, 0.3, 0.6, 1.0)
COLORS = ((0.20, 0.06, 0.07), (0.42, 0.18, 0.18), (0.75, 0.52, 0.49), (0.98, 0.95, 0.90))
# How much of these colours is used.
OPACITY = 0.85
# The share of an eye's pixels that is its white, the fewest pixels to tell, and how much of its tint is used.
EYE_WHITE, FEWEST, TINT = 0.2, 8, 0.5
# Teeth are about as much brighter than light skin.
BRIGHTER = 1.25
# Nothing white is darker.
DARKEST = 0.05
# The edge between lips and mouth: how far it reaches onto the lips, and how soft it is, in widths of the mouth.
REACH, SOFT = 0.02, 0.04
# How far around the lips colours stay in the portrait's range, in widths of the mouth, and the shares of the portrait's
# pixels there that are darker than that range's ends.
AROUND_LIPS, EXTREMES = 0.22, (0.02, 0.98)
# How far lips may move from where they are in the portrait, in widths of the mouth.
ROOM = 1.0


class MouthColors:
    """The mouth of one portrait."""

    def __init__(self, portrait: Tensor, points: Tensor) -> None:
        """``portrait`` [1, 3, H, W] in [-1, 1]; ``points`` [468, 2] are its landmarks in pixels, on the CPU."""
        height, width = portrait.shape[-2:]
        lips = points[[*UPPER_INNER_LIP, *LOWER_INNER_LIP]]
        self._width = float((lips[0] - lips[len(UPPER_INNER_LIP) - 1]).norm().clamp_min(1))
        low, high = (
            (lips.amin(0) - ROOM * self._width).int().tolist(),
            (lips.amax(0) + ROOM * self._width).int().tolist(),
        )
        (left, right), (top, bottom) = (
            (min(max(start, 0), length - 1), min(max(stop, 1), length))
            for start, stop, length in zip(low, high, (width, height), strict=True)
        )
        self._window = slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))
        white = white_of(portrait[0].float().cpu(), points)
        colors = torch.tensor(COLORS) * white
        self._white = float(white @ torch.tensor(LUMA))
        self._colors = send(colors * 2 - 1, portrait.device)
        self._places = send(pixel_places(height, width)[self._window], portrait.device)
        contours = (UPPER_INNER_LIP, LOWER_INNER_LIP, UPPER_OUTER_LIP, LOWER_OUTER_LIP)
        self._lips = [send(torch.tensor(contour), portrait.device) for contour in contours]
        self._range = self._range_of(portrait, points)

    def apply(self, frames: Tensor, points: Tensor, strength: Tensor) -> None:
        """Change ``frames`` [T, 3, H, W] in [-1, 1] with landmarks ``points`` [T, 468, 2], in place.

        ``strength`` [T] is 0..1.
        """
        mouth = frames[(..., *self._window)]
        inside, lips = (mask[:, None] * strength.view(-1, 1, 1, 1) for mask in self._masks(points))
        graded = self._graded(mouth)
        mouth.lerp_(self._limited(mouth), lips)
        mouth.lerp_(graded, OPACITY * inside)

    def _limited(self, mouth: Tensor) -> Tensor:
        """Pixels [T, 3, h, w] with tints, then with colours, in the portrait's range."""
        low, high = self._range
        luma = luma_of(mouth)
        tints = torch.minimum(torch.maximum(_tints(mouth, luma), low[3:]), high[3:])
        warmth, greenness = tints.split(1, dim=1)
        of_red, of_green, of_blue = LUMA
        green = luma + greenness
        blue = (luma - of_green * green - of_red * warmth) / (of_red + of_blue)
        colors = torch.cat((blue + warmth, green, blue), dim=1)
        return torch.minimum(torch.maximum(colors, low[:3]), high[:3])

    def _range_of(self, portrait: Tensor, points: Tensor) -> Tensor:
        """The range of the portrait's lips and of what is around them, in colours and tints: its ends [2, 5, 1, 1]."""
        height, width = portrait.shape[-2:]
        lips = filled(points[list(LIPS)], pixel_places(height, width))
        around = grown(lips, AROUND_LIPS * self._width)[0, 0] > 0
        pixels = portrait.float().cpu()
        values = torch.cat((pixels, _tints(pixels, luma_of(pixels))), dim=1)[0, :, around]
        if not values.shape[1]:
            return send(torch.tensor((-2.0, 2.0)).view(2, 1, 1, 1).expand(2, 5, 1, 1), portrait.device)
        return send(values.quantile(torch.tensor(EXTREMES), dim=1)[..., None, None], portrait.device)

    def _masks(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """1 between the lips, and 1 on and around them, with soft edges: each [T, h, w] of the window."""
        corner, other = points[:, UPPER_INNER_LIP[0]], points[:, UPPER_INNER_LIP[-1]]
        along = (other - corner) / (other - corner).norm(dim=-1, keepdim=True).clamp_min(1)
        axes = torch.stack((along, torch.stack((-along[:, 1], along[:, 0]), dim=-1)), dim=-1)
        across, down = ((self._places - corner[:, None, None]).flatten(1, 2) @ axes).unbind(-1)
        upper, lower, over, under = (
            heights_along(across, (points[:, lip] - corner[:, None]) @ axes) for lip in self._lips
        )
        soft = max(1.0, SOFT * self._width)
        edge = torch.minimum(down - upper, lower - down) + REACH * self._width
        inside = (edge / soft).clamp(0, 1) * ((lower - upper) / (2 * soft)).clamp(0, 1)
        # Beyond the corners, as far as above and below.
        beyond = torch.minimum(across, (other - corner).norm(dim=-1)[:, None] - across)
        edge = torch.minimum(torch.minimum(down - over, under - down), beyond) + AROUND_LIPS * self._width
        lips = (edge / (2 * soft)).clamp(0, 1)
        return inside.unflatten(1, self._places.shape[:2]), lips.unflatten(1, self._places.shape[:2])

    def _graded(self, mouth: Tensor) -> Tensor:
        """The colours that belong to the lightness of pixels [T, 3, h, w]."""
        luma = (luma_of(mouth) + 1) / (2 * self._white)
        graded = self._colors[0].view(3, 1, 1).expand_as(mouth)
        for step, (low, high) in enumerate(itertools.pairwise(LIGHTNESS)):
            share = ((luma - low) / (high - low)).clamp(0, 1)
            graded = graded + (self._colors[step + 1] - self._colors[step]).view(3, 1, 1) * share
        return graded


def _tints(pictures: Tensor, luma: Tensor) -> Tensor:
    """Warmth (red minus blue) and greenness (green minus luma) of pictures [T, 3, h, w]: [T, 2, h, w]."""
    red, green, blue = pictures.split(1, dim=1)
    return torch.cat((red - blue, green - luma), dim=1)


def white_of(portrait: Tensor, points: Tensor) -> Tensor:
    """The colour [3] in 0..1 of something white in the light of a portrait [3, H, W] in [-1, 1].

    It is the white of the eyes, or as bright as the cheeks where that is darker (eyes may be closed, or small).
    """
    luma = torch.tensor(LUMA)
    height, width = portrait.shape[-2:]
    picture, places = (portrait + 1) / 2, pixel_places(height, width)
    lids = ((RIGHT_UPPER_LID, RIGHT_LOWER_LID), (LEFT_UPPER_LID, LEFT_LOWER_LID))
    eyes = [picture[:, filled(points[[*upper, *reversed(lower)]], places)[0, 0] > 0] for upper, lower in lids]
    cheeks = [points[place].round().int().tolist() for place in UNDER_EYES]
    skin = torch.stack([picture[:, min(max(y, 0), height - 1), min(max(x, 0), width - 1)] for x, y in cheeks]).mean(0)
    pixels = torch.cat(eyes, dim=1)
    white, brightness = skin, BRIGHTER * float(luma @ skin)
    if pixels.shape[1] >= FEWEST:
        brightest = (luma @ pixels).topk(max(1, round(EYE_WHITE * pixels.shape[1]))).indices
        eye = pixels[:, brightest].mean(dim=1)
        if luma @ eye >= brightness:
            white, brightness = eye, float(luma @ eye)
    tint = white / (luma @ white).clamp_min(1e-3)
    return (max(brightness, DARKEST) * torch.lerp(torch.ones(3), tint, TINT)).clamp(0, 1)
