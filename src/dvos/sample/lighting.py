"""Ground, sunlight with cast shadows, sky light and awns, on the buffers of the raster."""

import math

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvos.compiling import jit_like_numpy
from dvos.sample import Floats
from dvos.sample.camera import View
from dvos.sample.raster import Buffers


def tile_noise(rng: Generator, size: int, *, cells: int, octaves: int) -> Floats:
    """Fractal value noise (size, size) that repeats without a seam, of mean 0 and deviation 1.

    The coarsest of the ``octaves`` has ``cells`` random values along a side, of which ``size``
    is a multiple; each other is twice as fine and half as strong as the one before.
    """
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        count = cells << octave
        if count > size:
            break
        grid = rng.standard_normal((count, count)).astype(np.float32)
        # Two cells of wrapped border let the interpolation see across the seam.
        scale = size // count
        side, edge = (count + 4) * scale, 2 * scale
        padded = np.pad(grid, 2, mode="wrap")
        large = cv2.resize(padded, (side, side), interpolation=cv2.INTER_CUBIC)
        total += large[edge : edge + size, edge : edge + size] / 2**octave
    total -= total.mean()
    return np.asarray(total / total.std(), np.float32)


def _tile_lumps(rng: Generator, size: int, spacing: float) -> Floats:
    """Rounded lumps side by side: Worley's cellular basis (1996), repeating, 0..1."""
    count = max(4, int((size / spacing) ** 2))
    points = rng.integers(0, size, (count, 2))
    margin = int(spacing * 3)
    field = np.full((size, size), 255, np.uint8)
    field[points[:, 0], points[:, 1]] = 0
    field = np.pad(field, margin, mode="wrap")
    distance = cv2.distanceTransform(field, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance = distance[margin : margin + size, margin : margin + size] / np.float32(spacing)
    return np.asarray(np.maximum(0.0, 1.0 - distance**2), np.float32)


TEXEL_M = 0.0014  # side of a texel of the ground, metres


def make_soil(rng: Generator, *, colour: tuple[float, float, float], size: int = 1024) -> Floats:
    """A repeating square of crumbly ground: lumps, grit, damp and dry patches.

    Gives float32 (S, S, 5), ``size`` S a power of two: linear red, green, blue albedo of mean
    ``colour``, then the x and y part of the surface normal before normalising (z is 1).
    """
    coarse, medium, fine = (_tile_lumps(rng, size, 1024 / count) for count in (22, 70, 200))
    rough = tile_noise(rng, size, cells=8, octaves=7)
    height = 0.8 * coarse + 0.6 * medium + 0.38 * fine + 0.20 * rough
    height = cv2.GaussianBlur(height, (0, 0), 0.7, borderType=cv2.BORDER_REPLICATE)
    slope_x = (np.roll(height, -1, axis=1) - np.roll(height, 1, axis=1)) * 4.5
    slope_y = (np.roll(height, -1, axis=0) - np.roll(height, 1, axis=0)) * 4.5
    damp = tile_noise(rng, size, cells=4, octaves=4)
    grit = tile_noise(rng, size, cells=256, octaves=2)
    # Hollows between lumps are darker: they get less light from the sky.
    relative = (height - height.mean()) / height.std()
    light = np.clip(1.0 + 0.30 * relative + 0.16 * damp + 0.17 * grit, 0.2, 2.4)
    light += 0.9 * np.clip(grit - 2.1, 0.0, 1.0)  # crumbs of chaff and dry earth
    warm = 0.05 * tile_noise(rng, size, cells=16, octaves=3)
    tints = (1.0 + warm, np.ones_like(warm), 1.0 - warm)
    albedo = (part * light * tint for part, tint in zip(colour, tints, strict=True))
    return np.stack([*albedo, -slope_x, -slope_y], axis=-1).astype(np.float32)


@jit_like_numpy
def fill_ground(view: View, texels: Floats, buffers: Buffers) -> None:
    """Show the ground of :func:`make_soil` wherever nothing stands in front of it."""
    origin, axes, focal, (column, row) = view.origin, view.axes, view.focal, view.centre
    depth, surface = buffers.depth, buffers.surface
    height, width = depth.shape
    wrap = texels.shape[0] - 1
    scale = texels.shape[0] / (texels.shape[0] * TEXEL_M)
    for y in range(height):
        slope_y = (y + 0.5 - row) / focal
        for x in range(width):
            if depth[y, x] < np.inf:
                continue
            slope_x = (x + 0.5 - column) / focal
            ray_z = slope_x * axes[0, 2] + slope_y * axes[1, 2] + axes[2, 2]
            reach = -origin[2] / ray_z
            gx = origin[0] + reach * (slope_x * axes[0, 0] + slope_y * axes[1, 0] + axes[2, 0])
            gy = origin[1] + reach * (slope_x * axes[0, 1] + slope_y * axes[1, 1] + axes[2, 1])
            depth[y, x] = reach
            # The nearest texel: it is smaller than a pixel, whose samples are averaged.
            texel = texels[math.floor(gy * scale) & wrap, math.floor(gx * scale) & wrap]
            pixel = surface[y, x]
            for k in range(5):
                pixel[k] = texel[k]
            norm = 1.0 / math.sqrt(1.0 + pixel[3] ** 2 + pixel[4] ** 2)
            pixel[3] *= norm
            pixel[4] *= norm
            pixel[5] = norm
            pixel[6:] = 0.0


@jit_like_numpy
def _lit_share(sun_depth: Floats, x: float, y: float, z: float) -> float:
    """Share of four neighbouring shadow cells that the sun reaches, weighted bilinearly."""
    fx, fy = math.floor(x - 0.5), math.floor(y - 0.5)
    x0, y0 = int(fx), int(fy)
    if x0 < 0 or y0 < 0 or x0 + 1 >= sun_depth.shape[1] or y0 + 1 >= sun_depth.shape[0]:
        return 1.0
    wx, wy = x - 0.5 - fx, y - 0.5 - fy
    share = 0.0
    for down in range(2):
        for right in range(2):
            if sun_depth[y0 + down, x0 + right] >= z:
                share += (wx if right else 1 - wx) * (wy if down else 1 - wy)
    return share


@jit_like_numpy
def light_up(
    view: View,
    sun_view: View,
    sun_depth: Floats,  # (n, m), nearest depth seen from the sun
    colours: tuple[Floats, Floats, Floats],  # radiance (3,) of sun, sky and ground
    deep: float,  # share of the sky's light that reaches the ground
    hollows: float,  # how much hollows darken
    canopy_m: float,  # height of the stand; light from the sky fades below it
    patches: Floats,  # (h / 8, w / 8) or so, share of sun that clouds let through
    openness: Floats,  # as ``patches``: depth around each place, blurred, in metres
    buffers: Buffers,
    out: Floats,  # (h, w, 3), overwritten
) -> None:
    """Light every sample: ``out`` gets linear radiance."""
    origin, axes, focal, (column, row) = view.origin, view.axes, view.focal, view.centre
    sun_origin, sun_axes, sun_focal = sun_view.origin, sun_view.axes, sun_view.focal
    sun, sky, bounce = colours
    depth, surface = buffers.depth, buffers.surface
    height, width = depth.shape
    to_sun = -sun_axes[2]
    rows_per = patches.shape[0] / height
    columns_per = patches.shape[1] / width
    for y in range(height):
        slope_y = (y + 0.5 - row) / focal
        py = int((y + 0.5) * rows_per)
        for x in range(width):
            slope_x = (x + 0.5 - column) / focal
            px = int((x + 0.5) * columns_per)
            z = depth[y, x]
            ray_x = slope_x * axes[0, 0] + slope_y * axes[1, 0] + axes[2, 0]
            ray_y = slope_x * axes[0, 1] + slope_y * axes[1, 1] + axes[2, 1]
            ray_z = slope_x * axes[0, 2] + slope_y * axes[1, 2] + axes[2, 2]
            above = origin[2] + z * ray_z
            pixel = surface[y, x]
            nx, ny, nz = pixel[3], pixel[4], pixel[5]
            norm = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
            if pixel[6] > 0.0 and nx * ray_x + ny * ray_y + nz * ray_z > 0.0:
                norm = -norm
            nx, ny, nz = nx * norm, ny * norm, nz * norm
            facing = nx * to_sun[0] + ny * to_sun[1] + nz * to_sun[2]
            lit = 0.0
            if facing > 0.0 or pixel[6] > 0.0:
                qx = origin[0] + z * ray_x - sun_origin[0]
                qy = origin[1] + z * ray_y - sun_origin[1]
                qz = above - sun_origin[2]
                sx = qx * sun_axes[0, 0] + qy * sun_axes[0, 1] + qz * sun_axes[0, 2]
                sy = qx * sun_axes[1, 0] + qy * sun_axes[1, 1] + qz * sun_axes[1, 2]
                sz = qx * sun_axes[2, 0] + qy * sun_axes[2, 1] + qz * sun_axes[2, 2]
                lit = patches[py, px] * _lit_share(
                    sun_depth, sx * sun_focal + 1.0, sy * sun_focal + 1.0, sz - 0.007
                )
            # Depth darkening (Luft et al. 2006): less sky for what lies behind its surroundings.
            hollow = max(0.0, z - openness[py, px])
            level = min(1.0, max(0.0, above / canopy_m))
            ambient = (deep + (1.0 - deep) * level) / (1.0 + hollows * hollow)
            up = 0.5 + 0.5 * nz
            shine = 0.0
            if pixel[7] > 0.0 and lit > 0.0:
                unit = 1.0 / math.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
                half_x = to_sun[0] - ray_x * unit
                half_y = to_sun[1] - ray_y * unit
                half_z = to_sun[2] - ray_z * unit
                # Blinn's highlight: the cosine of normal and half vector to the 16th power.
                cosine = max(0.0, nx * half_x + ny * half_y + nz * half_z)
                squares = half_x * half_x + half_y * half_y + half_z * half_z + 1e-9
                power = cosine * cosine / squares
                power = power * power
                power = power * power
                shine = pixel[7] * lit * (power * power)
            through = pixel[6] * max(0.0, -facing) * lit
            direct = max(0.0, facing) * lit
            for k in range(3):
                ground = bounce[k] + (sky[k] - bounce[k]) * up
                value = pixel[k] * (sun[k] * direct + ground * ambient)
                # Light through a blade is yellower than light off it.
                value += pixel[k] * sun[k] * through * (1.1, 1.15, 0.45)[k]
                out[y, x, k] = value + sun[k] * shine


@jit_like_numpy
def draw_awns(
    points: Floats,  # (A, P, 3), column, row, depth along each awn
    widths: Floats,  # (A,), width in samples at the foot; the tip has a third of it
    colours: Floats,  # (A, 3), linear radiance
    depth: Floats,  # (h, w), an awn is hidden by what is nearer
    out: Floats,  # (h, w, 3), changed
) -> None:
    """Blend thin lines into lit ``out``; they change neither depth nor owner."""
    height, width = depth.shape
    count = points.shape[1]
    for a in range(points.shape[0]):
        for s in range(count - 1):
            x0, y0, z0 = points[a, s, 0], points[a, s, 1], points[a, s, 2]
            dx, dy = points[a, s + 1, 0] - x0, points[a, s + 1, 1] - y0
            dz = points[a, s + 1, 2] - z0
            steep = abs(dy) > abs(dx)
            major = abs(dy) if steep else abs(dx)
            if major < 1e-3:
                continue
            start, extent = (y0, dy) if steep else (x0, dx)
            low, high = min(start, start + extent), max(start, start + extent)
            limit = height if steep else width
            # Half-open, so that no sample is blended twice where segments meet.
            first = max(0, math.ceil(low - 0.5))
            last = min(limit, math.ceil(high - 0.5))
            slant = math.sqrt(dx * dx + dy * dy) / major
            for m in range(first, last):
                t = (m + 0.5 - start) / extent
                wide = widths[a] * (1.0 - 0.67 * (s + t) / (count - 1))
                half = 0.5 * wide * slant
                middle = (x0 + t * dx) if steep else (y0 + t * dy)
                z = z0 + t * dz
                c0 = math.floor(middle - half)
                for c in range(c0, math.floor(middle + half) + 1):
                    cover = min(c + 1.0, middle + half) - max(float(c), middle - half)
                    row = m if steep else c
                    column = c if steep else m
                    if row < 0 or column < 0 or row >= height or column >= width:
                        continue
                    if z > depth[row, column]:
                        continue
                    for k in range(3):
                        out[row, column, k] += cover * (colours[a, k] - out[row, column, k])


def join_owners(owner: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """``owner`` (2h, 2w) as (h, w): the head that owns two of four samples, or the first such."""
    height, width = owner.shape[0] // 2, owner.shape[1] // 2
    four = owner.reshape(height, 2, width, 2).transpose(1, 3, 0, 2).reshape(4, height, width)
    joined = np.zeros((height, width), np.uint16)
    for place in (2, 1, 0):
        again = (four[place] == four[place + 1 :]).any(axis=0)
        joined = np.where(again & (four[place] > 0), four[place], joined)
    return joined
