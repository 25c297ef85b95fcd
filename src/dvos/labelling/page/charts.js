// Lines over a common axis, drawn plainly.

const COLOURS = ["#1f9d74", "#d9772b", "#5b7fd6", "#b34d9d", "#8a8f3a"];

// `what` is shown; `lines`: [{name, x: [...], y: [...]}]; `at`: an x to be marked.
export function draw(canvas, what, lines, at = null) {
  canvas.setAttribute("aria-label", `${what}: ${lines.map(inWords).join("; ")}`);
  const ratio = window.devicePixelRatio || 1;
  const width = (canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio)));
  const height = (canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio)));
  const context = canvas.getContext("2d");
  const xs = lines.flatMap((line) => line.x);
  const ys = lines.flatMap((line) => line.y).filter(Number.isFinite);
  if (!xs.length || !ys.length) return;
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const top = Math.max(...ys, 1e-9);
  const pad = 14 * ratio;
  const placeX = (x) => pad + ((x - left) / (right - left || 1)) * (width - 2 * pad);
  const placeY = (y) => height - pad - (y / top) * (height - 2 * pad);
  context.strokeStyle = "#8886";
  context.strokeRect(pad, pad, width - 2 * pad, height - 2 * pad);
  if (at !== null) {
    context.beginPath();
    context.moveTo(placeX(at), pad);
    context.lineTo(placeX(at), height - pad);
    context.stroke();
  }
  lines.forEach((line, n) => {
    context.strokeStyle = COLOURS[n % COLOURS.length];
    context.lineWidth = 1.6 * ratio;
    context.beginPath();
    line.x.forEach((x, k) => {
      if (!Number.isFinite(line.y[k])) return;
      context.lineTo(placeX(x), placeY(line.y[k]));
      if (line.x.length < 40) context.arc(placeX(x), placeY(line.y[k]), 1.5 * ratio, 0, 7);
    });
    context.stroke();
  });
  context.fillStyle = "#888";
  context.font = `${10 * ratio}px system-ui`;
  context.fillText(top >= 10 ? Math.round(top) : top.toPrecision(2), pad, pad - 3 * ratio);
}

// What a line shows, for whoever does not see it.
function inWords({ name, y }) {
  const values = y.filter(Number.isFinite);
  if (!values.length) return `${name} none`;
  const known = [Math.min(...values), Math.max(...values), values.at(-1)];
  const [least, most, last] = known.map((value) => (Number.isInteger(value) ? value : Number(value.toPrecision(3))));
  return `${name} lowest ${least}, highest ${most}, last ${last}`;
}

export function key(element, names) {
  element.replaceChildren(...names.map((name, n) => coloured("—", COLOURS[n % COLOURS.length], name)));
}

// A sign in a colour that need not be legible, and what it stands for in the colour of all text.
export function coloured(sign, colour, text) {
  const [part, mark] = ["span", "span"].map((kind) => document.createElement(kind));
  mark.textContent = `${sign} `;
  mark.style.color = colour;
  mark.setAttribute("aria-hidden", "true");
  part.append(mark, `${text}  `);
  return part;
}
