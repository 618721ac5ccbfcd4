"""Triangles into pixels: what covers what, which side shows, where hair and necks leave holes."""

import numpy as np
import pytest

from training.people.kernel import (
    AX,
    CLOTH,
    COLUMNS,
    DEPTH,
    EX,
    HAIR,
    NX,
    PLAIN,
    SX,
    SY,
    fill_depth,
    fill_triangles,
    neck_edge,
    shade,
)  # fmt: skip

# Anticlockwise on a screen whose rows run down: the front of a surface.
FRONT = np.array([[0, 2, 1]], np.int32)
NO_NECK = np.zeros(2)


def rows_of(places: list[tuple[float, float, float]]) -> np.ndarray:
    rows = np.zeros((len(places), COLUMNS), np.float32)
    rows[:, [SX, SY, DEPTH]] = places
    rows[:, NX + 2] = 1
    rows[:, EX : EX + 3] = 1
    return rows


def fill(rows: np.ndarray, triangles: np.ndarray, kinds: list[int], size: int = 8, strand: float = 1.0) -> np.ndarray:
    owner = np.full((size, size), -1, np.int32)
    strands = np.full((16, 16), strand, np.float32)
    depth = np.zeros((size, size), np.float32)
    fill_triangles(rows, triangles, np.array(kinds, np.int8), strands, NO_NECK, depth, owner)
    return owner


def test_triangle_covers_the_pixels_whose_centres_it_holds() -> None:
    owner = fill(rows_of([(0, 0, 1), (8, 0, 1), (0, 8, 1)]), FRONT, [PLAIN])
    y, x = np.mgrid[0:8, 0:8]
    inside = (x + 0.5) + (y + 0.5) <= 8
    np.testing.assert_array_equal(owner == 0, inside)


def test_back_of_a_surface_is_not_drawn_but_that_of_hair_is() -> None:
    rows = rows_of([(0, 0, 1), (8, 0, 1), (0, 8, 1)])
    assert (fill(rows, FRONT[:, ::-1], [PLAIN]) < 0).all()
    assert (fill(rows, FRONT[:, ::-1], [HAIR]) >= 0).any()


def test_nearer_triangle_hides_the_other_in_either_order() -> None:
    rows = rows_of([(0, 0, 0.5), (8, 0, 0.5), (0, 8, 0.5), (0, 0, 1), (8, 0, 1), (0, 8, 1)])
    for order in ([[0, 2, 1], [3, 5, 4]], [[3, 5, 4], [0, 2, 1]]):
        triangles = np.array(order, np.int32)
        seen = fill(rows, triangles, [PLAIN, PLAIN])
        assert set(triangles[seen[seen >= 0], 0]) == {3}


def test_hair_has_holes_where_its_strands_are_thin() -> None:
    rows = rows_of([(0, 0, 1), (8, 0, 1), (0, 8, 1)])
    rows[:, AX] = 0.5
    assert (fill(rows, FRONT, [HAIR], strand=0.2) < 0).all()
    assert (fill(rows, FRONT, [HAIR], strand=0.9) >= 0).any()


def test_neighbours_leave_no_crack() -> None:
    # A grid whose vertices are shaken: every sample inside it belongs to some triangle.
    n, size = 12, 24
    rng = np.random.default_rng(2)
    y, x = np.mgrid[0:n, 0:n] * (size + 8) / (n - 1) - 4 + rng.uniform(-0.8, 0.8, (2, n, n))
    rows = rows_of([(a, b, 1.0) for a, b in zip(x.ravel(), y.ravel(), strict=True)])
    first = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    triangles = np.concatenate(
        [np.stack([first, first + n, first + 1], -1), np.stack([first + 1, first + n, first + n + 1], -1)]
    ).astype(np.int32)
    owner = fill(rows, triangles, [PLAIN] * len(triangles), size)
    assert (owner >= 0).all()


def test_depth_map_interpolates() -> None:
    depth = np.zeros((8, 8), np.float32)
    x, y, z = np.array([[0.0, 16, 0], [0, 0, 16], [1, 3, 1]])
    fill_depth(x, y, z, FRONT, depth)
    np.testing.assert_allclose(depth[0], 1 + 2 * (np.arange(8) + 0.5) / 16, rtol=1e-5)


def test_neckline_reaches_lower_in_front() -> None:
    neck = np.array([0.6, 0.4])
    assert neck_edge(0.0, 0.3, neck) < 0 < neck_edge(0.7, 0.1, neck)
    assert neck_edge(0.0, 1.0, neck) < neck_edge(0.0, -0.8, neck)


@pytest.mark.parametrize("level", [0.05, 0.2, 0.6])
def test_lit_surface_is_brighter_than_its_reflectance_in_half_the_light(level: float) -> None:
    size = 8
    rows = rows_of([(-20, -20, 1), (60, -20, 1), (-20, 60, 1)])
    rows[:, AX:] = level
    pictures = []
    for light in (1.0, 0.5):
        rows[:, EX : EX + 3] = light
        owner = fill(rows, FRONT, [PLAIN], size)
        out = np.zeros((size // 2, size // 2, 4), np.float32)
        none = np.zeros((4, 4, 4), np.uint8)
        shade(
            rows, FRONT, np.array([PLAIN], np.int8), owner, 100.0, np.eye(3), np.zeros((3, 3)), np.zeros((6, 3)), none,
            none, none, np.zeros((2, 3)), np.zeros((4, 4), np.float32), NO_NECK, 1.0, out,
        )  # fmt: skip
        np.testing.assert_allclose(out[..., 3], 1)
        assert np.ptp(out[..., :3]) < 1e-5
        pictures.append(out[0, 0, 0])
    assert 0 < pictures[1] < pictures[0] <= 1


def test_materials_are_numbered_apart() -> None:
    assert len({CLOTH, HAIR, PLAIN}) == 3
