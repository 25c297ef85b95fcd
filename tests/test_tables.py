"""The CSV tables: round trips, and every kind of fault."""

from __future__ import annotations

import csv
import os
import weakref
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvos import tables
from dvos.errors import MediaError, TableError
from dvos.tables import AnnotatedRow, ClipRow, ImageRow, StillRow, VideoRow


def make(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return paths


def faults_of(read, path: Path, **options) -> list[str]:
    with pytest.raises(TableError) as caught:
        read(path, **options)
    return [str(fault) for fault in caught.value.faults]


def test_each_table_comes_back_as_written(tmp_path: Path) -> None:
    a, b, mask = make(tmp_path, "in/a.png", "in/b.png", "in/m.png")
    out = tmp_path / "out"
    for write, read, rows in [
        (tables.write_videos, tables.read_videos, [VideoRow(a, out, 3), VideoRow(b, out, 1)]),
        (tables.write_images, tables.read_images, [ImageRow(a), ImageRow(b)]),
        (tables.write_annotated, tables.read_annotated, [AnnotatedRow(a, mask, out)]),
        (
            tables.write_clips,
            tables.read_clips,
            [ClipRow("Back_000", "v", 0, a, None, 0), ClipRow("", "v", 1, b, mask, 1)],
        ),
    ]:
        path = tmp_path / "t.csv"
        write(path, rows)
        assert read(path) == rows


def test_paths_inside_the_folder_are_written_relative(tmp_path: Path) -> None:
    (inside,) = make(tmp_path, "set/frames/a b.png")
    (outside,) = make(tmp_path, "other/c.png")
    table = tmp_path / "set" / "t.csv"
    tables.write_images(table, [ImageRow(inside), ImageRow(outside)])
    assert table.read_text() == f"Image\nframes/a b.png\n{outside}\n"


def test_relative_paths_csv_folder_first_then_current(tmp_path: Path, monkeypatch) -> None:
    (beside,) = make(tmp_path, "set/a.png")
    make(tmp_path, "here/a.png")
    (current,) = make(tmp_path, "here/b.png")
    monkeypatch.chdir(tmp_path / "here")
    table = tmp_path / "set" / "t.csv"
    table.write_text("Image\na.png\nb.png\n")
    assert tables.read_images(table) == [ImageRow(beside), ImageRow(current)]


def test_output_folder_follows_where_the_input_was_found(tmp_path: Path, monkeypatch) -> None:
    make(tmp_path, "set/a.mp4", "here/b.mp4")
    monkeypatch.chdir(tmp_path / "here")
    table = tmp_path / "set" / "t.csv"
    table.write_text("Video,FramesDir,Interval\na.mp4,out,1\nb.mp4,out,1\n")
    rows = tables.read_videos(table)
    assert [row.frames_dir for row in rows] == [tmp_path / "set/out", tmp_path / "here/out"]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_bom_newlines_spaces_blank_rows_and_extra_columns(tmp_path: Path, newline: str) -> None:
    (image,) = make(tmp_path, "a, b.png")
    table = tmp_path / "t.csv"
    lines = ["Note, Image ", 'x, "a, b.png"', ",", ""]
    lines[1] = 'x,"a, b.png"'
    table.write_bytes(b"\xef\xbb\xbf" + newline.join(lines).encode())
    assert tables.read_images(table) == [ImageRow(image)]


def test_spaces_after_commas_are_forgiven(tmp_path: Path) -> None:
    image, mask = make(tmp_path, "a.png", "m.png")
    table = tmp_path / "t.csv"
    table.write_text("Image, Mask, OutDir\na.png, m.png, out\n")
    assert tables.read_annotated(table) == [AnnotatedRow(image, mask, tmp_path / "out")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"Image\n", "has no rows"),
        (b"Image\n\n \n", "has no rows"),
        (b"Image,Image\na,b\n", "twice"),
        (b"Photo\na.png\n", "misses the column Image"),
        (b"Image;Mask\na;b\n", "misses the column Image"),
        (b"Image;Mask\na;b\n", "save the table with commas between its columns"),
        ("Image\nä.png\n".encode("latin-1"), "UTF-8"),
        (b"Image\n" + b"a" * 200_000 + b"\n", "no such file"),
        (b"Image\na.png,b.png\n", "has 2 values"),
        (b'Image\n"a\x00b.png"\n', "no such file"),
        (b"Image\n" + b"a" * 5000 + b"\n", "no such file"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, words: str) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(content)
    (fault,) = faults_of(tables.read_images, table)
    assert str(table) in fault
    assert words in fault


def test_missing_table_and_folder_in_its_place(tmp_path: Path) -> None:
    assert "No such file" in faults_of(tables.read_images, tmp_path / "none.csv")[0]
    assert "directory" in faults_of(tables.read_images, tmp_path)[0]


def test_all_faults_of_a_clip_table_at_once(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "c.png", "m.png")
    table = tmp_path / "t.csv"
    table.write_text(
        "VID,FID,Image,Mask,Label\n"
        "v,0,a.png,m.png,1\n"  # 2, good
        "v,0,b.png,,0\n"  # 3, duplicate frame id
        "v,1,a.png,,0\n"  # 4, duplicate image
        "w,x,b.png,,0\n"  # 5, bad integer
        "w,-1,c.png,,0\n"  # 6, negative
        "w,2,gone.png,,0\n"  # 7, missing image
        "w,3,b.png,gone.png,0\n"  # 8, missing mask, same image as row 5
        "x,0,a.png,,1\n"  # 9, query without mask
        "x,1,b.png,m.png,2\n"  # 10, bad label
        ",0,c.png,,0\n"  # 11, no clip
        "x,5\n"  # 12, short row
    )
    faults = faults_of(tables.read_clips, table)
    places = [fault.removeprefix(f"{table} ").split(":")[0] for fault in faults]
    assert places == [
        "row 3 column FID",
        "row 4 column Image",
        "row 5 column FID",
        "row 6 column FID",
        "row 7 column Image",
        "row 8 column Mask",
        "row 8 column Image",
        "row 9 column Mask",
        "row 10 column Label",
        "row 11 column VID",
        "row 12 column Label",
        "row 12 column Image",
    ]
    assert "row 2 already" in faults[0]


def test_one_image_may_serve_two_clips(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    table = tmp_path / "t.csv"
    table.write_text("VID,FID,Image,Mask,Label\nv,0,a.png,,0\nw,0,a.png,,0\n")
    assert len(tables.read_clips(table)) == 2


def test_sizes_are_compared_within_a_clip_when_asked(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "c.png", "m.png", "bad.png")
    table = tmp_path / "t.csv"
    table.write_text(
        "VID,FID,Image,Mask,Label\nv,0,a.png,m.png,1\nv,1,b.png,,0\nw,0,b.png,,0\nw,1,bad.png,,0\n"
    )

    def size(path: Path) -> tuple[int, int]:
        if path.name == "bad.png":
            raise MediaError.at(path, "is damaged")
        return {"a.png": (4, 6), "b.png": (4, 5), "m.png": (6, 4)}[path.name]

    assert len(tables.read_clips(table)) == 4
    faults = faults_of(tables.read_clips, table, image_size=size)
    assert len(faults) == 3
    assert "row 2 column Mask" in faults[0]
    assert "4 x 6 pixels; expected 6 x 4" in faults[0]
    assert "lies on its side" in faults[0]
    assert "row 3 column Image" in faults[1]
    assert "bad.png: is damaged" in faults[2]
    faults = faults_of(tables.read_clips, table, image_size=size, mask_size=lambda path: (4, 6))
    assert len(faults) == 2


def test_a_table_of_clips_names_frames_of_stores(tmp_path: Path, monkeypatch) -> None:
    make(tmp_path, "set/v #1.dvclip", "here/w.dvclip", "set/a.png")
    monkeypatch.chdir(tmp_path / "here")
    table = tmp_path / "set" / "t.csv"
    table.write_text(
        "VID,FID,Image,Mask,Label\n"
        "v,0,v #1.dvclip#000012,v #1.dvclip#000012,1\n"
        "v,1, v #1.dvclip#7 ,,0\n"
        "v,2,a.png,v #1.dvclip#0,1\n"
        "w,0,w.dvclip#1234567,,0\n"
    )
    inside = tmp_path / "set"
    rows = tables.read_clips(table)
    assert [(row.image, row.mask) for row in rows] == [
        (inside / "v #1.dvclip#000012", inside / "v #1.dvclip#000012"),
        (inside / "v #1.dvclip#000007", None),
        (inside / "a.png", inside / "v #1.dvclip#000000"),
        (tmp_path / "here" / "w.dvclip#1234567", None),
    ]
    tables.write_clips(table, rows)
    assert ",v #1.dvclip#000012,v #1.dvclip#000012,1\n" in table.read_text()
    assert tables.read_clips(table) == rows


def test_bad_frames_of_stores(tmp_path: Path) -> None:
    make(tmp_path, "v.dvclip")
    table = tmp_path / "t.csv"
    names = ["v.dvclip#x", "v.dvclip#-1", "v.dvclip#", "v.dvclip", "v.dvclip#12345678901"]
    names += ["gone.dvclip#1", "gone.dvclip#2", "v.dvclip#3", "v.dvclip#0003"]
    rows = (f"v,{fid},{name},,0\n" for fid, name in enumerate(names))
    table.write_text("VID,FID,Image,Mask,Label\n" + "".join(rows))
    faults = faults_of(tables.read_clips, table)
    assert all("names no frame; expected" in fault for fault in faults[:5])
    assert "row 7 column Image: no such file: gone.dvclip in" in faults[5]
    assert "row 10 column Image" in faults[6]
    assert "row 9 already" in faults[6]
    assert len(faults) == 7


def test_other_tables_take_no_frames_of_stores(tmp_path: Path) -> None:
    make(tmp_path, "v.dvclip")
    table = tmp_path / "t.csv"
    table.write_text("Image\nv.dvclip#000001\n")
    assert "is a frame of a clip store" in faults_of(tables.read_images, table)[0]


def test_names_of_frames() -> None:
    assert tables.frame_stem(Path("a/b_7.png")) == "b_7"
    assert tables.frame_stem(Path("a/VID_00003.dvclip#000012")) == "VID_00003_000012"


@pytest.mark.parametrize("header", ["Image,Mask", "Image,Mask,OutDir", "Mask,Note,Image"])
def test_stills_need_no_output_folder(tmp_path: Path, header: str) -> None:
    image, mask = make(tmp_path, "a.png", "m.png")
    table = tmp_path / "t.csv"
    cells = {"Image": "a.png", "Mask": "m.png"}
    row = ",".join(cells.get(name, "") for name in header.split(","))
    table.write_text(f"{header}\n{row}\n")
    assert tables.read_stills(table) == [StillRow(image, mask)]
    table.write_text(f"{header}\n{row}\n{row}\n")
    assert "twice" in faults_of(tables.read_stills, table)[0]


def test_a_table_without_rows_is_sound_only_where_said(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    tables.write_images(table, [])
    assert tables.read_images(table, allow_empty=True) == []
    assert "has no rows" in faults_of(tables.read_images, table)[0]
    table.write_text("")
    assert "is empty" in faults_of(tables.read_images, table, allow_empty=True)[0]


@pytest.mark.parametrize("interval", ["0", "-2", "1.5", "", "ten", "1_0", "٣"])
def test_bad_interval(tmp_path: Path, interval: str) -> None:
    make(tmp_path, "a.mp4")
    table = tmp_path / "t.csv"
    table.write_text(f"Video,FramesDir,Interval\na.mp4,out,{interval}\n")
    (fault,) = faults_of(tables.read_videos, table)
    assert "row 2 column Interval" in fault
    assert "at least 1" in fault


def test_output_folder_that_is_a_file(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "out")
    table = tmp_path / "t.csv"
    table.write_text("Video,FramesDir,Interval\na.mp4,out,1\n")
    assert "is a file" in faults_of(tables.read_videos, table)[0]


def test_many_faults_are_counted(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("Image\n" + "".join(f"{n}.png\n" for n in range(200)))
    faults = faults_of(tables.read_images, table)
    assert len(faults) == 51
    assert "150 more" in faults[-1]


def test_a_name_that_is_no_unicode_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="Unicode"):
        tables.write_images(tmp_path / "t.csv", [ImageRow(Path(os.fsdecode(b"\xff.png")))])
    assert not (tmp_path / "t.csv").exists()


names = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=30
).filter(lambda text: text.strip() and text not in {".", ".."} and len(text.encode()) < 200)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(names, min_size=1, max_size=5, unique=True))
def test_any_file_name_survives(tmp_path: Path, stems: list[str]) -> None:
    rows = [ImageRow(path) for path in make(tmp_path / "folder", *stems)]
    table = tmp_path / "any.csv"
    tables.write_images(table, rows)
    assert tables.read_images(table) == rows


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_words(tmp_path: Path, data: bytes) -> None:
    table = tmp_path / "any.csv"
    for start in (b"", b"VID,FID,Image,Mask,Label\n"):
        table.write_bytes(start + data)
        with pytest.raises(TableError):
            tables.read_clips(table)


def test_counts_come_back_as_written_and_older_tables_lack_columns(tmp_path: Path) -> None:
    rows = [
        tables.CountRow("a, b ", 0, None, 0.25, 3, "a, b _000000", count_smooth=2.5),
        tables.CountRow("a, b ", 1, 0.04, 0.5, 1.5, "a, b _000001", ground_area=0.5, density=5.0),
    ]
    path = tmp_path / "counts.csv"
    tables.write_rows(path, tables.COUNT_COLUMNS, map(astuple, rows))
    assert path.read_text().split("\n")[0] == ",".join(tables.COUNT_COLUMNS)
    assert path.read_text().split("\n")[1].startswith('"a, b ",0,,0.25,3,')
    assert tables.read_counts(path) == rows
    path.write_text("clip,frame,count,count_sd\na,0,5,nan\n")
    (row,) = tables.read_counts(path, ("clip", "frame", "count"))
    assert row == tables.CountRow("a", -1, frame="0", count=5)


def test_faults_of_a_table_of_counts(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_text("clip,frame_index,coverage,count\na,,0.1,many\n")
    assert [text.split("column ")[1] for text in faults_of(tables.read_counts, path)] == [
        "frame_index: empty; expected a number",
        "count: 'many'; expected a number",
    ]


def test_a_cell_of_any_length_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    outline = "1 2 " * 60_000
    table = tmp_path / "t.csv"
    table.write_text(f'Outline,Image\n"{outline}",a.png\n')
    assert tables.read_images(table) == [ImageRow(tmp_path / "a.png")]
    table.write_text(f'Outline,Image\n"{outline}",{"b" * 200_000}\n')
    with pytest.raises(TableError) as caught:
        tables.read_images(table)
    assert len(str(caught.value)) < 1000
    assert csv.field_size_limit() == 131_072


def test_output_folder_with_a_zero_byte(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4")
    table = tmp_path / "t.csv"
    table.write_text("Video,FramesDir,Interval\na.mp4,o\0ut,1\n")
    (fault,) = faults_of(tables.read_videos, table)
    assert "row 2 column FramesDir" in fault
    assert "zero byte" in fault


def test_a_table_that_several_runs_add_to_has_no_columns_of_others(tmp_path: Path) -> None:
    path = tmp_path / "pseudo_stills.csv"
    assert tables.rows_beside(path, ("Image", "Mask"), lambda _: True) == []
    path.write_text("Mask,Image\nm.png,a.png\n")
    assert tables.rows_beside(path, ("Image", "Mask"), lambda _: True) == [["a.png", "m.png"]]
    for header, told in (("Image", "misses the column Mask"), ("Image,Mask,Who", "column Who")):
        path.write_text(f"{header}\na.png\n")
        with pytest.raises(TableError, match=f"{told}.*; move the table, or choose another place"):
            tables.rows_beside(path, ("Image", "Mask"), lambda _: True)


def test_rows_are_written_as_they_come_or_not_at_all(tmp_path: Path) -> None:
    """A table of millions of rows lies in memory at no time; half a one is never there."""
    alive: list[weakref.ref[_Cell]] = []

    def rows(count: int, last: str) -> Iterator[list[object]]:
        for number in range(count):
            cell = _Cell(number)
            alive.append(weakref.ref(cell))
            assert sum(one() is not None for one in alive) < 4
            yield [cell, f"a{number}"]
        yield [last, "\udc80" if last == "odd" else "a\rb"]

    table = tmp_path / "t.csv"
    tables.write_rows(table, ("x", "y"), rows(20, "end"))
    written = table.read_bytes()
    assert written.startswith(b"x,y\n0,a0\n1,a1\n")
    assert written.endswith(b'19,a19\n"end","a\rb"\n')
    with pytest.raises(TableError, match="a file name in it is not valid Unicode"):
        tables.write_rows(table, ("x", "y"), rows(20, "odd"))
    assert table.read_bytes() == written
    assert [one.name for one in tmp_path.iterdir()] == ["t.csv"]


class _Cell:
    def __init__(self, number: int) -> None:
        self.number = number

    def __str__(self) -> str:
        return str(self.number)
