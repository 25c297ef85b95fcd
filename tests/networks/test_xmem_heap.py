"""What stays is mapped by itself, what comes and goes is not."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys

import pytest

from dvos.networks.xmem.heap import apart_from_the_heap

# A process of its own: what the C library is told holds until the process ends.
_PROGRAM = """
import ctypes, json
from dvos.networks.xmem.heap import apart_from_the_heap

class Info(ctypes.Structure):  # mallinfo2(3)
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

library = ctypes.CDLL(None)
library.mallinfo2.restype = Info
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]

def mapped(mebibytes):
    before = library.mallinfo2().hblks
    assert library.malloc(mebibytes << 20)
    return library.mallinfo2().hblks - before

with apart_from_the_heap():
    during = [mapped(2), mapped(20)]
print(json.dumps([during, [mapped(2), mapped(20)]]))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="the C library is not glibc 2.33 or newer, which alone tells of its blocks",
)
def test_large_blocks_are_mapped_by_themselves_only_for_what_stays() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [[1, 1], [0, 1]]


def test_elsewhere_nothing_is_asked_of_the_c_library(monkeypatch) -> None:
    monkeypatch.setattr("dvos.networks.xmem.heap.sys.platform", "darwin")
    monkeypatch.setattr("dvos.networks.xmem.heap.ctypes.CDLL", lambda _: pytest.fail("asked"))
    with apart_from_the_heap():
        pass
