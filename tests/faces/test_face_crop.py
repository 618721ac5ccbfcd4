"""Face Crop and Face Paste: a photograph and a drawing, hand-made boxes, and the video back in the picture."""

from __future__ import annotations

import json
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest
import torch

from asymtalker.tests.helpers import ROOT, Import

NUM_FRAMES = 12


def read(path: Path) -> torch.Tensor:
    """IMAGE [1, H, W, 3]."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return torch.from_numpy(picture)[None] / 255.0


@pytest.fixture(scope="module")
def photograph() -> torch.Tensor:
    """A scene of 641x481 pixels with one face, that of a photograph."""
    scene = torch.full((1, 481, 641, 3), 0.4)
    scene[:, 100:420, 250:570] = read(ROOT / "tests" / "data" / "astronaut.jpg")
    return scene


def options(pack: Import, **changes: Any) -> Any:
    values = {"margin": 0.5, "face_index": 0, "on_missing": "error", "box": (0, 0, 0, 0), **changes}
    return pack("faces.crop_and_paste").CropOptions(**values)


def colours(count: int, side: int) -> torch.Tensor:
    """IMAGE batch [count, side, side, 3]: one grey a frame, rising."""
    return torch.linspace(0.2, 0.8, count)[:, None, None, None].expand(count, side, side, 3)


def in_memory(comfy: Import, images: torch.Tensor) -> Any:
    api = comfy("comfy_api.latest")
    return api.InputImpl.VideoFromComponents(api.Types.VideoComponents(images=images, audio=None, frame_rate=25))


def test_the_face_of_a_photograph_is_centred(pack: Import, photograph: torch.Tensor) -> None:
    image, crop = pack("faces.crop_and_paste").crop_face(photograph, options(pack), None)
    assert image.shape == (1, crop.side, crop.side, 3)
    assert crop.x + crop.side / 2 == pytest.approx(250 + 162, abs=8)
    assert crop.y + crop.side / 2 == pytest.approx(100 + 118, abs=8)
    assert torch.equal(image, photograph[:, crop.y : crop.y + crop.side, crop.x : crop.x + crop.side])
    wider = pack("faces.crop_and_paste").crop_face(photograph, options(pack, margin=1.0), None)[1]
    assert wider.side == pytest.approx(crop.side * 1.5, abs=1)


def test_the_example_portrait_is_kept_whole(pack: Import) -> None:
    """Drawn, and its face fills it already."""
    portrait = read(ROOT / "workflows" / "assets" / "asymtalker_portrait.png")
    _, crop = pack("faces.crop_and_paste").crop_face(portrait, options(pack), None)
    assert (crop.side, crop.x, crop.y) == (512, 0, 0)


def test_no_face_says_what_to_do(pack: Import) -> None:
    crop_face = pack("faces.crop_and_paste").crop_face
    meadow = torch.full((1, 300, 400, 3), 0.3)
    with pytest.raises(ValueError, match=r"image: no face was found.*on_missing to centre.*box_x, box_y"):
        crop_face(meadow, options(pack), None)
    _, crop = crop_face(meadow, options(pack, on_missing="centre"), None)
    assert (crop.x, crop.y, crop.side) == (50, 0, 300)


def test_several_faces_are_chosen_by_index(pack: Import, photograph: torch.Tensor) -> None:
    crop_face = pack("faces.crop_and_paste").crop_face
    photograph = photograph.clone()
    photograph[:, 60:220, 20:180] = photograph[:, 100:420:2, 250:570:2]
    assert crop_face(photograph, options(pack), None)[1].x > 200
    assert crop_face(photograph, options(pack, face_index=1), None)[1].x < 100
    with pytest.raises(ValueError, match="face_index: 2, but the picture has faces 0 to 1, the largest first"):
        crop_face(photograph, options(pack, face_index=2), None)
    with pytest.raises(ValueError, match="face_index: 1, but the picture has only face 0"):
        crop_face(photograph[:, :, 200:], options(pack, face_index=1), None)


def test_boxes_by_hand(pack: Import, photograph: torch.Tensor) -> None:
    crop_face = pack("faces.crop_and_paste").crop_face
    _, crop = crop_face(photograph, options(pack, box=(100, 200, 60, 80), margin=0.25), None)
    assert (crop.x, crop.y, crop.side) == (70, 180, 120)
    with pytest.raises(ValueError, match="box_width, box_height: 60x0 is not a box"):
        crop_face(photograph, options(pack, box=(100, 200, 60, 0)), None)
    with pytest.raises(ValueError, match=r"box_x, box_y: \(700, 0\) lies outside of the picture of 641x481"):
        crop_face(photograph, options(pack, box=(700, 0, 60, 60)), None)
    with pytest.raises(ValueError, match="image: the face takes 4 pixels, too few"):
        crop_face(photograph, options(pack, box=(100, 200, 4, 4), margin=0.0), None)


def test_the_video_is_put_back_at_the_picture_s_size(
    comfy: Import, pack: Import, photograph: torch.Tensor, tmp_path: Path
) -> None:
    host = pack("faces.crop_and_paste")
    _, crop = host.crop_face(photograph, options(pack), None)
    video = host.paste_face(in_memory(comfy, colours(NUM_FRAMES, 64)), photograph, crop, 0.1, None)
    assert video.get_dimensions() == (641, 481) and video.get_frame_rate() == Fraction(25)
    assert (video.get_frame_count(), video.get_duration()) == (NUM_FRAMES, NUM_FRAMES / 25)
    images = video.get_components().images
    middle = images[:, crop.y + crop.side // 2, crop.x + crop.side // 2, 0]
    torch.testing.assert_close(middle, colours(NUM_FRAMES, 1)[:, 0, 0, 0], atol=0.01, rtol=0)
    assert (images[:, :, :100] - photograph[:, :, :100]).abs().max() < 0.003
    video.save_to(str(tmp_path / "core.mp4"))
    with av.open(str(tmp_path / "core.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    # H.264 needs even sizes: nothing of the picture is cut off.
    assert len(frames) == NUM_FRAMES and frames[0].shape == (482, 642, 3)
    assert np.abs(frames[5][:481, :641].astype(float) / 255 - images[5].numpy()).mean() < 0.02


def test_what_does_not_belong_together_is_refused(comfy: Import, pack: Import, photograph: torch.Tensor) -> None:
    host = pack("faces.crop_and_paste")
    _, crop = host.crop_face(photograph, options(pack), None)
    with pytest.raises(ValueError, match=r"image: it has 641x400 pixels, the crop was taken from 641x481"):
        host.paste_face(in_memory(comfy, colours(2, 64)), photograph[:, :400], crop, 0.1, None)
    with pytest.raises(ValueError, match="video: it has 64x32 pixels, but the crop is a square"):
        host.paste_face(in_memory(comfy, colours(2, 64)[:, :32]), photograph, crop, 0.1, None)


@pytest.mark.parametrize("marked", [True, False])
def test_mux_says_in_the_file_that_it_is_generated(
    comfy: Import, pack: Import, folders: Path, photograph: torch.Tensor, marked: bool
) -> None:
    host = pack("faces.crop_and_paste")
    _, crop = host.crop_face(photograph, options(pack), None)
    video = host.paste_face(in_memory(comfy, colours(NUM_FRAMES, 64)), photograph, crop, 0.1, None)
    audio = {"waveform": torch.zeros(1, 1, 16_000), "sample_rate": 16_000}
    save = pack("video.saving").save_with_audio
    info = {"workflow": {"nodes": []}, "comment": "Drawn by hand.", "Software": "mine"}
    _, result = save(video, audio, "face", 18, marked, {"1": {}}, info)
    path = folders / "output" / result.filename
    with av.open(str(path)) as container:
        tags = dict(container.metadata)
    assert json.loads(tags["workflow"]) == {"nodes": []} and json.loads(tags["prompt"]) == {"1": {}}
    assert ("AI-generated" in tags["comment"]) is marked
    own = next(value for key, value in tags.items() if key.lower() == "software")
    assert own == ("ComfyUI-AsymTalker" if marked else "mine")
    ffmpeg = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)], capture_output=True, text=True, check=False
    ).stderr
    assert ("trainedAlgorithmicMedia" in ffmpeg) is marked


def test_all_that_a_node_says_stays_on_it(
    comfy: Import, pack: Import, photograph: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A text replaces the one before.
    shown: list[str] = []
    monkeypatch.setattr(pack("host.progress"), "show", lambda node_id, text: shown.append(text))
    mask = torch.zeros(photograph.shape[:3])
    mask[:, :20] = 1
    _, crop = pack("faces.crop_and_paste").crop_face(photograph, options(pack), "4", mask)
    (text,) = shown
    found = f"face 0 of 1: {crop.side}x{crop.side} pixels at ({crop.x}, {crop.y})"
    assert text.splitlines() == ["masked areas are white;", found]
    pack("faces.crop_and_paste").paste_face(in_memory(comfy, colours(2, 64)), photograph, crop, 0.1, "8", mask)
    assert shown[1] == "masked areas are white"
