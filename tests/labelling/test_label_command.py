"""``dvos label`` as a process: what ends it loses nothing."""

from __future__ import annotations

import errno
import json
import signal
import socket
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from dvos.errors import UsageError
from dvos.labelling.command import _listen, served_alone
from dvos.media.mask import read_mask


def test_a_second_server_of_a_folder_is_refused_until_the_first_is_gone(folder) -> None:
    """Each would save its own masks over those of the other. A kill leaves nothing locked."""
    command = [sys.executable, "-m", "dvos", "label", str(folder), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        address = [running.stdout.readline() for _ in range(2)][1].split()[1]
        second = subprocess.run(command, capture_output=True, text=True, timeout=120)
        running.kill()
    text = f"{folder}: another dvos label has it open at {address} on {socket.gethostname()}; "
    assert second.stderr == f"error: {text}open the page of that one, or end it with Ctrl-C\n"
    assert (second.returncode, second.stdout) == (2, "")
    with served_alone(folder):
        # Where it will listen is not known yet, and where another did is no longer told.
        with pytest.raises(UsageError, match="has it open; open the page of that one"):
            with served_alone(folder):
                pass
    with served_alone(folder):
        pass


def test_where_nothing_can_be_locked_a_folder_is_served(folder, monkeypatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    (folder / ".labelling").mkdir()
    monkeypatch.setattr("dvos.labelling.command.lock", fail)
    with served_alone(folder) as tell:
        tell("here")
    assert (folder / ".labelling" / "server").read_text() == "here"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX ends processes by signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_server_that_is_ended_has_saved_all(folder, name) -> None:
    words = ["label", str(folder), "--port", "0", "--no-browser"]
    # Whoever runs the tests may ignore the last, as nohup does, and so all that they start.
    heed = "import runpy, signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    heed += "runpy.run_module('dvos', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", heed, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        address, _, token = (
            [running.stdout.readline() for _ in range(2)][1].split()[1].partition("?token=")
        )
        region = {"box": [4, 4, 10, 20], "runs": [0, 96]}
        edit = {"kind": "paint", "region": region, "value": 3, "frame": "photo1", "base": 0}
        body = json.dumps(edit | {"token": "token-00000001"}).encode()
        place = f"{address}api/frames/0/edit"
        with urllib.request.urlopen(urllib.request.Request(place, body, {"x-token": token})):
            running.send_signal(getattr(signal, name))
        assert running.wait() == 0
    expected = np.zeros((48, 64), np.uint16)
    expected[4:10, 4:20] = 3
    assert np.array_equal(read_mask(folder / "annotated" / "masks" / "photo1.png"), expected)


def test_answers_do_not_wait_for_the_acknowledgement_of_their_heads() -> None:
    with _listen("127.0.0.1", 0) as listening:
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
