"""Faces put into videos: lengths, rates, places in fractions of pixels, colours, and two people in one picture."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from asymtalker.tests.helpers import Frames, Import

SIDE = 32
WIDTH, HEIGHT = 161, 121


@dataclass(frozen=True)
class Greys:
    """A video of plain frames, one value each."""

    values: tuple[int, ...]
    width: int = SIDE
    height: int = SIDE
    fps: Fraction = Fraction(25)
    track: Any = None
    noted: tuple[list[bool], ...] = ([],)

    def frames(self, start: int = 0, stop: int | None = None) -> Any:
        for value in self.values[start:stop]:
            yield np.full((self.height, self.width, 3), value, np.uint8)

    def get_dimensions(self) -> tuple[int, int]:
        return self.width, self.height

    def get_frame_count(self) -> int:
        return len(self.values)

    def get_frame_rate(self) -> Fraction:
        return self.fps

    def sound(self) -> Any:
        return self.track

    def note_saved(self) -> None:
        self.noted[0].append(True)


@pytest.fixture
def pasting(comfy: Import, pack: Import) -> Any:
    return pack("faces.pasting")


def crop(pack: Import, x: int = 40, y: int = 30) -> Any:
    return pack("faces.crop").Crop(x, y, 64, WIDTH, HEIGHT)


def track(pack: Import, squares: list[tuple[float, float, float]], color: float = 120.0, weight: float = 1.0) -> Any:
    count = len(squares)
    colors, weights = np.full((count, 3), color), np.full(count, weight)
    values = np.array(squares, np.float64), weights, colors, (0.25, 0.25, 0.75, 0.75)
    return pack("faces.track").FaceTrack(WIDTH, HEIGHT, Fraction(25), *values)


def middles(video: Any, x: int = 72, y: int = 62) -> list[int]:
    return [int(frame[y, x, 0]) for frame in video.frames()]


def test_a_still_picture_is_as_long_as_the_face(pack: Import, pasting: Any) -> None:
    picture = pasting.StillFrames(np.full((HEIGHT, WIDTH, 3), 50, np.uint8), Fraction(25))
    video = pasting.PastedVideo(Greys((100, 110, 120)), picture, crop(pack), pasting.PasteOptions(0.1))
    assert (video.get_dimensions(), video.get_frame_count(), video.get_frame_rate()) == ((WIDTH, HEIGHT), 3, 25)
    assert middles(video) == [100, 110, 120]
    assert [int(frame[0, 0, 0]) for frame in video.frames(1)] == [50, 50]
    assert [int(frame[62, 72, 0]) for frame in video.frames(1, 2)] == [110]


@pytest.mark.parametrize(("fps", "shown"), [(Fraction(50), [0, 0, 1, 1, 2, 2]), (Fraction(25, 2), [0, 2])])
def test_the_picture_s_frame_rate_is_kept(pack: Import, pasting: Any, fps: Fraction, shown: list[int]) -> None:
    face = Greys((100, 101, 102))
    picture = Greys((50,) * len(shown), WIDTH, HEIGHT, fps)
    video = pasting.PastedVideo(face, picture, crop(pack), pasting.PasteOptions(0.1))
    assert video.get_frame_rate() == fps
    assert middles(video) == [face.values[index] for index in shown]


def test_29_97_frames_a_second_lose_none(pack: Import, pasting: Any) -> None:
    face, picture = Greys(tuple(range(250))), Greys((0,) * 300, WIDTH, HEIGHT, Fraction(30000, 1001))
    video = pasting.PastedVideo(face, picture, crop(pack), pasting.PasteOptions(0.0))
    seen = middles(video)
    assert len(seen) == 300 and sorted(set(seen)) == list(range(250))


def test_the_longer_one_decides(pack: Import, pasting: Any) -> None:
    """The own face comes back smoothly after the speech; the last frame stays until the speech is over."""
    options = pasting.PasteOptions(0.1)
    longer = pasting.PastedVideo(Greys((200,) * 10), Greys((50,) * 20, WIDTH, HEIGHT), crop(pack), options)
    seen = middles(longer)
    assert seen[:5] == [200] * 5 and seen[10:] == [50] * 10 and seen[5:10] == sorted(seen[5:10], reverse=True)
    shorter = pasting.PastedVideo(Greys((200,) * 10), Greys((50, 60), WIDTH, HEIGHT), crop(pack), options)
    assert middles(shorter) == [200] * 10 and [int(frame[0, 0, 0]) for frame in shorter.frames()][1:] == [60] * 9


def test_a_tracked_face_lies_in_fractions_of_pixels(pack: Import, pasting: Any) -> None:
    """The middle of what is pasted moves by a quarter of a pixel a frame."""
    x = np.arange(SIDE)
    spot = np.exp(-((x[:, None] - 15.5) ** 2 + (x[None] - 15.5) ** 2) / 18)
    face = np.repeat((200 * spot[..., None]).astype(np.uint8), 3, axis=2)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask = pasting.soft_mask(0.05)
    found = []
    for step in range(5):
        at = pack("faces.track").Placement(40 + step / 4, 30.0, 60.0, 1.0, (0.0, 0.0, 0.0))
        result = pasting.paste_tracked(picture, face, at, (0.25, 0.25, 0.75, 0.75), mask, 1.0, 0.0)
        result = result[..., 0].astype(float)
        found.append((result.sum(axis=0) * np.arange(WIDTH)).sum() / result.sum())
    assert np.diff(found) == pytest.approx([0.25] * 4, abs=0.05)


@pytest.mark.parametrize("square", [(-20.0, -10.0, 60.0), (130.5, 90.25, 60.0), (-500.0, 0.0, 60.0), (3.0, 3.0, 0.4)])
def test_squares_beyond_the_frame_are_cut(pack: Import, pasting: Any, square: tuple[float, float, float]) -> None:
    picture = Greys((50,), WIDTH, HEIGHT)
    place = track(pack, [square])
    (frame,) = pasting.PastedVideo(Greys((200,)), picture, place, pasting.PasteOptions(0.1, 0.0)).frames()
    assert frame.shape == (HEIGHT, WIDTH, 3) and frame.min() >= 50 and frame.max() <= 200


def test_colours_follow_the_own_face(pack: Import, pasting: Any) -> None:
    def seen(color_match: float) -> int:
        picture, place = Greys((50,), WIDTH, HEIGHT), track(pack, [(40.0, 30.0, 64.0)], color=120.0)
        return middles(pasting.PastedVideo(Greys((100,)), picture, place, pasting.PasteOptions(0.1, color_match)))[0]

    assert (seen(0.0), seen(0.5), seen(1.0)) == (100, 110, 120)


def test_without_a_face_the_frame_is_untouched(pack: Import, pasting: Any) -> None:
    picture, place = Greys((50,), WIDTH, HEIGHT), track(pack, [(40.0, 30.0, 64.0)], weight=0.0)
    (frame,) = pasting.PastedVideo(Greys((200,)), picture, place, pasting.PasteOptions(0.1)).frames()
    assert (frame == 50).all()


def test_the_sound_is_that_of_those_who_speak(pack: Import, pasting: Any) -> None:
    """Of two people both; of a dubbed video the new one alone; from different rates and channels at the first's."""
    tracks = [pack("media.audio_track").AudioTrack(np.full((1, 800), level, np.float32), 8000) for level in (0.25, 0.5)]
    first, second = (Greys((100,) * 3, WIDTH, HEIGHT, track=track) for track in tracks)
    options, squares = pasting.PasteOptions(0.1), [(40.0, 30.0, 64.0)] * 3
    both = pasting.PastedVideo(first, second, crop(pack), options).sound()
    assert both.sample_rate == 8000 and (both.waveform == 0.75).all()
    assert (pasting.PastedVideo(first, second, track(pack, squares), options).sound().waveform == 0.25).all()
    still = pasting.StillFrames(np.zeros((HEIGHT, WIDTH, 3), np.uint8), Fraction(25))
    assert (pasting.PastedVideo(second, still, crop(pack), options).sound().waveform == 0.5).all()
    assert pasting.PastedVideo(Greys((1,)), still, crop(pack), options).sound() is None
    stereo = pack("media.audio_track").AudioTrack(np.ones((2, 1600), np.float32), 16000)
    mixed = pasting.PastedVideo(first, Greys((1,), track=stereo), crop(pack), options).sound()
    assert mixed.sample_rate == 8000 and mixed.waveform.shape == (2, 800)


def image(value: float) -> torch.Tensor:
    return torch.full((1, HEIGHT, WIDTH, 3), value)


def test_two_people_in_one_picture(comfy: Import, pack: Import) -> None:
    api, host = comfy("comfy_api.latest"), pack("faces.crop_and_paste")

    def speaking(value: float) -> Any:
        images = torch.full((4, SIDE, SIDE, 3), value)
        return api.InputImpl.VideoFromComponents(api.Types.VideoComponents(images=images, audio=None, frame_rate=25))

    first = host.paste_face(speaking(0.2), image(0.5), crop(pack, 0, 20), 0.0, None)
    both = host.paste_face(speaking(0.8), first, crop(pack, 90, 20), 0.0, None)
    frames: list[Frames] = list(both.frames())
    assert len(frames) == 4
    assert [int(frames[3][60, x, 0]) for x in (30, 80, 120)] == [51, 128, 204]


def test_what_does_not_belong_together(comfy: Import, pack: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    host, pasting = pack("faces.crop_and_paste"), pack("faces.pasting")
    shown: list[str] = []
    monkeypatch.setattr(pack("host.progress"), "show", lambda node_id, text: shown.append(text))
    picture = pasting.StillFrames(np.zeros((HEIGHT, WIDTH, 3), np.uint8), Fraction(25))
    face = pasting.PastedVideo(
        Greys((1,) * 3),
        pasting.StillFrames(np.zeros((64, 64, 3), np.uint8), Fraction(25)),
        pack("faces.crop").Crop(0, 0, 64, 64, 64),
        pasting.PasteOptions(0.1),
    )
    whole = pasting.PastedVideo(face, picture, crop(pack), pasting.PasteOptions(0.1))
    with pytest.raises(ValueError, match="image: the crop comes from AsymTalker Face Track, but this is a picture"):
        host.paste_face(face, image(0.5), track(pack, [(0, 0, 64)] * 3), 0.1, None)
    with pytest.raises(ValueError, match="image: the video has 3 frames, but the face was tracked over 5"):
        host.paste_face(face, whole, track(pack, [(0, 0, 64)] * 5), 0.1, None)
    with pytest.raises(ValueError, match="image: it has 64x64 pixels, the crop was taken from 161x121"):
        host.paste_face(face, face, crop(pack), 0.1, None)
    host.paste_face(face, whole, crop(pack), 0.1, "4", torch.zeros(1, 7, 9))
    assert shown == ["mask: a video has no transparency, so it is not used"]
