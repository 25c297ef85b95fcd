// Shapes as pixels. A pixel belongs to a shape if its centre does: edges are hard, and depend on
// neither the zoom of the view nor the pixels of the screen.

// Pixels of some rows: intervals [from, to) of columns by row.
export class Spans {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.rows = new Map();
  }

  // The part of an interval that lies in the picture; null if none does.
  add(row, from, to) {
    from = Math.max(0, from);
    to = Math.min(this.width, to);
    if (row < 0 || row >= this.height || from >= to) return null;
    const spans = this.rows.get(row);
    if (spans) spans.push([from, to]);
    else this.rows.set(row, [[from, to]]);
    return [from, to];
  }

  get empty() {
    return this.rows.size === 0;
  }

  // Sorted and without overlaps, as [row, [[from, to], ...]].
  merged() {
    return [...this.rows].sort((a, b) => a[0] - b[0]).map(([row, spans]) => {
      const sorted = spans.slice().sort((a, b) => a[0] - b[0]);
      const joined = [sorted[0].slice()];
      for (const [from, to] of sorted.slice(1)) {
        const last = joined[joined.length - 1];
        if (from <= last[1]) last[1] = Math.max(last[1], to);
        else joined.push([from, to]);
      }
      return [row, joined];
    });
  }

  // As the server reads them: run lengths in a box (top, left, bottom, right), outside first.
  message() {
    const rows = this.merged();
    const top = rows[0][0];
    const bottom = rows[rows.length - 1][0] + 1;
    const left = Math.min(...rows.map(([, spans]) => spans[0][0]));
    const right = Math.max(...rows.map(([, spans]) => spans[spans.length - 1][1]));
    const width = right - left;
    const runs = [];
    let end = 0; // of what is told, in pixels of the box
    for (const [row, spans] of rows) {
      for (const [from, to] of spans) {
        const start = (row - top) * width + from - left;
        if (start === end && runs.length) runs[runs.length - 1] += to - from;
        else runs.push(start - end, to - from);
        end = start + to - from;
      }
    }
    runs.push((bottom - top) * width - end);
    return { box: [top, left, bottom, right], runs };
  }
}

// The spans of a region that the server sent, as [row, from, to].
export function* spansOf({ box, runs }) {
  const [top, left, , right] = box;
  const width = right - left;
  let at = 0;
  for (let n = 0; n < runs.length; n++) {
    const end = at + runs[n];
    while (n % 2 === 1 && at < end) {
      const row = Math.floor(at / width);
      const stop = Math.min(end, (row + 1) * width);
      yield [top + row, left + at - row * width, left + stop - row * width];
      at = stop;
    }
    at = end;
  }
}

// Where the middle of a brush is put: on the centre of a pixel if it is an odd number of pixels
// wide, on a corner if even, so that it is the same wherever in a pixel the pointer is.
export function snapped(x, y, diameter) {
  const put = diameter % 2 === 1 ? (v) => Math.floor(v) + 0.5 : Math.round;
  return [put(x), put(y)];
}

// A round brush drawn from a to b: the intervals are those it added to `spans`.
export function drawLine(spans, [ax, ay], [bx, by], diameter) {
  const r = diameter / 2 + 1e-6;
  const length = Math.hypot(bx - ax, by - ay);
  const ux = length ? (bx - ax) / length : 0;
  const uy = length ? (by - ay) / length : 0;
  const added = [];
  const first = Math.ceil(Math.min(ay, by) - r - 0.5);
  const last = Math.floor(Math.max(ay, by) + r - 0.5);
  for (let row = first; row <= last; row++) {
    const y = row + 0.5;
    let from = Infinity;
    let to = -Infinity;
    for (const [cx, cy] of [[ax, ay], [bx, by]]) {
      const half = r * r - (y - cy) ** 2;
      if (half >= 0) {
        from = Math.min(from, cx - Math.sqrt(half));
        to = Math.max(to, cx + Math.sqrt(half));
      }
    }
    if (length) {
      // Between the ends: along the line from 0 to its length, across it at most r.
      let low = -Infinity;
      let high = Infinity;
      for (const [slope, at, least, most] of [
        [ux, (y - ay) * uy, 0, length],
        [uy, -(y - ay) * ux, -r, r],
      ]) {
        if (Math.abs(slope) < 1e-9) {
          if (at < least || at > most) high = -Infinity;
          continue;
        }
        const ends = [(least - at) / slope + ax, (most - at) / slope + ax];
        low = Math.max(low, Math.min(...ends));
        high = Math.min(high, Math.max(...ends));
      }
      if (low <= high) {
        from = Math.min(from, low);
        to = Math.max(to, high);
      }
    }
    if (from > to) continue;
    const span = spans.add(row, Math.ceil(from - 0.5), Math.floor(to - 0.5) + 1);
    if (span) added.push([row, ...span]);
  }
  return added;
}

// A polygon by the even-odd rule.
export function fillPolygon(spans, points) {
  const ys = points.map((p) => p[1]);
  const first = Math.max(0, Math.floor(Math.min(...ys)));
  const last = Math.min(spans.height - 1, Math.ceil(Math.max(...ys)));
  for (let row = first; row <= last; row++) {
    const y = row + 0.5;
    const crossings = [];
    for (let n = 0; n < points.length; n++) {
      const [ax, ay] = points[n];
      const [bx, by] = points[(n + 1) % points.length];
      if ((ay <= y) !== (by <= y)) crossings.push(ax + ((y - ay) / (by - ay)) * (bx - ax));
    }
    crossings.sort((a, b) => a - b);
    for (let n = 0; n + 1 < crossings.length; n += 2) {
      spans.add(row, Math.ceil(crossings[n] - 0.5), Math.ceil(crossings[n + 1] - 0.5));
    }
  }
}
