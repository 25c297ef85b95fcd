"""The runner: order, resume, faults, kills, interruption, progress."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dvos.errors import DvosError, MediaError, OutputError, RunError, TableError
from dvos.media.limits import free_memory
from dvos.runner.display import progress
from dvos.runner.manifest import Task, read_record
from dvos.runner.processes import starting_processes
from dvos.runner.shards import taken
from dvos.runner.tasks import run_tasks, worker_count


def square(item: tuple[int, str]) -> dict[str, Any]:
    """Write the square, and note in a log that it was worked out."""
    number, folder = item
    path = Path(folder) / f"{number}.txt"
    path.write_text(str(number**2))
    with open(Path(folder) / "log", "a") as log:
        log.write(f"{number}\n")
    return {"square": number**2, "pair": (number, number), "files": [path]}


def fail_on_odd(item: tuple[int, str]) -> dict[str, Any]:
    number, _ = item
    if number % 2:
        error = TableError if number == 9 else MediaError
        raise error.at(f"{number}.png", "is odd")
    return square(item)


def fail_unforeseen(item: tuple[int, str]) -> dict[str, Any]:
    if item[0] == 1:
        raise ZeroDivisionError("one")
    time.sleep(0.01)
    return square(item)


def kill_own_process(item: tuple[int, str]) -> dict[str, Any]:
    if item[0] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(item)


def exhaust_memory(item: tuple[int, str]) -> dict[str, Any]:
    raise MemoryError


def thread_settings(item: int) -> dict[str, Any]:
    import cv2

    return {"omp": os.environ.get("OMP_NUM_THREADS"), "cv2": cv2.getNumThreads()}


def memory_share(item: int) -> dict[str, Any]:
    from dvos.media import limits

    return {"readers": limits._share.readers, "most": limits._share.most}


def warn(item: int) -> dict[str, Any]:
    log = logging.getLogger("dvos.media")
    log.warning("%d: one of many", item, extra={"once": "one of many"})
    log.warning("%d: is odd", item)
    if item == 2:
        raise MediaError.at("2", "fails")
    return {}


def tasks_for(folder: Path, numbers: range | list[int], version: int = 1) -> list[Task]:
    return [Task(f"n{n}", (n, str(folder)), f"v{version}") for n in numbers]


def run(function: Callable, folder: Path, tasks: list[Task], **options: Any) -> list[dict]:
    return run_tasks(
        function, tasks, manifest=folder / "manifest.jsonl", description="square", **options
    )


def worked_out(folder: Path) -> list[int]:
    log = folder / "log"
    return sorted(int(line) for line in log.read_text().split()) if log.exists() else []


@pytest.mark.parametrize("workers", [1, 2])
def test_results_in_task_order_and_nothing_twice(tmp_path: Path, workers: int) -> None:
    tasks = tasks_for(tmp_path, range(12))
    first = run(square, tmp_path, tasks, workers=workers)
    assert [result["square"] for result in first] == [n**2 for n in range(12)]
    assert first[3] == {"square": 9, "pair": [3, 3], "files": [str(tmp_path / "3.txt")]}
    again = run(square, tmp_path, list(reversed(tasks)), workers=workers)
    assert again == list(reversed(first))
    assert worked_out(tmp_path) == list(range(12))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_workers_log_is_said_once_and_as_any_other_warning(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    workers: int,
) -> None:
    tasks = [Task(f"{number}", number, "") for number in range(4)]
    with pytest.raises(MediaError, match="fails"):
        run(warn, tmp_path, tasks, workers=workers)
    many = [line for line in caplog.messages if line.endswith("one of many")]
    assert len(many) == (1 if workers > 1 else 4)
    assert sorted(set(caplog.messages) - set(many)) == [f"{n}: is odd" for n in range(4)]
    assert {record.name for record in caplog.records} == {"dvos.media"}
    assert "is odd" not in capfd.readouterr().err


def test_changed_missing_or_resized_outputs_are_made_again(tmp_path: Path) -> None:
    run(square, tmp_path, tasks_for(tmp_path, range(4)), workers=1)
    (tmp_path / "1.txt").unlink()
    (tmp_path / "2.txt").write_text("longer")
    tasks = [*tasks_for(tmp_path, range(3)), *tasks_for(tmp_path, [3], version=2)]
    run(square, tmp_path, tasks, workers=1)
    assert worked_out(tmp_path) == [0, 1, 1, 2, 2, 3, 3]
    assert (tmp_path / "2.txt").read_text() == "4"


def test_the_folder_may_be_moved(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    run(square, old, tasks_for(old, range(3)), workers=1)
    old.rename(new)
    tasks = [Task(f"n{n}", (n, "gone"), "v1") for n in range(3)]
    results = run(square, new, tasks, workers=1)
    assert results[2]["files"] == [str(new / "2.txt")]


@pytest.mark.parametrize("tail", [b'{"key": "n9", "finge', b"nonsense\n", b"[]\n", b'{"key": 1}\n'])
def test_a_torn_manifest_costs_only_its_torn_line(tmp_path: Path, tail: bytes) -> None:
    run(square, tmp_path, tasks_for(tmp_path, range(3)), workers=1)
    with open(tmp_path / "manifest.jsonl", "ab") as manifest:
        manifest.write(tail)
    for _ in range(2):
        run(square, tmp_path, tasks_for(tmp_path, range(5)), workers=1)
    assert worked_out(tmp_path) == list(range(5))


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": 1},
        {"fingerprint": None},
        {"result": []},
        {"result": "square"},
        {"files": {}},
        {"files": ["1.txt"]},
        {"files": [["1.txt"]]},
        {"files": [["1.txt", "1"]]},
        {"files": [[1, 1]]},
    ],
)
def test_an_entry_of_another_form_is_work_undone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: dict[str, Any]
) -> None:
    whole = run(square, tmp_path, tasks_for(tmp_path, range(3)), workers=1)
    manifest = tmp_path / "manifest.jsonl"
    lines = manifest.read_text().splitlines()
    entry = json.loads(lines[1]) | wrong
    del entry["crc"]
    text = json.dumps(entry)
    lines[1] = f'{text[:-1]}, "crc": {zlib.crc32(text.encode())}}}'
    manifest.write_text("\n".join(lines) + "\n")
    assert run(square, tmp_path, tasks_for(tmp_path, range(3)), workers=1) == whole
    assert worked_out(tmp_path) == [0, 1, 1, 2]
    assert "manifest.jsonl: 1 lines cannot be trusted" in caplog.text
    caplog.clear()
    assert run(square, tmp_path, tasks_for(tmp_path, range(3)), workers=1) == whole
    assert worked_out(tmp_path) == [0, 1, 1, 2]
    assert not caplog.text


def test_what_a_run_has_taken_its_stages_take_again_and_no_other_run(tmp_path: Path) -> None:
    told: list[str] = []

    def other() -> None:
        try:
            with taken(tmp_path):
                told.append("taken")
        except RunError as error:
            told.append(str(error))

    def beside() -> str:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return told[-1]

    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with taken(tmp_path):
        with taken(link), taken(tmp_path):
            assert beside().startswith(f"{tmp_path}: another run is at work here; wait for it")
        assert beside() != "taken"
    assert beside() == "taken"


def test_a_link_in_place_of_the_manifest_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine\n")
    (tmp_path / "manifest.jsonl").symlink_to(victim)
    run(square, tmp_path, tasks_for(tmp_path, range(2)), workers=1)
    run(square, tmp_path, tasks_for(tmp_path, range(2)), workers=1)
    assert victim.read_text() == "mine\n"
    assert worked_out(tmp_path) == [0, 1]


@dataclass
class Noted:
    count: int
    name: str


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b'{"count": 1}', b'{"count": "a", "name": "b"}', b"\xff", b"[" * 9999],
)
def test_a_record_of_another_form_is_none_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    path = tmp_path / "record.json"
    assert read_record(path, Noted) is None
    assert not caplog.text
    path.write_bytes(b'{"count": 1, "name": "b"}')
    assert read_record(path, Noted) == Noted(1, "b")
    path.write_bytes(data)
    assert read_record(path, Noted) is None
    assert "record.json: cannot be trusted" in caplog.text


def test_worker_processes_have_the_memory_together(tmp_path: Path) -> None:
    free = free_memory()
    tasks = [Task(f"n{n}", n, "") for n in range(2)]
    for share in run(memory_share, tmp_path, tasks, workers=2):
        assert share["readers"] == 2
        assert share["most"] == pytest.approx(free / 2, rel=0.5)
    (alone,) = run(memory_share, tmp_path, [Task("alone", 0, "")], workers=2)
    assert alone["readers"] == 1


@dataclass
class Square:
    square: int
    root: int


def test_a_result_of_another_release_is_work_undone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(square, tmp_path, tasks_for(tmp_path, range(2)), workers=1)
    tasks = [replace(task, result=Square) for task in tasks_for(tmp_path, [0])]
    run(square, tmp_path, tasks, workers=1)
    assert worked_out(tmp_path) == [0, 0, 1]
    assert "manifest.jsonl: results lack what this release needs" in caplog.text


@pytest.mark.parametrize("workers", [1, 2])
def test_foreseen_faults_are_raised_together_after_the_rest(tmp_path: Path, workers: int) -> None:
    with pytest.raises(MediaError) as caught:
        run(fail_on_odd, tmp_path, tasks_for(tmp_path, range(6)), workers=workers)
    assert sorted(str(fault) for fault in caught.value.faults) == [
        "1.png: is odd",
        "3.png: is odd",
        "5.png: is odd",
    ]
    assert worked_out(tmp_path) == [0, 2, 4]
    with pytest.raises(RunError) as mixed:
        run(fail_on_odd, tmp_path, tasks_for(tmp_path, [7, 8, 9]), workers=workers)
    assert type(mixed.value) is RunError
    assert len(mixed.value.faults) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unforeseen_exception_stops_at_once(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        run(fail_unforeseen, tmp_path, tasks_for(tmp_path, range(1000)), workers=workers)
    assert len(worked_out(tmp_path)) < 1000


@pytest.mark.parametrize("workers", [1, 2])
def test_memory_exhausted_names_the_remedy(tmp_path: Path, workers: int) -> None:
    with pytest.raises(RunError, match="fewer --workers"):
        run(exhaust_memory, tmp_path, tasks_for(tmp_path, range(3)), workers=workers)


def test_a_killed_worker_is_a_run_error_and_the_rest_goes_on_next_time(tmp_path: Path) -> None:
    tasks = tasks_for(tmp_path, range(6))
    with pytest.raises(RunError, match="run the same command again"):
        run(kill_own_process, tmp_path, tasks, workers=2)
    results = run(square, tmp_path, tasks, workers=1)
    assert [result["square"] for result in results] == [0, 1, 4, 9, 16, 25]


def test_workers_use_one_thread(tmp_path: Path) -> None:
    tasks = [Task(str(n), n, "") for n in range(2)]
    for result in run(thread_settings, tmp_path, tasks, workers=2):
        assert result["omp"] == "1"
        assert result["cv2"] == 1


class CountingExecutor(Executor):
    """A foreign executor with the bare interface; notes the most tasks in flight."""

    def __init__(self) -> None:
        self.inner = ThreadPoolExecutor(2)
        self.in_flight = self.most = 0
        self.closed = False

    def submit(self, function, /, *args, **kwargs) -> Future:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        future = self.inner.submit(function, *args, **kwargs)
        future.add_done_callback(self._finished)
        return future

    def _finished(self, future: Future) -> None:
        self.in_flight -= 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.closed = True


def test_a_given_executor_is_used_sparingly_and_left_open(tmp_path: Path) -> None:
    executor = CountingExecutor()
    results = run(square, tmp_path, tasks_for(tmp_path, range(60)), workers=2, executor=executor)
    assert [result["square"] for result in results] == [n**2 for n in range(60)]
    assert executor.most <= 8
    assert not executor.closed
    executor.inner.shutdown()


def test_double_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unique"):
        run(square, tmp_path, tasks_for(tmp_path, [1, 1]))


def test_no_tasks(tmp_path: Path) -> None:
    assert run(square, tmp_path, []) == []


def test_a_manifest_that_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "as folder").mkdir()
    for manifest in (tmp_path / "file" / "manifest.jsonl", tmp_path / "as folder"):
        with pytest.raises(OutputError):
            run_tasks(
                square, tasks_for(tmp_path, [1]), manifest=manifest, description="x", workers=1
            )


def test_worker_count() -> None:
    assert worker_count(3) == 3
    assert 1 <= worker_count(0) <= (os.cpu_count() or 1)


SCRIPT = """
import os, sys, time
from pathlib import Path
from dvos.files import atomic_path
from dvos.runner.manifest import Task
from dvos.runner.tasks import run_tasks

def work(item):
    number, folder, pause = item
    path = Path(folder) / f"{number}.txt"
    with atomic_path(path) as temporary:
        temporary.write_text(str(os.getpid()))
        time.sleep(pause)
        temporary.write_text(str(number))
    return {"number": number, "files": [str(path)]}

if __name__ == "__main__":
    folder, pause, workers = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    tasks = [Task(str(n), (n, folder, pause), "1") for n in range(8)]
    run_tasks(work, tasks, manifest=Path(folder) / "manifest.jsonl", description="work",
              workers=workers)
"""


def start(folder: Path, pause: float, workers: int) -> subprocess.Popen:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), str(folder), str(pause), str(workers)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests themselves run in the background, Ctrl-C is ignored and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def manifest_lines(folder: Path) -> list[dict]:
    path = folder / "manifest.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def members_of(leader: int) -> list[int]:
    members = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] not in "ZX":
            members.append(int(entry.parent.name))
    return members


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="looks for left-over processes in /proc"
)


@needs_proc
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_half_way_then_run_again(tmp_path: Path, workers: int) -> None:
    process = start(tmp_path, 0.4, workers)
    wait_until(lambda: len(manifest_lines(tmp_path)) >= 2)
    process.kill()
    process.communicate()
    # The workers follow their parent: none is left.
    wait_until(lambda: not members_of(process.pid), seconds=20)
    before = {line["key"] for line in manifest_lines(tmp_path)}
    assert 2 <= len(before) < 8
    stamps = {key: (tmp_path / f"{key}.txt").stat().st_mtime_ns for key in before}
    process = start(tmp_path, 0.0, workers)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert f"{len(before)} of them finished before" in errors
    for number in range(8):
        assert (tmp_path / f"{number}.txt").read_text() == str(number)
    for key, stamp in stamps.items():
        assert (tmp_path / f"{key}.txt").stat().st_mtime_ns == stamp


@needs_proc
@pytest.mark.parametrize("whole_group", [True, False])
def test_ctrl_c_ends_workers_and_leaves_no_temporary_files(
    tmp_path: Path, whole_group: bool
) -> None:
    process = start(tmp_path, 0.5, 2)
    wait_until(lambda: len(manifest_lines(tmp_path)) >= 2)
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert errors.count("Traceback") == 1, errors
    assert "KeyboardInterrupt" in errors
    wait_until(lambda: not members_of(process.pid), seconds=20)
    finished = [line["key"] for line in manifest_lines(tmp_path)]
    assert 2 <= len(finished) < 8
    assert not list(tmp_path.glob(".writing-*"))
    for key in finished:
        assert (tmp_path / f"{key}.txt").read_text() == key


def test_plain_progress_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress([1, 2, 3], description="read", unit="file")) == [1, 2, 3]
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0].startswith("read: 1/3 files")
    assert lines[-1].startswith("read: 3/3 files")
    assert len(lines) == 2


def test_progress_without_a_length_and_inside_another(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress([1], description="outer"):
        assert list(progress(iter("ab"), description="inner")) == ["a", "b"]
    assert "inner" not in capsys.readouterr().err
    assert list(progress(iter("ab"), description="alone")) == ["a", "b"]
    assert "alone: 2 items" in capsys.readouterr().err


def test_progress_bar_on_a_terminal(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress(range(5), description="read", unit="file")) == list(range(5))
    error = capsys.readouterr().err
    assert "5/5" in error
    assert "files/s" in error


def test_package_functions_run_from_a_script_without_guard(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from dvos.runner.manifest import Task
from dvos.runner.tasks import run_tasks
print(run_tasks(dict.fromkeys, [Task(k, [k], "") for k in "abc"], workers=2,
                manifest=Path({str(tmp_path / "manifest.jsonl")!r}), description="x"))
"""
    run = subprocess.run(
        [sys.executable, "-"], input=script, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("[{'a': None, 'files': []}")


def test_errors_survive_the_way_back_from_a_worker(tmp_path: Path) -> None:
    with pytest.raises(DvosError) as caught:
        run(fail_on_odd, tmp_path, tasks_for(tmp_path, [1, 2]), workers=2)
    assert caught.value.faults[0].where == "1.png"


@needs_proc
@pytest.mark.parametrize("pause", [0.0, 0.1, 0.3])
def test_ctrl_c_while_workers_start(tmp_path: Path, pause: float) -> None:
    process = start(tmp_path, 0.5, 2)
    wait_until(lambda: len(members_of(process.pid)) > 1)
    time.sleep(pause)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert errors.count("KeyboardInterrupt") == 1, errors
    wait_until(lambda: not members_of(process.pid), seconds=20)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_ctrl_c_waits_until_processes_are_started_whichever_thread_takes_it() -> None:
    """Else one that was started, and is not noted yet, would be left to itself."""
    ended, reached = threading.Event(), []
    other = threading.Thread(target=ended.wait)
    other.start()
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    before = signal.set_wakeup_fd(writes)
    try:
        with pytest.raises(KeyboardInterrupt), starting_processes():
            os.kill(os.getpid(), signal.SIGINT)
            os.read(reads, 1)  # the other thread has taken it
            reached.append(len(range(100)))
    finally:
        signal.set_wakeup_fd(before)
        ended.set()
        other.join()
        os.close(reads)
        os.close(writes)
    assert reached == [100]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
