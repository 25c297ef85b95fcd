// Requests to the server that the page came from. There is no other.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status; // 0: no answer at all
  }
}

async function answered(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused(0, "the server does not answer; start dvos label again");
  }
  if (response.ok) return response;
  const text = await response.text();
  let message = text;
  try {
    message = JSON.parse(text).error;
  } catch { /* plain text */ }
  throw new Refused(response.status, message);
}

export async function getJson(path) {
  return (await answered(path)).json();
}

export async function post(path, message) {
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify(message);
  return (await answered(path, { method: "POST", headers, body })).json();
}

// A mask: its state, and runs of (id, length) as unsigned 32-bit numbers.
export async function getRuns(path) {
  const response = await answered(path);
  const state = response.headers.get("x-state");
  const runs = new Uint32Array(await response.arrayBuffer());
  return { state: state ? JSON.parse(state) : null, runs };
}

export async function getBitmap(path) {
  return createImageBitmap(await (await answered(path)).blob());
}

export function newToken() {
  return crypto.randomUUID ? crypto.randomUUID()
    : Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");
}
