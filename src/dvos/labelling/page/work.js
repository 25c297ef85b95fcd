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
    this.#problem("");
    element("train").showModal();
    this.watch();
  }

  // In the dialog while it is open: what is behind it is neither seen nor read aloud.
  #tell(line) {
    if (element("train").open) this.#problem(line);
    else this.told(line);
  }

  // The same line is not set anew, which would be read aloud again.
  #problem(line) {
    const place = element("train-problem");
    place.hidden = !line;
    if (place.textContent !== line) place.textContent = line;
  }

  async #try(action) {
    try {
      const answer = await action();
      if (this.isLost) this.#problem("");
      this.isLost = false;
      return answer;
    } catch (problem) {
      this.isLost = problem.status === 0;
      this.#tell(problem.message);
      return null;
    }
  }

  async #start() {
    if (!element("minutes").reportValidity()) return;
    this.#problem("");
    const minutes = Number(element("minutes").value);
    this.#begin("/api/train", { minutes });
  }

  suggest() {
    this.#begin("/api/suggest", {});
  }

  // What ends before it is looked after has been at work as well.
  async #begin(path, message) {
    const answer = await this.#try(() => post(path, message));
    if (!answer) return null;
    this.running = true;
    this.watch();
    return answer;
  }

  async #export() {
    const wanted = { format: element("format").value };
    const answer = await this.#begin("/api/export", wanted);
    if (answer) element("exported").textContent = `Writing to ${answer.folder}`;
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
    const hasEnded = this.running && !state.running;
    this.running = state.running;
    if (hasEnded) this.finished();
    if (hasEnded && state.kind === "train" && state.error) this.#tell(state.error); // also if its dialog is closed
    if (state.running && !document.hidden) this.timer = setTimeout(() => this.watch(), 1000);
  }

  #show(state) {
    const { curves } = state;
    element("train-start").hidden = state.running;
    element("train-stop").hidden = !state.running;
    element("train-open").textContent = state.running && state.kind === "train" ? "Training" : "Train";
    if (state.kind === "suggest") {
      if (state.error) this.#tell(state.error);
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
      const lines = names.map((name) => ({ name: name.replace("_", " "), x: epochs, y: curves[name] }));
      draw(element("curves"), "Curves by epoch", lines);
      key(element("curves-key"), lines.map(({ name }) => name));
    }
    element("said").hidden = !state.said;
    element("said").textContent = state.said.split(/[\r\n]+/).filter(Boolean).slice(-8).join("\n");
    element("said").scrollTop = element("said").scrollHeight;
    if (state.error) this.#problem(state.error);
    const ended = state.stopped ? "Stopped" : "Done: its predictions are outlined over the frames";
    element("work-state").textContent = state.running ? `Training: ${Math.round(state.seconds / 6) / 10} min`
      : state.kind && (state.error ? "Failed" : ended);
  }

  async counts(frames, index) {
    const found = await this.#try(() => getJson("/api/counts"));
    const clip = frames.clips[index];
    const own = (found ?? []).filter((line) => line.clip === clip);
    element("counts-section").hidden = !own.length;
    if (!own.length) return;
    const lines = own.map((line) => ({ name: line.layer, x: line.frames, y: line.counts }));
    const at = frames.clips.slice(0, index).filter((other) => other === clip).length;
    draw(element("counts"), "Counts by frame", lines, at);
    key(element("counts-key"), lines.map(({ name, x, y }) => `${name} ${y[x.indexOf(at)] ?? ""}`));
  }
}
