"""Detail transfer: what a VAE loses of the portrait is given back to the frames, moved as the face has moved.

A small VAE blurs eyes, skin and hair. How it shows the portrait is known: the portrait's own round trip through it. The
optical flow from the round trip to each frame moves the portrait along. Where the frame looks like the moved round
trip, the moved portrait takes its place. An open mouth or a closed lid does not, and keeps the VAE's pixels.

Where nothing but the mouth is left to the frames, the portrait is shown everywhere else: lids are drawn, the skin
around the mouth is moved by landmarks, and the head moves evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .color import ColorTarget, color_target, match_color
from .eyelids import Eyelids
from .lower_face import LowerFace
from .optical_flow import Pyramid, luma_pyramid, optical_flow
from .pictures import EVERYWHERE, Window, blurred, resized, sampled
from .placing import continue_border, kept
from .reference import Shift
from .skin import around_lower_face
from .transfer import send

# The flow is computed at a quarter of the frame's size.
FLOW_SCALE = 4
# Root mean square difference (frames are in [-1, 1]) at which the portrait weighs 0.6, and the Gaussian over which it
# is averaged, in pixels of the frame.
TOLERANCE, CONFIDENCE_SIGMA = 0.06, 4.0
# The share of the local contrast that is tolerated besides: half a pixel of error in the flow is much on an eye.
CONTRAST_TOLERANCE = 0.25
# The distance from what is lost at which the flow is that of the rest, in pixels.
SEEN_BOTH = 12
# The Gaussian over which the head's steadied movement is averaged, in pixels of an eighth of the frame's size, and the
# confidence below which a place says nothing about it.
STEADY_SIGMA, LITTLE_SEEN = 2.0, 1e-2
# How far a head may move before it leaves the part of the picture that is made for it, as a share of the frame.
ROOM = 1 / 32
# A CPU takes a few frames at a time, which stay in its cache; a GPU a chunk of 512x512, of which it holds several
# copies.
CPU_FRAMES, GPU_PIXELS = 4, 33 * 512 * 512


@dataclass(frozen=True)
class Likeness:
    """The portrait's round trip at a fraction of the frame's size, to which frames are compared.

    The fourth channel of ``picture`` [1, 4, h, w] is the squared difference that is tolerated. ``sigma`` is that of the
    Gaussian over which differences are averaged, in its pixels.
    """

    picture: Tensor
    sigma: float

    @classmethod
    def of(cls, round_trip: Tensor, scale: int) -> Likeness:
        """``round_trip`` [1, 3, H, W] at 1 / ``scale`` of its size."""
        small, sigma = functional.avg_pool2d(round_trip, scale), CONFIDENCE_SIGMA / scale
        contrast = blurred(small.square(), sigma) - blurred(small, sigma).square()
        tolerated = TOLERANCE**2 + CONTRAST_TOLERANCE**2 * contrast.clamp_min(0).mean(1, keepdim=True)
        return cls(torch.cat((small, tolerated), dim=1), sigma)

    def confidence(self, frames: Tensor, flow: Tensor, window: Window = EVERYWHERE) -> Tensor:
        """How much ``frames`` [T, 3, h, w] look like the round trip moved by ``flow``: 0..1 [T, 1, h, w].

        Frames and flow are given for the ``window`` of the whole picture.
        """
        moved, tolerated = sampled(self.picture, flow, window).split((3, 1), dim=1)
        error = blurred((frames - moved).square().mean(1, keepdim=True), self.sigma)
        return (error / tolerated).mul_(-0.5).exp_()


def frames_of_poses(num_frames: int, num_poses: int, stride: int) -> list[slice]:
    """The frames that show the head in each of its poses: the last ``stride`` frames show the last one, and so on.

    The first pose may have one frame, because a video's first latent frame is a single frame, or none.
    """
    stops = (num_frames - stride * later for later in reversed(range(num_poses)))
    return [slice(max(0, stop - stride), max(0, stop)) for stop in stops]


@dataclass(frozen=True)
class DetailTransfer:
    """What is needed of the portrait.

    ``layers`` [1, 4, H, W] are the portrait in [-1, 1], and 1 where nothing moves but the head: there, frames never
    differ from the moved portrait other than by mistake. ``window`` is where they may. ``colors`` and ``pyramid`` (its
    luma) are those of the portrait's round trip at a quarter of its size. ``coarse`` and ``fine`` tell how much frames
    look like it, at a quarter and half of their size. ``lost`` [1, 1, H, W] is 1 where frames hold the portrait itself,
    because the network had it moved by ``shift`` (see ``placing``). ``eyelids`` and ``lower_face`` are the portrait's,
    for blinks and around the mouth. ``stride`` is the number of frames that show the head in the same pose; 1 where
    the movement is computed for every frame.
    """

    layers: Tensor
    window: Window
    colors: ColorTarget
    pyramid: Pyramid
    coarse: Likeness
    fine: Likeness
    lost: Tensor
    shift: Shift = (0, 0)
    stride: int = 1
    eyelids: Eyelids | None = None
    lower_face: LowerFace | None = None

    @classmethod
    def of(
        cls,
        portrait: Tensor,
        round_trip: Tensor,
        face: Tensor | None = None,
        shift: Shift = (0, 0),
        stride: int = 1,
        mouth_alone: bool = False,
        is_guided: bool = False,
    ) -> DetailTransfer:
        """``portrait`` and ``round_trip`` [3, H, W] in [-1, 1], of at least 16 pixels a side.

        ``face`` [468, 2] are the portrait's landmarks in 0..1, on the CPU. Without them, lids stay open, and chins are
        the VAE's. With them and ``mouth_alone``, nothing but the mouth is left to the frames, of which ``stride``, more
        than one, are one latent frame. ``is_guided``: whether guidance holds at the mouth.
        """
        still, whole = round_trip[None].float(), portrait[None].float()
        height, width = portrait.shape[-2:]
        lost = torch.ones_like(whole[:, :1])
        lost[(..., *kept(shift, height, width))] = 0
        lifeless, window = torch.zeros_like(lost), EVERYWHERE
        eyelids = lower_face = None
        if face is not None:
            points = face * torch.tensor((width, height))
            eyelids, lower_face = Eyelids(whole, points), LowerFace(whole, points, is_guided)
            alive = around_lower_face(points, height, width)
            if mouth_alone and stride > 1 and alive.any():
                lifeless, window = send(1 - alive, portrait.device), _around(alive[0, 0])
        small = functional.avg_pool2d(still, FLOW_SCALE)
        return cls(
            layers=torch.cat((whole, lifeless), dim=1),
            window=window,
            colors=color_target(small[:, :, None]),
            pyramid=luma_pyramid(small),
            coarse=Likeness.of(still, FLOW_SCALE),
            fine=Likeness.of(still, 2),
            lost=lost,
            shift=shift,
            stride=1 if window == EVERYWHERE else stride,
            eyelids=eyelids,
            lower_face=lower_face,
        )

    @property
    def _seen_both(self) -> Shift:
        """The part in which the flow has seen what is lost, and what is beside it: it is continued from there on."""
        across, down = (by + (by > 0) * SEEN_BOTH - (by < 0) * SEEN_BOTH for by in self.shift)
        return across, down

    def shown(self, strength: float) -> Window:
        """The part of frames that is needed: elsewhere, nothing of them is shown with that ``strength``."""
        return self.window if strength == 1 else EVERYWHERE

    def apply(self, frames: Tensor, poses: Tensor, strength: float, closed: Sequence[float] = ()) -> Tensor:
        """The portrait's detail given to frames of [-1, 1] with ``strength`` (0..1).

        Args:
            frames: [3, T, h, w], the part of them that is ``shown``.
            poses: [3, P, H, W], whole frames, one of each pose of the head (see ``frames_of_poses``), in any colours;
                if ``stride`` is 1, the same as ``frames``.
            closed: how far the lids are closed in each frame, 0..1; empty stands for open eyes.

        Returns:
            [3, T, H, W].
        """
        groups = frames_of_poses(frames.shape[1], poses.shape[1], self.stride)
        numbers = [number for number, group in enumerate(groups) for _ in range(group.start, group.stop)]
        # Frames of a pose move evenly from the previous pose. This is the share of the movement that is left.
        left = [
            strength * (group.stop - 1 - frame) / self.stride
            for group in groups
            for frame in range(group.start, group.stop)
        ]
        flow, steady = self._poses(poses)
        # Sent, because a GPU would wait for lists.
        at, way = send(torch.tensor(numbers), frames.device), send(torch.tensor(left), frames.device)
        detailed = torch.empty((3, len(numbers), *poses.shape[-2:]), dtype=frames.dtype, device=frames.device)
        for several in _groups(detailed):
            steadied = steady[at[several]] * way[several].view(-1, 1, 1, 1)
            pictures = frames[:, several].movedim(1, 0)
            result = self._detailed(pictures, flow[at[several]], steadied, strength, closed[several])
            detailed[:, several].movedim(1, 0).copy_(result)
        return detailed

    def _poses(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The flow of frames [3, P, H, W], one of each pose, and how far each is behind the pose before.

        Both are [P, 2, h, w] at a quarter of the size, in units of ``grid_sample``. What is behind is smooth: the mean
        over where nothing moves but the head. The lower face has no part in it, because a mouth must not be late; it
        moves as the head does.
        """
        small = functional.avg_pool2d(frames.float(), FLOW_SCALE)
        if self.stride == 1:
            flow = optical_flow(self.pyramid, small.movedim(1, 0))
            return flow, torch.zeros_like(flow)
        small = match_color(small[None], self.colors, 1.0)[0].movedim(1, 0)
        flow = optical_flow(self.pyramid, small)
        lifeless = functional.avg_pool2d(self.layers[:, 3:], FLOW_SCALE)
        confidence = self.coarse.confidence(small, flow) * lifeless
        earlier = torch.cat((flow[:1], flow[:-1]))
        weighted = torch.cat(((earlier - flow) * confidence, confidence), dim=1)
        # At an eighth of the frame's size: what is sought is smooth.
        change, weight = blurred(functional.avg_pool2d(weighted, 2, ceil_mode=True), STEADY_SIGMA).split((2, 1), dim=1)
        return flow, resized(change / (weight + LITTLE_SEEN), flow.shape[-2:])

    def _detailed(
        self, frames: Tensor, flow: Tensor, steady: Tensor, strength: float, closed: Sequence[float]
    ) -> Tensor:
        """Frames [T, 3, H, W] whose part ``frames`` is shown, moved as ``steady`` says.

        They have the portrait's detail, skin and lids.
        """
        size = self.layers.shape[-2:]
        places = resized(flow + steady, size)
        continue_border(places, self._seen_both)
        picture, lifeless = sampled(self.layers, places).split((3, 1), dim=1)
        drawn = self._close(picture, places, closed)
        # Elsewhere, the portrait takes the place of frames; by a part of its strength, it does so nowhere.
        window = self.shown(strength)
        part = (..., *window)
        shown, confidence = self._frames(frames, flow, steady, window)
        weight = torch.maximum(strength * torch.maximum(confidence, lifeless[part]), drawn[part])
        if strength > 0:
            weight = torch.maximum(weight, self.lost[part])
        picture[part] = torch.lerp(shown, picture[part], weight)
        if self.lower_face is not None and strength > 0:
            self.lower_face.apply(picture, strength)
        return picture

    def _frames(self, frames: Tensor, flow: Tensor, steady: Tensor, window: Window) -> tuple[Tensor, Tensor]:
        """Moved frames, and their likeness to the portrait [T, 1, h, w].

        ``frames`` [T, 3, h, w] of the ``window`` are moved by ``steady``.
        """
        (full_height, full_width), (height, width) = self.layers.shape[-2:], frames.shape[-2:]
        small, cells = functional.avg_pool2d(frames.float(), 2), (..., *_scaled(window, FLOW_SCALE))
        likeness = self.fine.confidence(small, resized(flow[cells], small.shape[-2:]), _scaled(window, 2))
        confidence = resized(likeness, (height, width))
        if self.stride == 1:
            return frames.float(), confidence
        across, down = resized(steady[cells], (height, width)).unbind(1)
        # In units of a picture of the window's size.
        distances = torch.stack((across * (full_width / width), down * (full_height / height)), dim=1)
        return sampled(frames.float(), distances), confidence

    def _close(self, pictures: Tensor, places: Tensor, closed: Sequence[float]) -> Tensor:
        """Close the lids of ``pictures`` [T, 3, H, W], which show the portrait at ``places`` [T, 2, H, W], in place.

        Returns 1 where lids are drawn, [T, 1, H, W].
        """
        drawn = torch.zeros_like(pictures[:, :1])
        if self.eyelids is None:
            return drawn
        for frame, share in enumerate(closed):
            if share > 0:
                lids = sampled(self.eyelids.closed(share), places[frame : frame + 1])[0]
                pictures[frame], drawn[frame] = lids[:3], lids[3:]
        return drawn


def _scaled(window: Window, scale: int) -> Window:
    """The ``window`` in a picture of 1 / ``scale`` of the size."""
    rows, columns = (slice(side.start and side.start // scale, side.stop and side.stop // scale) for side in window)
    return rows, columns


def _around(mask: Tensor) -> Window:
    """The part of a picture around what is not 0 in a mask [H, W], with room for movement.

    Its sides are multiples of ``FLOW_SCALE``, so that it can be scaled.
    """
    sides = []
    for dim, length in ((1, mask.shape[0]), (0, mask.shape[1])):
        found, room = (mask > 0).any(dim=dim).nonzero(), round(ROOM * length)
        start, stop = int(found.min()) - room, int(found.max()) + 1 + room
        sides.append(slice(max(0, start // FLOW_SCALE) * FLOW_SCALE, min(-(-stop // FLOW_SCALE) * FLOW_SCALE, length)))
    return sides[0], sides[1]


def _groups(frames: Tensor) -> list[slice]:
    """Frames [3, T, H, W], as many at a time as are worked on together."""
    total = frames.shape[1]
    fitting = max(1, GPU_PIXELS // (frames.shape[-2] * frames.shape[-1]))
    together = CPU_FRAMES if frames.device.type == "cpu" else fitting
    return [slice(start, min(start + together, total)) for start in range(0, total, together)]
