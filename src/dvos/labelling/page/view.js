// The canvas: picture and mask in tiles, zoomed and moved; only what is seen is fetched and kept.

import { getBitmap } from "./api.js";

const TILE = 512;
const MOST_TILES = 96;
const AT_ONCE = 6;
const WHOLE = [0, 0, Infinity, Infinity]; // what of a tile is to be drawn again

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.scale = 1; // pixels of the canvas for one of the picture
    this.x = 0; // of the picture's left upper corner on the canvas
    this.y = 0;
    this.mask = null;
    this.showMask = true;
    this.drawOver = () => {}; // what a tool shows
    this.pictures = new Map();
    this.looks = new Map();
    this.loading = 0;
    this.wanted = false;
    this.onproblem = () => {};
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  open(frame, mask) {
    for (const tile of this.pictures.values()) tile.bitmap?.close();
    this.frame = frame;
    this.mask = mask;
    this.pictures.clear();
    this.looks.clear();
    this.levels = 0;
    while (Math.max(mask.width, mask.height) / 2 ** this.levels > TILE) this.levels += 1;
    this.fit();
  }

  fit() {
    if (!this.mask) return;
    const { width, height } = this.canvas;
    this.scale = Math.min(width / this.mask.width, height / this.mask.height) * 0.96;
    this.x = (width - this.mask.width * this.scale) / 2;
    this.y = (height - this.mask.height * this.scale) / 2;
    this.redraw();
  }

  // Zoom about a place of the canvas.
  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const scale = Math.min(64, Math.max(0.01, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.redraw();
  }

  move(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.redraw();
  }

  // A place in the window, in pixels of the canvas; and in pixels of the picture.
  onCanvas(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * this.canvas.width) / box.width,
      ((event.clientY - box.top) * this.canvas.height) / box.height];
  }

  onPicture([x, y]) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  toCanvas([x, y]) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  // The mask has changed in some rows and columns, or everywhere.
  changed(top = 0, left = 0, bottom = Infinity, right = Infinity) {
    for (const look of this.looks.values()) {
      const side = TILE * 2 ** look.level;
      const step = 2 ** look.level; // outlines reach into the neighbours
      if (look.row * side < bottom + step && (look.row + 1) * side > top - step
        && look.column * side < right + step && (look.column + 1) * side > left - step) {
        const whole = look.stale === WHOLE || bottom === Infinity;
        const [t, l, b, r] = look.stale || [top, left, bottom, right];
        look.stale = whole ? WHOLE
          : [Math.min(t, top), Math.min(l, left), Math.max(b, bottom), Math.max(r, right)];
      }
    }
    this.redraw();
  }

  redraw() {
    if (this.wanted) return;
    this.wanted = true;
    requestAnimationFrame(() => {
      this.wanted = false;
      this.#draw();
    });
  }

  #resize() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (width === this.canvas.width && height === this.canvas.height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    if (this.mask) this.fit();
  }

  #draw() {
    const { context, canvas, mask } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!mask) return;
    const level = Math.min(this.levels, Math.max(0, Math.floor(Math.log2(1 / this.scale))));
    const missing = [];
    context.imageSmoothingEnabled = this.scale < 1.5;
    for (let coarse = this.levels; coarse >= level; coarse--) {
      // Coarser tiles stand in for those that are not there yet; only the coarsest are asked for.
      for (const tile of this.#tiles(coarse)) {
        const known = this.pictures.get(tile.key);
        if (known?.bitmap) {
          this.#drawTile(known.bitmap, tile, coarse);
          this.#touch(this.pictures, tile.key);
        } else if (!known && (coarse === level || coarse === this.levels)) {
          missing.push(tile);
        }
      }
    }
    this.#load(missing);
    if (this.showMask) {
      context.imageSmoothingEnabled = false;
      for (const tile of this.#tiles(level)) this.#drawTile(this.#look(tile, level), tile, level);
    }
    this.drawOver(context);
  }

  // The tiles of a level that are seen.
  #tiles(level) {
    const { mask, scale, canvas } = this;
    // A level is rounded up to whole pixels: each of its pixels is a little less than 2^level.
    const across = mask.width / Math.ceil(mask.width / 2 ** level);
    const down = mask.height / Math.ceil(mask.height / 2 ** level);
    const found = [];
    const bounds = (offset, size, whole, step) => [
      Math.max(0, Math.floor(-offset / scale / step / TILE)),
      Math.min(Math.ceil(whole / step / TILE) - 1, Math.floor((size - offset) / scale / step / TILE)),
    ];
    const [top, bottom] = bounds(this.y, canvas.height, mask.height, down);
    const [left, right] = bounds(this.x, canvas.width, mask.width, across);
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) {
        found.push({ key: `${level}/${row}/${column}`, level, row, column, across, down });
      }
    }
    return found;
  }

  #drawTile(image, tile) {
    const [x, y] = this.toCanvas([tile.column * TILE * tile.across, tile.row * TILE * tile.down]);
    const width = image.width * tile.across * this.scale;
    const height = image.height * tile.down * this.scale;
    this.context.drawImage(image, x, y, width, height);
  }

  #look(tile, level) {
    let look = this.looks.get(tile.key);
    if (!look) {
      look = { ...tile, canvas: new OffscreenCanvas(1, 1), stale: WHOLE };
      this.looks.set(tile.key, look);
      for (const key of this.looks.keys()) {
        if (this.looks.size <= MOST_TILES) break;
        this.looks.delete(key);
      }
    }
    if (look.stale) {
      const part = look.stale === WHOLE ? null : look.stale;
      this.mask.render(look.canvas, level, tile.row, tile.column, part);
    }
    look.stale = null;
    this.#touch(this.looks, tile.key);
    return look.canvas;
  }

  // The latest used is the last to go.
  #touch(tiles, key) {
    const tile = tiles.get(key);
    tiles.delete(key);
    tiles.set(key, tile);
  }

  async #load(missing) {
    const frame = this.frame;
    missing.sort((a, b) => b.level - a.level);
    for (const tile of missing) {
      if (this.loading >= AT_ONCE) return; // the next drawing asks again
      this.loading += 1;
      this.pictures.set(tile.key, {});
      getBitmap(`/api/frames/${frame}/tiles/${tile.key}?run=${this.run}`).then((bitmap) => {
        if (frame !== this.frame) {
          bitmap.close();
          return;
        }
        this.pictures.set(tile.key, { bitmap });
        for (const [key, old] of this.pictures) {
          if (this.pictures.size <= MOST_TILES) break;
          if (!old.bitmap) continue;
          old.bitmap.close();
          this.pictures.delete(key);
        }
      }, (problem) => {
        if (frame === this.frame) this.onproblem(problem);
      }).finally(() => {
        this.loading -= 1;
        if (frame === this.frame) this.redraw();
      });
    }
  }
}
