"""The inner loops of the renderer: triangles into a depth buffer, samples into colours.

Compiled by numba where it is installed; without it the same code runs in the interpreter, which is enough for tests on
tiny pictures. Screens are [H, W] with the first row at the top; depth is 1/z, so nearer is larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    from numba import njit

    COMPILED = True
except ImportError:  # numba is an optional part of the training requirements
    COMPILED = False

    def njit(**_: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return lambda function: function


SKIN, CLOTH, EYE, PLAIN, HAIR, LASH = range(6)
# Columns of a vertex's row: place on screen, 1/z, normal (of hair: tangent), irradiance, light that is seen from there
# of three lamps, and three numbers whose meaning depends on the material.
SX, SY, DEPTH, NX, EX, LX, AX, COLUMNS = 0, 1, 2, 3, 6, 9, 12, 15

_FAST: dict[str, Any] = {"cache": True, "fastmath": True, "nogil": True}


@njit(**_FAST)
def _span(fixed: float, slope: float, low: float, high: float) -> tuple[float, float]:
    """Narrows ``low``..``high`` to where fixed + slope * x is not negative."""
    if slope > 0.0:
        return max(low, -fixed / slope), high
    if slope < 0.0:
        return low, min(high, -fixed / slope)
    return (low, high) if fixed >= 0.0 else (1.0, 0.0)


@njit(**_FAST)
def _pixels(ra: float, dxa: float, rb: float, dxb: float, width: int) -> tuple[int, int]:
    """The first and last pixel of a row whose centre a triangle covers, from two corners' shares at x = 0."""
    low, high = _span(ra, dxa, 0.0, float(width))
    low, high = _span(rb, dxb, low, high)
    low, high = _span(1.0 - ra - rb, -dxa - dxb, low, high)
    return max(0, math.ceil(low - 0.5)), min(width - 1, math.floor(high - 0.5))


@njit(**_FAST)
def _share(xb: float, yb: float, xc: float, yc: float, inverse: float) -> tuple[float, float, float]:
    """A corner's share of the places in a triangle, from the other two corners: dx * x + dy * y + fixed."""
    return (yb - yc) * inverse, (xc - xb) * inverse, (xb * yc - yb * xc) * inverse


@njit(**_FAST)
def fill_depth(x: np.ndarray, y: np.ndarray, depth: np.ndarray, triangles: np.ndarray, out: np.ndarray) -> None:
    """Raises ``out`` [H, W] to the largest interpolated ``depth`` of the triangles [N, 3] over each pixel's centre."""
    height, width = out.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        xa, xb, xc = np.float64(x[a]), np.float64(x[b]), np.float64(x[c])
        ya, yb, yc = np.float64(y[a]), np.float64(y[b]), np.float64(y[c])
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        if area == 0.0:
            continue
        inverse = 1.0 / area
        dxa, dya, fa = _share(xb, yb, xc, yc, inverse)
        dxb, dyb, fb = _share(xc, yc, xa, ya, inverse)
        za, zb, zc = depth[a], depth[b], depth[c]
        dz = dxa * (za - zc) + dxb * (zb - zc)
        top, bottom = max(0, math.ceil(min(ya, yb, yc) - 0.5)), min(height - 1, math.floor(max(ya, yb, yc) - 0.5))
        for j in range(top, bottom + 1):
            py = j + 0.5
            ra, rb = fa + dya * py, fb + dyb * py
            first, last = _pixels(ra, dxa, rb, dxb, width)
            z = ra * za + rb * zb + (1.0 - ra - rb) * zc + dz * (first + 0.5)
            for i in range(first, last + 1):
                if z > out[j, i]:
                    out[j, i] = z
                z += dz


@njit(**_FAST)
def neck_edge(x: float, z: float, neck: np.ndarray) -> float:
    """Distance outside a garment's neckline at a place on the base mesh, negative inside."""
    reach = neck[0] + neck[1] * max(z, 0.0) * max(0.0, 1.0 - 1.6 * abs(x))
    return math.sqrt(x * x + 0.72 * (z - 0.1) * (z - 0.1)) - reach


@njit(**_FAST)
def fill_triangles(
    rows: np.ndarray,
    triangles: np.ndarray,
    material: np.ndarray,
    strands: np.ndarray,
    neck: np.ndarray,
    depth: np.ndarray,
    owner: np.ndarray,
) -> None:
    """Writes which triangle is seen at each sample into ``owner`` [H, W], -1 where none; ``depth`` starts at 0.

    Skin, cloth and what is plain shows its front only. Hair and lashes have holes, where ``strands`` [S, S] in 0..1
    (strand against place along it, S a power of two) is below a level that rises towards the edges and the tip. Cloth
    has a hole for the neck: ``neck`` [2] are its radius and how far down it reaches in front.
    """
    height, width = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        # In float64: the differences of products below would leave cracks between triangles.
        xa, xb, xc = np.float64(rows[a, SX]), np.float64(rows[b, SX]), np.float64(rows[c, SX])
        ya, yb, yc = np.float64(rows[a, SY]), np.float64(rows[b, SY]), np.float64(rows[c, SY])
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        kind = material[t]
        if abs(area) < 0.01 or (area > 0.0 and kind < HAIR):
            continue
        inverse = 1.0 / area
        dxa, dya, fa = _share(xb, yb, xc, yc, inverse)
        dxb, dyb, fb = _share(xc, yc, xa, ya, inverse)
        za, zb, zc = rows[a, DEPTH], rows[b, DEPTH], rows[c, DEPTH]
        dz = dxa * (za - zc) + dxb * (zb - zc)
        second = AX + 2 if kind == CLOTH else AX + 1
        ua, ub, uc, va, vb, vc = (
            rows[a, AX],
            rows[b, AX],
            rows[c, AX],
            rows[a, second],
            rows[b, second],
            rows[c, second],
        )
        lane = rows[a, AX + 2]
        top, bottom = max(0, math.ceil(min(ya, yb, yc) - 0.5)), min(height - 1, math.floor(max(ya, yb, yc) - 0.5))
        for j in range(top, bottom + 1):
            py = j + 0.5
            ra, rb = fa + dya * py, fb + dyb * py
            first, last = _pixels(ra, dxa, rb, dxb, width)
            # Rounding must not carry the depth of a sliver beyond that of its corners.
            z = min(ra * za + rb * zb + (1.0 - ra - rb) * zc + dz * (first + 0.5), max(za, zb, zc))
            for i in range(first, last + 1):
                if z > depth[j, i]:
                    shown = True
                    if kind >= HAIR or kind == CLOTH:
                        wa, wb = ra + dxa * (i + 0.5), rb + dxb * (i + 0.5)
                        u = wa * ua + wb * ub + (1.0 - wa - wb) * uc
                        v = wa * va + wb * vb + (1.0 - wa - wb) * vc
                        shown = neck_edge(u, v, neck) >= 0.0 if kind == CLOTH else _is_hair(kind, u, v, lane, strands)
                    if shown:
                        depth[j, i] = z
                        owner[j, i] = t
                z += dz


@njit(**_FAST)
def _is_hair(kind: int, u: float, v: float, lane: float, strands: np.ndarray) -> bool:
    """Whether a strand passes at ``u`` across and ``v`` along a lock, or a lash at ``v`` from the lid to the tip."""
    across = 2.0 * u - 1.0
    level = 0.36 + 2.0 * v if kind == LASH else 0.26 + 0.4 * across * across + 0.25 * v * v
    return strand_at(strands, u, v, lane) >= level


@njit(**_FAST)
def strand_at(strands: np.ndarray, u: float, v: float, lane: float) -> Any:
    """How light the strand is at ``u`` across and ``v`` along the lock ``lane``."""
    size = strands.shape[0]
    return strands[int((lane + 0.11 * u) * size) & (size - 1), int(v * 0.3 * size + lane * 977.0) & (size - 1)]


@njit(**_FAST)
def _texel(texture: np.ndarray, u: float, v: float, channel_values: np.ndarray) -> None:
    """Bilinear look-up of 4 channels at u (wraps) and v (clamped), both in 0..1, decoded from square roots."""
    height, width = texture.shape[0], texture.shape[1]
    x = (u - math.floor(u)) * width - 0.5
    y = min(max(v * height - 0.5, 0.0), height - 1.001)
    x0, y0 = math.floor(x), int(y)
    fx, fy = x - x0, y - y0
    x1 = (x0 + 1) % width
    x0 = x0 % width
    y1 = min(y0 + 1, height - 1)
    for k in range(4):
        upper = (1.0 - fx) * texture[y0, x0, k] + fx * texture[y0, x1, k]
        lower = (1.0 - fx) * texture[y1, x0, k] + fx * texture[y1, x1, k]
        value = ((1.0 - fy) * upper + fy * lower) / 255.0
        channel_values[k] = value * value


@njit(**_FAST)
def _tone(x: float) -> float:
    """A filmic curve (Narkowicz's fit of ACES) and the display's gamma."""
    x = max(x, 0.0)
    y = (x * (2.51 * x + 0.03)) / (x * (2.43 * x + 0.59) + 0.14)
    return min(max(y, 0.0), 1.0) ** 0.4545


@njit(**_FAST)
def _half_way(vx: float, vy: float, vz: float, lamp: np.ndarray) -> tuple[float, float, float, float]:
    """The vector half way between the viewer and a lamp, and what scales it to length 1."""
    hx, hy, hz = lamp[0] + vx, lamp[1] + vy, lamp[2] + vz
    return hx, hy, hz, 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)


@njit(**_FAST)
def _shine(
    nx: float, ny: float, nz: float, vx: float, vy: float, vz: float, lamp: np.ndarray, exponent: float, base: float
) -> float:
    """Blinn's highlight with Schlick's Fresnel term of one lamp, normalised so that it keeps its energy."""
    hx, hy, hz, scale = _half_way(vx, vy, vz, lamp)
    nh = max((nx * hx + ny * hy + nz * hz) * scale, 0.0)
    nl = max(nx * lamp[0] + ny * lamp[1] + nz * lamp[2], 0.0)
    vh = max((vx * hx + vy * hy + vz * hz) * scale, 0.0)
    miss = 1.0 - vh
    fresnel = base + (1.0 - base) * miss * miss * miss * miss * miss
    return nl * fresnel * (exponent + 8.0) / 25.13 * nh**exponent


@njit(**_FAST)
def _is_inside(owner: np.ndarray, material: np.ndarray, i: int, j: int, kind: Any) -> bool:
    """Whether all four samples of a pixel are of one material."""
    for y in range(j, j + 2):
        for x in range(i, i + 2):
            if owner[y, x] < 0 or material[owner[y, x]] != kind:
                return False
    return True


@njit(**_FAST)
def _shares(rows: np.ndarray, a: int, b: int, c: int, px: float, py: float) -> tuple[float, float, float]:
    """The corners' shares of the place of a triangle that is seen at px, py."""
    xa, ya, xb, yb, xc, yc = rows[a, SX], rows[a, SY], rows[b, SX], rows[b, SY], rows[c, SX], rows[c, SY]
    inverse = 1.0 / ((xb - xa) * (yc - ya) - (yb - ya) * (xc - xa))
    wa = ((xb - px) * (yc - py) - (yb - py) * (xc - px)) * inverse
    wb = ((xc - px) * (ya - py) - (yc - py) * (xa - px)) * inverse
    wc = 1.0 - wa - wb
    # Straight on the screen is not straight on the surface: weigh by nearness.
    wa, wb, wc = wa * rows[a, DEPTH], wb * rows[b, DEPTH], wc * rows[c, DEPTH]
    total = 1.0 / (wa + wb + wc)
    return wa * total, wb * total, wc * total


@njit(**_FAST)
def _across_seam(ua: float, ub: float, uc: float) -> tuple[float, float, float]:
    """Places across the skin's texture; those of a triangle that lies across its seam go on beyond 1."""
    if max(ua, ub, uc) - min(ua, ub, uc) > 0.5:
        return ua + (ua < 0.5), ub + (ub < 0.5), uc + (uc < 0.5)
    return ua, ub, uc


@njit(**_FAST)
def _hair_color(hair: np.ndarray, strand: float, q: float, r: float, texel: np.ndarray) -> None:
    tone = min(max(0.75 * strand + 0.35 * q + 0.5 * (r * 7.0 - math.floor(r * 7.0)) - 0.35, 0.0), 1.0)
    for k in range(3):
        texel[k] = (hair[0, k] + (hair[1, k] - hair[0, k]) * tone) * (0.45 + 0.75 * strand)


@njit(**_FAST)
def _fibre_shine(
    nx: float, ny: float, nz: float, vx: float, vy: float, vz: float, lamp: np.ndarray, exponent: float, strand: float
) -> float:
    """Kajiya and Kay's highlight of a fibre whose tangent is n."""
    hx, hy, hz, scale = _half_way(vx, vy, vz, lamp)
    th = (nx * hx + ny * hy + nz * hz) * scale + 0.3 * (strand - 0.5)
    return 0.08 * max(1.0 - th * th, 0.0) ** exponent


@njit(**_FAST)
def _cloth_shadow(relief: float, edge: float) -> float:
    """How dark the folds are, and a band around the neck with its seam."""
    shadow = min(max(1.0 + 0.9 * (relief - 0.36), 0.4), 1.4)
    if edge < 0.075:
        shadow *= 0.82 if edge < 0.065 else 0.55
    return shadow


@njit(**_FAST)
def shade(
    rows: np.ndarray,
    triangles: np.ndarray,
    material: np.ndarray,
    owner: np.ndarray,
    focal: float,
    lamps: np.ndarray,
    lights: np.ndarray,
    gloss: np.ndarray,
    skin: np.ndarray,
    eye: np.ndarray,
    cloth: np.ndarray,
    hair: np.ndarray,
    strands: np.ndarray,
    neck: np.ndarray,
    exposure: float,
    out: np.ndarray,
) -> None:
    """Averages the 2x2 samples of each pixel into ``out`` [H/2, W/2, 4]: display colours times coverage, coverage.

    ``lamps`` [3, 3] are directions to the lamps in the camera's axes, ``lights`` [3, 3] their colours; ``gloss`` [M, 3]
    are a material's highlight (amount, exponent, Fresnel base); ``skin`` and ``eye`` are uint8 textures of colour and
    gloss in square roots, ``cloth`` a texture over x and y of the body, ``hair`` [2, 3] the colours of dark and light
    strands.
    """
    height, width = owner.shape
    texel, highlight = np.zeros(4, np.float64), np.zeros(3, np.float64)
    for j in range(height):
        for i in range(width):
            t = owner[j, i]
            if t < 0:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            kind = material[t]
            weight = 0.25
            if (kind in (SKIN, CLOTH)) and _is_inside(owner, material, i & ~1, j & ~1, kind):
                # Inside a surface two samples of a pixel are enough.
                if (i + j) & 1:
                    continue
                weight = 0.5
            px, py = i + 0.5, j + 0.5
            wa, wb, wc = _shares(rows, a, b, c, px, py)

            nx = wa * rows[a, NX] + wb * rows[b, NX] + wc * rows[c, NX]
            ny = wa * rows[a, NX + 1] + wb * rows[b, NX + 1] + wc * rows[c, NX + 1]
            nz = wa * rows[a, NX + 2] + wb * rows[b, NX + 2] + wc * rows[c, NX + 2]
            scale = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-9)
            nx, ny, nz = nx * scale, ny * scale, nz * scale
            vx, vy = (0.5 * width - px) / focal, (py - 0.5 * height) / focal
            scale = 1.0 / math.sqrt(vx * vx + vy * vy + 1.0)
            vx, vy, vz = vx * scale, vy * scale, scale

            ua, ub, uc = rows[a, AX], rows[b, AX], rows[c, AX]
            if kind == SKIN:
                ua, ub, uc = _across_seam(ua, ub, uc)
            p = wa * ua + wb * ub + wc * uc
            q = wa * rows[a, AX + 1] + wb * rows[b, AX + 1] + wc * rows[c, AX + 1]
            r = wa * rows[a, AX + 2] + wb * rows[b, AX + 2] + wc * rows[c, AX + 2]

            amount, exponent, base = gloss[kind, 0], gloss[kind, 1], gloss[kind, 2]
            strand = 0.0
            if kind == SKIN:
                _texel(skin, p, q, texel)
                amount *= texel[3]
                exponent *= 0.5 + texel[3]
            elif kind == EYE:
                _texel(eye, 0.5 + 0.5 * p, 0.5 + 0.5 * q, texel)
            elif kind == CLOTH:
                _texel(cloth, 0.5 + 0.12 * p, 0.5 + 0.12 * q, texel)
                fold = 2.2 * (texel[3] - 0.36)
                nx += fold
                ny += 0.7 * fold
            elif kind == HAIR:
                strand = strand_at(strands, p, q, r)
                _hair_color(hair, strand, q, r, texel)
            else:
                texel[0], texel[1], texel[2] = p, q, r
                if kind == LASH:
                    texel[0], texel[1], texel[2] = 0.012, 0.01, 0.009

            highlight[:] = 0.0
            if amount > 0.0:
                for k in range(3):
                    seen = wa * rows[a, LX + k] + wb * rows[b, LX + k] + wc * rows[c, LX + k]
                    if kind == HAIR:
                        strength = _fibre_shine(nx, ny, nz, vx, vy, vz, lamps[k], exponent, strand)
                    else:
                        strength = _shine(nx, ny, nz, vx, vy, vz, lamps[k], exponent, base)
                    strength *= amount * seen
                    for channel in range(3):
                        highlight[channel] += strength * lights[k, channel]
            if kind == HAIR:
                for k in range(3):
                    highlight[k] *= 0.25 + 2.0 * texel[k]
            shadow = _cloth_shadow(texel[3], neck_edge(p, r, neck)) if kind == CLOTH else 1.0
            y, x = j // 2, i // 2
            for k in range(3):
                light = wa * rows[a, EX + k] + wb * rows[b, EX + k] + wc * rows[c, EX + k]
                out[y, x, k] += weight * _tone(exposure * (texel[k] * light * shadow + highlight[k]))
            out[y, x, 3] += weight
