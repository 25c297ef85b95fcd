"""Locks here, and files as they are written on Windows, whose rules a stand-in enforces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dvos.locks import lock, open_file, open_to_lock


def test_a_lock_is_held_until_its_handle_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    first = open_file(path, os.O_RDWR | os.O_CREAT)
    second = open_to_lock(path)
    lock(first)
    with pytest.raises(BlockingIOError):
        lock(second)
    os.close(first)
    lock(second, wait=True)
    os.close(second)


def test_a_folder_is_locked_without_a_trace(tmp_path: Path) -> None:
    first, second = open_to_lock(tmp_path), open_to_lock(tmp_path)
    lock(first)
    with pytest.raises(BlockingIOError):
        lock(second)
    os.close(first)
    os.close(second)
    assert list(tmp_path.iterdir()) == []


def test_no_link_is_opened(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        open_file(tmp_path / "link", os.O_RDWR)


# What Windows has and lacks; its mandatory rules are kept by looking at /proc.
WINDOWS = """
import errno, fcntl, os, sys, types
import asyncio, ctypes, json, logging, pathlib, platform, shutil, subprocess, tempfile
import pydantic, numpy

def open_here(path):
    real = os.path.realpath(path)
    links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return any(os.path.realpath(link) == real for link in links)

def denied_while_open(function, places):
    def call(*args, **kwargs):
        for path in args[:places]:
            if open_here(path):
                raise PermissionError(errno.EACCES, "is open", str(path))
        return function(*args, **kwargs)
    return call

plain_open = os.open
def open_file(path, flags, *args, **kwargs):
    if os.path.isdir(path) and not flags & os.O_DIRECTORY:
        raise PermissionError(errno.EACCES, "is a folder", str(path))
    assert flags & O_BINARY, "text mode would change line ends"
    return plain_open(path, flags & ~O_BINARY, *args, **kwargs)

def locking(handle, mode, count):
    assert count == 1
    assert os.lseek(handle, 0, os.SEEK_CUR) > 2**30, "others could not write what is locked"
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (mode == 2 and fcntl.LOCK_NB))
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied")

O_BINARY = 1 << 40
tempfile.TemporaryFile = tempfile.NamedTemporaryFile
shutil._use_fd_functions = False
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, LK_LOCK=1, locking=locking)
sys.modules["fcntl"] = None
os.O_BINARY, os.O_NOINHERIT = O_BINARY, os.O_CLOEXEC
for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
    delattr(os, name)
sys.platform = "win32"

from dvos import files
from dvos.errors import OutputError

os.open = open_file
os.replace = denied_while_open(os.replace, 2)
os.unlink = denied_while_open(os.unlink, 1)
pathlib.Path.unlink = denied_while_open(pathlib.Path.unlink, 1)
out = pathlib.Path(sys.argv[1])
"""


def windows(code: str, folder: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("what is open can be told by /proc only")
    command = [sys.executable, "-c", WINDOWS + code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_files_are_written_as_windows_wants_it(tmp_path: Path) -> None:
    windows(
        """
files.write_text(out / "a.txt", "one\\n")
files.write_text(out / "a.txt", "two\\n")
files.append_text(out / "a.txt", "three\\n")
assert (out / "a.txt").read_bytes() == b"two\\nthree\\n"
with files.atomic_path(out / "b.bin") as path:
    path.write_bytes(b"x" * 100)
try:
    with files.atomic_path(out / "c.bin") as path:
        path.write_bytes(b"half")
        raise ZeroDivisionError
except ZeroDivisionError:
    pass
(out / "link").symlink_to(out / "a.txt")
try:
    files.append_text(out / "link", "through\\n")
    raise AssertionError("written through a link")
except OutputError:
    pass
(out / "link").unlink()
with files.temporary_folder(out) as folder:
    (folder / "x").write_text("x")
with files.exclusive(out):
    pass
found = sorted(p.name for p in out.iterdir())
assert found == [".progress", "a.txt", "b.bin"], found
assert not files.is_plain_name("C:drive")
""",
        tmp_path,
    )


def test_locks_of_windows_keep_others_out_and_leftovers_go(tmp_path: Path) -> None:
    windows(
        """
(out / "book").write_text("x")
(out / "run").mkdir()
for path in (out / "book", out / "run"):
    with files.locked(path):
        try:
            with files.locked(path):
                raise AssertionError("two at once")
        except BlockingIOError:
            pass
    with files.locked(path):
        pass
files.append_text(out / "book", "y")
with files.temporary_folder(out) as folder, files.atomic_path(out / "b.bin") as path:
    path.write_bytes(b"x")
    os.utime(path, (1, 1))
    old = out / (path.name[:-10] + "old.bin")
    old.write_bytes(b"x")
    os.utime(old, (1, 1))
    files.remove_leftovers(out)
    assert path.exists() and folder.exists() and not old.exists()
assert (out / "b.bin").read_bytes() == b"x"
""",
        tmp_path,
    )
