"""Whole people: the mouth opens as the pose says, the lids close, the boxes hold the lips, nothing has holes."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.people.people_assets import data, needs_assets
from training.corpus.motion import Pose
from training.people.light import sample_light
from training.people.person import sample_person
from training.people.render import Studio, View

pytestmark = needs_assets
SIZE = 256


@pytest.fixture(scope="module", params=[31, 34])
def studio(request: pytest.FixtureRequest) -> Studio:
    assets, atlas = data()
    rng = np.random.default_rng([5, request.param])
    person = replace(sample_person(rng, assets.target_names), glasses="none")
    view = View(0.35, 0.66, (0.5, 0.48), (0.0, 0.0, 0.0))
    return Studio(assets, atlas, person, sample_light(rng), view, np.full((SIZE, SIZE, 3), 0.45, np.float32))


def save(tmp_path: Path, colour: np.ndarray, name: str) -> None:
    Image.fromarray((np.clip(colour, 0, 1) * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")


def test_opening_follows_the_jaw_and_the_box_holds_it(studio: Studio, tmp_path: Path) -> None:
    shots = [studio.frame(Pose(jaw=jaw, teeth=0.4)) for jaw in (0.0, 0.3, 0.6, 1.0)]
    save(tmp_path, np.concatenate([s.colour for s in shots], axis=1), "jaw")
    openings = [s.opening for s in shots]
    np.testing.assert_allclose(openings, [0.0, 0.3, 0.6, 1.0], atol=0.15)
    heights = [s.mouth_box[3] - s.mouth_box[1] for s in shots]
    assert heights[3] > heights[0] + 8


def test_visemes_differ(studio: Studio, tmp_path: Path) -> None:
    poses = {
        "rest": Pose(), "ee": Pose(width=0.9, jaw=0.28, teeth=0.95), "oo": Pose(rounding=1.0, jaw=0.28),
        "f": Pose(jaw=0.14, tuck=1.0, teeth=0.85), "l": Pose(jaw=0.32, tongue=1.0, teeth=0.55),
        "p": Pose(jaw=0.1, press=1.0), "blink": Pose(blink=1.0, smile=0.6, yaw=10.0, pitch=4.0),
    }  # fmt: skip
    shots = {name: studio.frame(pose) for name, pose in poses.items()}
    save(tmp_path, np.concatenate([s.colour for s in shots.values()], axis=1), "visemes")
    assert shots["ee"].width > 1.01 > 0.9 > shots["oo"].width
    assert shots["p"].opening < 0.03


def test_speed_is_reported(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    studio.frame(Pose())
    start = time.process_time()
    for i in range(10):
        studio.frame(Pose(jaw=i / 10))
    with capsys.disabled():
        print(f"\npeople: {100 * (time.process_time() - start):.1f} ms of CPU per 256x256 frame")
