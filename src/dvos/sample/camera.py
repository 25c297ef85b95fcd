"""The camera that films the field, the sun as a second, parallel camera, and lens and sensor.

World axes, in metres: x to the right, y away from the camera, z up from the ground. A view turns
world points into (column, row, depth), columns and rows in samples of its picture.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvos.sample import Bytes, Doubles, Floats

SHUTTER = 0.35  # share of the time between frames that the shutter is open
_NOISE = 0.010  # of a mid grey, as a share of white
_TONE_LEVELS = 4096


class View(NamedTuple):
    """A projection: perspective from a place, or parallel from the sun."""

    origin: Doubles  # float64 (3,), the eye, or a point of the sun's zero-depth plane
    axes: Doubles  # float64 (3, 3), rows: unit vectors right, down, forward
    focal: float  # Samples per unit of slope (perspective) or per metre (parallel)
    centre: tuple[float, float]  # Column and row that the forward axis meets
    size: tuple[int, int]  # (height, width) in samples
    parallel: bool  # Whether rays are parallel

    def project(self, points: NDArray[np.floating]) -> Doubles:
        """Project world ``points`` (..., 3) to (..., 3) column, row, depth in metres."""
        out = (points - self.origin) @ self.axes.T
        out[..., :2] = out[..., :2] * self._scale(out[..., 2])[..., None] + self.centre
        return np.asarray(out)

    def jacobian(self, points: NDArray[np.floating]) -> Doubles:
        """Derivative of :meth:`project` at ``points`` (N, 3): float64 (N, 3, 3)."""
        local = (points - self.origin) @ self.axes.T
        scale = self._scale(local[:, 2])
        out = np.empty((len(points), 3, 3))
        for row in (0, 1):
            slope = np.zeros(len(points)) if self.parallel else local[:, row] / local[:, 2]
            out[:, row] = scale[:, None] * (self.axes[row] - slope[:, None] * self.axes[2])
        out[:, 2] = self.axes[2]
        return out

    def ground(self, corners: Doubles, height: float) -> Doubles:
        """Where the rays through ``corners`` (N, 2) meet the plane z = ``height``: (N, 2)."""
        slopes = (corners - self.centre) / self.focal
        rays = slopes[:, :1] * self.axes[0] + slopes[:, 1:] * self.axes[1] + self.axes[2]
        reach = (height - self.origin[2]) / rays[:, 2]
        return np.asarray(self.origin[:2] + reach[:, None] * rays[:, :2])

    def footprint(self, *heights: float) -> Doubles:
        """Where the rays through the picture's four corners meet planes at ``heights``."""
        height, width = self.size
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
        return np.concatenate([self.ground(corners, z) for z in heights])

    def _scale(self, depth: Doubles) -> Doubles:
        if self.parallel:
            return np.full(depth.shape, self.focal)
        # Nothing lies nearer than this: plants behind the lens are culled.
        return np.asarray(self.focal / np.maximum(depth, 0.05))


@dataclass(frozen=True)
class CameraPath:
    """How a hand or a slow vehicle carries the camera."""

    height_m: float  # Mean height of the lens
    pitch: float  # How far the camera looks down from the horizon, radians
    yaw: float  # Turn about the vertical, radians; rows of the field lie along y
    drift: tuple[float, float]  # Velocity over the ground (x, y), metres per second
    shake: float  # Size of the hand's tremble, radians
    phases: tuple[float, ...]  # Six phases that make one person's tremble differ from another's
    field_of_view: float  # Across the width of the picture, radians

    def at(self, time_s: float, size: tuple[int, int]) -> View:
        """The view at ``time_s`` for a picture of ``size`` (height, width) samples."""
        p = self.phases
        tremble = [
            math.sin(5.3 * time_s + p[0]) + 0.5 * math.sin(11.7 * time_s + p[1]),
            math.sin(4.1 * time_s + p[2]) + 0.5 * math.sin(13.1 * time_s + p[3]),
            math.sin(3.2 * time_s + p[4]) + 0.4 * math.sin(9.1 * time_s + p[5]),
        ]
        across = self.drift[0] * time_s + 0.3 * self.shake * tremble[0]
        along = self.drift[1] * time_s + 0.3 * self.shake * tremble[1]
        origin = np.array([across, along, self.height_m + 1.2 * self.shake * tremble[2]])
        pitch, yaw = self.pitch + self.shake * tremble[1], self.yaw + self.shake * tremble[0]
        roll = 0.6 * self.shake * tremble[2]
        return camera_view(origin, size, pitch=pitch, yaw=yaw, roll=roll, fov=self.field_of_view)


def camera_view(
    origin: Doubles, size: tuple[int, int], *, pitch: float, yaw: float, roll: float, fov: float
) -> View:
    """A perspective view; angles in radians, ``size`` in samples."""
    flat = math.cos(pitch)
    forward = np.array([math.sin(yaw) * flat, math.cos(yaw) * flat, -math.sin(pitch)])
    right = np.array([math.cos(yaw), -math.sin(yaw), 0.0])
    down = np.cross(forward, right)
    turned_right = math.cos(roll) * right + math.sin(roll) * down
    turned_down = math.cos(roll) * down - math.sin(roll) * right
    focal = 0.5 * size[1] / math.tan(0.5 * fov)
    axes = np.stack([turned_right, turned_down, forward])
    return View(origin, axes, focal, (0.5 * size[1], 0.5 * size[0]), size, parallel=False)


def direction(azimuth: float, elevation: float) -> Doubles:
    """Unit vector (3,) towards a place in the sky, angles in radians."""
    flat = np.cos(elevation)
    return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])


def sun_view(towards_sun: Doubles, area: Doubles, *, top_m: float, cell_m: float) -> View:
    """A parallel view from the sun, by a unit vector (3,) towards it, in samples of ``cell_m``.

    It holds the ground points ``area`` (N, 2) and what stands there, up to ``top_m`` metres high.
    """
    forward = -towards_sun
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward])
    solid = np.concatenate([np.column_stack([area, np.full(len(area), z)]) for z in (0.0, top_m)])
    local = solid @ axes.T
    low, high = local.min(axis=0), local.max(axis=0)
    width, height = (math.ceil(extent / cell_m) + 2 for extent in (high - low)[:2])
    origin = axes.T @ np.array([low[0], low[1], low[2] - 0.5])
    return View(origin, axes, 1.0 / cell_m, (1.0, 1.0), (height, width), parallel=True)


@dataclass(frozen=True)
class Optics:
    """Exposure and colour of a camera."""

    exposure: float  # Factor on radiance before the tone curve
    balance: tuple[float, float, float]  # Factors on red, green, blue
    aperture: float = 1.5  # blur at twice the focus distance, in pixels of a picture 640 wide
    contrast: float = 1.35  # Exponent of the tone curve's toe
    focus: float = 0.95  # What is sharp, by its height as a share of the stand's


def focus_blur(light: Floats, depth: Floats, *, focus_m: float, sigma: float) -> Floats:
    """Blur what is out of focus in ``light`` (H, W, 3) by ``depth`` (H, W), metres.

    Mixed are the picture and one blurred by ``sigma`` pixels, the blur at twice the distance
    ``focus_m``, by the thin-lens circle of confusion, which grows with ``|1 - focus / depth|``.
    """
    soft = cv2.GaussianBlur(light, (0, 0), max(sigma, 0.3))
    share = np.abs(1.0 - focus_m / depth)
    share = np.clip((share - 0.14) * 1.6, 0.0, 1.0)  # nearly none within a seventh: depth of field
    share = cv2.GaussianBlur(share, (0, 0), max(0.6 * sigma, 0.3))
    return np.asarray(light + (soft - light) * share[..., None], np.float32)


def motion_blur(light: Floats, shift: tuple[float, float]) -> Floats:
    """Smear along ``shift`` (columns, rows) pixels, the way of the picture while exposed."""
    reach = float(np.hypot(*shift))
    if reach < 0.25:
        return light
    radius = int(np.ceil(0.5 * reach)) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    for t in np.linspace(-0.5, 0.5, 9):
        x, y = radius + t * shift[0], radius + t * shift[1]
        column, row = int(x), int(y)
        wx, wy = x - column, y - row
        weights = [[(1 - wx) * (1 - wy), wx * (1 - wy)], [(1 - wx) * wy, wx * wy]]
        kernel[row : row + 2, column : column + 2] += weights
    blurred = cv2.filter2D(light, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.float32)


def expose(light: Floats, optics: Optics, rng: Generator) -> Bytes:
    """Turn linear light (H, W, 3) into an RGB picture with shot and read noise."""
    # Display value for linear light 0..4: a soft shoulder, then sRGB's curve.
    shoulder = 1.0 - np.exp(-4.0 * np.linspace(0.0, 1.0, _TONE_LEVELS) * 1.9)
    toe = shoulder**optics.contrast
    curve = np.where(toe <= 0.0031308, 12.92 * toe, 1.055 * toe ** (1 / 2.4) - 0.055)
    table = np.clip(curve * 255.0 + 0.5, 0, 255).astype(np.uint8)
    gain = np.asarray(optics.balance, np.float32) * np.float32(optics.exposure)
    scaled = np.maximum(light * gain, 0.0)
    noise = _NOISE * np.sqrt(0.6 * scaled + 0.012)
    scaled += noise * rng.standard_normal(light.shape, dtype=np.float32)
    levels = np.clip(scaled * (_TONE_LEVELS / 4.0), 0, _TONE_LEVELS - 1)
    return np.asarray(table[levels.astype(np.uint16)])
