// Edits on their way to the server, one after the other. Until it has acknowledged them they are
// kept in the browser, so that neither a reload nor a server that went away loses a stroke.

import { post, Refused } from "./api.js";

export class Outbox {
  // `changed` is told of every change of the state; `done` gets an edit and the server's answer;
  // `refused` an edit that cannot be made, with the reason and the edits behind it.
  // Frames are known by their names: their numbers change when files are added.
  constructor(store, names, { changed, done, refused }) {
    this.store = `dvos:${store}`;
    this.names = names;
    this.waiting = JSON.parse(localStorage.getItem(this.store) || "[]")
      .map((edit) => ({ frame: names.indexOf(edit.frame), edit }))
      .filter(({ frame }) => frame >= 0);
    this.offline = false;
    this.sending = false;
    this.revisions = new Map();
    Object.assign(this, { changed, done, refused });
  }

  get idle() {
    return !this.sending && this.waiting.length === 0;
  }

  of(frame) {
    return this.waiting.filter((edit) => edit.frame === frame);
  }

  know(frame, revision) {
    if (!this.of(frame).length) this.revisions.set(frame, revision);
  }

  add(frame, edit) {
    this.waiting.push({ frame, edit: { ...edit, frame: this.names[frame] } });
    this.#keep();
    this.send();
  }

  // Send what waits. After a failure it is tried again every few seconds.
  async send() {
    if (this.sending) return;
    this.sending = true;
    clearTimeout(this.timer);
    this.changed();
    while (this.waiting.length) {
      const next = this.waiting[0];
      // The revision an edit rests on; null says that it rests on nothing seen.
      if (next.edit.base === undefined) next.edit.base = this.revisions.get(next.frame);
      this.#keep();
      try {
        const answer = await post(`/api/frames/${next.frame}/edit`, next.edit);
        this.offline = false;
        this.waiting.shift();
        this.revisions.set(next.frame, answer.revision);
        this.#keep();
        this.done(next.frame, next.edit, answer);
      } catch (problem) {
        if (!(problem instanceof Refused)) throw problem;
        if (problem.status === 0 || problem.status >= 500) {
          this.offline = true;
          this.reason = problem.message;
          this.timer = setTimeout(() => this.send(), 2000);
          break;
        }
        this.offline = false;
        const behind = this.of(next.frame);
        this.waiting = this.waiting.filter((other) => other.frame !== next.frame);
        this.#keep();
        this.refused(next.frame, problem, behind.map((other) => other.edit));
      }
    }
    this.sending = false;
    this.changed();
  }

  #keep() {
    try {
      const edits = this.waiting.map(({ edit }) => edit);
      if (edits.length) localStorage.setItem(this.store, JSON.stringify(edits));
      else localStorage.removeItem(this.store);
      this.full = false;
    } catch {
      this.full = true; // they are still in this tab
    }
  }
}
