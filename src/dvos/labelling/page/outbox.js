// Edits on their way to the server, one after the other. Until it has acknowledged them they are
// kept in the browser, so that neither a reload nor a server that went away loses a stroke.

import { post, Refused } from "./api.js";

export class Outbox {
  // `changed` is told of every change of the state; `done` gets an edit and the server's answer;
  // `refused` those of a frame that cannot be made, with the reason: one, or all from it on where the
  // frame has changed meanwhile. They are kept until they are forgotten.
  // Frames are known by their names: their numbers change when files are added.
  constructor(store, names, { changed, done, refused }) {
    this.store = `dvos:${store}:`;
    this.names = names;
    // Each edit is kept by itself, named by when it was made. Those of another tab are found as well:
    // what both send is made once.
    this.waiting = Object.keys(localStorage).filter((key) => key.startsWith(this.store)).sort()
      .map((key) => ({ key, edit: JSON.parse(localStorage.getItem(key)), isKept: true }))
      .map((item) => ({ ...item, frame: names.indexOf(item.edit.frame) }))
      .filter(({ frame }) => frame >= 0);
    this.made = 0;
    this.offline = false;
    this.sending = false;
    this.revisions = new Map();
    Object.assign(this, { changed, done, refused });
  }

  get idle() {
    return !this.sending && this.waiting.length === 0;
  }

  // Whether the browser has no room for some of them: they are in this tab alone.
  get full() {
    return this.waiting.some(({ isKept }) => !isKept);
  }

  of(frame) {
    return this.waiting.filter((edit) => edit.frame === frame);
  }

  know(frame, revision) {
    if (!this.of(frame).length) this.revisions.set(frame, revision);
  }

  add(frame, edit) {
    this.made += 1;
    const key = `${this.store}${Date.now()}.${String(this.made).padStart(6, "0")}.${edit.token}`;
    const item = { key, frame, edit: { ...edit, frame: this.names[frame] } };
    this.waiting.push(item);
    this.#keep(item);
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
      this.#keep(next);
      try {
        const answer = await post(`/api/frames/${next.frame}/edit`, next.edit);
        this.offline = false;
        this.waiting.shift();
        this.revisions.set(next.frame, answer.revision);
        this.forget([next]);
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
        const items = problem.status === 409 ? this.of(next.frame) : [next];
        this.waiting = this.waiting.filter((other) => !items.includes(other));
        this.refused(next.frame, problem, items);
      }
    }
    this.sending = false;
    this.changed();
  }

  forget(items) {
    for (const { key } of items) localStorage.removeItem(key);
    // There may be room by now.
    for (const item of this.waiting) if (!item.isKept) this.#keep(item);
  }

  #keep(item) {
    try {
      localStorage.setItem(item.key, JSON.stringify(item.edit));
      item.isKept = true;
    } catch {
      item.isKept = false;
    }
  }
}
