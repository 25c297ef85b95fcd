"""Folders are read by one reader: which files count, and how masks find their frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvos.errors import FaultCollector, MediaError, UsageError
from dvos.media.clip_folders import clips_of_folder
from dvos.media.layout import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    VIDEO_SUFFIXES,
    ClipPlace,
    FileIndex,
    find_clip_places,
    inner_folder,
    list_files,
    list_folders,
    list_images,
    pair_stills,
    path_kind,
)
from dvos.training.clips.validation import masks_by_stem

SYSTEM_FILES = (".DS_Store", "._a.png", "Thumbs.db", "desktop.ini")
SYSTEM_FOLDERS = ("@eaDir", ".ipynb_checkpoints", "__MACOSX")


def fill(root: Path, *names: str) -> Path:
    """Empty files below ``root``, and beside each what systems leave."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        for left in SYSTEM_FILES:
            (path.parent / left).touch()
        for folder in SYSTEM_FOLDERS:
            (path.parent / folder).mkdir(exist_ok=True)
            (path.parent / folder / path.name).touch()
    return root


def test_files_come_in_natural_order_without_what_systems_leave(tmp_path: Path) -> None:
    fill(tmp_path, "10.png", "2.PNG", "b/1.png", "notes.txt")
    assert [path.name for path in list_images(tmp_path)] == ["2.PNG", "10.png"]
    assert [path.name for path in list_folders(tmp_path)] == ["b"]
    assert list_files(tmp_path / "nowhere", IMAGE_SUFFIXES) == []
    assert list_folders(tmp_path / "nowhere") == []
    with pytest.raises(MediaError, match="no such folder; expected a folder of images"):
        list_images(tmp_path / "nowhere")


def test_an_inner_folder_is_found_however_it_is_spelt(tmp_path: Path) -> None:
    fill(tmp_path, "Frames/1.png")
    assert inner_folder(tmp_path, "frames") == tmp_path / "Frames"
    assert inner_folder(tmp_path, "masks") is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.CSV", "table"), ("a.dvclip", "store"), ("a.jpg", "image"), ("a.mp4", "video")],
)
def test_the_ending_tells_what_a_file_is(tmp_path: Path, name: str, kind: str) -> None:
    assert path_kind(tmp_path) == "folder"
    assert path_kind(tmp_path / name) == "missing"
    (tmp_path / name).touch()
    assert path_kind(tmp_path / name) == kind


@pytest.mark.parametrize("masks", ["masks", "head_mask"])
def test_stills_are_paired_by_stem(tmp_path: Path, masks: str) -> None:
    fill(tmp_path, "images/10.jpg", "images/2.png", f"{masks}/2.tif", f"{masks}/10.png")
    expected = [
        (tmp_path / "images/2.png", tmp_path / masks / "2.tif"),
        (tmp_path / "images/10.jpg", tmp_path / masks / "10.png"),
    ]
    with FaultCollector() as faults:
        assert pair_stills(tmp_path, faults) == expected


def test_every_still_without_its_partner_is_told(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.png", "masks/b.png", "masks/c.png", "masks/c.tif")
    with pytest.raises(MediaError) as caught, FaultCollector(MediaError) as faults:
        assert pair_stills(tmp_path, faults) == []
    masks, images = tmp_path / "masks", tmp_path / "images"
    assert [str(fault) for fault in caught.value.faults] == [
        f"{masks / 'c.tif'}: the still has a mask already, c.png",
        f"{images / 'a.png'}: no mask of that name in {masks}; add it or remove it",
        f"{masks / 'b.png'}: no photo of that name in {images}; add it or remove it",
        f"{masks / 'c.tif'}: no photo of that name in {images}; add it or remove it",
    ]


def test_a_label_of_two_pictures_is_a_fault_that_names_both(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.jpg", "images/a.png", "images/a.tif", "images/b.png")
    fill(tmp_path, "masks/a.png", "masks/b.png")
    with pytest.raises(MediaError) as caught, FaultCollector(MediaError) as faults:
        pair_stills(tmp_path, faults)
    told = "; expected a label of its own; rename or remove one of the two"
    assert [str(fault) for fault in caught.value.faults] == [
        f"{tmp_path / 'images' / name}: a.jpg beside it has the same label{told}"
        for name in ("a.png", "a.tif")
    ]
    clip = fill(tmp_path / "clips/v", "frames/a_frame-1.jpg", "frames/a_frame-1.png")
    fill(clip, "frames/a_frame-2.jpg", "frames/a_frame-2.png", "masks/a_mask-1.png")
    with pytest.raises(MediaError, match=r"frame-1\.png: a_frame-1\.jpg beside it") as caught:
        clips_of_folder(tmp_path / "clips")
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    ("names", "clips"),
    [
        (["frames/v/1.png", "frames/v/2.png", "masks/v/2.png", "frames/w/1.png", "masks/w/1.tif"],
         [("v", 2, {1: "masks/v/2.png"}), ("w", 1, {0: "masks/w/1.tif"})]),
        (["v/frames/a_frame-1.png", "v/masks/a_mask-1.png"],
         [("v", 1, {0: "v/masks/a_mask-1.png"})]),
        (["frames/1.png", "masks/1.nrrd"], [("clip", 1, {0: "masks/1.nrrd"})]),
        # As dvos synthesize writes them, and its contact sheet beside them.
        (["v/Frames/1.png", "v/Masks/1.png", "clips.csv", "preview.png"],
         [("v", 1, {0: "v/Masks/1.png"})]),
        (["Frames/v/1.png", "MASKS/v/1.png"], [("v", 1, {0: "MASKS/v/1.png"})]),
        (["training/frames/v/1.png", "training/masks/v/1.png"],
         [("v", 1, {0: "training/masks/v/1.png"})]),
    ],
)  # fmt: skip
def test_labelled_clips_are_found_in_every_layout(
    tmp_path: Path, names: list[str], clips: list[tuple[str, int, dict[int, str]]]
) -> None:
    root = fill(tmp_path / "clip", *names)
    found = [(clip.name, len(clip.frames), clip.masks) for clip in clips_of_folder(root)]
    expected = [(n, c, {i: root / mask for i, mask in m.items()}) for n, c, m in clips]
    assert found == expected


def test_faults_of_labelled_clips_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such folder"):
        clips_of_folder(tmp_path / "nowhere")
    table = fill(tmp_path / "stores", "clips.csv", "v.dvclip") / "clips.csv"
    with pytest.raises(MediaError, match=r"is a file; .*; give tables as data\.clips\.tables"):
        clips_of_folder(table)
    with pytest.raises(MediaError, match=f"holds no clips; .*give {table} as data.clips.tables"):
        clips_of_folder(table.parent)
    with pytest.raises(MediaError, match="holds no clips; expected frames/CLIP and masks/CLIP"):
        clips_of_folder(tmp_path)
    fill(tmp_path, "frames/v/1.png", "masks/v/x.png", "frames/w/1.png")
    with pytest.raises(MediaError) as caught:
        clips_of_folder(tmp_path)
    assert [fault.found for fault in caught.value.faults] == [
        f"no frame of that name in {tmp_path / 'frames/v'}",
        f"no masks for the frames in {tmp_path / 'frames/w'}",
    ]


def test_masks_by_stem(tmp_path: Path) -> None:
    fill(tmp_path, "v_000001.png", "v_000002.tif")
    names = {"v_000001": tmp_path / "v_000001.png", "v_000002": tmp_path / "v_000002.tif"}
    assert masks_by_stem(tmp_path) == names
    with pytest.raises(MediaError, match="no such folder; expected masks named as the frames"):
        masks_by_stem(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["1.png"], [("clip", "", "folder")]),
        (["b.mp4", "a.mkv"], [("a", "a.mkv", "video"), ("b", "b.mp4", "video")]),
        (["a.dvclip"], [("a", "a.dvclip", "store")]),
        (["Frames/1.png"], [("clip", "Frames", "folder")]),
        (["frames/v/1.png", "frames/w/1.png"],
         [("v", "frames/v", "folder"), ("w", "frames/w", "folder")]),
        (["v/frames/1.png", "w/1.png"], [("v", "v/frames", "folder"), ("w", "w", "folder")]),
        (["a/1.png", "b/x.mp4"], [("a", "a", "folder"), ("x", "b/x.mp4", "video")]),
        (["b.mp4", "a.dvclip"], [("a", "a.dvclip", "store"), ("b", "b.mp4", "video")]),
        (["v.mp4", "w/1.png"], [("v", "v.mp4", "video"), ("w", "w", "folder")]),
        (["10/x.dvclip", "9/y.mp4", "11/frames/1.png"],
         [("y", "9/y.mp4", "video"), ("x", "10/x.dvclip", "store"),
          ("11", "11/frames", "folder")]),
        # Made of the video, or masks, or what this program wrote.
        (["v.mp4", "v/1.png", "frames/v/1.png", "masks/v/1.png", "v_masks/1.png"],
         [("v", "v.mp4", "video")]),
        (["w/1.png", "masks/v.mp4", "m/.progress/x", "m/v.mp4"], [("w", "w", "folder")]),
        (["w/Frames/1.png", "w/Masks/1.png", "clips.csv", "preview.png"],
         [("w", "w/Frames", "folder")]),
        (["1.png", "preview.png"], [("clip", "", "folder")]),
        # Labelled stills.
        (["images/1.png", "masks/1.png"], [("images", "images", "folder")]),
        (["Images/1.png", "head_mask/1.png", "x/1.png"],
         [("Images", "Images", "folder"), ("x", "x", "folder")]),
        (["masks/1.png", "x/1.png"], [("masks", "masks", "folder"), ("x", "x", "folder")]),
        # What dvos synthesize draws of its clips, to be looked at.
        (["Frames/1.png", "Masks/1.png", "Instances/1.png", "Flow/1.npz", "overlay.mp4"],
         [("clip", "Frames", "folder")]),
        (["v.dvclip", "v.mp4", "w.mp4"],
         [("v", "v.dvclip", "store"), ("w", "w.mp4", "video")]),
        (["overlay.mp4"], [("overlay", "overlay.mp4", "video")]),
        (["overlay.mp4", "frames/a/1.png"], [("overlay", "overlay.mp4", "video")]),
    ],
)  # fmt: skip
def test_clips_to_predict_are_found_in_every_layout(
    tmp_path: Path, names: list[str], places: list[tuple[str, str, str]]
) -> None:
    root = fill(tmp_path / "clip", *names)
    expected = [ClipPlace(name, root / place, kind) for name, place, kind in places]  # type: ignore[arg-type]
    assert find_clip_places(root) == expected


def test_a_folder_of_nothing_or_of_two_kinds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="holds no frame, no video, no clip store"):
        find_clip_places(tmp_path)
    fill(tmp_path, "1.png", "v.mp4", "w.mp4")
    with pytest.raises(MediaError, match="holds 1 images and 2 videos; expected one kind"):
        find_clip_places(tmp_path)


def test_files_are_known_by_clip_and_frame(tmp_path: Path) -> None:
    fill(tmp_path, "masks/v/f_mask-1.tif", "masks/v/f_mask-1.png", "masks/w/masks/2.nrrd")
    index = FileIndex(tmp_path, MASK_SUFFIXES, inner="masks")
    assert index.files == {
        ("v", "f_frame-1"): tmp_path / "masks/v/f_mask-1.png",
        ("w", "2"): tmp_path / "masks/w/masks/2.nrrd",
    }
    assert index.exact("v", "f_frame-1") == tmp_path / "masks/v/f_mask-1.png"
    assert index.named("2") == [("w", tmp_path / "masks/w/masks/2.nrrd")]
    assert index.exact(None, "2") is None
    with pytest.raises(UsageError, match="no such folder"):
        FileIndex(tmp_path / "nowhere", MASK_SUFFIXES, inner="masks")


def test_a_file_that_is_not_there_keeps_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, "frames/1.png", "frames/3.png", "masks/3.png")
    gone = tmp_path / "frames" / "2.png"
    gone.symlink_to("/nowhere/2.png")
    assert [path.name for path in list_images(tmp_path / "frames")] == ["1.png", "2.png", "3.png"]
    (clip,) = clips_of_folder(tmp_path)
    assert list(clip.frames) == [0, 2]
    assert list(clip.masks) == [2]
    told = f"{gone}: is a link to /nowhere/2.png, which is not there; the clip has a gap there"
    assert caplog.messages == [told]


def test_a_mask_or_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    fill(tmp_path, "frames/v/1.png", "frames/v/2.png", "masks/v/1.png", "frames/w/1.png")
    fill(tmp_path, "masks/u/1.png")
    (tmp_path / "masks/v/2.png").symlink_to("/nowhere/2.png")
    (tmp_path / "masks/w").mkdir()
    (tmp_path / "masks/w/1.png").symlink_to("/nowhere/1.png")
    with pytest.raises(MediaError) as caught:
        clips_of_folder(tmp_path)
    frames, masks = tmp_path / "frames", tmp_path / "masks"
    assert [str(fault).split(";")[0] for fault in caught.value.faults] == [
        f"{frames / 'u'}: no such folder",
        f"{masks / 'v/2.png'}: is a link to /nowhere/2.png, which is not there",
        f"{masks / 'w/1.png'}: is a link to /nowhere/1.png, which is not there",
    ]
    with pytest.raises(MediaError, match=r"v/2\.png: is a link to /nowhere/2\.png"):
        masks_by_stem(masks / "v")
    (tmp_path / "videos" / "a").mkdir(parents=True)
    (tmp_path / "videos" / "b").symlink_to("/nowhere/b")
    with pytest.raises(MediaError, match="b: is a link to /nowhere/b, which is not there"):
        find_clip_places(tmp_path / "videos")


def test_a_photo_of_a_kind_that_is_not_read_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.png", "images/b.heic", "masks/a.jpg", "masks/b.png")
    images, masks = tmp_path / "images", tmp_path / "masks"
    with pytest.raises(MediaError) as caught, FaultCollector(MediaError) as faults:
        assert pair_stills(tmp_path, faults) == []
    assert [fault.found for fault in caught.value.faults] == [
        f"no mask of that name in {masks}, a.jpg is of a kind that is not read",
        f"no photo of that name in {images}, b.heic is of a kind that is not read",
    ]


COMPOSED, DECOMPOSED = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"


@pytest.mark.parametrize("names", [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_masks_find_their_frames_however_accents_are_written(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    frame, mask = names
    stills = fill(tmp_path / "stills", f"images/{frame}.jpg", f"masks/{mask}.png")
    with FaultCollector(MediaError) as faults:
        assert len(pair_stills(stills, faults)) == 1
    clips = fill(tmp_path / "clips", f"frames/{frame}/{frame}.jpg", f"masks/{mask}/{mask}.png")
    (clip,) = clips_of_folder(clips)
    assert clip.name == COMPOSED
    assert list(clip.frames) == list(clip.masks) == [0]
    assert list(masks_by_stem(clips / "masks" / mask)) == [COMPOSED]
    index = FileIndex(clips, MASK_SUFFIXES, inner="masks")
    assert list(index.files) == [(COMPOSED, COMPOSED)]
    assert [place.name for place in find_clip_places(clips)] == [COMPOSED]


@pytest.mark.parametrize(
    ("kept", "left", "suffixes"),
    [
        ("a.jfif", ["b.HEIC", "c.cr3"], IMAGE_SUFFIXES),
        ("a.flv", ["b.insv"], VIDEO_SUFFIXES),
        ("a.png", ["b.gif"], MASK_SUFFIXES),
    ],
)
def test_files_of_a_kind_that_is_not_read_are_told_once(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kept: str,
    left: list[str],
    suffixes: frozenset[str],
) -> None:
    fill(tmp_path, kept, *left, "notes.txt", "Thumbs.db", "._x.heic")
    for _ in range(2):
        assert [path.name for path in list_files(tmp_path, suffixes)] == [kept]
    text = f"{tmp_path}: left out, not read: {', '.join(left)}; save them as PNG, JPEG or MP4"
    assert caplog.messages == [text]


def test_a_still_with_two_masks_of_one_look_is_a_fault(tmp_path: Path) -> None:
    fill(tmp_path, f"images/{COMPOSED}.jpg", f"masks/{COMPOSED}.png", f"masks/{DECOMPOSED}.png")
    with pytest.raises(MediaError, match="has a mask already"):
        with FaultCollector(MediaError) as faults:
            pair_stills(tmp_path, faults)


def test_of_two_folders_of_masks_every_command_takes_the_same(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.png", "masks/a.png", "head_mask/a.png")
    with FaultCollector(UsageError) as faults:
        pairs = pair_stills(tmp_path, faults)
    assert [mask.parent.name for _, mask in pairs] == ["head_mask"]
