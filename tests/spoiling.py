"""What befalls files, for tests of their readers."""

from __future__ import annotations

import random
import struct


def spoil_bytes(rng: random.Random, data: bytes) -> bytes:
    """The bytes of a file cut short, with some left out, put in, overwritten or flipped."""
    spoilt = bytearray(data)
    # Half the time in the header.
    at = rng.randrange(min(len(data), 200) if rng.random() < 0.5 else len(data))
    kind = rng.randrange(6)
    if kind == 0:
        del spoilt[at:]
    elif kind == 1:
        del spoilt[at : at + rng.randint(1, 50)]
    elif kind == 2:
        spoilt[at:at] = rng.randbytes(rng.randint(1, 9))
    elif kind == 3:
        spoilt[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff"])
    elif kind == 4:
        spoilt[at : at + 8] = struct.pack("<Q", rng.choice([2**63, 2**31, 1, len(data) + 1]))
    else:
        for _ in range(rng.randint(1, 8)):
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)
