"""A scene at a moment, as a picture and the instance mask that belongs to it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.sample import Doubles, Floats, Ints, camera
from dvos.sample.camera import SHUTTER, CameraPath, Optics, View
from dvos.sample.lighting import draw_awns, fill_ground, join_owners, light_up
from dvos.sample.raster import Buffers, Ellipsoids, Ribbons, draw_ellipsoids, draw_ribbons
from dvos.sample.shapes import (
    Waves,
    Wind,
    bend,
    blade_ribbons,
    clod_ellipsoids,
    head_shapes,
    stalk_ribbons,
)
from dvos.sample.stand import Stand

_OVERSAMPLING = 2  # samples along the side of a pixel
_LEAST_PIXELS = 25  # pixels in a picture 640 wide: a head of fewer has no label


@dataclass(frozen=True)
class Light:
    """Sun and sky."""

    towards_sun: Doubles  # Unit vector (3,)
    sun: Floats  # Linear radiance of the sun (3,)
    sky: Floats  # Light from above (3,)
    bounce: Floats  # Light from below (3,)
    clouds: Waves  # Where thin cloud dims the sun, over the ground
    cloud_cover: float  # How much it dims there, 0..1
    deep: float = 0.30  # Share of the sky's light that reaches the ground through the stand
    hollow: float = 5.0  # How much darker hollows are, per metre
    cell_m: float = 0.0026  # side of a cell of the shadows, in a picture of at least 640 px width

    def cloud_patches(self, view: View, time_s: float) -> Floats:
        """Share of the sun that clouds let through, over a quarter-size picture."""
        height, width = view.size
        rows, columns = np.mgrid[0:9, 0:13]
        corners = np.stack([columns * width / 12, rows * height / 8], axis=-1).reshape(-1, 2)
        cloud = self.clouds(view.ground(corners.astype(float), 0.4), time_s)
        share = 1.0 - self.cloud_cover * (0.5 + 0.5 * np.tanh(2.0 * cloud))
        grid = share.reshape(9, 13).astype(np.float32)
        size = (width // 4, height // 4)
        return np.asarray(cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR), np.float32)


@dataclass(frozen=True)
class Scene:
    """All that a picture depends on except size and time."""

    stand: Stand
    wind: Wind
    path: CameraPath
    light: Light
    optics: Optics
    soil: Floats  # see ``make_soil``
    noise: Floats
    seed: tuple[int, ...]


@dataclass(frozen=True)
class RenderedFrame:
    """A picture uint8 RGB (H, W, 3) and its instance mask uint16 (H, W), 0 background."""

    image: NDArray[np.uint8]
    instances: NDArray[np.uint16]


@dataclass(frozen=True)
class Shapes:
    """What may be seen at a moment, or throw a shadow on it."""

    blades: Ribbons  # Leaves, weeds and straw
    ellipsoids: tuple[Ellipsoids, Ellipsoids]  # Grains of heads, clods
    stalks: Ints  # Numbers of the stalks, which are turned to whoever looks
    bent: Doubles  # How far each stalk leans (N, 2)
    awns: Doubles  # Lines (A, P, 3)
    awn_heads: Ints  # The head each awn is of (A,), an index


class Renderer:
    """Renders the frames of a scene, in any order; ``size`` (height, width) is even.

    The only state is memory to work in, too large to ask for anew at each frame.
    """

    def __init__(self, scene: Scene, *, frame_rate: float, size: tuple[int, int]) -> None:
        self.scene = scene
        self.frame_rate = frame_rate
        self.size = size
        self._fine = (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING)
        self._buffers = Buffers.of_size(self._fine)
        self._light = np.empty((*self._fine, 3), np.float32)

    def frame(self, frame_index: int) -> RenderedFrame:
        """Render frame ``frame_index``, 0 or more."""
        scene, buffers = self.scene, self._buffers
        height, width = self.size
        time_s = frame_index / self.frame_rate
        view = scene.path.at(time_s, self._fine)
        shapes = shapes_at(scene, view, time_s)
        rasterise(scene, view, shapes, buffers)
        _light(scene, view, shapes, buffers, time_s, self._light)
        light = cv2.resize(self._light, (width, height), interpolation=cv2.INTER_AREA)
        depth = cv2.resize(buffers.depth, (width, height), interpolation=cv2.INTER_AREA)
        # Sharp is what stands so high in the middle of the picture: mostly heads.
        above = view.origin[2] - scene.optics.focus * scene.stand.recipe.height_m
        focus_m = float(above / -view.axes[2, 2])
        sigma = scene.optics.aperture * width / 640
        light = camera.focus_blur(light, depth, focus_m=focus_m, sigma=sigma)
        later = scene.path.at(time_s + SHUTTER / self.frame_rate, self._fine)
        point = view.origin + focus_m * view.axes[2]
        moved = (later.project(point)[:2] - view.project(point)[:2]) / _OVERSAMPLING
        light = camera.motion_blur(light, (float(moved[0]), float(moved[1])))
        rng = np.random.default_rng([*scene.seed, 7, frame_index])
        instances = join_owners(buffers.owner)
        small = np.bincount(instances.ravel()) < _LEAST_PIXELS * (width / 640) ** 2
        instances[small[instances]] = 0
        return RenderedFrame(camera.expose(light, scene.optics, rng), instances)


def shapes_at(scene: Scene, view: View, time_s: float) -> Shapes:
    """Everything that may be seen, or throw a shadow on what is seen."""
    stand = scene.stand
    bent = bend(stand.tillers, scene.wind, time_s)
    near = _near_view(scene, view, bent)
    blades = np.flatnonzero(near[stand.blades.tiller])
    heads = np.flatnonzero(near[stand.heads.tiller])
    clods = np.flatnonzero(_inside(view.project(stand.clods.centre), view.size, 0.05))
    grains, awns = head_shapes(stand, bent, heads, time_s)
    return Shapes(
        blades=blade_ribbons(stand.blades, stand.tillers, bent, blades, time_s),
        ellipsoids=(grains, clod_ellipsoids(stand.clods, clods)),
        stalks=np.flatnonzero(near & (stand.tillers.width > 0)),
        bent=bent,
        awns=awns,
        awn_heads=np.repeat(heads, len(awns) // max(1, len(heads))),
    )


def _inside(points: Doubles, size: tuple[int, int], margin: float) -> NDArray[np.bool_]:
    room = margin * size[1]
    low, high = (-room, -room), (size[1] + room, size[0] + room)
    return np.asarray(((points[..., :2] > low) & (points[..., :2] < high)).all(axis=-1))


def _near_view(scene: Scene, view: View, bent: Doubles) -> NDArray[np.bool_]:
    """Which tillers may be seen, with their leaves, or throw a shadow that is seen."""
    tillers = scene.stand.tillers
    sun = scene.light.towards_sun
    near = np.zeros(len(tillers.height), bool)
    above = view.origin[2] - scene.stand.recipe.height_m
    # A leaf reaches a fifth of a metre from its stalk, or of the picture's width if that is more.
    leaf = 0.20 * max(1.0, view.focal / above / view.size[1])
    for share in (0.0, 0.5, 1.0):
        lean = share**1.8 * tillers.height[:, None] * bent
        place = np.column_stack([tillers.foot + lean, share * tillers.height])
        near |= _inside(view.project(place), view.size, leaf)
        place -= place[:, 2:] * (sun / sun[2])
        near |= _inside(view.project(place), view.size, 0.05)
    return near


def rasterise(scene: Scene, view: View, shapes: Shapes, buffers: Buffers) -> None:
    """Find what is seen through each sample, and which head owns it; fills ``buffers``."""
    buffers.owner.fill(0)
    _draw(scene, view, shapes, buffers)
    fill_ground(view, scene.soil, buffers)


def _draw(scene: Scene, view: View, shapes: Shapes, buffers: Buffers) -> None:
    """Draw all that stands on the ground, seen by the camera or by the sun."""
    buffers.depth.fill(np.inf)
    eye = None if view.parallel else view.origin
    # Front to back: what is hidden fails the depth test before it costs anything.
    for solids in shapes.ellipsoids:
        centres = view.project(solids.centres)
        seen = np.flatnonzero(_inside(centres, view.size, 0.03))
        order = seen[np.argsort(centres[seen, 2], kind="stable")]
        half_axes = solids.axes[order]
        axes = view.jacobian(solids.centres[order]) @ half_axes
        squares = (half_axes**2).sum(axis=1, keepdims=True)
        drawn = [one.astype(np.float32) for one in (centres[order], axes, solids.styles[order])]
        placed = Ellipsoids(drawn[0], drawn[1], drawn[2], solids.owners[order])
        draw_ellipsoids(placed, (half_axes / squares).astype(np.float32), scene.noise, buffers)
    stalks = stalk_ribbons(scene.stand.tillers, shapes.bent, shapes.stalks, eye)
    for ribbons in (shapes.blades, stalks):
        edges = view.project(ribbons.edges).astype(np.float32)
        order = np.argsort(edges[:, -1, 0, 2], kind="stable")
        parts = (one[order].astype(np.float32) for one in (edges, *ribbons[1:]))
        draw_ribbons(Ribbons(*parts), scene.noise, buffers)


def _light(
    scene: Scene, view: View, shapes: Shapes, buffers: Buffers, time_s: float, out: Floats
) -> None:
    light, recipe = scene.light, scene.stand.recipe
    height, width = view.size
    # Shadows: depth seen from the sun over the ground in view (Williams 1978).
    top = 1.25 * recipe.height_m
    cell = light.cell_m * max(1.0, 1280 / width)
    sun = camera.sun_view(light.towards_sun, view.footprint(0.0, top), top_m=top, cell_m=cell)
    shade = Buffers.of_size((0, 0))._replace(depth=np.empty(sun.size, np.float32))
    _draw(scene, sun, shapes, shade)
    small = cv2.resize(buffers.depth, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    openness = cv2.GaussianBlur(small, (0, 0), 0.018 * width / 4)
    light_up(
        *(view, sun, shade.depth, (light.sun, light.sky, light.bounce), light.deep, light.hollow),
        *(recipe.height_m, light.cloud_patches(view, time_s), openness, buffers, out),
    )
    if not len(shapes.awns) or recipe.awn_m <= 0:
        return
    points = view.project(shapes.awns)
    widths = np.maximum(0.5, 0.00075 * view.focal / points[:, 0, 2])
    colour = 1.25 * scene.stand.heads.colour[shapes.awn_heads] + 0.03
    colour = colour * (0.42 * light.sun + 0.75 * light.sky)
    thin = [one.astype(np.float32) for one in (points, widths, colour)]
    draw_awns(thin[0], thin[1], thin[2], buffers.depth, out)
