// Lines over a common axis, drawn plainly.

const COLOURS = ["#1f9d74", "#d9772b", "#5b7fd6", "#b34d9d", "#8a8f3a"];

// `lines`: [{name, x: [...], y: [...]}]; `at`: an x to be marked. Gives the key as text parts.
export function draw(canvas, lines, at = null) {
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

export function key(element, names) {
  element.replaceChildren(...names.map((name, n) => {
    const part = document.createElement("span");
    part.textContent = `— ${name}  `;
    part.style.color = COLOURS[n % COLOURS.length];
    return part;
  }));
}
