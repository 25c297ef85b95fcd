"""Drawing sprites, one over another.

The kernel writes the *number of the sprite* that owns each pixel. Whether that is an object or a
distractor is looked up afterwards: image and label cannot depend on each other.
"""

import numpy as np

from dvos.compiling import jit
from dvos.synthesis import Floats, Ints, Ints32, Singles, Words
from dvos.synthesis.kernels.packed import (
    LANES,
    ONE,
    Exposure,
    Textures,
    blend,
    exposure,
    mix,
    pack,
    span,
    spread,
    within,
)
from dvos.synthesis.scene import Poses

_0, _1, _8, _48, _127 = map(np.uint64, (0, 1, 8, 48, 127))
_HALVES = np.uint64(0x0080008000800080)


@jit
def _draw_shadow(
    canvas: Words,
    window: tuple[int, int],
    number: int,
    textures: Textures,
    poses: Poses,
    frame: int,
    strength: int,
) -> None:
    """Darken the canvas under one sprite.

    A shadow is smooth: it is looked up every 8 px of the frame, and runs straight between them.
    """
    top, left = window
    box, inverse = poses.shadow_box[frame, number], poses.shadow_inverse[frame, number]
    shadows, (base, height, width) = textures.shadows, textures.shadow_place[number]
    x0 = max(box[2], left)
    x1 = min(box[3], left + canvas.shape[1])
    step_r = int(np.floor(inverse[0, 1] * ONE))
    step_c = int(np.floor(inverse[1, 1] * ONE))
    pixels = canvas.reshape(-1)
    for y in range(max(box[0], top), min(box[1], top + canvas.shape[0])):
        start_r = inverse[0, 0] * y + inverse[0, 2]
        start_c = inverse[1, 0] * y + inverse[1, 2]
        # A block reaches 8 px: the span is that much wider on each side.
        a, b = span(inverse[0, 1], start_r, 0.0, height - 1.0, box[2], box[3])
        a, b = span(inverse[1, 1], start_c, 0.0, width - 1.0, a, b)
        a, b = max(a - 8, x0), min(b + 8, x1)
        if a >= b:
            continue
        base_r = int(np.floor(start_r * ONE))
        base_c = int(np.floor(start_c * ONE))
        line = (y - top) * canvas.shape[1] - left
        before = np.int64(0)
        for corner in range((a >> 3) << 3, b + 8, 8):
            row = base_r + corner * step_r
            column = base_c + corner * step_c
            depth = np.int64(0)
            if within(height, width, row, column):
                wr = (row >> 12) & 255
                wc = (column >> 12) & 255
                t = np.uint64(base + (row >> 20) * width + (column >> 20))
                u = t + np.uint64(width)
                above = np.int64(shadows[t]) * (256 - wc) + np.int64(shadows[t + _1]) * wc
                below = np.int64(shadows[u]) * (256 - wc) + np.int64(shadows[u + _1]) * wc
                depth = (((above * (256 - wr) + below * wr) >> 16) * strength) << 1
            if depth | before:
                slope = (depth - before) >> 3
                for x in range(max(a, corner - 8), min(b, corner)):
                    keep = 256 - ((before + (x + 8 - corner) * slope) >> 9)
                    place = np.uint64(line + x)
                    under = spread(pixels[place]) * np.uint64(keep)
                    pixels[place] = pack(((under + _HALVES) >> _8) & LANES)
            before = depth


@jit
def _curved_row(
    pixels: Words,
    owners: Ints32,
    line: int,  # where column 0 of the frame would lie in ``pixels``
    y: int,
    columns: tuple[int, int, int, int],  # first and end to draw, first and end to count
    number: int,
    texels: Words,
    texture: tuple[int, int, int],
    inverse: Floats,
    grid: Singles,
    path: Exposure,
) -> int:
    """One row of any sprite: exact every 8 px of the frame, between them linear.

    All in one function: a call with arrays inside the loop would cost more than the pixel it draws.
    """
    a, b, first, last = columns
    base, height, width = texture
    samples, step_r, step_c, lead_r, lead_c, half, by = path
    wide = np.uint64(width)
    full = 0
    row, column = 0, 0
    for corner in range((a >> 3) << 3, b + 8, 8):
        pr = inverse[0, 0] * y + inverse[0, 1] * corner + inverse[0, 2]
        pc = inverse[1, 0] * y + inverse[1, 1] * corner + inverse[1, 2]
        # The displacement, bilinear on the 3 x 3 grid.
        gr = min(max(2 * pr / (height - 1), 0.0), 2.0)
        gc = min(max(2 * pc / (width - 1), 0.0), 2.0)
        i, j = min(int(gr), 1), min(int(gc), 1)
        gr, gc = gr - i, gc - j
        w00, w01, w10, w11 = (1 - gr) * (1 - gc), (1 - gr) * gc, gr * (1 - gc), gr * gc
        pr += w00 * grid[i, j, 0] + w01 * grid[i, j + 1, 0]
        pr += w10 * grid[i + 1, j, 0] + w11 * grid[i + 1, j + 1, 0]
        pc += w00 * grid[i, j, 1] + w01 * grid[i, j + 1, 1]
        pc += w10 * grid[i + 1, j, 1] + w11 * grid[i + 1, j + 1, 1]
        next_r, next_c = int(np.floor(pr * ONE)), int(np.floor(pc * ONE))
        dr, dc = (next_r - row) >> 3, (next_c - column) >> 3
        # Where all of the block lies inside, no sample needs a look.
        simple = samples == 1 and (
            within(height, width, row, column) and within(height, width, next_r, next_c)
        )
        for x in range(max(a, corner - 8), min(b, corner)):
            r = row + (x + 8 - corner) * dr - lead_r
            c = column + (x + 8 - corner) * dc - lead_c
            if simple:
                t = np.uint64(base + (r >> 20) * width + (c >> 20))
                u = t + wide
                over = mix(texels[t], texels[t + _1], texels[u], texels[u + _1], r, c)
            else:
                over = half
                for _ in range(samples):
                    if within(height, width, r, c):
                        t = np.uint64(base + (r >> 20) * width + (c >> 20))
                        u = t + wide
                        over += mix(texels[t], texels[t + _1], texels[u], texels[u + _1], r, c)
                    r += step_r
                    c += step_c
                over = (over >> by) & LANES
            alpha = over >> _48
            if alpha == _0:
                continue
            place = np.uint64(line + x)
            pixels[place] = blend(pixels[place], over, alpha)
            if alpha > _127:
                owners[place] = number
                full += first <= x < last
        row, column = next_r, next_c
    return full


@jit
def _draw_sprite(
    canvas: Words,
    owner: Ints32,
    corner: tuple[int, int],
    inner: Ints,
    number: int,
    textures: Textures,
    poses: Poses,
    frame: int,
) -> int:
    """Draw one sprite; gives its pixels of alpha above half inside ``inner``."""
    top, left = corner
    texels, (base, height, width) = textures.texels, textures.place[number]
    box, inverse = poses.box[frame, number], poses.inverse[frame, number]
    blur, reach = poses.blur[frame, number], poses.reach[frame, number]
    x0 = max(box[2], left)
    x1 = min(box[3], left + canvas.shape[1])
    path = exposure(blur)
    plain = reach == 0 and path[0] == 1
    step_r = int(np.floor(inverse[0, 1] * ONE))
    step_c = int(np.floor(inverse[1, 1] * ONE))
    # A plain row keeps clear of the outermost, transparent texels, however its places are rounded.
    room = -0.5 if plain else reach + 0.5 * max(abs(blur[0]), abs(blur[1]))
    pixels = canvas.reshape(-1)
    owners = owner.reshape(-1)
    full = 0
    for y in range(max(box[0], top), min(box[1], top + canvas.shape[0])):
        start_r = inverse[0, 0] * y + inverse[0, 2]
        start_c = inverse[1, 0] * y + inverse[1, 2]
        a, b = span(inverse[0, 1], start_r, -room, height - 1 + room, x0, x1)
        a, b = span(inverse[1, 1], start_c, -room, width - 1 + room, a, b)
        if a >= b:
            continue
        line = (y - top) * canvas.shape[1] - left
        first, last = inner[2] if inner[0] <= y < inner[1] else inner[3], inner[3]
        if not plain:
            full += _curved_row(
                pixels, owners, line, y, (a, b, first, last), number + 1,
                texels, (base, height, width), inverse, poses.grid[frame, number], path,
            )  # fmt: skip
            continue
        row, column = int(np.floor(start_r * ONE)), int(np.floor(start_c * ONE))
        for x in range(a, b):
            r = row + x * step_r
            c = column + x * step_c
            # Unsigned indices spare the check for indices from the end.
            t = np.uint64(base + (r >> 20) * width + (c >> 20))
            u = t + np.uint64(width)
            over = mix(texels[t], texels[t + _1], texels[u], texels[u + _1], r, c)
            alpha = over >> _48
            if alpha == _0:
                continue
            place = np.uint64(line + x)
            pixels[place] = blend(pixels[place], over, alpha)
            if alpha > _127:
                owners[place] = number + 1
                full += first <= x < last
    return full


@jit
def draw_sprites(
    canvas: Words,  # window (h, w) of RGBX words, drawn on
    owner: Ints32,  # (h, w): number + 1 of the top sprite of alpha above half
    full: Ints,  # (N,) gets each sprite's pixels before occlusion
    corner: tuple[int, int],  # row and column of the frame at which the window begins
    inner: Ints,  # y0, y1, x0, x1 in the frame: where ``full`` counts
    order: Ints,  # sprite numbers, the lowest first
    textures: Textures,
    poses: Poses,
    frame: int,  # which of the poses
    darkness: int,  # of shadows: 0 (none) to 256 (black)
) -> None:
    """Draw sprites on a window of a frame, in painter's order."""
    for number in order:
        if darkness > 0:
            _draw_shadow(canvas, corner, number, textures, poses, frame, darkness)
        full[number] = _draw_sprite(canvas, owner, corner, inner, number, textures, poses, frame)
