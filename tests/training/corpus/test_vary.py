"""Variants of a clip: other pictures of the same speech."""

import numpy as np
import torch
from PIL import Image

from asymtalker.faces.detector import find_faces
from asymtalker.scripts._environment import ROOT
from asymtalker.training.corpus.motion import POSE_FIELDS
from asymtalker.training.corpus.vary import (
    EYES_TO_MOUTH,
    MOUTH_ROW,
    moved_boxes,
    sample_grid,
    sample_light,
    sample_variation,
    speaker,
    varied_pictures,
    vary,
)

SIZE = 64


def clip() -> dict[str, torch.Tensor]:
    """Grey frames with a mouth, a red rectangle that moves down."""
    frames = torch.full((5, SIZE, SIZE, 3), 90, dtype=torch.uint8)
    boxes = torch.tensor([[26, 40 + k, 38, 46 + k] for k in range(5)], dtype=torch.int32)
    for frame, (x0, y0, x1, y1) in zip(frames, boxes.tolist(), strict=True):
        frame[y0:y1, x0:x1] = torch.tensor([250, 0, 0], dtype=torch.uint8)
    return {
        "frames": frames,
        "portrait": frames[0].clone(),
        "mouth_boxes": boxes,
        "opening": torch.linspace(0, 1, 5),
        "audio": torch.arange(10.0),
        "poses": torch.zeros(5, len(POSE_FIELDS)),
    }


def test_boxes_follow_the_mouth() -> None:
    for seed in range(8):
        made = vary(clip(), np.random.default_rng(seed))
        for frame, (x0, y0, x1, y1) in zip(made["frames"].int(), made["mouth_boxes"].tolist(), strict=True):
            red = frame[..., 0] - frame[..., 1] > 60
            rows, columns = red.any(1).nonzero()[:, 0], red.any(0).nonzero()[:, 0]
            found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert max(abs(int(a) - b) for a, b in zip(found, (x0, y0, x1, y1), strict=True)) <= 2


def test_speech_stays_and_all_pictures_vary_alike() -> None:
    original = clip()
    made = vary(original, np.random.default_rng(3))
    assert made["audio"] is original["audio"] and made["poses"] is original["poses"]
    assert made["frames"].shape == original["frames"].shape and made["frames"].dtype == torch.uint8
    assert not torch.equal(made["frames"], original["frames"])
    assert torch.equal(vary(clip(), np.random.default_rng(3))["frames"], made["frames"])


def test_light_varies_over_a_picture_and_from_copy_to_copy() -> None:
    one, other = (sample_light(np.random.default_rng(seed), SIZE) for seed in (0, 1))
    assert one.shape == (SIZE, SIZE, 3) and one.min() > 0
    assert one.std(dim=(0, 1)).min() > 0.03 and (one - other).abs().mean() > 0.05
    assert (one[1:] - one[:-1]).abs().max() < 0.1, "lamps are soft"


def test_some_portraits_talk() -> None:
    starts = []
    for seed in range(24):
        made = vary(clip(), np.random.default_rng(seed))
        (same,) = [k for k, frame in enumerate(made["frames"]) if torch.equal(frame, made["portrait"])]
        starts.append(same)
    assert 12 <= starts.count(0) < 24 and max(starts) > 2


def test_mouths_stay_in_the_picture() -> None:
    boxes = np.array([[3, 3, 15, 9]])
    for seed in range(8):
        variation = sample_variation(np.random.default_rng(seed), boxes, SIZE)
        x0, y0, x1, y1 = moved_boxes(boxes, variation.grid)[0]
        assert 0 < x0 < x1 < SIZE and 0 < y0 < y1 < SIZE


def test_box_outside_the_picture_is_empty() -> None:
    grid = sample_grid(np.random.default_rng(0), SIZE)
    assert not moved_boxes(np.array([[500, 500, 510, 510]]), grid).any()


def test_many_frames_are_treated_as_few() -> None:
    variation = sample_variation(np.random.default_rng(1), np.array([[26, 40, 38, 46]]), SIZE)
    frames = clip()["frames"].repeat(7, 1, 1, 1)
    assert torch.equal(varied_pictures(frames, variation)[30], varied_pictures(frames[30:31], variation)[0])


def test_reframed_faces_lie_where_photographs_have_them() -> None:
    """Whatever was done to the face before: its mouth's row, and its size."""
    with Image.open(ROOT / "tests" / "data" / "astronaut.jpg") as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB").resize((256, 256))))
    box = torch.tensor([[125, 110, 160, 140]], dtype=torch.int32)
    photograph = clip() | {"frames": pixels[None], "portrait": pixels, "mouth_boxes": box}
    photograph |= {"opening": torch.zeros(1), "poses": torch.zeros(1, len(POSE_FIELDS))}
    for seed in range(6):
        (face,) = find_faces(vary(photograph, np.random.default_rng(seed), reframed=True)["portrait"].numpy())
        right_eye, left_eye, _, *corners = np.array(face.landmarks) / 256
        eyes, mouth = (right_eye + left_eye) / 2, (corners[0] + corners[1]) / 2
        assert abs(np.hypot(*(mouth - eyes)) - EYES_TO_MOUTH) < 0.05
        assert abs(2 * mouth[1] - 1 - MOUTH_ROW) < 0.16


def test_nobody_blinks_on_a_portrait() -> None:
    blinking = clip()
    blinking["poses"][1:4, POSE_FIELDS.index("blink")] = 1
    for seed in range(24):
        made = vary(blinking, np.random.default_rng(seed))
        assert any(torch.equal(made["frames"][at], made["portrait"]) for at in (0, 4))


def test_a_face_elsewhere_is_not_the_speaker() -> None:
    with Image.open(ROOT / "tests" / "data" / "astronaut.jpg") as picture:
        pixels = np.array(picture.convert("RGB"))
    assert speaker(pixels, np.array([[160, 145, 200, 170]])) is not None
    assert speaker(pixels, np.array([[0, 300, 20, 310]])) is None
