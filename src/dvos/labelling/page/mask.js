// The mask of the frame in view: an id for each pixel, and its look in tiles.

export const UNKNOWN = 65535;
const TILE = 512;

// Hues far apart for ids that follow each other, each at three depths.
function paletteOf(alpha) {
  const table = new Uint32Array(UNKNOWN + 1);
  for (let id = 1; id < UNKNOWN; id++) {
    const hue = (id * 137.508) % 360;
    const light = 0.52 + 0.09 * ((id % 3) - 1);
    table[id] = rgba(...rgbOf(hue, 0.78, light), alpha);
  }
  return table;
}

function rgbOf(hue, saturation, light) {
  const a = saturation * Math.min(light, 1 - light);
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (light - a * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [part(0), part(8), part(4)];
}

function rgba(r, g, b, a) {
  return ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

export function colourOf(id) {
  return `hsl(${(id * 137.508) % 360} 78% 52%)`;
}

const EDGES = paletteOf(255);
const WHITE = rgba(255, 255, 255, 255);
const GREY = rgba(128, 128, 128, 150);
const LIGHT_GREY = rgba(210, 210, 210, 90);

export class Mask {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.ids = new Uint16Array(width * height);
    this.selected = new Set();
    this.other = null; // ids of a prediction, drawn as outlines
    this.setOpacity(0.4);
  }

  setOpacity(share) {
    this.fill = paletteOf(Math.round(255 * share));
    this.opacity = share;
    this.strong = Math.round(255 * Math.min(0.85, share + 0.25)) << 24;
  }

  static filled(ids, runs) {
    let at = 0;
    for (let n = 0; n < runs.length; n += 2) {
      if (runs[n]) ids.fill(runs[n], at, at + runs[n + 1]);
      at += runs[n + 1];
    }
  }

  idAt(x, y) {
    return x >= 0 && y >= 0 && x < this.width && y < this.height ? this.ids[y * this.width + x] : 0;
  }

  // Fill part of a row where its ids are among `only`; null is anywhere.
  paint(row, from, to, value, only) {
    const start = row * this.width;
    if (!only) {
      this.ids.fill(value, start + from, start + to);
      return;
    }
    for (let at = start + from; at < start + to; at++) {
      if (only.has(this.ids[at])) this.ids[at] = value;
    }
  }

  // A box as the server has it: runs of (id, length), row by row.
  put([top, left, bottom, right], runs) {
    let row = top;
    let column = left;
    for (let n = 0; n < runs.length; n += 2) {
      let rest = runs[n + 1];
      while (rest > 0) {
        const step = Math.min(rest, right - column);
        this.ids.fill(runs[n], row * this.width + column, row * this.width + column + step);
        rest -= step;
        column += step;
        if (column === right) {
          column = left;
          row += 1;
        }
      }
    }
    return row === bottom;
  }

  // Draw a tile of a level, each of whose pixels is every 2^level-th of the mask; or only what of it
  // lies in `part`, a box (top, left, bottom, right) of the mask.
  render(canvas, level, tileRow, tileColumn, part) {
    const step = 2 ** level;
    const left = tileColumn * TILE * step;
    const top = tileRow * TILE * step;
    const columns = Math.min(TILE, Math.ceil((this.width - left) / step));
    const rows = Math.min(TILE, Math.ceil((this.height - top) / step));
    let [y0, x0, y1, x1] = [0, 0, rows, columns];
    if (part) {
      // Outlines reach into the neighbours.
      [y0, x0] = [(part[0] - top) / step - 2, (part[1] - left) / step - 2].map((v) => Math.max(0, Math.floor(v)));
      y1 = Math.min(rows, Math.ceil((part[2] - top) / step) + 2);
      x1 = Math.min(columns, Math.ceil((part[3] - left) / step) + 2);
    } else {
      canvas.width = columns;
      canvas.height = rows;
    }
    if (x0 >= x1 || y0 >= y1) return;
    const context = canvas.getContext("2d");
    const image = context.createImageData(x1 - x0, y1 - y0);
    const pixels = new Uint32Array(image.data.buffer);
    const half = step >> 1;
    for (let y = y0; y < y1; y++) {
      const row = Math.min(this.height - 1, top + y * step + half);
      this.#renderRow(pixels, (y - y0) * (x1 - x0), x1 - x0, row, left + half + x0 * step, step);
    }
    context.putImageData(image, x0, y0);
  }

  #renderRow(pixels, start, columns, row, left, step) {
    const { ids, other, width, height, fill, selected } = this;
    const at = row * width;
    const above = Math.max(0, row - step) * width;
    const below = Math.min(height - 1, row + step) * width;
    for (let x = 0; x < columns; x++) {
      const column = Math.min(width - 1, left + x * step);
      const before = Math.max(0, column - step);
      const after = Math.min(width - 1, column + step);
      const id = ids[at + column];
      let colour = 0;
      if (id === UNKNOWN) {
        colour = ((row + column) / step) & 4 ? GREY : LIGHT_GREY;
      } else if (id) {
        const isEdge = ids[at + before] !== id || ids[at + after] !== id
          || ids[above + column] !== id || ids[below + column] !== id;
        if (isEdge) colour = selected.has(id) ? WHITE : EDGES[id];
        else colour = selected.has(id) ? ((fill[id] & 0xffffff) | this.strong) >>> 0 : fill[id];
      }
      if (other) {
        const given = other[at + column];
        if (given && (other[at + before] !== given || other[at + after] !== given
          || other[above + column] !== given || other[below + column] !== given)) {
          colour = (row + column) & 2 ? WHITE : 0xff202020;
        }
      }
      pixels[start + x] = colour;
    }
  }
}
