"""What each key of the published extractors' and simulator's settings becomes."""

from __future__ import annotations

from typing import Any

from dvos.config.extraction import TRANSFORM_NAMES
from dvos.config.published_rules import Flat, Kind, Rule, to, without
from dvos.config.published_training import TRAINING


def _extension(value: Any, _: Flat) -> str:
    text = str(value).lower()
    return text if text.startswith(".") else f".{text}"


def _transform(value: Any, _: Flat) -> str:
    if not isinstance(value, int) or not 0 <= value < len(TRANSFORM_NAMES):
        raise ValueError(f"a whole number from 0 to {len(TRANSFORM_NAMES) - 1}")
    return TRANSFORM_NAMES[value]


def _hue_swap(value: Any, _: Flat) -> Any:
    if value is not None:
        raise ValueError("null, or the keys source and destin")
    return None


_SHARED: dict[str, Rule] = {
    "swap_color": to("hue_swap", convert=_hue_swap),
    "swap_color.source": to("hue_swap.source"),
    "swap_color.destin": to("hue_swap.destin"),
    "transformer.height": to("transform.height"),
    "transformer.width": to("transform.width"),
    "transformer.rotation_angle": to("transform.angle"),
    "transformer.rotation_p": to("transform.p"),
    "transformer.elast_p": to("transform.elastic_p"),
    "transformer.trfm_index": to("transform.name", convert=_transform),
}

FRAMES = Kind(
    name="the frames extractor",
    command="extract frames",
    marks=("videos_meta_csv_path",),
    rules={
        "videos_meta_csv_path": to("videos"),
        "output_metadata_path": to("out"),
        "frame_extension": to("extension", convert=_extension),
        **_SHARED,
    },
    notes=(
        "differs: frames are enlarged in proportion (published: height and width each for "
        "itself, and exchanged); the transform is drawn once a video (published: each frame)",
    ),
)

OBJECTS = Kind(
    name="the objects extractor",
    command="extract objects",
    marks=("segmented_images_meta_csv_path",),
    rules={
        "segmented_images_meta_csv_path": to("annotated"),
        "real_metadata_path": to("cutouts"),
        "fake_metadata_path": to("distractors"),
        "segment_extension": to("extension", convert=_extension),
        "min_object_size_in_pixel": to("min_object_size"),
        "num_fakes_per_real": to("distractors_per_object"),
        **_SHARED,
    },
    notes=(
        "differs: a cutout is named by the object's id (published: by its place in the order of "
        "ids), keeps the last row and column of its box (published: loses them) and the photo's "
        "pixels under alpha 0; an object that finds no place for a distractor gets fewer "
        "(published: tries for ever)",
    ),
)


# The published deformation is in pixels, ours relative to the sprite: taken
# for an object of this length.
_USUAL_LENGTH = 100.0
_PIXELS = "pixels, taken for an object 100 px long; ours is relative to its length"


def _relative(value: Any, _: Flat) -> list[float]:
    return [float(bound) / _USUAL_LENGTH for bound in value]


SIMULATOR = Kind(
    name="the simulator",
    command="synthesize",
    marks=("Basics", "BackgroundMetadata", "Frame"),
    rules={
        "Basics.SEED": to("seed"),
        "Basics.CREATE_OVERLAID_VIDEO": to("overlay_video"),
        "Basics.FRAMES_PER_SECOND": to("frame_rate"),
        "Basics.VIDEOS_OUT_DIR": without("no counterpart; overlay videos stand beside the clips"),
        "Basics.VIDEOS_IDS_PREFIX": to("prefix"),
        "Basics.OUT_SIMULATION_DIR": to("out"),
        "Basics.OUT_METADATA_PATH": without("no counterpart; the table is clips.csv in out"),
        "BackgroundMetadata": to("backgrounds"),
        "RealObjectMetadata": to("cutouts"),
        "FakePatchMetadata": to("distractors"),
        "Frame.FRAME_MOVEMENT_RANGE": to("scene.camera.step"),
        "Frame.NODE_MOVEMENT_RANGE": to("scene.walk.step"),
        "Frame.NUM_REALS_PER_FRAME": to("scene.population.objects"),
        "Frame.NUM_FAKES_PER_FRAME": to("scene.population.distractors"),
        "Frame.RECOVERY_VARIANCE": to("scene.population.recovery_variance"),
        "Frame.ALLOW_LEAVE_FRAME": to("scene.walk.may_leave"),
        "Frame.RECOVERY_AREA_EXPANSION": to("scene.population.recovery_expansion"),
        "Frame.CHANGE_DIRECTION_PROBABILITY": to(
            "scene.walk.change_direction", "scene.camera.change_direction"
        ),
        "Transformations.HORIZONAL_FLIP_PROB": to("scene.appearance.flip_horizontal"),
        "Transformations.VERTICAL_FLIP_PROB": to("scene.appearance.flip_vertical"),
        "Transformations.ROTATE_RANGE": to("scene.walk.turn"),
        "Transformations.ROTATE_PROB": without("no counterpart; every sprite turns evenly"),
        "Transformations.ELASTIC_ALPHA": to(
            "scene.elastic.amplitude", convert=_relative, note=_PIXELS
        ),
        "Transformations.ELASTIC_SIGMA": without(
            "no counterpart; the deformation is smooth over the whole sprite"
        ),
        "Transformations.ELASTIC_ALPHA_AFFINE": to(
            "scene.elastic.shear", convert=_relative, note=_PIXELS
        ),
        "Transformations.ELASTIC_PROB": to("scene.elastic.probability"),
        "Video.VIDEO_HEIGHT": to("height"),
        "Video.VIDEO_WIDTH": to("width"),
        "Video.VIDEO_PER_BACKGROUND": to("clips_per_background"),
        "Video.NUM_REQUIRED_FRAMES": to("frames"),
    },
    fixed={"scene.preset": "published"},
    notes=(
        "differs: sprites keep their looks over the clip, ids are permanent, distractors hide the "
        "label under them, and no fringe marks what was pasted (see the preset published)",
    ),
)

KINDS: tuple[Kind, ...] = (FRAMES, OBJECTS, SIMULATOR, TRAINING)
