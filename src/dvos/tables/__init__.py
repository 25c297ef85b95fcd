"""The CSV tables that pass between the stages: columns, reading, checking, writing.

Every reader checks the whole table and raises one :class:`TableError` with a
fault for each thing wrong. Row numbers are those a spreadsheet shows: the
header is row 1.

Paths in a table may be absolute or relative. A relative path is looked for in
the CSV's own folder first and then, as the published tables expect, in the
current directory. Writers store a path relative to the CSV's folder when it
lies inside it, so that a folder with its tables can be moved as a whole.

A table of clips may name a frame of a clip store in place of an image or mask:
``VID_00000.dvclip#000012``, see :func:`frame_address`.
"""

from __future__ import annotations

from dvos.tables.cells import STORE_SUFFIX, frame_address, frame_stem, split_address
from dvos.tables.rows import (
    COUNT_COLUMNS,
    AnnotatedRow,
    BackgroundRow,
    ClipRow,
    CountRow,
    ImageRow,
    SizeReader,
    StillRow,
    VideoRow,
    read_annotated,
    read_backgrounds,
    read_clips,
    read_counts,
    read_images,
    read_stills,
    read_videos,
    write_annotated,
    write_clips,
    write_counts,
    write_images,
    write_rows,
    write_videos,
)

__all__ = [
    "COUNT_COLUMNS",
    "STORE_SUFFIX",
    "AnnotatedRow",
    "BackgroundRow",
    "ClipRow",
    "CountRow",
    "ImageRow",
    "SizeReader",
    "StillRow",
    "VideoRow",
    "frame_address",
    "frame_stem",
    "read_annotated",
    "read_backgrounds",
    "read_clips",
    "read_counts",
    "read_images",
    "read_stills",
    "read_videos",
    "split_address",
    "write_annotated",
    "write_clips",
    "write_counts",
    "write_images",
    "write_rows",
    "write_videos",
]
