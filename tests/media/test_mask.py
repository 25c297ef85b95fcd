from __future__ import annotations

import gzip

import cv2
import hypothesis.extra.numpy as hnp
import nrrd
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dvos.errors import MediaError
from dvos.media import mask_values
from dvos.media.layout import MASK_SUFFIXES
from dvos.media.mask import (
    IGNORE,
    is_binary,
    label_components,
    mask_ids,
    mask_size,
    object_pixels,
    read_mask,
    unknown_value,
    write_mask,
)

IDS = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
SAME_PATH = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("suffix", sorted(MASK_SUFFIXES))
@SAME_PATH
@given(
    mask=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]), hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
    )
)
def test_ids_survive_a_round_trip(tmp_path, suffix, mask):
    path = tmp_path / f"m{suffix}"
    write_mask(path, mask)
    read = read_mask(path)
    assert read.dtype == mask.dtype
    np.testing.assert_array_equal(read, mask)
    assert mask_size(path) == mask.shape


@pytest.mark.parametrize("suffix", sorted(MASK_SUFFIXES))
def test_bool_becomes_0_and_255(tmp_path, suffix):
    write_mask(tmp_path / f"m{suffix}", np.array([[True, False]]))
    assert read_mask(tmp_path / f"m{suffix}").tolist() == [[255, 0]]


def test_a_window_into_a_larger_array_is_written_right(tmp_path):
    wide = np.arange(60, dtype=np.uint16).reshape(6, 10)
    for suffix in MASK_SUFFIXES:
        write_mask(tmp_path / f"m{suffix}", wide[1:4, 2:9:2].T)
        np.testing.assert_array_equal(read_mask(tmp_path / f"m{suffix}"), wide[1:4, 2:9:2].T)


def test_the_same_mask_gives_the_same_nrrd_bytes_and_pynrrd_reads_them(tmp_path):
    write_mask(tmp_path / "a.nrrd", IDS)
    write_mask(tmp_path / "b.nrrd", IDS)
    assert (tmp_path / "a.nrrd").read_bytes() == (tmp_path / "b.nrrd").read_bytes()
    array, header = nrrd.read(str(tmp_path / "a.nrrd"))
    # The first axis of NRRD is the fastest: x.
    assert header["sizes"].tolist() == [4, 3]
    np.testing.assert_array_equal(array.T, IDS)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("shape", [(3, 4), (1, 3, 4), (3, 4, 1), (1, 1, 3, 4)])
def test_nrrd_of_other_programs(tmp_path, encoding, shape):
    path = str(tmp_path / "m.nrrd")
    nrrd.write(path, IDS.reshape(shape), {"encoding": encoding}, index_order="C")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nrrd"), IDS)
    assert mask_size(tmp_path / "m.nrrd") == (3, 4)


def test_nrrd_volume_of_one_row_keeps_its_height(tmp_path):
    nrrd.write(str(tmp_path / "m.nrrd"), np.ones((1, 1, 5), np.uint8), index_order="C")
    assert read_mask(tmp_path / "m.nrrd").shape == mask_size(tmp_path / "m.nrrd") == (1, 5)


@pytest.mark.parametrize("shape", [(2, 3, 4), (12,)])
def test_nrrd_that_is_no_plane(tmp_path, shape):
    nrrd.write(str(tmp_path / "m.nrrd"), np.zeros(shape, np.uint8), index_order="C")
    for function in (read_mask, mask_size):
        with pytest.raises(MediaError, match="flat mask"):
            function(tmp_path / "m.nrrd")


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32, np.int64, np.float32, np.float64])
def test_wide_samples_with_whole_ids(tmp_path, dtype):
    ids = (IDS % 32768).astype(dtype)
    nrrd.write(str(tmp_path / "m.nrrd"), ids, index_order="C")
    cv2.imwrite(str(tmp_path / "m.tif"), ids) if dtype in (np.int32, np.float32) else None
    for path in tmp_path.iterdir():
        read = read_mask(path)
        assert read.dtype == np.uint16
        np.testing.assert_array_equal(read, ids)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.5, "fractional"), (-1.0, "from -1"), (65536.0, "to 65536"), (np.nan, "nan")],
)
@pytest.mark.parametrize("suffix", [".nrrd", ".tif"])
def test_values_that_are_no_ids(tmp_path, value, words, suffix):
    array = np.array([[0, 1], [2, value]], dtype=np.float32)
    if suffix == ".tif":
        Image.fromarray(array).save(tmp_path / "m.tif")
    else:
        nrrd.write(str(tmp_path / "m.nrrd"), array)
    with pytest.raises(MediaError, match=words):
        read_mask(tmp_path / f"m{suffix}")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_palette_gives_indices(tmp_path, suffix):
    ids = np.array([[0, 1, 2], [7, 15, 200]], dtype=np.uint8)
    image = Image.fromarray(ids).convert("L").convert("P")
    image.putdata(ids.ravel().tolist())
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    image.save(tmp_path / f"m{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"m{suffix}"), ids)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_png_of_few_bits(tmp_path, bits):
    ids = np.arange(2**bits, dtype=np.uint8)[None]
    image = Image.fromarray(ids).convert("P")
    image.putdata(ids.ravel().tolist())
    image.putpalette(list(range(3 * 2**bits)))
    image.save(tmp_path / "m.png", bits=bits)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), ids)


def test_grey_png_of_one_bit_gives_0_and_1(tmp_path):
    Image.fromarray(np.array([[True, False, True]])).save(tmp_path / "m.png")
    assert (tmp_path / "m.png").read_bytes()[24] == 1
    assert read_mask(tmp_path / "m.png").tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_equal_channels_are_accepted_colours_are_not(tmp_path, suffix, channels):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    array = np.dstack([ids, ids, ids, np.full_like(ids, 128)][:channels])
    Image.fromarray(array).save(tmp_path / f"m{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"m{suffix}"), ids)
    array[1, 1, 1] += 1
    Image.fromarray(array).save(tmp_path / f"m{suffix}")
    with pytest.raises(MediaError, match="coloured"):
        read_mask(tmp_path / f"m{suffix}")


def test_white_is_zero_tiff_gives_stored_values(tmp_path):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    # Pillow inverts when it writes this tag: give it the values as shown.
    Image.fromarray(255 - ids).save(tmp_path / "m.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(read_mask(tmp_path / "m.tif"), ids)


def test_tiff_stack_is_refused_a_preview_page_is_not(tmp_path):
    pages = [Image.fromarray(np.full((8, 8), k, np.uint8)) for k in (1, 2)]
    pages[0].save(tmp_path / "m.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(MediaError, match="several pages"):
        read_mask(tmp_path / "m.tif")
    small = pages[1].resize((4, 4))
    pages[0].save(tmp_path / "m.tif", save_all=True, append_images=[small])
    assert np.unique(read_mask(tmp_path / "m.tif")).tolist() == [1]


@pytest.mark.parametrize("suffix", sorted(MASK_SUFFIXES))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_mask_is_an_error(tmp_path, suffix, share):
    mask = np.random.default_rng(0).integers(0, 65536, (64, 80), dtype=np.uint16)
    path = tmp_path / f"m{suffix}"
    write_mask(path, mask)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(MediaError, match=r"truncated or corrupt.*again"):
        read_mask(path)


def test_truncated_raw_nrrd_and_broken_header(tmp_path):
    path = tmp_path / "m.nrrd"
    nrrd.write(str(path), IDS, {"encoding": "raw"})
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(MediaError, match="truncated or corrupt NRRD"):
        read_mask(path)
    path.write_bytes(b"NRRD0004\ntype: banana\nsizes: a b\n\n" + gzip.compress(b"1"))
    for function in (read_mask, mask_size):
        with pytest.raises(MediaError, match="truncated or corrupt NRRD"):
            function(path)


@pytest.mark.parametrize("function", [read_mask, mask_size])
def test_each_kind_of_missing_mask_has_its_own_words(tmp_path, function):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.nrrd").write_text("not a mask at all")
    names = {
        "none.png": "no such file",
        "": "is a folder",
        "empty.png": "empty",
        "text.nrrd": "not a mask",
    }
    for name, words in names.items():
        with pytest.raises(MediaError, match=words):
            function(tmp_path / name)


def test_a_lossy_mask_is_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "m.jpg")
    with pytest.raises(MediaError, match=r"a JPEG file; expected a mask as PNG, TIFF or NRRD"):
        read_mask(tmp_path / "m.jpg")


def test_other_integers_are_written_if_they_fit(tmp_path):
    write_mask(tmp_path / "m.png", np.array([[0, 65535]], dtype=np.int64))
    assert read_mask(tmp_path / "m.png").tolist() == [[0, 65535]]


@pytest.mark.parametrize(
    ("name", "mask", "words"),
    [
        ("m.png", np.array([[65536]], dtype=np.int32), "65536"),
        ("m.nrrd", np.array([[-1]], dtype=np.int32), "-1"),
        ("m.png", np.zeros((2, 2), np.float32), "float32"),
        ("m.png", np.zeros((2, 2, 3), np.uint8), "shape"),
        ("m.jpg", np.zeros((2, 2), np.uint8), "cannot write masks as .jpg"),
    ],
)
def test_what_is_no_mask_is_not_written(tmp_path, name, mask, words):
    with pytest.raises(MediaError, match=words):
        write_mask(tmp_path / name, mask)
    assert list(tmp_path.iterdir()) == []


def test_unknown_is_known_without_being_told():
    semantic = np.array([[0, 128, 255]], np.uint8)
    assert unknown_value(semantic) == 128
    assert mask_ids(semantic).tolist() == [[0, IGNORE, 255]]
    assert mask_ids(semantic).dtype == np.uint16
    assert mask_ids(np.array([[0, 128]], np.uint8)).tolist() == [[0, IGNORE]]
    ids = np.array([[0, 7, 65535]], np.uint16)
    assert unknown_value(ids) == IGNORE
    assert mask_ids(ids).tolist() == [[0, 7, IGNORE]]
    assert mask_ids(ids.astype(np.int64)).tolist() == [[0, 7, IGNORE]]


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[0, 1, 128, 255]], np.uint8),
        np.array([[0, 128, 255]], np.uint16),
        np.array([[0, 127, 255]], np.uint8),
        np.array([[0, 255]], np.uint8),
        np.array([[0, 3]], np.uint16),
        np.array([[False, True]]),
    ],
)
def test_a_mask_without_unknown_keeps_its_ids(mask):
    assert unknown_value(mask) is None
    assert mask_ids(mask).tolist() == mask.astype(int).tolist()


def test_objects_without_unknown_pixels():
    assert object_pixels(np.array([[0, 128, 255]], np.uint8)).tolist() == [[False, False, True]]
    assert object_pixels(np.array([[0, 7, 65535]], np.uint16)).tolist() == [[False, True, False]]
    assert object_pixels(np.array([[True, False]])).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("void", "ids"),
    [
        ("255", [0, 1, 128, IGNORE]),
        ("1", [0, IGNORE, 128, 255]),
        ("1,255,10000", [0, IGNORE, 128, IGNORE]),
        ("none", [0, 1, 128, 255]),
    ],
)
def test_other_values_for_unknown_may_be_told(tmp_path, void, ids):
    write_mask(tmp_path / "m.png", np.array([[0, 1, 128, 255]], np.uint8))
    assert mask_ids(read_mask(tmp_path / "m.png", void)).tolist() == [ids]
    # In the place of 128, and of what a file says.
    write_mask(tmp_path / "m.png", np.array([[0, 128, 255]], np.uint8))
    (tmp_path / "void.txt").write_text("128")
    assert mask_ids(read_mask(tmp_path / "m.png", void)).tolist() == [[ids[0], *ids[2:]]]


def squares(*values):
    """A mask of 16 bit, 40 x 40, with a square of each value."""
    mask = np.zeros((40, 40), np.uint16)
    for place, value in enumerate(values):
        row, column = divmod(place, 4)
        mask[10 * row + 2 : 10 * row + 8, 10 * column + 2 : 10 * column + 8] = value
    return mask


@pytest.mark.parametrize(
    ("values", "same"),
    [
        # 0 and 1, 0 and the full value of 10, 12 and 16 bit, left- and right-aligned.
        ([1] * 8, [1] * 8),
        ([1023] * 8, [1023] * 8),
        ([4095] * 8, [4095] * 8),
        ([65520] * 8, [65520] * 8),
        ([65535] * 8, [255] * 8),
        ([32896, *[65535] * 7], [128, *[255] * 7]),
        # Ids, ids times 16 and times 257, and spread over 12 and 16 bit.
        (range(1, 9), range(1, 9)),
        (range(16, 144, 16), range(16, 144, 16)),
        (range(257, 2313, 257), range(257, 2313, 257)),
        (range(4095, 500, -511), range(4095, 500, -511)),
        ([257 * n for n in (254, 255, *range(1, 7))], [254, 255, *range(1, 7)]),
        ([*range(1, 8), 65535], [*range(1, 8), 65535]),
    ],
)
def test_eight_objects_of_16_bit_stay_eight(tmp_path, caplog, values, same):
    mask_values._TOLD.clear()
    write_mask(tmp_path / "m.png", squares(*values))
    found = read_mask(tmp_path / "m.png")
    assert found.tolist() == squares(*same).tolist()
    assert ("multiples of 257" in caplog.text) == (list(values) != list(same))
    assert object_pixels(found).sum() == 36 * (8 - (unknown_value(found) is not None))


def test_stretched_masks_are_known_by_their_folder(tmp_path):
    for name, values in (("a", [257, 514]), ("b", [257, 65535]), ("c", [])):
        write_mask(tmp_path / "s" / f"{name}.png", squares(*values))
        write_mask(tmp_path / "ids" / f"{name}.png", squares(*values))
    write_mask(tmp_path / "ids/d.png", squares(258))
    assert np.unique(read_mask(tmp_path / "s/a.png")).tolist() == [0, 1, 2]
    assert np.unique(read_mask(tmp_path / "ids/a.png")).tolist() == [0, 257, 514]
    assert np.unique(read_mask(tmp_path / "ids/b.png")).tolist() == [0, 257, IGNORE]
    assert np.unique(read_mask(tmp_path / "s/b.png", "none")).tolist() == [0, 257, IGNORE]


@pytest.mark.parametrize("others", [[255] * 8, [1, 2, 3]])
def test_a_mask_of_65535_alone_beside_others_is_told(tmp_path, caplog, others):
    """It may be an object of another program, or all that is unknown in a mask of ids."""
    mask_values._TOLD.clear()
    write_mask(tmp_path / "a.png", squares(*others))
    write_mask(tmp_path / "b.png", squares(65535))
    assert np.unique(read_mask(tmp_path / "b.png")).tolist() == [0, IGNORE]
    told = "65535 alone is taken for unknown (to take it for an object, save it with 8 bit"
    assert f"{tmp_path / 'b.png'}: {told}" in caplog.text
    caplog.clear()
    (tmp_path / "void.txt").write_text("65535\n")
    read_mask(tmp_path / "b.png")
    assert not caplog.text


@pytest.mark.parametrize("values", [[-1, 0], [0, 65536]])
def test_an_id_that_no_mask_holds_is_refused(values):
    with pytest.raises(MediaError, match=r"m\.png: values from .*; expected ids in 0\.\.65535"):
        mask_ids(np.array([values]), where="m.png")


def test_is_binary():
    assert is_binary(np.array([[0, 128, 255]], np.uint8))
    assert is_binary(np.array([[0, 5, 65535]], np.uint16))
    assert not is_binary(np.array([[0, 5, 6, 65535]], np.uint16))
    assert is_binary(np.array([[True, False]]))
    assert is_binary(np.array([[0, 255, 255]], np.uint8))
    assert is_binary(np.zeros((2, 2), np.uint16))
    assert is_binary(np.full((2, 2), 3, np.uint16))
    assert not is_binary(np.array([[0, 1, 2]], np.uint8))
    assert not is_binary(np.array([[1, 2]], np.uint8))


def test_label_components_by_connectivity():
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]], dtype=bool)
    assert label_components(mask).max() == 2
    labels = label_components(mask.astype(np.uint8) * 255, connectivity=4)
    assert labels.dtype == np.uint16
    assert labels.max() == 3
    np.testing.assert_array_equal(labels > 0, mask)


def test_more_components_than_16_bit_hold():
    mask = np.zeros((520, 520), dtype=bool)
    mask[::2, ::2] = True
    labels = label_components(mask)
    assert labels.dtype == np.int32
    assert labels.max() == 260 * 260


@settings(max_examples=40)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=10)))
def test_components_are_what_the_mask_covers_and_neighbours_share_a_label(mask):
    labels = label_components(mask)
    np.testing.assert_array_equal(labels != 0, mask)
    assert set(np.unique(labels)) - {0} == set(range(1, int(labels.max()) + 1))
    both = mask[:, 1:] & mask[:, :-1]
    assert (labels[:, 1:][both] == labels[:, :-1][both]).all()


def disks(count: int = 12, radius: int = 9) -> np.ndarray:
    """Numbered disks, uint8 (120, 160)."""
    mask = np.zeros((120, 160), np.uint8)
    for index in range(count):
        centre = (20 + index % 4 * 40, 20 + index // 4 * 40)
        cv2.circle(mask, centre, radius, index + 1, -1)
    return mask


def bordered(mask: np.ndarray) -> np.ndarray:
    """VOC's border of 255 round every object."""
    kernel = np.ones((5, 5), np.uint8)
    return np.where(cv2.dilate(mask, kernel) != cv2.erode(mask, kernel), 255, mask).astype(np.uint8)


def marked(mask: np.ndarray, value: int) -> np.ndarray:
    """A region of its own value in a corner."""
    mask = mask.copy()
    mask[95:, 120:] = value
    return mask


@pytest.mark.parametrize(
    ("stored", "value"),
    [
        (bordered(disks()), 255),
        (bordered(disks(1)), 255),
        (bordered(15 * (disks() > 0).astype(np.uint8)), 255),
        (marked(disks(), 255), 255),
        (marked(disks(10).astype(np.uint16), 10000), 10000),
        (marked(np.where(disks(10) > 0, 2000 + disks(10).astype(np.uint16), 0), 10000), 10000),
        (marked(np.zeros((120, 160), np.uint16), 10000), 10000),
    ],
)
def test_borders_and_regions_of_other_data_sets_are_unknown(tmp_path, caplog, stored, value):
    mask_values._TOLD.clear()
    for name in ("a.png", "b.png"):
        write_mask(tmp_path / name, stored)
        read = read_mask(tmp_path / name)
        ids = stored.astype(np.uint16)
        ids[stored == value] = IGNORE
        np.testing.assert_array_equal(mask_ids(read), ids)
        assert (object_pixels(read) == ((stored > 0) & (stored != value))).all()
    assert len(caplog.messages) == 1
    assert f"a.png: {value} " in caplog.messages[0]
    assert "unknown" in caplog.messages[0]


@pytest.mark.parametrize(
    ("dtype", "full"),
    [(np.uint8, 255), (np.uint16, 255), (np.uint16, 4095), (np.uint16, 16383), (np.uint16, 65535)],
)
@pytest.mark.parametrize("blur", [0, 5, 9])
def test_soft_edges_are_cut_at_half(tmp_path, caplog, dtype, full, blur):
    mask_values._TOLD.clear()
    fine = cv2.resize((disks(radius=10) > 0).astype(np.float32), None, fx=4, fy=4)
    soft = cv2.resize(fine, (160, 120), interpolation=cv2.INTER_AREA)
    if blur:
        soft = cv2.GaussianBlur(soft, (blur, blur), 0)
    soft = np.rint(soft * full).astype(dtype)
    assert len(np.unique(soft)) > 5
    write_mask(tmp_path / "m.png", soft)
    read = read_mask(tmp_path / "m.png")
    np.testing.assert_array_equal(read, np.where(soft > full // 2, 255, 0))
    assert label_components(read).max() == 12
    assert len(caplog.messages) == 1
    assert "soft edges" in caplog.messages[0]


def tissue() -> np.ndarray:
    """Cells without background between them, numbered 1 to 255 in any order."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 300, (255, 2))
    places = np.stack(np.meshgrid(np.arange(300), np.arange(300)), -1)[..., None, :]
    nearest = np.linalg.norm(places - points, axis=-1).argmin(-1)
    return (nearest + 1).astype(np.uint8)


@pytest.mark.parametrize(
    "stored",
    [
        disks(),
        tissue(),
        np.where(disks(5) > 0, 51 * disks(5), 0).astype(np.uint8),
        np.where(disks(10) > 0, disks(10) + np.uint8(245), 0).astype(np.uint8),
        bordered(disks()) // 255 * 100 + (disks() > 0) * np.uint8(155),
        np.where(disks() == 12, 255, disks().astype(np.uint16)),
        np.where(disks() == 12, 10000, 9000 + disks().astype(np.uint16)) * (disks() > 0),
        marked(disks(10).astype(np.uint16), 65535),
        # Objects that are unknown but for their rims, which hold their ids.
        np.where(cv2.erode(disks(), np.ones((5, 5))) > 0, 65535, disks().astype(np.uint16)),
    ],
)
def test_what_may_be_ids_stays(tmp_path, caplog, stored):
    write_mask(tmp_path / "m.png", stored)
    read = read_mask(tmp_path / "m.png")
    assert read.dtype == stored.dtype
    np.testing.assert_array_equal(read, stored)
    assert not caplog.messages


def object_255() -> np.ndarray:
    """Objects 1, 2, 3 and one that is truly numbered 255: alone it looks like an unknown region."""
    return marked(disks(3), 255)


def test_what_255_means_is_judged_over_the_folder(tmp_path, caplog):
    mask_values._TOLD.clear()
    write_mask(tmp_path / "a.png", object_255())
    assert read_mask(tmp_path / "a.png").max() == IGNORE
    # The ids of another mask reach up to it, or it is one of ids in any order.
    for name, other in (
        ("b.png", np.where(disks() > 0, disks() + np.uint8(243), 0).astype(np.uint8)),
        ("c.png", np.where(disks(4) > 0, 51 * disks(4) + np.uint8(51), 0).astype(np.uint8)),
    ):
        write_mask(tmp_path / name / name, other)
        for copy in ("d.png", "e.png")[: 1 if name == "c.png" else 2]:
            write_mask(tmp_path / name / copy, object_255())
        if name == "c.png":
            write_mask(tmp_path / name / "f.png", other)
        for path in sorted((tmp_path / name).iterdir()):
            assert read_mask(path).dtype == np.uint8
            assert read_mask(path).max() == 255
    assert len(caplog.messages) == 2
    assert "255 beside lower ids is taken for unknown" in caplog.messages[0]
    assert "write none into void.txt" in caplog.messages[0]
    assert "255 is taken for an object, as other masks of the folder" in caplog.messages[1]


def test_a_border_stays_unknown_where_one_mask_hides_it(tmp_path):
    write_mask(tmp_path / "a.png", bordered(disks()))
    write_mask(tmp_path / "b.png", bordered(disks(1)))
    # By itself this one tells nothing of a border: 255 is the corner of a class of number 15.
    odd = marked(np.where(disks() > 0, 15, 0).astype(np.uint8), 255)
    write_mask(tmp_path / "c.png", odd)
    read = read_mask(tmp_path / "c.png")
    np.testing.assert_array_equal(read == IGNORE, odd == 255)
    np.testing.assert_array_equal(object_pixels(read), odd == 15)


@pytest.mark.parametrize(
    ("declared", "void"), [("none\n", []), ("255", [255]), ("2, 3", [2, 3]), ("1\n255\n", [1, 255])]
)
def test_a_declaration_decides(tmp_path, caplog, declared, void):
    stored = object_255()
    write_mask(tmp_path / "a.png", stored)
    write_mask(tmp_path / "clip" / "a.png", stored)
    (tmp_path / "void.txt").write_text(declared)
    for path in (tmp_path / "a.png", tmp_path / "clip" / "a.png"):
        read = read_mask(path)
        np.testing.assert_array_equal(read == IGNORE, np.isin(stored, void))
        np.testing.assert_array_equal(read[read != IGNORE], stored[read != IGNORE])
    assert not caplog.messages


@pytest.mark.parametrize("declared", ["255 or so", "0", "70000", "-1", "", "auto"])
def test_a_declaration_that_is_none_is_told(tmp_path, declared):
    write_mask(tmp_path / "a.png", object_255())
    (tmp_path / "void.txt").write_text(declared)
    with pytest.raises(MediaError, match=r"void\.txt: holds .*; expected none, or the values"):
        read_mask(tmp_path / "a.png")
