"""The mathematics of people that needs no data: rotations, files, expressions, hair, light, identities."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asymtalker.training.core.config import TrainingError
from asymtalker.training.corpus.motion import Pose
from asymtalker.training.people.assets import Assets, read_binding, read_obj, read_pose_units
from asymtalker.training.people.background import make_background, pictures
from asymtalker.training.people.expression import lids_and_brows, lips, stance
from asymtalker.training.people.light import ambient_occlusion, directions, lamp_weights, sample_light, visibility
from asymtalker.training.people.locks import HeadFrame, Locks, beard_area, scalp
from asymtalker.training.people.person import macro_weights, sample_person
from asymtalker.training.people.pieces import cylinder, incidence, ribbons, vertex_normals
from asymtalker.training.people.rotation import matrices_from_rotvecs, rotvecs_from_matrices

NAMES = ("nose/nose-hump-decr", "nose/nose-hump-incr", "eyes/l-eye-scale-decr", "eyes/l-eye-scale-incr",
         "eyes/r-eye-scale-decr", "eyes/r-eye-scale-incr", "asym/asym-jaw-1-l", "asym/asym-jaw-1-r")  # fmt: skip


def test_rotations_survive_their_matrices() -> None:
    vectors = np.random.default_rng(0).uniform(-1.6, 1.6, (50, 3))
    matrices = matrices_from_rotvecs(vectors)
    np.testing.assert_allclose(matrices @ np.swapaxes(matrices, 1, 2), np.tile(np.eye(3), (50, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(rotvecs_from_matrices(matrices), vectors, atol=1e-9)
    np.testing.assert_allclose(matrices_from_rotvecs(np.array([0, np.pi / 2, 0])) @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_array_equal(matrices_from_rotvecs(np.zeros(3)), np.eye(3))


def test_obj_groups_and_fans() -> None:
    text = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt .5 .25\ng a\nf 1/1 2/1 3/1 4/1\ng b\nf 1 2 3\n"
    mesh = read_obj(text.splitlines())
    assert mesh.vertices.shape == (4, 3)
    np.testing.assert_array_equal(mesh.triangles["a"][0], [[0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(mesh.triangles["b"][0], [[0, 1, 2]])


def test_part_hangs_on_the_mesh_and_grows_with_it() -> None:
    text = "x_scale 0 1 2.0\nmaterial skin\nverts 0\n3\n0 1 2 0.5 0.25 0.25 0.1 0.2 0.3\ndelete_verts\n5 - 9\n"
    binding = read_binding(text.splitlines())
    base = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [7, 8, 9]], np.float32)
    np.testing.assert_allclose(binding.fit(base), [[7, 8, 9], [0.6, 0.7, 0.3]])
    wide = base * np.array([3, 1, 1], np.float32)
    np.testing.assert_allclose(binding.fit(wide)[1], [1.5 + 0.3, 0.7, 0.3])


def test_pose_units_turn_about_the_axes_of_the_world() -> None:
    head = "HIERARCHY\nROOT jaw\nCHANNELS 3 Zrotation Xrotation Yrotation\nMOTION\nFrames: 2\nFrame Time: 1\n"
    text = head + "0 0 0\n0 30 0\n"
    units = read_pose_units(text, ["Rest", "Open"], ["jaw", "head"])
    np.testing.assert_array_equal(units["Rest"], 0)
    np.testing.assert_allclose(units["Open"][0], [np.radians(30), 0, 0], atol=1e-6)


def test_missing_data_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"base\.obj is missing.*CC0.*github"):
        Assets(tmp_path)


def test_lips_press_round_and_spread() -> None:
    pressed, rounded, spread = lips(Pose(press=1.0, jaw=0.1)), lips(Pose(rounding=1.0)), lips(Pose(width=1.0))
    assert pressed["mouth-compression"] > 0.5
    assert pressed["UpperLipUp"] == 0
    assert rounded["LipsKiss"] > 0.8 > spread["MouthLeftPullSide"] > 0.5
    assert rounded["MouthLeftPullSide"] == spread["LipsKiss"] == 0
    assert (
        lids_and_brows(Pose(blink=1.0), 0.1)["LeftUpperLidClosed"]
        > 1
        > 0.2
        > lids_and_brows(Pose(), 0.1)["LeftUpperLidClosed"]
    )


def test_head_turns_as_the_drawn_one() -> None:
    turned = matrices_from_rotvecs(np.array(stance(Pose(yaw=10.0)).head)) @ [0, 0, 1]
    nodded = matrices_from_rotvecs(np.array(stance(Pose(pitch=10.0)).head)) @ [0, 0, 1]
    rolled = matrices_from_rotvecs(np.array(stance(Pose(roll=10.0)).head)) @ [0, 1, 0]
    # The nose to the right, the nose down, the crown to the right.
    assert turned[0] > 0.1 > nodded[1]
    assert nodded[1] < -0.1 < 0.1 < rolled[0]


def test_macro_weights_are_shares() -> None:
    weights = macro_weights(0.3, 0.2, (0.5, 0.3, 0.2), 0.6, 0.4)
    for part in ("macrodetails/universal", "macrodetails/a", "macrodetails/c"):
        assert all(w >= 0 for n, w in weights.items() if n.startswith(part))
    assert sum(w for n, w in weights.items() if "universal" in n) == pytest.approx(1)
    assert sum(w for n, w in weights.items() if "universal" not in n) == pytest.approx(1)


def test_people_are_a_function_of_their_seed_and_stay_ordinary() -> None:
    people = [sample_person(np.random.default_rng([1, i]), NAMES) for i in range(200)]
    assert people[5] == sample_person(np.random.default_rng([1, 5]), NAMES)
    assert len({p.skin for p in people}) == 200
    weights = [w for p in people for n, w in p.shape if not n.startswith("macrodetails")]
    assert max(weights) < 0.6
    # Tone and shape vary apart: dark and light skin in every race.
    for race in range(3):
        darkness = [p.darkness for p in people if p.races[race] > 0.6]
        assert min(darkness) < 0.4 < 0.6 < max(darkness)
    assert all(p.beard == "none" for p in people if p.male < 0.5)


def test_locks_become_ribbons_as_wide_as_they_say() -> None:
    points = np.linspace(0, 1, 5)[None, :, None] * np.array([0.0, -1.0, 0.0]) + np.zeros((2, 1, 1))
    normals = np.tile(np.array([0.0, 0.0, 1.0]), (2, 5, 1))
    vertices, triangles, attributes, _, tangents = ribbons(Locks(points, normals, np.full((2, 5), 0.1), points[:, 0]))
    assert vertices.shape == (20, 3)
    assert triangles.shape == (16, 3)
    pairs = vertices.reshape(-1, 2, 3)
    flat = np.linalg.norm((pairs[:, 1] - pairs[:, 0])[:, :2], axis=1)
    np.testing.assert_allclose(flat, 0.1, rtol=1e-6)
    assert attributes[:, 1].max() == 1
    np.testing.assert_allclose(tangents, np.tile([0, -1, 0], (20, 1)), atol=1e-9)


def test_hair_is_carried_between_heads() -> None:
    canonical = np.random.default_rng(0).uniform([-0.8, 6.3, -1], [0.8, 8.4, 1.5], (40, 3))
    person = canonical * np.array([1.1, 0.9, 1.0]) + np.array([0, -0.4, 0.1])
    frame = HeadFrame.between(person, canonical)
    np.testing.assert_allclose(frame.to_base(person), canonical, atol=1e-9)
    locks = Locks(canonical[:, None], canonical[:, None], np.ones((40, 1)), canonical)
    np.testing.assert_allclose(frame.carried_back(locks).roots, person, atol=1e-9)


def test_hair_and_beards_grow_where_they_should() -> None:
    crown, forehead, nape, nose = np.array([[0, 8.4, 0.2], [0, 7.6, 1.3], [0, 7.2, -0.7], [0, 7.0, 1.7]])
    np.testing.assert_array_equal(scalp(np.stack([crown, forehead, nape, nose])), [1, 0, 1, 0])
    lip, upper, chin, cheek = np.array([[0, 6.6, 1.55], [0.1, 6.78, 1.5], [0, 6.25, 1.45], [0.4, 7.1, 1.3]])
    assert beard_area(np.stack([lip, cheek]), "full").max() < 0.05
    assert beard_area(np.stack([chin, upper]), "full").min() > 0.6
    assert beard_area(chin[None], "moustache")[0] == 0


def test_skin_texture_wraps_around_the_head() -> None:
    front, right, behind = cylinder(np.array([[0, 7, 1.5], [0.8, 7, 0.25], [1e-6, 7, -1.0]]))
    assert front[0] == pytest.approx(0.5)
    assert right[0] == pytest.approx(0.75)
    assert behind[0] == pytest.approx(1.0, abs=1e-3)


def test_normals_of_a_flat_square() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    np.testing.assert_allclose(vertex_normals(vertices, triangles, incidence(triangles, 4)), np.tile([0, 0, 1], (4, 1)))


def test_floor_under_a_roof_sees_the_sides_only() -> None:
    # A small roof above the middle of a floor, and a place far from it.
    vertices = np.array([[0, 0, 0], [4, 0, 0], [-1, 1, -1], [1, 1, -1], [1, 1, 1], [-1, 1, 1]], float)
    normals = np.tile([0.0, 1.0, 0.0], (6, 1))
    roof = np.array([[2, 3, 4], [2, 4, 5]], np.int32)
    seen = visibility(vertices, roof, vertices, normals, size=40)
    up = directions()[:, 1] > 0.8
    assert seen[0, up].mean() < 0.35
    assert seen[1, up].mean() == 1
    openness = ambient_occlusion(seen, normals)
    assert openness[0] < openness[1] == pytest.approx(1)


def test_lamps_fill_their_side_of_the_sky() -> None:
    lamps = np.eye(3)
    weights = lamp_weights(lamps, np.array([0.1, 0.5, 1.0]))
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    spread = [(weights[:, k] ** 2).sum() for k in range(3)]
    assert spread[0] > spread[1] > spread[2]
    assert directions()[weights[:, 0].argmax()] @ lamps[0] > 0.9


def test_lights_vary_and_are_repeatable() -> None:
    lights = [sample_light(np.random.default_rng(i)) for i in range(20)]
    np.testing.assert_allclose(np.linalg.norm(lights[3].lamps, axis=1), 1)
    np.testing.assert_array_equal(lights[3].colours, sample_light(np.random.default_rng(3)).colours)
    assert len({round(float(light.colours[0, 0]), 6) for light in lights}) == 20


def test_backgrounds_need_pictures_where_a_folder_is_given(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no pictures"):
        pictures(tmp_path)
    for seed in range(6):
        background = make_background(np.random.default_rng(seed), 48)
        assert background.shape == (48, 48, 3)
        assert 0 <= background.min() <= background.max() <= 1


def test_identity_is_a_plain_record() -> None:
    person = sample_person(np.random.default_rng(0), NAMES)
    assert replace(person, glasses="round") != replace(person, glasses="none")
