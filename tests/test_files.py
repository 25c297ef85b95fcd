"""Atomic output: the old file, the new one or none, never half of one."""

from __future__ import annotations

import errno
import json
import os
import pickle
import stat
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dvos.errors import (
    CheckpointError,
    DvosError,
    Fault,
    FaultCollector,
    MediaError,
    OutputError,
    TableError,
)
from dvos.files import (
    TEMPORARY_PREFIX,
    absolute,
    append_text,
    atomic_path,
    check_file_name,
    check_given,
    composed,
    digest,
    file_digest,
    find_path,
    is_plain_name,
    locked,
    make_folder,
    parse_json,
    real_path,
    remove_leftovers,
    write_json,
    write_text,
)


def test_a_file_appears_whole_with_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.txt"
    write_text(path, "grün")
    assert path.read_text(encoding="utf-8") == "grün"
    (tmp_path / "plain").write_text("x")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        assert temporary.suffix == ".png"
        assert temporary.name.startswith(TEMPORARY_PREFIX)
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_an_unwritable_place_is_one_clear_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for call in (
        lambda: make_folder(tmp_path / "file" / "deeper"),
        lambda: write_json(tmp_path / "file" / "x.json", {}),
    ):
        with pytest.raises(OutputError) as caught:
            call()
        (fault,) = caught.value.faults
        assert "cannot be written" in str(fault)
        assert "--out" in str(fault)


def test_a_full_disk_is_told_as_such() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OutputError, match="No space left"), atomic_path(Path("/tmp/dvos-full")):
        with open("/dev/full", "w") as stream:
            stream.write("x")
            stream.flush()
            os.fsync(stream.fileno())
    assert not Path("/tmp/dvos-full").exists()


KILLED = """
import os, sys
from pathlib import Path
from dvos.files import atomic_path, temporary_folder
out = Path(sys.argv[1])
with temporary_folder(out) as folder, atomic_path(out / "film.mp4") as temporary:
    (folder / "part").write_text("half")
    temporary.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_run_was_writing_goes_and_what_a_living_one_writes_stays(
    tmp_path: Path,
) -> None:
    living = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert living.stdout is not None
    assert living.stdout.readline() == b"writing\n"
    (tmp_path / ".writing-ab12cd34.png").touch()  # as an earlier version named them
    (tmp_path / ".writing-00000000-ab12cd34.png").touch()  # of another machine
    (tmp_path / ".writing-00000000-ef56ab78.png").touch()
    os.utime(tmp_path / ".writing-00000000-ef56ab78.png", (0, 0))  # long given up
    (tmp_path / ".writing-link").symlink_to(tmp_path / "a.txt")
    remove_leftovers(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 4
    assert left[0] == ".writing-00000000-ab12cd34.png"
    living.kill()
    living.wait()
    write_text(tmp_path / "a.txt", "x")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".writing-00000000-ab12cd34.png", ".writing-link", "a.txt"]
    living.stdin.close()
    living.stdout.close()


def test_what_was_being_made_at_the_kill_goes_unless_it_is_being_made_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atomic_path(tmp_path / "a.png") as temporary:
        stem = temporary.stem[:-12]
    for number in range(3):
        (tmp_path / f"{stem}{number:012d}.png").touch()
    (tmp_path / f"{stem}folder").mkdir()
    held: list[AbstractContextManager[None]] = []

    def sleep(seconds: float) -> None:
        if not held:
            held.append(locked(tmp_path / f"{stem}{1:012d}.png"))
            held[0].__enter__()

    monkeypatch.setattr("dvos.files.time.sleep", sleep)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png", f"{stem}{1:012d}.png"]
    held[0].__exit__(None, None, None)


@pytest.mark.parametrize("function", ["write", "fsync"])
def test_half_a_line_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    write, path = os.write, tmp_path / "a.jsonl"
    append_text(path, "first\n", sync=True)

    def full(handle: int, data: bytes = b"") -> int:
        if data[:1] == b"s":
            return write(handle, data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"dvos.files.os.{function}", full)
        with pytest.raises(OutputError, match="No space left"):
            append_text(path, "second\n", sync=True)
    append_text(path, "third\n", sync=True)
    assert path.read_text() == "first\nthird\n"


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("appended", "written"):
        (tmp_path / name).symlink_to(victim)
    with pytest.raises(OutputError, match="appended"):
        append_text(tmp_path / "appended", "x\n")
    write_text(tmp_path / "written", "x")
    assert victim.read_text() == "mine"
    assert (tmp_path / "written").read_text() == "x"


def test_names_that_are_no_utf_8_are_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"gr\xf6sse")
    write_json(tmp_path / "a.json", {"name": name})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"name": name}
    write_text(tmp_path / "a.txt", name)
    append_text(tmp_path / "a.txt", name)
    assert (tmp_path / "a.txt").read_bytes() == b"gr\xf6ssegr\xf6sse"
    assert len(digest(name)) == 32
    with pytest.raises(MediaError, match="not valid Unicode"):
        check_file_name(tmp_path / name)
    check_file_name(tmp_path / name, "größe")


def test_digests_follow_content(tmp_path: Path) -> None:
    assert digest({"a": 1, "b": Path("x")}) == digest({"b": "x", "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b")


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "/a", "a\\b", ".writing-a", "a\0"])
def test_a_name_that_is_a_path_or_hidden_is_no_plain_one(name: str) -> None:
    assert not is_plain_name(name)


@pytest.mark.parametrize("name", ["a", "a.b", "Größe 1", "a..b", "-", "VID_00000"])
def test_other_names_are_plain(name: str) -> None:
    assert is_plain_name(name)


def test_errors_keep_their_faults_across_processes() -> None:
    error = TableError([Fault("a.csv row 2", "found", "expected", "do this"), Fault("", "plain")])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is TableError
    assert again.faults == error.faults
    assert str(again.faults[0]) == "a.csv row 2: found; expected expected; do this"


def test_a_fault_is_one_line() -> None:
    assert str(Fault("x", "two\nlines\t here")) == "x: two lines here"


def test_the_collector_raises_all_and_counts_beyond_its_limit() -> None:
    with pytest.raises(DvosError) as caught, FaultCollector(DvosError) as faults:
        for row in range(53):
            faults.add(f"row {row}", "bad")
    told = [f"row {row}: bad" for row in range(50)]
    assert [str(f) for f in caught.value.faults] == [*told, "and 3 more faults of this kind"]
    with FaultCollector(DvosError) as none:
        assert not none


def fail(error: Exception) -> int:
    raise error


def test_faults_of_several_steps_are_raised_together() -> None:
    with pytest.raises(TableError) as caught, FaultCollector() as faults:
        assert faults.collect(fail, TableError.at("a.csv", "is empty")) is None
        assert faults.collect(fail, OutputError.at("b", "is full")) is None
        assert faults.collect(max, 1, 2) == 2
    assert [fault.where for fault in caught.value.faults] == ["a.csv", "b"]
    with FaultCollector() as faults:
        assert faults.collect(sorted, [2, 1], reverse=True) == [2, 1]


def test_what_was_not_foreseen_is_not_collected() -> None:
    with pytest.raises(ZeroDivisionError), FaultCollector() as faults:
        faults.collect(fail, ZeroDivisionError())


COMPOSED, DECOMPOSED = "Gr\u00f6\u00dfe \u00e9", "Gro\u0308\u00dfe e\u0301"


def test_a_name_is_found_however_its_accents_are_written(tmp_path: Path) -> None:
    assert composed(DECOMPOSED) == COMPOSED == composed(COMPOSED)
    file = tmp_path / DECOMPOSED / f"{COMPOSED}.png"
    write_text(file, "x")
    for folder in (COMPOSED, DECOMPOSED):
        for stem in (COMPOSED, DECOMPOSED):
            assert find_path(tmp_path, f"{folder}/{stem}.png", os.path.isfile) == file
            assert find_path("", str(tmp_path / folder / f"{stem}.png")) == file
    assert find_path(tmp_path, COMPOSED, os.path.isfile) is None
    found = find_path(tmp_path, f"{COMPOSED}/../{COMPOSED}")
    assert found is not None
    assert found.resolve() == (tmp_path / DECOMPOSED).resolve()
    assert find_path(tmp_path, f"{COMPOSED}/other.png") is None
    assert find_path(tmp_path, f"{COMPOSED}\0") is None


def test_what_is_written_as_asked_for_comes_first(tmp_path: Path) -> None:
    for name in (COMPOSED, DECOMPOSED):
        write_text(tmp_path / name, name)
        assert find_path(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("text", ["[" * 3000, "{", b"\xff", f"{'9' * 5000}", "", "nope"])
def test_json_that_is_none_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_links_in_a_circle_have_a_path(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to("d")
    assert real_path(tmp_path / "a").parent == tmp_path.resolve()
    assert real_path(tmp_path / "c") == tmp_path.resolve() / "d"


def test_an_absolute_path_is_that_of_the_system(tmp_path: Path) -> None:
    for name in ("/a/b.png", "/a/../b", "/a/./b", "/a//b", "/a/.b", "/a/", "/", "", "a/b", "//a"):
        assert absolute(name) == os.path.abspath(name)  # noqa: PTH100


def test_a_message_steers_no_terminal() -> None:
    assert str(Fault("a\x1b[2Jb", "c\x00\x9bd\ne")) == "a\\x1b[2Jb: c\\x00\\x9bd e"


def test_a_folder_given_as_a_network_is_called_one_and_what_it_holds_is_offered(
    tmp_path: Path,
) -> None:
    for name in ("plain/a.png", "run/best.safetensors", "fit/train/best.safetensors"):
        write_text(tmp_path / name, "")
    given = [("--start", tmp_path / name) for name in ("plain", "run", "fit", "gone")]
    with pytest.raises(CheckpointError) as caught:
        check_given([], given)
    found = [(fault.found, fault.remedy) for fault in caught.value.faults]
    assert found == [
        ("is a folder", "check --start"),
        ("is a folder", f"did you mean {tmp_path / 'run/best.safetensors'}?"),
        ("is a folder", f"did you mean {tmp_path / 'fit/train/best.safetensors'}?"),
        ("no such file", "check --start"),
    ]
