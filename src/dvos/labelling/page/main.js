// The page: opens frames, sends edits, and ties keys and buttons to what they do.

import { getJson, getRuns, newToken, post, Refused } from "./api.js";
import { coloured } from "./charts.js";
import { colourOf, Mask, UNKNOWN } from "./mask.js";
import { Outbox } from "./outbox.js";
import { spansOf } from "./shapes.js";
import { Strip } from "./strip.js";
import { TOOLS, Tools } from "./tools.js";
import { View } from "./view.js";
import { Work } from "./work.js";

const element = (id) => document.getElementById(id);
const AMBIGUOUS = [255, 10000]; // ids that other programs take for unknown; the server leaves them out
const MOST_FOR_LAYER = 40e6; // pixels of a frame that a prediction is laid over

class Page {
  constructor() {
    this.index = -1;
    this.width = 9;
    this.over = false;
    this.nextId = 1;
    this.proposals = [];
    this.view = new View(element("canvas"));
    this.view.onproblem = (problem) => this.told(problem.message);
    this.tools = new Tools(this);
    this.strip = new Strip(element("strip"), element("strip-inner"), (index) => this.open(index));
    this.work = new Work({ told: (line) => this.told(line), finished: () => this.worked() });
  }

  async start() {
    const [project, frames] = await Promise.all([getJson("/api/project"), getJson("/api/frames")]);
    this.project = project;
    this.frames = frames;
    this.view.run = frames.run;
    this.outbox = new Outbox(project.folder, frames.names, {
      changed: () => this.showSaved(),
      done: (frame, edit, answer) => this.answered(frame, edit, answer),
      refused: (frame, problem, items) => this.refused(frame, problem, items),
    });
    element("title").textContent = project.title;
    element("folder").textContent = project.folder;
    document.title = `${project.title} · label`;
    element("format").replaceChildren(...project.formats.map((name) => new Option(name, name)));
    element("export-section").hidden = !project.formats.length;
    this.orderBySuggestion = frames.suggested.length > 0;
    this.showOrder();
    this.showLayers(project.layers);
    await this.outbox.send();
    await this.open(this.strip.order[0]);
    if (!frames.labelled.some(Boolean) && !this.state?.count) this.told("Point at an object (C) or brush over it (B); ? tells the rest");
    this.work.watch();
  }

  // --- frames -------------------------------------------------------------------------------

  open(index) {
    this.strip.select(index);
    this.opening = this.show(index);
    return this.opening;
  }

  // Until a frame is read the one before is shown, and what is done meanwhile is done to that one.
  async show(index) {
    const whole = await this.read(index);
    if (this.strip.current !== index) return;
    if (!whole) {
      this.strip.select(this.index);
      return;
    }
    this.tools.cancel();
    // Through a clip an object is the same: tracks of different frames can be selected together.
    const { clips } = this.frames;
    const isSame = this.mask && clips[index] && clips[index] === clips[this.index];
    const selected = isSame && this.tools.name === "select" ? this.mask.selected : new Set();
    this.index = index;
    element("frame-name").textContent = `${this.frames.names[index]} · ${index + 1} of ${this.frames.names.length}`;
    element("clip-section").hidden = !clips[index];
    this.clearProposals();
    const [height, width] = whole.state.size;
    const { opacity } = this.mask ?? { opacity: 0.4 };
    this.mask = new Mask(width, height);
    this.mask.setOpacity(opacity);
    this.nextId = 1;
    this.fill(whole);
    this.view.open(index, this.mask);
    this.select(selected);
    this.prepare();
    this.layer(element("layer").value);
    this.work.counts(this.frames, index);
  }

  async read(index) {
    try {
      const known = this.outbox.revisions.get(index);
      const whole = await getRuns(`/api/frames/${index}/mask`);
      const latest = this.outbox.revisions.get(index);
      // An edit was answered while the mask as it was before it was under way.
      if (latest !== known && whole.state.revision < latest) return this.read(index);
      if (whole.state.name === this.frames.names[index]) return whole;
      this.told("The folder has other frames by now", [["Reload", () => location.reload()]]);
      return null;
    } catch (problem) {
      this.told(problem.message);
      return null;
    }
  }

  fill({ state, runs }) {
    Mask.filled(this.mask.ids, runs);
    const isForeign = this.outbox.revisions.get(this.index) < state.began;
    this.outbox.know(this.index, state.revision);
    if (isForeign) this.told(`${state.name} was changed by another program: that is shown now, and undo begins anew`);
    this.take(state);
    // Strokes that have not been acknowledged are on top of what the server has.
    for (const { edit } of this.outbox.of(this.index)) {
      this.paintLocally(edit);
      for (const id of [edit.value, edit.object]) if (id < UNKNOWN) this.giveIdsAfter(id);
    }
    this.view.changed();
  }

  async reload() {
    const { index } = this;
    const whole = await this.read(index);
    if (whole && index === this.index && !this.tools.busy) {
      this.mask.ids.fill(0);
      this.fill(whole);
      this.showObjects();
    }
  }

  // Look whether another tab or program has changed the frame meanwhile.
  async refresh() {
    if (this.mask && this.outbox.idle && !this.tools.busy) await this.reload();
  }

  take(state) {
    this.state = state;
    if (state.semantic) this.nextId = state.next;
    else this.giveIdsAfter(state.next - 1);
    element("undo").disabled = !state.undo && !this.outbox.of(this.index).length;
    element("redo").disabled = !state.redo;
    if (state.failure) this.told(state.failure);
  }

  // --- edits --------------------------------------------------------------------------------

  newId() {
    const id = this.nextId;
    if (!this.state.semantic) this.giveIdsAfter(id);
    return id;
  }

  // An id is never given twice, whatever the server knows by now of the strokes that have it.
  giveIdsAfter(id) {
    this.nextId = Math.max(this.nextId, id + 1);
    while (AMBIGUOUS.includes(this.nextId)) this.nextId += 1;
  }

  send(edit, frame = this.index) {
    this.clearProposals();
    this.outbox.add(frame, { ...edit, token: newToken() });
  }

  answered(frame, edit, answer) {
    if (!this.frames.labelled[frame] && edit.kind !== "undo") {
      this.frames.labelled[frame] = 1;
      this.strip.render();
    }
    if (frame !== this.index || !this.mask) return;
    if (answer.box && !this.outbox.of(frame).length && !this.tools.busy) {
      this.mask.put(answer.box, answer.runs);
      this.view.changed(...answer.box);
    } else if (answer.box) {
      // More has been painted since: take the whole when all is acknowledged.
      this.isBehind = true;
    } else if (edit.kind === "click") {
      this.told(edit.take ? "Nothing found there: paint it" : "Noted: no object there");
    }
    this.take(answer);
    // Another program's mask has taken the place of this edit and what was there before.
    if (edit.base < answer.began) this.isBehind = true;
    if (this.isBehind && !this.outbox.of(frame).length) {
      this.isBehind = false;
      this.reload();
    }
    this.showObjects();
  }

  async refused(frame, problem, items) {
    if (frame === this.index) await this.reload(); // what it tells is told before what is asked here
    // An undo of what somebody else did meanwhile is no stroke of this tab.
    const strokes = items.map(({ edit }) => edit).filter((edit) => !["undo", "redo"].includes(edit.kind));
    if (problem.status !== 409 || !strokes.length) {
      this.outbox.forget(items);
      this.told(problem.message);
      return;
    }
    const what = strokes.length === 1 ? "Your last stroke is" : `Your last ${strokes.length} strokes are`;
    this.told(`${problem.message}. ${what} kept here.`, [
      ["Add on top", async () => {
        await this.open(frame);
        if (this.index !== frame) {
          this.refused(frame, problem, items);
          return;
        }
        this.outbox.forget(items);
        // A new object is one here too, whatever has got its id meanwhile.
        const ids = new Map();
        for (const { base, ...edit } of strokes) {
          if (edit.fresh) ids.set(edit.value, this.newId());
          if (ids.has(edit.value)) edit.value = ids.get(edit.value);
          this.paintLocally(edit);
          this.send(edit);
        }
        this.view.changed();
      }],
      ["Leave out", () => this.outbox.forget(items)],
    ]);
  }

  paintLocally(edit) {
    if (edit.kind !== "paint") return;
    const only = edit.only && new Set(edit.only);
    for (const [row, from, to] of spansOf(edit.region)) this.mask.paint(row, from, to, edit.value, only);
  }

  // --- objects ------------------------------------------------------------------------------

  // What was not selected before may lie in a box alone.
  select(ids, box = []) {
    const isBoxEnough = !this.mask.selected.size;
    this.mask.selected = ids;
    this.view.changed(...(isBoxEnough ? box : []));
    this.showObjects();
  }

  get chosen() {
    return [...this.mask.selected];
  }

  showObjects() {
    const { chosen } = this;
    const label = element("selected");
    label.replaceChildren(...chosen.slice(0, 6).map((id) => coloured("●", colourOf(id), id)));
    if (!chosen.length) label.append("New strokes make a new object");
    else label.append(chosen.length > 1 ? `${chosen.length} selected` : "New strokes add to it");
    for (const [name, action] of Object.entries(ACTIONS)) {
      if (action.selected) element(name).disabled = !action.can(this);
    }
    const { count, semantic } = this.state;
    const text = semantic ? "Objects not told apart" : `${count || "No"} object${count === 1 ? "" : "s"}`;
    element("count").textContent = text;
  }

  recolour(pairs) {
    this.send({ kind: "recolour", pairs });
  }

  merge() {
    const [first, ...others] = this.chosen;
    this.recolour(others.map((id) => [id, first]));
    this.select(new Set([first]));
  }

  remove() {
    this.recolour(this.chosen.map((id) => [id, 0]));
    this.select(new Set());
  }

  // A copy rests on nothing that was seen there, and need not wait until it is.
  async copyToNext() {
    await this.opening;
    const next = this.strip.beside(1);
    if (next === this.index) return;
    const objects = this.chosen.length ? this.chosen : null;
    this.send({ kind: "copy", source: this.index, objects, base: null }, next);
    await this.open(next);
  }

  async clip(kind) {
    const [object, other] = this.chosen;
    const clip = this.frames.clips[this.index];
    const message = { kind, clip, token: newToken(), object: object ?? 1, other: other ?? null };
    message.start = kind === "split" ? this.index : 0;
    this.told("Changing the clip");
    try {
      const { changed } = await post("/api/clip", message);
      this.told(`${changed.length} frame${changed.length === 1 ? "" : "s"} changed`);
      for (const index of changed) this.outbox.revisions.delete(index);
      this.select(new Set());
      await this.reload();
    } catch (problem) {
      this.told(problem.message);
    }
  }

  // --- help from the network ----------------------------------------------------------------

  find(x, y, take) {
    const there = this.mask.idAt(x, y);
    if (take && there) {
      this.select(new Set(there === UNKNOWN ? [] : [there]));
      return;
    }
    const object = take ? this.newId() : 1;
    this.select(new Set());
    this.send({ kind: "click", x, y, take, object });
  }

  // The first click is answered at once where the features are there.
  async prepare() {
    if (this.tools.name !== "find" || this.index < 0) return;
    const { index } = this;
    const slow = setTimeout(() => this.told("Getting this frame ready: clicks are answered in a moment"), 400);
    const problem = await getJson(`/api/frames/${index}/proposals?prepare=1`).catch((refused) => refused);
    clearTimeout(slow);
    if (index !== this.index) return;
    if (problem instanceof Error) this.told(problem.message);
    else if (element("notice").textContent.startsWith("Getting this frame")) this.told("");
  }

  async findAll() {
    this.told("Looking for objects");
    const { index } = this;
    try {
      const found = await getJson(`/api/frames/${index}/proposals`);
      if (index !== this.index) return;
      this.told("");
      this.proposals = found.proposals.map((region, n) => ({ look: lookOf(region), score: found.scores[n] }));
      if (!this.proposals.length) this.told("None found: label some objects first");
      element("accepting").hidden = !this.proposals.length;
      this.showAccepting();
    } catch (problem) {
      this.told(problem.message);
    }
  }

  get accepted() {
    const least = Number(element("least").value) / 100;
    return this.proposals.filter((one) => one.score >= least);
  }

  showAccepting() {
    element("accept").textContent = `Accept ${this.accepted.length}`;
    this.view.redraw();
  }

  accept() {
    this.send({ kind: "accept", least: Number(element("least").value) / 100 });
  }

  clearProposals() {
    this.proposals = [];
    element("accepting").hidden = true;
    this.view.redraw();
  }

  drawProposals(context) {
    context.imageSmoothingEnabled = false;
    for (const { look } of this.proposals.length ? this.accepted : []) {
      const [x, y] = this.view.toCanvas([look.left, look.top]);
      const { canvas } = look;
      context.drawImage(canvas, x, y, canvas.width * this.view.scale, canvas.height * this.view.scale);
    }
  }

  // --- predictions --------------------------------------------------------------------------

  // A command has ended: there may be other predictions, and another order.
  async worked() {
    const [project, frames] = await Promise.all([getJson("/api/project"), getJson("/api/frames")]);
    const isMore = project.layers.length > element("layer").options.length - 1;
    this.showLayers(project.layers);
    if (isMore) {
      element("layer").value = project.layers.length - 1;
      this.layer(element("layer").value);
      this.told(`${project.layers.at(-1)}: its predictions are outlined over yours; T takes them`);
    }
    this.work.counts(this.frames, this.index);
    const isNew = frames.suggested.length && frames.suggested.join() !== this.frames.suggested.join();
    this.frames.suggested = frames.suggested;
    if (isNew) {
      this.orderBySuggestion = true;
      this.showOrder();
    }
  }

  showLayers(names) {
    const select = element("layer");
    const before = select.value;
    select.replaceChildren(new Option("none", ""), ...names.map((name, n) => new Option(name, n)));
    select.value = before;
  }

  async layer(number) {
    element("adopt").hidden = number === "";
    const { mask, index } = this;
    mask.other = null;
    if (number !== "" && mask.ids.length > MOST_FOR_LAYER) this.told("Too large to show predictions over it");
    else if (number !== "") {
      try {
        const { runs } = await getRuns(`/api/frames/${index}/layers/${number}`);
        if (mask !== this.mask || number !== element("layer").value) return;
        mask.other = new Uint16Array(mask.ids.length);
        Mask.filled(mask.other, runs);
      } catch (problem) {
        this.told(problem.message);
      }
    }
    this.view.changed();
  }

  // --- what is said -------------------------------------------------------------------------

  told(line, choices = []) {
    const notice = element("notice");
    clearTimeout(this.notice);
    notice.replaceChildren();
    notice.hidden = !line;
    if (!line) return;
    const text = document.createElement("span");
    text.textContent = line;
    notice.append(text);
    for (const [name, action] of choices) {
      const button = document.createElement("button");
      button.textContent = name;
      button.addEventListener("click", () => {
        notice.hidden = true;
        action();
      });
      notice.append(button);
    }
    if (!choices.length) this.notice = setTimeout(() => { notice.hidden = true; }, 7000);
  }

  showSaved() {
    const saved = element("saved");
    const { waiting, offline, full } = this.outbox;
    saved.classList.toggle("offline", offline);
    const strokes = `${waiting.length} stroke${waiting.length === 1 ? "" : "s"}`;
    if (offline) saved.textContent = `No server: ${strokes} kept ${full ? "in this tab" : "here"}`;
    else saved.textContent = waiting.length ? "Saving" : "Saved";
    saved.title = offline ? this.outbox.reason : "";
  }

  showOrder() {
    element("order").textContent = this.orderBySuggestion ? "Best first" : "In order";
    const first = this.orderBySuggestion ? this.frames.suggested : [];
    const known = new Set(first);
    const rest = this.frames.names.map((_, index) => index).filter((index) => !known.has(index));
    this.strip.show(this.frames, [...first, ...rest]);
  }

  // By turns in order and with those first that are worth labelling first, which are looked for
  // when it is first asked for.
  turnOrder() {
    if (!this.orderBySuggestion && !this.frames.suggested.length) {
      this.told("Looking which frames are worth labelling first");
      this.work.suggest();
      return;
    }
    this.orderBySuggestion = !this.orderBySuggestion;
    this.showOrder();
  }
}

// A proposal as a small picture, laid over the frame.
function lookOf(region) {
  const [top, left, bottom, right] = region.box;
  const canvas = new OffscreenCanvas(right - left, bottom - top);
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffd23fa0";
  for (const [row, from, to] of spansOf(region)) context.fillRect(from - left, row - top, to - from, 1);
  return { canvas, top, left };
}

// What can be done besides the tools: by a key, and by a button where there is one.
const some = (page) => page.chosen.length > 0 && !page.state.semantic;
const one = (page) => page.chosen.length === 1;
const two = (page) => page.chosen.length === 2;
const ACTIONS = {
  undo: { key: "z", title: "Undo", tool: true, does: (page) => page.send({ kind: "undo" }) },
  redo: { key: "Z", title: "Redo", tool: true, does: (page) => page.send({ kind: "redo" }) },
  merge: { key: "m", title: "Merge", selected: true, can: (page) => page.chosen.length > 1, does: (page) => page.merge() },
  remove: { key: "Delete", title: "Delete", selected: true, can: some, does: (page) => page.remove() },
  unknow: { key: "i", title: "Make unknown", selected: true, can: some, does: (page) => {
    page.recolour(page.chosen.map((id) => [id, UNKNOWN]));
    page.select(new Set());
  } },
  parts: { key: "k", title: "Separate parts", selected: true,
    can: one,
    does: (page) => page.send({ kind: "split", object: page.chosen[0], line: null, first: page.state.semantic ? 256 : page.nextId }) },
  copy: { key: "n", title: "Copy to next frame", selected: true, can: (page) => page.frames.names.length > 1, does: (page) => page.copyToNext() },
  "clip-join": { title: "Join two selected objects through the clip, even of different frames", selected: true, can: two, does: (page) => page.clip("join") },
  "clip-split": { title: "New id from this frame on", selected: true, can: one, does: (page) => page.clip("split") },
  "clip-delete": { title: "Delete through the clip", selected: true, can: one, does: (page) => page.clip("delete") },
  "clip-undo": { title: "Undo the last change of the clip", does: (page) => page.clip("undo") },
  find: { key: "g", title: "Find all objects", does: (page) => page.findAll() },
  accept: { key: "y", title: "Accept those found", can: (page) => page.proposals.length > 0, does: (page) => page.accept() },
  dismiss: { title: "Dismiss those found", does: (page) => page.clearProposals() },
  adopt: { key: "t", title: "Take the prediction's objects", can: () => element("layer").value !== "", does: (page) => page.send({ kind: "adopt", layer: Number(element("layer").value) }) },
  "zoom-in": { key: "+", title: "Larger", does: (page) => page.view.zoom(1.5) },
  "zoom-out": { key: "-", title: "Smaller", does: (page) => page.view.zoom(1 / 1.5) },
  "zoom-fit": { key: "0", title: "Fit", does: (page) => page.view.fit() },
  "help-open": { key: "?", title: "This help", does: () => element("help").showModal() },
  "train-open": { key: "r", title: "Train", does: (page) => page.work.open(page.frames.labelled.filter(Boolean).length) },
  "panel-open": { title: "Objects and settings", does: () => element("panel").classList.toggle("open") },
  order: { key: "f", title: "Best frames first, or in order", does: (page) => page.turnOrder() },
};
const KEYS = {
  Escape: ["Deselect, give up", (page) => {
    page.tools.cancel();
    page.clearProposals();
    page.select(new Set());
    element("panel").classList.remove("open");
  }],
  Enter: ["Act at the cross; close a polygon; pen down, pen up", (page, event) => {
    if (page.tools.points.length > 2 && !event.shiftKey) page.tools.closePolygon();
    else page.tools.actAtCross({ shift: event.shiftKey });
  }],
  PageDown: ["Next frame", (page) => page.open(page.strip.beside(1))],
  PageUp: ["Frame before", (page) => page.open(page.strip.beside(-1))],
  "[": ["Narrower brush", (page) => setWidth(page, page.width - (page.width > 20 ? 5 : 1))],
  "]": ["Wider brush", (page) => setWidth(page, page.width + (page.width >= 20 ? 5 : 1))],
  o: ["Paint over other objects", () => element("over").click()],
  s: ["Show or hide objects", () => element("show").click()],
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function setWidth(page, width) {
  page.width = Math.min(120, Math.max(1, width));
  const slider = element("width");
  slider.value = page.width;
  slider.nextElementSibling.textContent = page.width;
  page.view.redraw();
}

function act(page, name) {
  const action = ACTIONS[name];
  if (page.mask && (!action.can || action.can(page))) action.does(page);
}

function buildTools(page) {
  const tools = element("tools");
  for (const tool of TOOLS) {
    const button = document.createElement("button");
    button.id = `tool-${tool.name}`;
    button.title = `${tool.title} (${tool.key.toUpperCase()})`;
    button.innerHTML = tool.icon;
    button.append(tool.title);
    button.addEventListener("click", () => choose(page, tool.name));
    tools.append(button);
  }
  tools.append(document.createElement("hr"));
  for (const [name, action] of Object.entries(ACTIONS).filter(([, one]) => one.tool)) {
    const button = document.createElement("button");
    button.id = name;
    button.disabled = true;
    const turn = name === "undo" ? "M9 7L4 12l5 5M4 12h10a5 5 0 0 1 0 10" : "M15 7l5 5-5 5M20 12H10a5 5 0 0 0 0 10";
    button.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${turn}" transform="translate(0 -3)"/></svg>`;
    button.append(action.title);
    tools.append(button);
  }
  for (const [name, action] of Object.entries(ACTIONS).filter(([key, of]) => of.selected && !key.startsWith("clip-"))) {
    const button = document.createElement("button");
    button.id = name;
    button.textContent = action.title;
    element("actions").append(button);
  }
  for (const [name, action] of Object.entries(ACTIONS)) {
    const shown = { Z: "Shift+Z" }[action.key] ?? action.key?.toUpperCase();
    element(name).title = shown ? `${action.title} (${shown})` : action.title;
    element(name).addEventListener("click", () => act(page, name));
  }
}

function buildHelp() {
  const rows = [
    ...TOOLS.map((tool) => [tool.key.toUpperCase(), tool.title]),
    ["Shift+click", "Select one more; with Point: this is no object"],
    ["Wheel", "Zoom"],
    ["Space+drag", "Move the picture (or with two fingers)"],
    ["Arrows", "Move the cross by the brush's width, with Shift by a pixel"],
    ...Object.entries(KEYS).map(([key, [title]]) => [key.length === 1 ? key.toUpperCase() : key, title]),
    ...Object.values(ACTIONS).filter((one) => one.key)
      .map((one) => [one.key === "Z" ? "Shift+Z" : one.key.length === 1 ? one.key.toUpperCase() : one.key, one.title]),
  ];
  element("keys").replaceChildren(...rows.map(([key, title]) => {
    const [row, term, meaning] = ["div", "dt", "dd"].map((kind) => document.createElement(kind));
    [term.textContent, meaning.textContent] = [key, title];
    row.append(term, meaning);
    return row;
  }));
}

function choose(page, name) {
  page.tools.choose(name);
  for (const tool of TOOLS) element(`tool-${tool.name}`).setAttribute("aria-pressed", tool.name === name);
  page.prepare();
}

// The key by the names that TOOLS, ACTIONS and KEYS have: Caps Lock, which turns the case of letters
// about, also with Shift, changes none of them.
function keyOf(event) {
  const key = event.key?.length === 1 ? event.key.toLowerCase() : event.key;
  const isRedo = event.shiftKey && key === "z";
  if (event.ctrlKey || event.metaKey) return { z: isRedo ? "Z" : "z", y: "Z" }[key];
  return isRedo ? "Z" : key;
}

function onKey(page, event) {
  // A dialog that was closed keeps the focus until the page is drawn again.
  const typing = event.target.matches("input[type=number], select, textarea") && event.target.checkVisibility();
  if (typing || document.querySelector("dialog[open]") || event.altKey || !page.mask) return;
  const key = keyOf(event);
  if (!key) return;
  if (key === " ") page.spaceHeld = true;
  const isButton = event.target.matches("button") && ["Enter", " "].includes(key);
  if (isButton) return;
  const arrow = !event.target.matches("input") && ARROWS[key];
  const tool = TOOLS.find((one) => one.key === key);
  const action = Object.entries(ACTIONS).find(([, one]) => one.key === key || (key === "Backspace" && one.key === "Delete"));
  const plain = KEYS[key];
  if (arrow) {
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(page.width / 2));
    page.tools.moveCross(arrow[0] * step, arrow[1] * step);
  } else if (action) act(page, action[0]);
  else if (tool) choose(page, tool.name);
  else if (plain) plain[1](page, event);
  else if (key !== " ") return;
  event.preventDefault();
}

function wire(page) {
  buildTools(page);
  buildHelp();
  choose(page, "brush");
  setWidth(page, page.width);
  const slide = (id, unit, change) => {
    const show = () => { element(id).nextElementSibling.textContent = `${element(id).value}${unit}`; };
    element(id).addEventListener("input", () => { show(); change(Number(element(id).value)); });
    show();
  };
  slide("width", "", (value) => { page.width = value; });
  slide("least", "%", () => page.showAccepting());
  slide("opacity", "%", (value) => { page.mask.setOpacity(value / 100); page.view.changed(); });
  element("over").addEventListener("change", (event) => { page.over = event.target.checked; });
  element("show").addEventListener("change", (event) => { page.view.showMask = event.target.checked; page.view.redraw(); });
  element("layer").addEventListener("change", (event) => page.layer(event.target.value));
  element("canvas").addEventListener("pointerdown", () => element("panel").classList.remove("open"));
  addEventListener("keydown", (event) => onKey(page, event));
  addEventListener("keyup", (event) => { if (event.key === " ") page.spaceHeld = false; });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) page.refresh(); });
  addEventListener("focus", () => page.refresh()); // from another program's window, which hid nothing
  // What waits is kept in the browser: only what it has no room for would be lost.
  addEventListener("beforeunload", (event) => { if (page.outbox?.full && !page.outbox.idle) event.preventDefault(); });
}

const page = new Page();
window.labelPage = page; // for tests, and whoever looks into it
wire(page);
page.start().catch((problem) => {
  page.told(problem instanceof Refused ? problem.message : `The page failed: ${problem}`, [["Reload", () => location.reload()]]);
});
