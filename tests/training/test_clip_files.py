"""Clips in stores give what the same clips give as files."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from made_stills import blob_mask

from dvos.config.data import ClipsSettings, DataSettings
from dvos.config.training import TrainingSettings
from dvos.errors import DvosError, MediaError, TableError
from dvos.media.clip_store import ClipStoreWriter, OpenStores, read_image_at, read_mask_at
from dvos.media.image import write_image
from dvos.media.limits import ImageCache
from dvos.media.mask import write_mask
from dvos.networks.spec import Normalisation
from dvos.tables import ClipRow, frame_address, read_clips, write_clips
from dvos.training.clips.clip import ClipRequest
from dvos.training.clips.files import FileClips, clips_of_rows
from dvos.training.data import build_training_clips, build_validation_clips
from dvos.training.labels import find_clips
from dvos.training.targets import QueryTarget

SIZE = (150, 190)
FRAMES = 6


def smooth(rng):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / 40
    phases = rng.uniform(0, 6, (3, 2))
    waves = [np.sin(y + a) + np.cos(x + b) for a, b in phases]
    return np.rint(128 + 50 * np.stack(waves, axis=2)).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two clips as a tree, ``tree.csv``, and as stores, ``store.csv``."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    tree, stored = [], []
    for vid in ("one", "two"):
        file = root / f"{vid}.dvclip"
        with ClipStoreWriter(file, size=SIZE, tile=32) as writer:
            for fid in range(FRAMES):
                image = smooth(rng)
                ids = blob_mask(*SIZE, seed=fid + 9 * (vid == "two")).astype(np.uint16) * 300
                writer.write(image, ids)
                frame, mask = (root / vid / kind / f"{fid}.png" for kind in ("frames", "masks"))
                write_image(frame, image)
                write_mask(mask, ids > 0)
                label = int(fid > 2)
                address = frame_address(file, fid)
                tree.append(ClipRow("B", vid, fid, frame, mask, label))
                stored.append(ClipRow("B", vid, fid, address, address, label))
    write_clips(root / "tree.csv", tree)
    write_clips(root / "store.csv", stored)
    return root


def source_of(folder, kind, memory=0, **options):
    clips = clips_of_rows(read_clips(folder / f"{kind}.csv"))
    return FileClips(clips, ImageCache(memory), ClipsSettings(**options))


def draw(source, seed, **options):
    request = ClipRequest(**{"frames": 4, "size": (48, 56), **options})
    return source.sample(np.random.default_rng(seed), request)


def built(build, data):
    settings = TrainingSettings(out="x", data=data, seed=1)
    target = QueryTarget(settings, references=2)
    return build(settings, target, Normalisation((0.5,) * 3, (0.5,) * 3))


# At 0.2 the window is larger than the frame, which is mirrored.
@pytest.mark.parametrize("scale", [1.6, 1.0, 0.5, 0.3, 0.2])
def test_a_store_gives_what_the_tree_gives(folder, scale):
    tree, store = (source_of(folder, kind, intervals=[1, 2]) for kind in ("tree", "store"))
    for seed in range(12):
        expected, found = draw(tree, seed, scale=scale), draw(store, seed, scale=scale)
        assert np.array_equal(found.ids, expected.ids)
        difference = np.abs(found.frames.astype(int) - expected.frames)
        assert difference.max() <= 8
        assert difference.mean() < 1


def test_masks_in_stores_and_frames_in_files_go_together(folder):
    rows = [
        ClipRow("B", tree.vid, tree.fid, tree.image, store.mask, tree.label)
        for tree, store in zip(
            read_clips(folder / "tree.csv"), read_clips(folder / "store.csv"), strict=True
        )
    ]
    mixed, tree = (
        FileClips(clips_of_rows(rows), ImageCache(0), ClipsSettings()),
        source_of(folder, "tree"),
    )
    for seed in range(4):
        expected, found = draw(tree, seed), draw(mixed, seed)
        assert np.array_equal(found.ids, expected.ids)
        assert np.array_equal(found.frames, expected.frames)


def test_ids_of_a_store_are_never_unknown(folder):
    rows = read_clips(folder / "store.csv")
    plain = FileClips(clips_of_rows(rows), ImageCache(0), ClipsSettings())
    unknown = FileClips(clips_of_rows(rows, 300), ImageCache(0), ClipsSettings())
    assert np.array_equal(draw(unknown, 1).ids, draw(plain, 1).ids)


def test_only_the_tiles_of_the_window_are_read(folder, tmp_path):
    data = bytearray((folder / "one.dvclip").read_bytes())
    data[100] ^= 255  # in the first tile of frame 0
    (tmp_path / "one.dvclip").write_bytes(data)
    lines = (folder / "store.csv").read_text().splitlines()
    table = tmp_path / "store.csv"
    table.write_text("\n".join(line for line in lines if "two" not in line) + "\n")
    source = FileClips(
        clips_of_rows(read_clips(table)), ImageCache(0), ClipsSettings(intervals=[9])
    )
    refused = 0
    for seed in range(30):
        try:
            draw(source, seed, size=(40, 40))
        except MediaError:
            refused += 1
    assert 0 < refused < 15


def test_a_copy_opens_its_own_stores_and_gives_the_same(folder):
    source = source_of(folder, "store", memory=2**20)
    expected = [draw(source, seed) for seed in range(3)]
    data = pickle.dumps(source)
    assert len(data) < 10_000
    again = pickle.loads(data)
    for seed in (2, 0, 1):
        found = draw(again, seed)
        assert np.array_equal(found.frames, expected[seed].frames)
        assert np.array_equal(found.ids, expected[seed].ids)


def test_few_stores_are_open_at_a_time(folder):
    stores = OpenStores(limit=1)
    for vid in ("one", "two", "one"):
        store, index = stores.find(frame_address(folder / f"{vid}.dvclip", 2))
        assert store.path == folder / f"{vid}.dvclip"
        assert (index, len(stores._open)) == (2, 1)
        assert store.read_frames([index]).shape == (1, *SIZE, 3)
    assert stores.find(folder / "one" / "frames" / "0.png") is None


def test_settings_take_tables_of_stores(folder):
    made = {}
    for kind in ("tree", "store"):
        settings = DataSettings(crop=48, clips={"tables": [folder / f"{kind}.csv"]})
        data = built(build_training_clips, settings)
        made[kind] = [data.raw(k).ids for k in range(4)]
        validation = built(build_validation_clips, settings)
        sample = validation.clip(0)
        made[kind] += [sample.ids, sample.frames.shape]
        names = validation.names
    assert all(np.array_equal(*pair) for pair in zip(*made.values(), strict=True))
    assert names == [f"{vid}/{vid}_{fid:06d}" for vid in ("one", "two") for fid in range(3, 6)]


def test_large_stored_frames_are_validated_by_their_middle(folder):
    values = {"tables": [folder / "store.csv"]}
    settings = DataSettings(
        crop=48, clips=values, validation={"clips": values, "largest_side": 100}
    )
    sample = built(build_validation_clips, settings).clip(0)
    assert sample.frames.shape == (3, 100, 100, 3)
    expected = read_mask_at(frame_address(folder / "one.dvclip", 3))[25:125, 45:145] > 0
    assert np.array_equal(sample.ids[-1], expected)


def test_faults_of_stores_are_told_once_each(folder, tmp_path):
    (tmp_path / "bad.dvclip").write_bytes((folder / "one.dvclip").read_bytes()[:-5])
    (tmp_path / "one.dvclip").write_bytes((folder / "one.dvclip").read_bytes())
    rows = ["VID,FID,Image,Mask,Label"]
    rows += [f"a,{n},bad.dvclip#00000{n},bad.dvclip#00000{n},1" for n in range(4)]
    rows += [f"b,{n},one.dvclip#{n},one.dvclip#{n},1" for n in (5, 6, 7)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(rows) + "\n")
    with pytest.raises(TableError) as caught:
        find_clips(ClipsSettings(tables=[table]))
    text = [str(fault) for fault in caught.value.faults]
    assert len(text) == 3
    assert "row 2 column Image" in text[0]
    assert "it was cut off" in text[0]
    assert "row 7 column Image" in text[1]
    assert "one.dvclip: has no frame 6" in text[1]
    assert "a frame from 0 to 5" in text[1]


def test_one_frame_is_read_by_its_path(folder):
    file, address = folder / "one/frames/4.png", frame_address(folder / "one.dvclip", 4)
    assert np.abs(read_image_at(file).astype(int) - read_image_at(address)).max() <= 8
    mask = folder / "one/masks/4.png"
    assert np.array_equal(read_mask_at(mask) > 0, read_mask_at(address) > 0)
    with pytest.raises(DvosError, match="has no frame 9"):
        read_image_at(frame_address(folder / "one.dvclip", 9))
