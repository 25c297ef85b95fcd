// What the pointer, or the keyboard's cross, does to the picture: each finished stroke is an edit.

import { drawLine, fillPolygon, snapped, Spans } from "./shapes.js";
import { colourOf, UNKNOWN } from "./mask.js";

const icon = (path) => `<svg viewBox="0 0 24 24" aria-hidden="true">${path}</svg>`;

export const TOOLS = [
  { name: "select", key: "v", title: "Select", icon: icon('<path d="M6 3l12 9-6 1-3 6z"/>') },
  { name: "find", key: "c", title: "Point", icon: icon('<circle cx="12" cy="12" r="3"/><path d="M12 3v4M12 17v4M3 12h4M17 12h4"/>') },
  { name: "brush", key: "b", title: "Brush", icon: icon('<path d="M19 4l-9 9M10 13c-3 0-4 2-4 4 0 1-1 2-2 2 1 1 7 1 8-3 0-2-1-3-2-3z"/>') },
  { name: "erase", key: "e", title: "Eraser", icon: icon('<path d="M8 20l-4-4 9-10 6 5-8 9zM8 20h11"/>') },
  { name: "polygon", key: "p", title: "Polygon", icon: icon('<path d="M5 9l7-5 7 5-3 10H8z"/>') },
  { name: "split", key: "x", title: "Split", icon: icon('<path d="M12 3v18M4 8c3-3 5-3 5 0v8c0 3-3 3-5 0M20 8c-3-3-5-3-5 0v8c0 3 3 3 5 0"/>') },
  { name: "unknown", key: "u", title: "Unknown", icon: icon('<path d="M9 9a3 3 0 1 1 4 3c-1 .5-1 1-1 2M12 18v.5"/><circle cx="12" cy="12" r="9"/>') },
  { name: "pan", key: "h", title: "Move", icon: icon('<path d="M12 3v18M3 12h18M9 6l3-3 3 3M9 18l3 3 3-3M6 9l-3 3 3 3M18 9l3 3-3 3"/>') },
];

export class Tools {
  // `page`: view, mask, width, over, newId(), send(edit), select(ids), told(line), find(x, y, take).
  constructor(page) {
    this.page = page;
    this.name = "select";
    this.cross = null; // of the keyboard, in pixels of the picture
    this.penDown = false; // whether the cross draws as it moves
    this.pointers = new Map();
    this.points = []; // of a polygon
    const { canvas } = page.view;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => this.#up(event));
    }
    canvas.addEventListener("pointerleave", () => this.#hover(null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.closePolygon());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const [x, y] = page.view.onCanvas(event);
      if (event.shiftKey) page.view.move(-event.deltaY, 0);
      else page.view.zoom(2 ** (-event.deltaY / (event.ctrlKey ? 100 : 320)), x, y);
    }, { passive: false });
    page.view.drawOver = (context) => this.#draw(context);
  }

  choose(name) {
    this.cancel();
    this.name = name;
    this.page.view.canvas.style.cursor = { pan: "grab", select: "default" }[name] ?? "crosshair";
    this.page.view.redraw();
  }

  cancel() {
    this.points = [];
    this.penDown = false;
    if (this.stroke) this.page.reload(); // what it has painted is not kept
    this.stroke = null;
    this.page.view.redraw();
  }

  get busy() {
    return Boolean(this.stroke);
  }

  // The cross: moved by the arrow keys, and acting where it is.
  moveCross(dx, dy) {
    const { mask, view } = this.page;
    const middle = view.onPicture([view.canvas.width / 2, view.canvas.height / 2]);
    const [x, y] = this.cross ?? middle.map(Math.floor);
    const at = this.cross ? [x + dx, y + dy] : [x, y];
    this.cross = [Math.min(mask.width - 1, Math.max(0, at[0])), Math.min(mask.height - 1, Math.max(0, at[1]))];
    const [cx, cy] = view.toCanvas(this.cross);
    const margin = 40;
    view.move(
      Math.max(0, margin - cx) - Math.max(0, cx - view.canvas.width + margin),
      Math.max(0, margin - cy) - Math.max(0, cy - view.canvas.height + margin),
    );
    if (this.penDown) this.#extend(this.#crossPoint());
    view.redraw();
  }

  actAtCross(modifiers) {
    if (!this.cross) this.moveCross(0, 0);
    const draws = ["brush", "erase", "unknown", "split"].includes(this.name);
    if (draws && this.penDown) {
      this.penDown = false;
      this.#finish();
    } else {
      this.#begin(this.#crossPoint(), modifiers);
      this.penDown = draws && Boolean(this.stroke);
    }
    this.page.view.redraw();
  }

  #crossPoint() {
    return this.cross.map((v) => v + 0.5);
  }

  #down(event) {
    const { view } = this.page;
    view.canvas.setPointerCapture(event.pointerId);
    view.canvas.focus({ preventScroll: true });
    this.cross = null;
    this.pointers.set(event.pointerId, view.onCanvas(event));
    if (this.pointers.size === 2) {
      this.cancel(); // two fingers move the picture
      return;
    }
    const moves = this.name === "pan" || event.button === 1 || this.page.spaceHeld;
    if (this.pointers.size > 1 || moves) return;
    if (event.button === 2 && this.name !== "find") return;
    this.#begin(view.onPicture(view.onCanvas(event)), { shift: event.shiftKey || event.button === 2 });
    this.drawing = event.pointerId;
  }

  #move(event) {
    const { view } = this.page;
    const now = view.onCanvas(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.#hover(now);
      return;
    }
    if (this.pointers.size === 2) this.#pinch(event.pointerId, before, now);
    else if (this.stroke && this.drawing === event.pointerId) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const part of events.length ? events : [event]) this.#extend(view.onPicture(view.onCanvas(part)));
    } else if (this.drawing !== event.pointerId) view.move(now[0] - before[0], now[1] - before[1]);
    this.pointers.set(event.pointerId, now);
    this.#hover(now);
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    if (this.drawing !== event.pointerId) return;
    this.drawing = null;
    if (event.type === "pointercancel") this.cancel();
    else this.#finish();
  }

  #hover(place) {
    this.pointer = place;
    this.page.view.redraw();
  }

  #pinch(id, before, now) {
    const [, other] = [...this.pointers].find(([key]) => key !== id);
    const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
    this.page.view.zoom(distance(now, other) / distance(before, other), ...other);
  }

  #begin([x, y], { shift = false } = {}) {
    const { page } = this;
    const [px, py] = [Math.floor(x), Math.floor(y)];
    const { mask } = page;
    if (this.name === "select") {
      const id = mask.idAt(px, py);
      const chosen = new Set(shift ? mask.selected : []);
      if (id && id !== UNKNOWN) {
        if (chosen.has(id)) chosen.delete(id);
        else chosen.add(id);
      }
      page.select(chosen);
    } else if (this.name === "find") {
      if (px >= 0 && py >= 0 && px < mask.width && py < mask.height) page.find(px, py, !shift);
    } else if (this.name === "polygon") {
      this.points.push([x, y]);
      page.view.redraw();
    } else {
      const [chosen] = mask.selected;
      const known = { erase: 0, split: 0, unknown: UNKNOWN }[this.name] ?? chosen;
      const [value, fresh] = [known ?? page.newId(), known === undefined && !page.state.semantic];
      this.stroke = { spans: new Spans(mask.width, mask.height), value, fresh, last: null };
      this.stroke.only = this.#only(chosen);
      this.#extend([x, y]);
    }
  }

  // The ids that may be painted over; null for all.
  #only(chosen) {
    if (this.name === "erase") return chosen ? new Set([chosen]) : null;
    return this.page.over ? null : new Set([0]);
  }

  #extend([x, y]) {
    const { page, stroke } = this;
    if (!stroke) return;
    const width = this.name === "split" ? 1 : page.width;
    const point = snapped(x, y, width);
    const added = drawLine(stroke.spans, stroke.last ?? point, point, width);
    stroke.last = point;
    stroke.line = [...(stroke.line ?? []), point];
    if (this.name === "split") {
      page.view.redraw();
      return;
    }
    let [top, left, bottom, right] = [Infinity, Infinity, 0, 0];
    for (const [row, from, to] of added) {
      page.mask.paint(row, from, to, stroke.value, stroke.only);
      [top, left] = [Math.min(top, row), Math.min(left, from)];
      [bottom, right] = [Math.max(bottom, row + 1), Math.max(right, to)];
    }
    if (added.length) page.view.changed(top, left, bottom, right);
  }

  #finish() {
    const { page, stroke } = this;
    this.stroke = null;
    if (!stroke || stroke.spans.empty) return;
    if (this.name === "split") this.#split(stroke);
    else this.#send(stroke);
  }

  #send({ spans, value, fresh, only }) {
    const edit = { kind: "paint", region: spans.message(), value, fresh, only: only ? [...only] : null };
    this.page.send(edit);
    const isSelected = this.page.mask.selected.has(value);
    if (value && value !== UNKNOWN && !isSelected) this.page.select(new Set([value]), edit.region.box);
  }

  #split({ spans }) {
    const { mask } = this.page;
    const under = new Map();
    for (const [row, parts] of spans.merged()) {
      for (const [from, to] of parts) {
        for (let x = from; x < to; x++) {
          const id = mask.idAt(x, row);
          if (id && id !== UNKNOWN) under.set(id, (under.get(id) ?? 0) + 1);
        }
      }
    }
    const [chosen] = mask.selected;
    const most = [...under].sort((a, b) => b[1] - a[1])[0]?.[0];
    const object = under.has(chosen) ? chosen : most;
    if (object === undefined) this.page.told("Draw the line across an object");
    else this.page.send({ kind: "split", object, line: spans.message(), first: this.page.nextId });
  }

  closePolygon() {
    const { page, points } = this;
    this.points = [];
    if (points.length < 3) return;
    const { mask } = page;
    const spans = new Spans(mask.width, mask.height);
    fillPolygon(spans, points);
    if (spans.empty) return;
    const [chosen] = mask.selected;
    const value = chosen ?? page.newId();
    const only = this.#only(chosen);
    for (const [row, parts] of spans.merged()) {
      for (const [from, to] of parts) mask.paint(row, from, to, value, only);
    }
    page.view.changed();
    this.#send({ spans, value, fresh: chosen === undefined && !page.state.semantic, only });
  }

  #draw(context) {
    const { page } = this;
    const { view } = page;
    const path = this.name === "split" && this.stroke?.line ? this.stroke.line : this.points;
    const at = this.cross ? view.toCanvas(this.#crossPoint()) : this.pointer;
    context.lineWidth = 2;
    if (path.length) {
      context.strokeStyle = "#fff";
      context.setLineDash([6, 4]);
      context.beginPath();
      for (const point of path) context.lineTo(...view.toCanvas(point));
      if (this.name === "polygon" && at) context.lineTo(...at);
      context.stroke();
      context.setLineDash([]);
    }
    page.drawProposals(context);
    if (!at) return;
    if (["brush", "erase", "unknown"].includes(this.name)) {
      const [middle] = [snapped(...view.onPicture(at), page.width)];
      const [chosen] = page.mask.selected;
      for (const [width, colour] of [[3, "#0008"], [1.5, this.name === "brush" && chosen ? colourOf(chosen) : "#fff"]]) {
        context.lineWidth = width;
        context.strokeStyle = colour;
        context.beginPath();
        context.arc(...view.toCanvas(middle), Math.max(2, (page.width * view.scale) / 2), 0, 7);
        context.stroke();
      }
    }
    if (this.cross) {
      const [x, y] = at;
      for (const [width, colour] of [[4, "#000a"], [2, this.penDown ? "#ffd23f" : "#fff"]]) {
        context.lineWidth = width;
        context.strokeStyle = colour;
        context.beginPath();
        for (const [dx, dy] of [[1, 0], [0, 1], [-1, 0], [0, -1]]) {
          context.moveTo(x + 5 * dx, y + 5 * dy);
          context.lineTo(x + 15 * dx, y + 15 * dy);
        }
        context.stroke();
      }
    }
  }
}
