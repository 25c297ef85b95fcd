// Training, predictions beside the labels, counts over time, export.

import { getJson, post } from "./api.js";
import { draw, key } from "./charts.js";

const element = (id) => document.getElementById(id);

export class Work {
  // `told` shows a line; `finished` is called when predictions may have come.
  constructor({ told, finished }) {
    this.told = told;
    this.finished = finished;
    element("train-start").addEventListener("click", () => this.#start());
    element("train-stop").addEventListener("click", () => this.#try(() => post("/api/stop", {})));
    element("export").addEventListener("click", () => this.#export());
    document.addEventListener("visibilitychange", () => this.watch());
  }

  open(labelled) {
    element("train-count").textContent = `${labelled} frame${labelled === 1 ? "" : "s"}`;
    element("train-start").disabled = labelled === 0;
    element("train").showModal();
    this.watch();
  }

  async #try(action) {
    try {
      return await action();
    } catch (problem) {
      this.told(problem.message);
      return null;
    }
  }

  async #start() {
    const minutes = Number(element("minutes").value);
    const state = await this.#try(() => post("/api/train", { minutes }));
    if (state) this.watch();
  }

  async suggest() {
    if (await this.#try(() => post("/api/suggest", {}))) this.watch();
  }

  async #export() {
    const wanted = { format: element("format").value };
    const answer = await this.#try(() => post("/api/export", wanted));
    if (!answer) return;
    element("exported").textContent = `Writing to ${answer.folder}`;
    this.watch();
  }

  // Look after what runs, once a second while there is something and somebody looks.
  async watch() {
    clearTimeout(this.timer);
    const state = await this.#try(() => getJson("/api/work"));
    if (!state) {
      if (this.running) this.timer = setTimeout(() => this.watch(), 2000); // it may answer again
      return;
    }
    this.#show(state);
    if (this.running && !state.running) this.finished();
    this.running = state.running;
    if (state.running && !document.hidden) this.timer = setTimeout(() => this.watch(), 1000);
  }

  #show(state) {
    const { curves } = state;
    element("train-start").hidden = state.running;
    element("train-stop").hidden = !state.running;
    element("train-open").textContent = state.running && state.kind === "train" ? "Training" : "Train";
    if (state.kind === "suggest") {
      if (state.error) this.told(state.error);
      return;
    }
    if (state.kind === "export") {
      element("exported").textContent = state.running ? "Exporting" : state.error || `Written to ${state.run}`;
      return;
    }
    const epochs = curves.epoch ?? [];
    const names = ["train_loss", "val_loss", "dice"].filter((name) => curves[name]?.some(Number.isFinite));
    element("curves").hidden = !names.length;
    if (names.length) {
      draw(element("curves"), names.map((name) => ({ name, x: epochs, y: curves[name] })));
      key(element("curves-key"), names.map((name) => name.replace("_", " ")));
    }
    element("said").hidden = !state.said;
    element("said").textContent = state.said.split(/[\r\n]+/).filter(Boolean).slice(-8).join("\n");
    element("said").scrollTop = element("said").scrollHeight;
    const ended = state.stopped ? "Stopped" : "Done: its predictions are outlined over the frames";
    element("work-state").textContent = state.error
      || (state.running ? `Training: ${Math.round(state.seconds / 6) / 10} min` : state.kind && ended);
  }

  async counts(frames, index) {
    const found = await this.#try(() => getJson("/api/counts"));
    const clip = frames.clips[index];
    const own = (found ?? []).filter((line) => line.clip === clip);
    element("counts-section").hidden = !own.length;
    if (!own.length) return;
    const lines = own.map((line) => ({ name: line.layer, x: line.frames, y: line.counts }));
    const at = frames.clips.slice(0, index).filter((other) => other === clip).length;
    draw(element("counts"), lines, at);
    key(element("counts-key"), lines.map(({ name, x, y }) => `${name} ${y[x.indexOf(at)] ?? ""}`));
  }
}
