"""The sample field: from one seed, the files that a user of the method would bring."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.random import Generator

from dvos.config.workflow import SampleSettings
from dvos.files import digest, refuse_foreign
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter
from dvos.runner.manifest import Task
from dvos.runner.tasks import run_tasks
from dvos.sample.camera import CameraPath, Optics, direction
from dvos.sample.lighting import make_soil, tile_noise
from dvos.sample.render import Light, Renderer, Scene
from dvos.sample.shapes import Waves, make_wind
from dvos.sample.stand import StandRecipe, grow

_LOOK = 1  # raised whenever the pictures change, so that old files are made anew
_MANIFEST = "sample.jsonl"

#: Random stands of the two videos: beyond any number of stills, and of middling ripeness.
_TARGET_SCENE, _HELDOUT_SCENE = 10_001, 10_003


def make_sample_field(out: Path, settings: SampleSettings | None = None) -> dict[str, int]:
    """Make the sample field in ``out``; what is there already and unchanged is kept.

    Given are the labelled heads in the first frame of each file, by its name. See
    ``docs/explanation/sample-field.md``; the folder fits ``dvos demo --data``.
    """
    chosen = settings or SampleSettings()

    def job(path: str, scene: int, frames: int, masks: str = "", **rest: Any) -> FileJob:
        same = chosen.seed, scene, frames, chosen.frame_rate, chosen.size
        return FileJob(out / path, out / masks if masks else None, *same, **rest)

    target = job("target/target.mp4", _TARGET_SCENE, chosen.target_frames)
    masks = "validation/masks/heldout"
    heldout = job("validation/heldout.mp4", _HELDOUT_SCENE, chosen.heldout_frames, masks)
    backgrounds = [
        job(f"backgrounds/field_{n}.mp4", n, chosen.background_frames, bare=True)
        for n in range(chosen.background_videos)
    ]
    images, masks = "annotated/images", "annotated/masks"
    stills = [
        job(f"{images}/still_{n}.png", n, 1, f"{masks}/still_{n}.nrrd", kind="still")
        for n in range(chosen.stills)
    ]
    # The longest first, so that no process is left with a long one at the end.
    jobs = [target, *backgrounds, heldout, *stills]
    if not (out / _MANIFEST).exists():
        places = (place for job in jobs for place in (job.path, job.masks) if place)
        refuse_foreign(places, "the sample field")
    results = run_tasks(
        write_file,
        [_task(job, out) for job in jobs],
        manifest=out / _MANIFEST,
        description="sample field",
        workers=chosen.workers,
        unit="file",
    )
    return {job.path.name: made["heads"] for job, made in zip(jobs, results, strict=True)}


def _task(job: "FileJob", out: Path) -> Task["FileJob"]:
    name = job.path.relative_to(out).as_posix()
    # Not the folder: a field that was moved as a whole is still finished.
    metadata = {k: v for k, v in asdict(job).items() if k not in ("path", "masks")}
    return Task(name, job, digest({**metadata, "look": _LOOK}), _FileResult)


@dataclass(frozen=True)
class _FileResult:
    """What is noted of a finished file."""

    heads: int


@dataclass(frozen=True)
class FileJob:
    """One picture or video to render, with its masks."""

    path: Path
    masks: Path | None  # Mask of the still, or folder for one mask a frame; None for none
    seed: int  # Of the sample
    scene: int  # Number of the scene
    frames: int
    frame_rate: float
    size: tuple[int, int]
    kind: Literal["still", "video"] = "video"
    bare: bool = False  # Whether no head stands there


def write_file(job: FileJob) -> dict[str, Any]:
    """Render ``job``; gives the ``files`` written and the labelled ``heads`` of the first frame."""
    make = background_scene if job.bare else headed_scene
    scene = make(job.seed, job.scene, seconds=job.frames / job.frame_rate)
    renderer = Renderer(scene, frame_rate=job.frame_rate, size=job.size)
    files, heads = [job.path], 0
    is_still = job.kind == "still"
    # Masks come first under their names; the video's appears when all is done.
    with ExitStack() as stack:
        if not is_still:
            writer = VideoWriter(job.path, frame_rate=job.frame_rate, size=job.size)
            video = stack.enter_context(writer)
        for index in range(1 if is_still else job.frames):
            frame = renderer.frame(index)
            if is_still:
                write_image(job.path, frame.image)
            else:
                video.write(frame.image)
            heads = heads if index else int(np.count_nonzero(np.unique(frame.instances)))
            if job.masks is not None:
                name = "" if is_still else f"{job.path.stem}_{index:06d}.png"
                files.append(job.masks / name)
                write_mask(files[-1], frame.instances)
    return {"files": [str(path) for path in files], "heads": heads}


_HEADED, _BARE = 1, 2  # which stream of random numbers a scene draws from


def headed_scene(seed: int, number: int, *, seconds: float) -> Scene:
    """A stand with heads of its own, light and camera, which travels over it for ``seconds``."""
    rng = np.random.default_rng([seed, _HEADED, number])
    recipe = StandRecipe(
        heads=True,
        # Spread over the season by the golden ratio, so that few stills cover it.
        ripeness=0.20 + 0.55 * ((0.35 + 0.618034 * number) % 1.0),
        tillers_per_m2=rng.uniform(66, 88),
        dryness=rng.uniform(0.22, 0.42),
        awn_m=rng.uniform(0.030, 0.055),
        soil=_soil_colour(rng),
    )
    return _scene(recipe, rng, (seed, _HEADED, number), seconds)


def background_scene(seed: int, number: int, *, seconds: float) -> Scene:
    """Bare field: a stand that has not headed, weeds, straw and soil."""
    rng = np.random.default_rng([seed, _BARE, number])
    recipe = StandRecipe(
        heads=False,
        ripeness=rng.uniform(0.2, 0.8),
        tillers_per_m2=(95.0, 60.0, 80.0)[number % 3],
        height_m=(0.52, 0.40, 0.56)[number % 3],
        blades_per_tiller=(4.0, 3.4, 4.2)[number % 3],
        dryness=(0.22, 0.38, 0.55)[number % 3],
        weeds_per_m2=(5.0, 13.0, 4.0)[number % 3],
        straw_per_m2=(40.0, 75.0, 110.0)[number % 3],
        soil=_soil_colour(rng),
    )
    return _scene(recipe, rng, (seed, _BARE, number), seconds)


def _soil_colour(rng: Generator) -> tuple[float, float, float]:
    red = float(rng.uniform(0.105, 0.165))
    return red, red * float(rng.uniform(0.68, 0.76)), red * float(rng.uniform(0.44, 0.54))


def _scene(recipe: StandRecipe, rng: Generator, seed: tuple[int, ...], seconds: float) -> Scene:
    path = _path(recipe, rng)
    views = (path.at(time_s, (480, 640)) for time_s in (0.0, 0.5 * seconds, seconds))
    ground = np.concatenate([view.footprint(0.0, recipe.height_m) for view in views])
    return Scene(
        stand=grow(recipe, rng, low=ground.min(axis=0) - 0.35, high=ground.max(axis=0) + 0.35),
        wind=make_wind(rng, strength=float(rng.uniform(0.024, 0.040))),
        path=path,
        light=_light(rng),
        optics=Optics(
            exposure=float(rng.uniform(0.94, 1.10)),
            balance=(float(rng.uniform(0.96, 1.05)), 1.0, float(rng.uniform(0.93, 1.05))),
        ),
        soil=make_soil(rng, colour=recipe.soil),
        noise=tile_noise(rng, 256, cells=32, octaves=3),
        seed=seed,
    )


def _path(recipe: StandRecipe, rng: Generator) -> CameraPath:
    heading = rng.uniform(-0.5, 0.5) + (np.pi if rng.random() < 0.5 else 0.0)
    speed = rng.uniform(0.035, 0.07)
    phases = tuple(rng.uniform(0, 2 * np.pi, 6).tolist())
    return CameraPath(
        height_m=0.95 * recipe.height_m + float(rng.uniform(1.22, 1.38)),
        pitch=float(rng.uniform(0.87, 1.02)),
        yaw=float(rng.uniform(-0.45, 0.45)),
        drift=(float(speed * np.cos(heading)), float(speed * np.sin(heading))),
        shake=float(rng.uniform(0.0010, 0.0022)),
        phases=phases,
        field_of_view=0.66,
    )


def _light(rng: Generator) -> Light:
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = rng.uniform(0.75, 1.15)
    clear = rng.uniform(0.75, 1.0)
    heading = float(rng.uniform(0, 2 * np.pi))
    sun = 2.5 * clear * np.array([1.0, 0.93, 0.80])
    sky = (0.62 + 0.5 * (1.0 - clear)) * np.array([0.86, 0.97, 1.15])
    return Light(
        towards_sun=direction(azimuth, elevation),
        sun=sun.astype(np.float32),
        sky=sky.astype(np.float32),
        bounce=(0.35 * sky * np.array([1.1, 0.95, 0.6])).astype(np.float32),
        clouds=Waves.along(rng, heading=heading, length_m=2.2, speed=0.25, count=4),
        cloud_cover=float(rng.uniform(0.2, 0.42)),
    )
