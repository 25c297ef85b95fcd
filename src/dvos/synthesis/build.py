"""From settings and tables to a clip generator, in this process or in many.

A task carries a recipe, not a generator, which holds all cutouts. Each process makes the generator
of a recipe once and keeps the latest.
"""

import logging
import os
import platform
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dvos.config.scene import SceneSettings, SynthesisSettings
from dvos.errors import DvosError, FaultCollector, RunError, TableError
from dvos.files import composed, digest, file_digest, known_digest
from dvos.media.image import resized, write_image
from dvos.media.intensity import choose_intensity, settled
from dvos.media.mask_values import declared_void
from dvos.media.overlay import contact_sheet, outline, overlay
from dvos.runner.display import progress
from dvos.synthesis import Bools, Bytes, Ids, Size
from dvos.synthesis.atlas import Atlas, build_atlas
from dvos.synthesis.backgrounds import BackgroundStore, group_backgrounds
from dvos.synthesis.compositor import SyntheticClip, Window, render
from dvos.synthesis.motion import draw_camera, draw_wind
from dvos.synthesis.population import Casting, draw_tracks
from dvos.synthesis.scene import Scene, draw_lens, draw_lighting, draw_shade
from dvos.tables import read_backgrounds, read_images

_LOG = logging.getLogger(__name__)
_building = threading.Lock()
_THREADS = 4  # that read files


def build_clip_generator(
    scene: SceneSettings,
    *,
    backgrounds: Sequence[Path],  # tables, ``Image`` or, with objects of their own, ``Image,Mask``
    cutouts: Sequence[Path],  # tables of cut-out objects; of both at least one
    distractors: Sequence[Path],  # tables; without any rows neither they nor leaves are drawn
    seed: int,
    intensity: str = "auto",  # of backgrounds of more than 8 bit; ``auto`` measures all of them
    void: str = "auto",  # what means "unknown" in backgrounds' masks
) -> "ClipGenerator":
    """Make a clip generator from tables of images.

    A TableError with all faults if tables are missing or faulty; a MediaError of images.
    """
    with FaultCollector(TableError) as faults:
        none, first = "no table is given", "extract frames of bare background first"
        if not backgrounds:
            faults.add("backgrounds", none, "at least one table of backgrounds", first)
        if not cutouts:
            first = "run 'dvos extract objects' first"
            faults.add("cutouts", none, "at least one table of cutouts", first)
        frames = [faults.collect(read_backgrounds, table) or [] for table in backgrounds]
        rows = [row for table in cutouts for row in faults.collect(read_images, table) or ()]
        objects = [row.image for row in rows]
        # Objects may be extracted without distractors: clips do without.
        given = [faults.collect(read_images, table, allow_empty=True) for table in distractors]
        fakes = [row.image for rows in given for row in rows or ()]
    if not fakes and (scene.population.distractors[1] or scene.population.foreground[1]):
        _LOG.info("no distractors are given: clips hold objects only")
    atlas = build_atlas([*objects, *fakes])
    images = [row.image for rows in frames for row in rows]
    grouped = group_backgrounds(frames, scene.plates.frames)
    store = BackgroundStore(grouped, scene.plates, seed, settled(intensity, images), void)
    return ClipGenerator(seed, atlas, store, Casting(atlas, len(objects), scene), scene)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what clip k of a seed looks like."""

    scene: str  # The scene's settings as JSON
    tables: tuple[tuple[str, ...], ...]  # Absolute paths: of backgrounds, cutouts, distractors
    seed: int  # Of all clips
    inputs: str  # digest of the names and contents of all that the tables list
    engine: str  # Digest of this room's code, as other code may draw other clips
    intensity: str  # of backgrounds' samples of more than 8 bit, measured once for all processes
    void: str  # what means "unknown" in their masks; what it declares is among the inputs

    @property
    def fingerprint(self) -> str:
        """Digest of all but the places of the tables."""
        told = ("tables", "void")
        facts = {name: value for name, value in asdict(self).items() if name not in told}
        return digest([facts, len(self.tables[0])])


def _content(one: object) -> object:
    """A file's name and content; what is no file as it is."""
    if not isinstance(one, Path):
        return one
    with suppress(OSError):  # told by whoever builds the generator
        return [composed(one.name), known_digest(one)]
    return [composed(one.name)]


def build_recipe(settings: SynthesisSettings) -> Recipe:
    """Note what the clips of ``settings`` depend on; an intensity other than ``full`` is told."""
    kinds = (settings.backgrounds, settings.cutouts, settings.distractors)
    inputs: list[list[object]] = []
    images: list[Path] = []
    for kind, tables in enumerate(kinds):
        for table in tables:
            inputs.append([kind])
            with suppress(DvosError, OSError):  # told by whoever builds the generator
                for row in read_backgrounds(table):
                    paths = [path for path in (row.image, row.mask) if path]
                    inputs[-1] += paths
                    void = declared_void(row.mask.parent, settings.void) if row.mask else None
                    inputs[-1] += [] if void is None else [["void", *void]]
                    images += [row.image] if kind == 0 else []
    with ThreadPoolExecutor(_THREADS) as pool:
        # By what they hold, whenever that was written: a copy gives the same clips.
        found = [list(pool.map(_content, listed)) for listed in inputs]
    return Recipe(
        scene=settings.scene.model_dump_json(),
        # Absolute, as workers on other machines start in other folders; links stay.
        tables=tuple(tuple(os.path.abspath(one) for one in tables) for tables in kinds),  # noqa: PTH100
        seed=settings.seed,
        inputs=digest(found),
        engine=_engine(),
        intensity=choose_intensity(settings.intensity, images, "backgrounds"),
        void=settings.void,
    )


def build_generator(recipe: Recipe) -> "ClipGenerator":
    """The generator of ``recipe``, made ready once per process.

    As :func:`build_clip_generator`; a RunError if the recipe is of other code than this process's.
    """
    if recipe.engine != _engine():
        found = "a worker runs another release of dvos than the one that gave it work"
        expected = "the same release everywhere, as another may draw other clips"
        remedy = "install the same release on all machines and start the workers anew"
        raise RunError.at(platform.node(), found, expected, remedy)
    with _building:  # threads of one cluster worker would otherwise build it several times
        return _build(recipe)


def forget_generators() -> None:
    """Give the memory of the kept generator back."""
    _build.cache_clear()


@lru_cache(maxsize=1)
def _engine() -> str:
    """Digest of the code of this room, as this process has it."""
    return digest([file_digest(path) for path in sorted(Path(__file__).parent.rglob("*.py"))])


@lru_cache(maxsize=1)
def _build(recipe: Recipe) -> "ClipGenerator":
    kinds = ("backgrounds", "cutouts", "distractors")
    chosen: dict[str, Any] = {n: getattr(recipe, n) for n in ("seed", "intensity", "void")}
    chosen |= {kind: [*map(Path, each)] for kind, each in zip(kinds, recipe.tables, strict=True)}
    return build_clip_generator(SceneSettings.model_validate_json(recipe.scene), **chosen)


@dataclass(frozen=True)
class ClipGenerator:
    """Makes synthetic clips: the same clip for the same index, in any process."""

    seed: int  # Of all clips; clip k draws from ``default_rng([seed, k])``
    atlas: Atlas  # All cutouts and distractors
    store: BackgroundStore
    casting: Casting  # Who takes part, and how each looks
    settings: SceneSettings  # What scenes may look like

    def make(
        self,
        clip_index: int,
        *,
        frames: int,
        size: Size,  # height, width
        window: Window | None = None,  # render only this part, of which pixels are the whole's
        times: Sequence[int] | None = None,  # Render only these frames, in this order; None = all
        background: int | None = None,  # Only backgrounds of this table; None = of all
        flow: bool = False,
        # Of sprites and background against what the ranges say; motion, blur and noise stay in
        # px of the frame. A small scene is drawn small, which costs less than reducing a large one.
        scale: float = 1.0,
    ) -> SyntheticClip:
        """Make one clip.

        A ValueError if the window or a time lies outside, a RunError if a clip would need more than
        65535 instances, a MediaError if a background frame cannot be read.
        """
        window = window or (0, 0, *size)
        y, x, height, width = window
        if min(y, x) < 0 or min(height, width) < 1 or y + height > size[0] or x + width > size[1]:
            raise ValueError(f"the window {window} is not inside a frame of {size}")
        which = np.arange(frames) if times is None else np.asarray(times, np.int64)
        if len(which) and not 0 <= which.min() <= which.max() < frames:
            raise ValueError(f"the times {times} are not inside a clip of {frames} frames")
        scene = self.scene(clip_index, frames=frames, size=size, background=background, scale=scale)
        return render(scene, self.atlas, self.store, which, window, flow)

    def scene(
        self,
        clip_index: int,
        *,
        frames: int,
        size: Size,
        background: int | None = None,
        scale: float = 1.0,
    ) -> Scene:
        """Draw the scene of a clip."""
        rng = np.random.default_rng([self.seed, clip_index])
        camera = draw_camera(self.settings.camera, rng, frames, size)
        shot = self.store.draw(rng, clip_index, frames, size, camera, background, scale)
        cast = self.casting.draw_cast(rng, size, shot.colour, scale, own_size=shot.objects > 0)
        tracks = draw_tracks(rng, self.casting, cast, frames, size, camera)
        sprites, place = tracks.sprites, tracks.place
        # Leaves above the rest, then by the chosen rule, then at random.
        height = rng.random(len(sprites))
        fakes_first = self.settings.population.order == "distractors_first"
        rule = (sprites.is_object, tracks.lot) if fakes_first else ()
        order = np.lexsort((height, *rule, sprites.layer))
        angle = sprites.angle + tracks.turned
        length = float(np.median(sprites.length)) if len(sprites) else 1.0
        wind = draw_wind(self.settings.wind, rng, frames, length, float(np.hypot(*size)))
        if wind is not None:
            still = place[0], sprites.angle, sprites.length, sprites.own_sway
            shift, lean = wind.sway_sprites(*still, np.arange(float(frames)))
            place, angle = place + shift, angle + lean
        return Scene(
            size=size,
            camera=camera,
            background=shot,
            sprites=sprites,
            order=order,
            instance=_identities(sprites.is_object, shot.objects),
            place=place,
            angle=angle,
            alive=tracks.alive,
            shade=draw_shade(self.settings.shadow, rng),
            lighting=draw_lighting(self.settings.light, rng, size),
            lens=draw_lens(self.settings, rng),
        )


def _identities(is_object: Bools, below: int) -> Ids:
    """Ids from 1 for objects, 0 for other sprites; then of ``below`` objects of the background."""
    numbered = np.append(is_object, np.ones(below, np.bool_))
    if (count := np.count_nonzero(numbered)) > np.iinfo(np.uint16).max:
        found, expected = f"a clip would hold {count} objects", "at most 65535"
        remedy = "lower population.objects, enlarge appearance.size or shorten the clip"
        raise RunError.at("synthesis", found, expected, remedy)
    return np.where(numbered, np.cumsum(numbered), 0).astype(np.uint16)


def background_of(settings: SynthesisSettings, number: int) -> int:
    """Number of a clip's background table: in turn, so that a larger set keeps the clips it has."""
    return number % len(settings.backgrounds)


_CELL = 420  # longer side of a picture, px
MAKER = "dvos synthesize"  # what a preview is noted to be of


def write_preview(
    path: Path, generator: ClipGenerator, settings: SynthesisSettings
) -> tuple[int, int]:
    """Write a sheet with a row a clip: its first frame, then first, middle and last with masks.

    The clips are the first six of the set. Gives the number of clips and of frames shown.
    """
    size, frames = (settings.height, settings.width), settings.frames
    times = sorted({0, frames // 2, frames - 1})
    shown: list[tuple[Bytes, str]] = []
    numbers, scale = range(min(settings.clip_count, 6)), min(1.0, _CELL / max(size))
    for number in progress(numbers, description="preview", unit="clip"):
        background = background_of(settings, number)
        clip = generator.make(number, frames=frames, size=size, times=times, background=background)
        shown.append((resized(clip.frames[0], scale), f"VID_{number:05d} {clip.plate}"))
        for k, time in enumerate(times):
            # Ids are coloured and outlined at the sheet's size, so that lines stay sharp.
            small, ids = resized(clip.frames[k], scale), clip.instances[k]
            shape = small.shape[1], small.shape[0]
            ids = np.asarray(cv2.resize(ids, shape, interpolation=cv2.INTER_NEAREST))
            count = np.count_nonzero(np.unique(clip.instances[k]))
            picture = outline(overlay(small, ids, alpha=0.3), ids)
            shown.append((picture, f"frame {time}: {count} objects"))
    pictures, labels = zip(*shown, strict=True)
    sheet = contact_sheet(pictures, columns=1 + len(times), labels=labels)
    write_image(path, sheet, maker=MAKER)
    return len(numbers), len(numbers) * len(times)
