"""The same clips on a cluster: a scheduler and two workers on loopback, one of them killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from small_field import contents, settings_of

from dvos.errors import UsageError
from dvos.synthesis.write import synthesize

CLIPS = {"clips": 12, "frames": 12, "layout": "store"}


def kill_on_the_way(pid: int, out: Path, done: list[int]) -> None:
    while len(list(out.glob("*.dvclip"))) < 3:
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    done.append(len(list(out.glob("*.dvclip"))))


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    synthesize(settings_of(tmp_path, tmp_path / "here", **CLIPS))
    out = tmp_path / "there"
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        worker_dashboard_address=None,
    ) as cluster:
        with Client(cluster) as client:
            pids = list(client.run(os.getpid).values())
        assert len(set(pids)) == 2
        done: list[int] = []
        killer = threading.Thread(target=kill_on_the_way, args=(pids[0], out, done), daemon=True)
        killer.start()
        scheduler = cluster.scheduler_address
        result = synthesize(settings_of(tmp_path, out, scheduler=scheduler, **CLIPS))
        killer.join(timeout=1)
    assert len(done) == 1
    assert 3 <= done[0] < 12
    assert result.clips == 12
    assert contents(out) == contents(tmp_path / "here")


def test_without_the_extra_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'dvos\[cluster\]'") as caught:
        synthesize(settings_of(tmp_path, tmp_path / "out", scheduler="tcp://127.0.0.1:1"))
    assert len(caught.value.faults) == 1
