"""Detail transfer: what a VAE loses of the portrait is given back to the frames, moved as the face has moved.

A small VAE blurs eyes, skin and hair. How it shows the portrait is known: the portrait's own round trip through it. The
optical flow from the round trip to each frame (Lucas and Kanade, 1981, from coarse to fine) moves the portrait along.
Where the frame looks like the moved round trip, the moved portrait takes its place. An open mouth or a closed lid does
not, and keeps the VAE's pixels. Where a face is known, lids are drawn, the skin around the mouth is moved by landmarks,
and the movement of the head is smoothed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .eyelids import Eyelids
from .pictures import blurred
from .placing import continue_border, kept
from .reference import Shift
from .skin import MovedSkin, around_lower_face
from .transfer import send

# The flow's pyramid has pictures of half the frame's size, a quarter and so on, down to about this many pixels.
COARSEST = 16
# Gauss-Newton steps at each of its levels, and at the finest, where little is left to do.
STEPS, FINEST_STEPS = 3, 1
# Standard deviation of the flow's windows and of its smoothing after each step, in pixels at half a level's size, where
# both are computed: a quarter of the work. What this loses is smaller than the windows.
WINDOW_SIGMA, FLOW_SIGMA = 1.25, 0.5
# Added to squared gradients (of luma in [-1, 1]): where a window has no edge, the flow stays as it was.
DAMPING = 2e-3
# Root mean square difference (frames are in [-1, 1]) at which the portrait weighs 0.6, and the Gaussian over which it
# is averaged, in pixels of half the frame's size.
TOLERANCE, CONFIDENCE_SIGMA = 0.06, 2.0
# The share of the local contrast that is tolerated besides: half a pixel of error in the flow is much on an eye.
CONTRAST_TOLERANCE = 0.25
# The distance from what is lost at which the flow is that of the rest, in pixels.
SEEN_BOTH = 12
# The Gaussian over which the head's steadied movement is averaged, in pixels of an eighth of the frame's size, and the
# confidence below which a place says nothing about it.
STEADY_SIGMA, LITTLE_SEEN = 2.0, 1e-2
# A CPU takes a few frames at a time, which stay in its cache; a GPU a chunk of 512x512, of which it holds several
# copies.
CPU_FRAMES, GPU_PIXELS = 4, 33 * 512 * 512


@dataclass(frozen=True)
class DetailTransfer:
    """What is needed of the portrait.

    ``portrait`` [1, 3, H, W] in [-1, 1]. ``round_trip`` [1, 4, H/2, W/2] is at half the size; its fourth channel is the
    squared difference that is tolerated. ``pyramid`` is its luma [1, 1, h, w] at each level, coarsest first.
    ``lost`` [1, 1, H, W] is 1 where frames hold the portrait itself, because the network had it moved by ``shift`` (see
    ``placing``). ``eyelids`` and ``skin`` are the portrait's, for blinks and around the mouth. ``stride`` is the
    number of frames of one latent frame. ``lifeless`` [1, 1, H, W] is 1 where nothing moves but the head: there, frames
    never differ from the moved portrait other than by mistake.
    """

    portrait: Tensor
    round_trip: Tensor
    pyramid: tuple[Tensor, ...]
    lost: Tensor
    shift: Shift = (0, 0)
    stride: int = 1
    eyelids: Eyelids | None = None
    skin: MovedSkin | None = None
    lifeless: Tensor | None = None

    @classmethod
    def of(
        cls,
        portrait: Tensor,
        round_trip: Tensor,
        face: Tensor | None = None,
        shift: Shift = (0, 0),
        stride: int = 1,
        mouth_alone: bool = False,
    ) -> DetailTransfer:
        """``portrait`` and ``round_trip`` [3, H, W] in [-1, 1], of at least 16 pixels a side.

        ``face`` [468, 2] are the portrait's landmarks in 0..1, on the CPU. Without them, lids stay open, and chins are
        the VAE's. With ``mouth_alone``, nothing but the mouth is left to the frames.
        """
        still = round_trip[None].float()
        small = functional.avg_pool2d(still, 2)
        contrast = blurred(small.square(), CONFIDENCE_SIGMA) - blurred(small, CONFIDENCE_SIGMA).square()
        tolerated = TOLERANCE**2 + CONTRAST_TOLERANCE**2 * contrast.clamp_min(0).mean(1, keepdim=True)
        whole = portrait[None].float()
        lost = torch.ones_like(whole[:, :1])
        lost[(..., *kept(shift, *lost.shape[-2:]))] = 0
        eyelids = skin = lifeless = None
        if face is not None:
            height, width = portrait.shape[-2:]
            points = face * torch.tensor((width, height))
            eyelids, skin = Eyelids(whole, points), MovedSkin(whole, points)
            lifeless = send(1 - around_lower_face(points, height, width), portrait.device) if mouth_alone else None
        return cls(
            whole, torch.cat((small, tolerated), dim=1), _pyramid(small), lost, shift, stride, eyelids, skin, lifeless
        )

    @property
    def _seen_both(self) -> Shift:
        """The part in which the flow has seen what is lost, and what is beside it: it is continued from there on."""
        across, down = (by + (by > 0) * SEEN_BOTH - (by < 0) * SEEN_BOTH for by in self.shift)
        return across, down

    def apply(self, frames: Tensor, strength: float, closed: Sequence[float] = (), before: int = 0) -> Tensor:
        """``frames`` [3, T, H, W] in [-1, 1] with ``strength`` (0..1) of the detail that they lack.

        Args:
            closed: how far the lids are closed in each frame, 0..1; empty stands for open eyes.
            before: how many of ``frames`` come before the first one that is wanted; they tell how it moves.

        Returns:
            [3, T - before, H, W].
        """
        seen = [self._seen(frames[:, several]) for several in _groups(frames, 0)]
        flow, confidence = (torch.cat(parts) for parts in zip(*seen, strict=True))
        steady = strength * self._steadied(flow, confidence)
        detailed = torch.empty_like(frames[:, before:])
        for several in _groups(frames, before):
            wanted = slice(several.start - before, several.stop - before)
            pictures = frames[:, several].movedim(1, 0).float()
            result = self._detailed(
                pictures, flow[several], steady[several], confidence[several], strength, closed[wanted]
            )
            detailed[:, wanted].movedim(1, 0).copy_(result)
        return detailed

    def _seen(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The flow of frames [3, T, H, W], and how much they look like the portrait, at half their size."""
        small = functional.avg_pool2d(frames.movedim(1, 0).float(), 2)
        flow = self.flow(small)
        return flow, self._confidence(small, flow)

    def _steadied(self, flow: Tensor, confidence: Tensor) -> Tensor:
        """How far pixels have to move for the head to move evenly: [T, 2, h, w], in units of ``grid_sample``.

        The frames of one latent frame move together, so that a head moves in steps. The mean over as many frames turns
        steps into ramps, half a step later. The lower face has no part in the mean, because a mouth must not be late;
        it moves as the head does. Without a known face, nothing is steadied.
        """
        if self.lifeless is None:
            return torch.zeros_like(flow)
        confidence = confidence * functional.avg_pool2d(self.lifeless, 2)
        earlier = torch.cat((flow[:1].expand(self.stride - 1, -1, -1, -1), flow))
        mean = sum(earlier[shift : shift + len(flow)] for shift in range(self.stride)) / self.stride
        weighted = torch.cat(((mean - flow) * confidence, confidence), dim=1)
        # At an eighth of the frame's size: what is sought is smooth.
        blocks = blurred(functional.avg_pool2d(weighted, 4, ceil_mode=True), STEADY_SIGMA)
        change, weight = blocks.split((2, 1), dim=1)
        return _resized(change / (weight + LITTLE_SEEN), flow.shape[-2:])

    def _detailed(
        self,
        pictures: Tensor,
        flow: Tensor,
        steady: Tensor,
        confidence: Tensor,
        strength: float,
        closed: Sequence[float],
    ) -> Tensor:
        """``pictures`` [T, 3, H, W], moved as ``steady`` says, with the portrait's detail, skin and lids."""
        size = pictures.shape[-2:]
        if self.lifeless is not None and strength > 0:
            pictures = _warped(pictures, _resized(steady, size))
        places = _resized(flow + steady, size)
        continue_border(places, self._seen_both)
        portrait = _warped(self.portrait, places)
        weight = _resized(strength * confidence, size)
        if strength > 0:
            weight = torch.maximum(weight, self.lost)
        if self.lifeless is not None:
            weight = torch.maximum(weight, strength * _warped(self.lifeless, places))
        self._close(portrait, weight, places, closed)
        result = torch.lerp(pictures, portrait, weight)
        if self.skin is not None and strength > 0:
            self.skin.apply(result, strength)
        return result

    def _close(self, portrait: Tensor, weight: Tensor, places: Tensor, closed: Sequence[float]) -> None:
        """Close the lids of moved portraits [T, 3, H, W], in place; there, ``weight`` [T, 1, H, W] becomes 1."""
        if self.eyelids is None:
            return
        for frame, share in enumerate(closed):
            if share > 0:
                lids = _warped(self.eyelids.closed(share), places[frame : frame + 1])[0]
                portrait[frame] = lids[:3]
                weight[frame] = torch.maximum(weight[frame], lids[3:])

    def flow(self, small: Tensor) -> Tensor:
        """Where each pixel of frames, given at half their size [T, 3, h, w], lies in the portrait.

        Returns:
            [T, 2, h, w]: its distance from there, across and down, in units of ``grid_sample`` (the picture is 2 wide).
        """
        flow = small.new_zeros(len(small), 2, 1, 1)
        for still, target in zip(self.pyramid, _pyramid(small), strict=True):
            flow = _resized(flow, still.shape[-2:])
            for _ in range(FINEST_STEPS if still is self.pyramid[-1] else STEPS):
                flow = flow + _step(still, target, flow)
        return flow

    def _confidence(self, small: Tensor, flow: Tensor) -> Tensor:
        """How much frames look like the moved round trip around each pixel: 0..1 [T, 1, h, w]."""
        moved, tolerated = _warped(self.round_trip, flow).split((3, 1), dim=1)
        error = blurred((small - moved).square().mean(1, keepdim=True), CONFIDENCE_SIGMA)
        return (error / tolerated).mul_(-0.5).exp_()


def _groups(frames: Tensor, first: int) -> list[slice]:
    """The frames [3, T, H, W] from ``first`` on, as many at a time as are worked on together."""
    total = frames.shape[1]
    fitting = max(1, GPU_PIXELS // (frames.shape[-2] * frames.shape[-1]))
    together = CPU_FRAMES if frames.device.type == "cpu" else fitting
    return [slice(start, min(start + together, total)) for start in range(first, total, together)]


def _pyramid(small: Tensor) -> tuple[Tensor, ...]:
    """Luma of pictures [T, 3, h, w]: halved down to about ``COARSEST`` pixels, coarsest first."""
    red, green, blue = small.split(1, dim=1)
    levels = [0.299 * red + 0.587 * green + 0.114 * blue]
    while min(levels[-1].shape[-2:]) >= 2 * COARSEST:
        levels.append(functional.avg_pool2d(levels[-1], 2))
    return tuple(reversed(levels))


def _step(still: Tensor, target: Tensor, flow: Tensor) -> Tensor:
    """One Gauss-Newton step of the ``flow`` along which ``still`` [1, 1, h, w] becomes ``target`` [T, 1, h, w].

    With m = still(p + flow) and g its gradient, the step d solves (sum g g^T + damping) d = sum g (target - m), summed
    over a Gaussian window (Lucas and Kanade, 1981).
    """
    moved = _warped(still, flow)
    gx, gy = _gradients(moved)
    change = target - moved
    products = torch.cat((gx * gx, gx * gy, gy * gy, gx * change, gy * change), dim=1)
    summed = blurred(functional.avg_pool2d(products, 2, ceil_mode=True), WINDOW_SIGMA)
    xx, xy, yy, xt, yt = summed.split(1, dim=1)
    xx, yy = xx + DAMPING, yy + DAMPING
    determinant = xx * yy - xy * xy
    # Beyond a pixel, the gradients say nothing.
    x, y = (((a * b - xy * c) / determinant).clamp_(-1, 1) for a, b, c in ((yy, xt, yt), (xx, yt, xt)))
    height, width = still.shape[-2:]
    step = blurred(torch.cat((x * (2 / width), y * (2 / height)), dim=1), FLOW_SIGMA)
    # Odd lengths were halved with the border's pixel alone in the last place.
    return functional.interpolate(step, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]


def _warped(picture: Tensor, flow: Tensor) -> Tensor:
    """``picture`` [1 or T, C, H, W] at each pixel's place plus ``flow`` [T, 2, H, W]; its border goes on outside."""
    places = []
    for axis, length in enumerate((flow.shape[-1], flow.shape[-2])):
        own = (torch.arange(length, device=flow.device) + 0.5) * (2 / length) - 1
        # Within the centres of the outer pixels: MPS cannot pad with the border.
        most = 1 - 1 / length
        places.append(((own if axis == 0 else own[:, None]) + flow[:, axis]).clamp_(-most, most))
    picture = picture.expand(len(flow), -1, -1, -1)
    return functional.grid_sample(picture, torch.stack(places, dim=-1), align_corners=False)


def _gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    padded = functional.pad(picture, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    return across, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2


def _resized(pictures: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(pictures, size, mode="bilinear", align_corners=False)
