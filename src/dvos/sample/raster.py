"""Drawing of ribbons (blades, stalks, straw) and ellipsoids (grains, clods) with a depth test."""

import math
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import jit_like_numpy
from dvos.sample import Doubles, Floats

#: Columns of a ribbon's ``style`` row: colour at the base (3) and at the withered end (3), where
#: along the ribbon withering begins (0..1), offset into the noise, roundness (1 a stalk, 0.4 a
#: blade with a keel), strength of midrib and veins, share of light let through, gloss.
STYLE_COLUMNS = 12


class Buffers(NamedTuple):
    """What is seen through the samples (h, w) of a picture, before light."""

    depth: Floats  # metres from the camera, ``inf`` where nothing is drawn
    # (h, w, 8): linear red, green, blue albedo; world normal; share of light let through; gloss.
    # Of size 0 for the sun, which asks for the depth alone.
    surface: Floats
    owner: NDArray[np.uint16]  # number of the head, 0 for all else

    @classmethod
    def of_size(cls, size: tuple[int, int]) -> Self:
        """Buffers of ``size`` (height, width) samples."""
        surface, owner = np.empty((*size, 8), np.float32), np.empty(size, np.uint16)
        return cls(np.empty(size, np.float32), surface, owner)


class Ribbons(NamedTuple):
    """M ribbons of S stations; drawn as float32, with edges as column, row, depth."""

    edges: NDArray[np.floating]  # (M, S, 2, 3), left and right edge
    normals: NDArray[np.floating]  # (M, S, 3), unit, in the world
    sides: NDArray[np.floating]  # (M, S, 3), unit, from the left edge to the right one
    styles: Floats  # (M, STYLE_COLUMNS)
    lengths: NDArray[np.floating]  # (M,), metres, which keep the grain of the texture the same


class Ellipsoids(NamedTuple):
    """E ellipsoids; drawn as float32, with places and half axes as column, row, depth."""

    centres: NDArray[np.floating]  # (E, 3)
    axes: NDArray[np.floating]  # (E, 3, 3), columns: the three half axes
    styles: Floats  # (E, 5): albedo (3), how mottled a grain is or 1 for a clod, offset into noise
    owners: NDArray[np.uint16]  # (E,), number of the head each belongs to; 0 none


@jit_like_numpy
def _blade_colour(
    u: float, v: float, length: float, style: Floats, noise: Floats, out: Floats
) -> None:
    """Albedo of a blade at ``u`` (-1..1 across) and ``v`` (0..1 along) into ``out[:3]``."""
    wrap = noise.shape[0] - 1
    offset = style[7]
    streak = noise[int(offset + v * length * 900.0) & wrap, int(offset * 1.7 + u * 9.0) & wrap]
    patch = noise[int(offset * 3.1 + v * length * 260.0) & wrap, int(offset + u * 3.0) & wrap]
    withered = (v + 0.10 * patch + 0.04 * streak - style[6]) / 0.16 + 0.5
    withered += 0.5 * u * u  # edges wither before the middle of a blade does
    withered = min(1.0, max(0.0, withered))
    # A sine by parabolas: cheap enough for every sample.
    t = u * 2.4 - math.floor(u * 2.4)
    wave = 16.0 * t * (0.5 - t) if t < 0.5 else -16.0 * (t - 0.5) * (1.0 - t)
    veins = 1.0 + style[9] * (0.07 * wave + 0.10 * streak + 0.10 * patch)
    rib = max(0.0, 1.0 - abs(u) * 7.0) * style[9]
    for channel in range(3):
        value = style[channel] + (style[3 + channel] - style[channel]) * withered
        value *= veins
        out[channel] = value * (1.0 + 0.35 * rib) + 0.02 * rib


@jit_like_numpy
def _span(
    start_b: float, step_b: float, start_c: float, step_c: float, limit: int
) -> tuple[int, int]:
    """First and last step 0..``limit`` of a row on which no barycentric weight is negative."""
    low, high = 0.0, float(limit)
    slack = 1e-5  # closes the seams that rounding opens where two triangles meet
    starts = (start_b + slack, start_c + slack, 1.0 - start_b - start_c + slack)
    steps = (step_b, step_c, -step_b - step_c)
    for k in range(3):
        if steps[k] > 1e-12:
            low = max(low, -starts[k] / steps[k])
        elif steps[k] < -1e-12:
            high = min(high, -starts[k] / steps[k])
        elif starts[k] < 0.0:
            return 1, 0
    if low > high:
        return 1, 0
    return math.ceil(low), math.floor(high)


@jit_like_numpy
def _draw_triangle(
    a: Floats, b: Floats, c: Floats, uv: Floats, normals: Floats, sides: Floats, style: Floats,
    length: float, noise: Floats, buffers: Buffers,
) -> None:  # fmt: skip
    """Draw one triangle; ``uv`` (3, 2), and at its two ends ``normals``, ``sides`` (2, 3)."""
    depth, surface, owner = buffers
    height, width = depth.shape
    x0 = max(0, math.ceil(min(a[0], b[0], c[0]) - 0.5))
    x1 = min(width - 1, math.floor(max(a[0], b[0], c[0]) - 0.5))
    y0 = max(0, math.ceil(min(a[1], b[1], c[1]) - 0.5))
    y1 = min(height - 1, math.floor(max(a[1], b[1], c[1]) - 0.5))
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if x1 < x0 or y1 < y0 or abs(area) < 1e-6:
        return
    inverse = 1.0 / area
    step_b = (c[1] - a[1]) * inverse
    step_c = -(b[1] - a[1]) * inverse
    px = x0 + 0.5 - a[0]
    for y in range(y0, y1 + 1):
        py = y + 0.5 - a[1]
        start_b = (px * (c[1] - a[1]) - py * (c[0] - a[0])) * inverse
        start_c = (py * (b[0] - a[0]) - px * (b[1] - a[1])) * inverse
        first, last = _span(start_b, step_b, start_c, step_c, x1 - x0)
        for i in range(first, last + 1):
            x = x0 + i
            weight_b = start_b + i * step_b
            weight_c = start_c + i * step_c
            weight_a = 1.0 - weight_b - weight_c
            z = weight_a * a[2] + weight_b * b[2] + weight_c * c[2]
            if z < depth[y, x]:
                depth[y, x] = z
                if not surface.size:
                    continue
                u = weight_a * uv[0, 0] + weight_b * uv[1, 0] + weight_c * uv[2, 0]
                v = weight_a * uv[0, 1] + weight_b * uv[1, 1] + weight_c * uv[2, 1]
                part = weight_a * uv[0, 2] + weight_b * uv[1, 2] + weight_c * uv[2, 2]
                owner[y, x] = 0
                pixel = surface[y, x]
                _blade_colour(u, v, length, style, noise, pixel)
                tilt = style[8] * u
                flat = math.sqrt(max(0.0, 1.0 - tilt * tilt))
                for k in range(3):
                    along = normals[0, k] + (normals[1, k] - normals[0, k]) * part
                    across = sides[0, k] + (sides[1, k] - sides[0, k]) * part
                    pixel[3 + k] = along * flat + across * tilt
                pixel[6] = style[10]
                pixel[7] = style[11]


@jit_like_numpy
def draw_ribbons(ribbons: Ribbons, noise: Floats, buffers: Buffers) -> None:
    """Draw ribbons; ``noise`` (N, N) is smooth, of standard deviation 1, N a power of two."""
    edges, normals, sides, styles, lengths = ribbons
    uv = np.empty((3, 3), np.float32)
    stations = edges.shape[1]
    height, width = buffers.depth.shape
    for ribbon in range(edges.shape[0]):
        x, y = edges[ribbon, :, :, 0], edges[ribbon, :, :, 1]
        # All of it lies beyond the same edge of the picture.
        if x.max() < 0 or x.min() > width or y.max() < 0 or y.min() > height:
            continue
        line, style, length = edges[ribbon], styles[ribbon], lengths[ribbon]
        for s in range(stations - 1):
            v0 = s / (stations - 1)
            v1 = (s + 1) / (stations - 1)
            normal, side = normals[ribbon, s : s + 2], sides[ribbon, s : s + 2]
            uv[1, 0], uv[1, 1], uv[1, 2] = 1.0, v0, 0.0
            uv[2, 0], uv[2, 1], uv[2, 2] = -1.0, v1, 1.0
            for k in range(2):
                uv[0, 0], uv[0, 1], uv[0, 2] = 2.0 * k - 1.0, v1 if k else v0, float(k)
                _draw_triangle(
                    line[s + k, k], line[s, 1], line[s + 1, 0], uv, normal, side, style, length,
                    noise, buffers,
                )  # fmt: skip


@jit_like_numpy
def _silhouette(axes: Floats) -> tuple[float, float, float, float, float, float]:
    """Quadric of a projected ellipsoid.

    Inverse of the silhouette's 2 x 2 matrix (xx, xy, yy), slopes of mid-depth along x and y, half
    the thickness at the centre.
    """
    s_xx = axes[0, 0] ** 2 + axes[0, 1] ** 2 + axes[0, 2] ** 2
    s_yy = axes[1, 0] ** 2 + axes[1, 1] ** 2 + axes[1, 2] ** 2
    s_zz = axes[2, 0] ** 2 + axes[2, 1] ** 2 + axes[2, 2] ** 2
    s_xy = axes[0, 0] * axes[1, 0] + axes[0, 1] * axes[1, 1] + axes[0, 2] * axes[1, 2]
    s_xz = axes[0, 0] * axes[2, 0] + axes[0, 1] * axes[2, 1] + axes[0, 2] * axes[2, 2]
    s_yz = axes[1, 0] * axes[2, 0] + axes[1, 1] * axes[2, 1] + axes[1, 2] * axes[2, 2]
    inverse = 1.0 / max(1e-12, s_xx * s_yy - s_xy * s_xy)
    i_xx, i_xy, i_yy = s_yy * inverse, -s_xy * inverse, s_xx * inverse
    slope_x = s_xz * i_xx + s_yz * i_xy
    slope_y = s_xz * i_xy + s_yz * i_yy
    thickness = math.sqrt(max(0.0, s_zz - slope_x * s_xz - slope_y * s_yz))
    return i_xx, i_xy, i_yy, slope_x, slope_y, thickness


@jit_like_numpy
def _invert(m: Floats, out: Doubles) -> None:
    """Inverse of the 3 x 3 matrix ``m`` by cofactors."""
    for i in range(3):
        i1, i2 = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            j1, j2 = (j + 1) % 3, (j + 2) % 3
            out[j, i] = float(m[i1, j1]) * m[i2, j2] - float(m[i1, j2]) * m[i2, j1]
    determinant = m[0, 0] * out[0, 0] + m[0, 1] * out[1, 0] + m[0, 2] * out[2, 0]
    for i in range(3):
        for j in range(3):
            out[i, j] /= determinant


@jit_like_numpy
def _grain_colour(local: Floats, style: Floats, noise: Floats, out: Floats) -> None:
    """Albedo at a point ``local`` (3,) of the unit sphere into ``out[:3]``.

    A grain (``style[3]`` up to 0.5: how mottled) is darker at its foot, paler at its tip and
    along its keel and the edges of its glumes; a clod (1) is only mottled.
    """
    wrap = noise.shape[0] - 1
    row = int(style[4] + local[0] * 14.0 + 64.0) & wrap
    column = int(style[4] * 2.3 + (local[1] + 0.7 * local[2]) * 22.0 + 64.0) & wrap
    mottle = noise[row, column]
    if style[3] > 0.5:
        for channel in range(3):
            out[channel] = style[channel] * max(0.3, 1.0 + 0.30 * mottle)
        return
    along = local[0]
    foot = min(1.0, 0.42 + 0.58 * (along + 1.0) / 1.1)
    tip = max(0.0, along - 0.25) / 0.75
    keel = max(0.0, 1.0 - abs(local[1]) * 5.0)
    edge = max(0.0, abs(local[1]) - 0.62) / 0.38
    furrow = max(0.0, 1.0 - abs(abs(local[1]) - 0.42) * 9.0)
    pale = 0.30 * keel + 0.45 * tip + 0.20 * edge
    for channel in range(3):
        value = style[channel] * foot * (1.0 + (0.07 + style[3]) * mottle - 0.28 * furrow)
        target = 1.15 * style[channel] + (0.17, 0.145, 0.06)[channel]
        out[channel] = value + (target - value) * min(0.75, pale)


@jit_like_numpy
def draw_ellipsoids(solids: Ellipsoids, world: Floats, noise: Floats, buffers: Buffers) -> None:
    """Draw ellipsoids exactly, each as if seen by parallel rays.

    ``world`` (E, 3, 3), half axes as columns over their squared length, gives the normals.
    """
    centres, axes, styles, owners = solids
    depth, surface, owner = buffers
    height, width = depth.shape
    local = np.empty(3, np.float32)
    inverse = np.empty((3, 3), np.float64)
    for e in range(centres.shape[0]):
        i_xx, i_xy, i_yy, slope_x, slope_y, thickness = _silhouette(axes[e])
        reach = math.sqrt(axes[e, 1, 0] ** 2 + axes[e, 1, 1] ** 2 + axes[e, 1, 2] ** 2)
        cx, cy, cz = centres[e, 0], centres[e, 1], centres[e, 2]
        if cy + reach < 0 or cy - reach > height:
            continue
        _invert(axes[e], inverse)
        first = max(0, math.ceil(cy - reach - 0.5))
        last = min(height - 1, math.floor(cy + reach - 0.5))
        for y in range(first, last + 1):
            dy = y + 0.5 - cy
            # Where the row cuts the silhouette.
            root = (i_xy * dy) ** 2 - i_xx * (i_yy * dy * dy - 1.0)
            if root < 0.0:
                continue
            half = math.sqrt(root) / i_xx
            middle = -i_xy * dy / i_xx
            x0 = max(0, math.ceil(cx + (middle - half) - 0.5))
            x1 = min(width - 1, math.floor(cx + (middle + half) - 0.5))
            for x in range(x0, x1 + 1):
                dx = x + 0.5 - cx
                q = i_xx * dx * dx + 2.0 * i_xy * dx * dy + i_yy * dy * dy
                dz = slope_x * dx + slope_y * dy - thickness * math.sqrt(max(0.0, 1.0 - q))
                if cz + dz >= depth[y, x]:
                    continue
                depth[y, x] = cz + dz
                if not surface.size:
                    continue
                owner[y, x] = owners[e]
                for k in range(3):
                    local[k] = inverse[k, 0] * dx + inverse[k, 1] * dy + inverse[k, 2] * dz
                pixel = surface[y, x]
                _grain_colour(local, styles[e], noise, pixel)
                for k in range(3):
                    axis = world[e, k]
                    pixel[3 + k] = axis[0] * local[0] + axis[1] * local[1] + axis[2] * local[2]
                pixel[6] = 0.0
                pixel[7] = 0.04
