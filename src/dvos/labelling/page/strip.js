// The strip of frames. Of ten thousand, only those in sight have elements.

const STEP = 98;

export class Strip {
  constructor(element, inner, open) {
    this.element = element;
    this.inner = inner;
    this.open = open;
    this.current = -1;
    this.items = new Map();
    element.addEventListener("scroll", () => this.render());
    new ResizeObserver(() => this.render()).observe(element);
  }

  // `order`: indices of the frames as they are shown.
  show(frames, order) {
    this.frames = frames;
    this.order = order;
    this.places = new Map(order.map((index, place) => [index, place]));
    this.inner.style.width = `${order.length * STEP}px`;
    for (const item of this.items.values()) item.remove();
    this.items.clear();
    this.select(this.current);
  }

  select(index) {
    this.current = index;
    const place = this.places.get(index);
    if (place !== undefined) {
      const left = place * STEP - (this.element.clientWidth - STEP) / 2;
      this.element.scrollTo({ left });
    }
    this.render();
  }

  // The frame some places further on.
  beside(step) {
    const place = (this.places.get(this.current) ?? 0) + step;
    return this.order[Math.min(this.order.length - 1, Math.max(0, place))];
  }

  render() {
    if (!this.order) return;
    const first = Math.max(0, Math.floor(this.element.scrollLeft / STEP) - 3);
    const last = Math.min(this.order.length,
      Math.ceil((this.element.scrollLeft + this.element.clientWidth) / STEP) + 3);
    for (const [place, item] of this.items) {
      if (place < first || place >= last) {
        item.remove();
        this.items.delete(place);
      }
    }
    for (let place = first; place < last; place++) {
      const index = this.order[place];
      let item = this.items.get(place);
      if (!item) {
        item = document.createElement("button");
        item.style.left = `${place * STEP}px`;
        item.title = this.frames.names[index];
        const image = new Image();
        image.alt = "";
        image.src = `/api/frames/${index}/thumbnail?run=${this.frames.run}`;
        const number = document.createElement("small");
        number.textContent = index + 1;
        item.append(image, number);
        item.addEventListener("click", () => this.open(index));
        this.inner.append(item);
        this.items.set(place, item);
      }
      item.setAttribute("aria-current", index === this.current);
      const isLabelled = Boolean(this.frames.labelled[index]);
      item.classList.toggle("done", isLabelled);
      item.setAttribute("aria-label", `frame ${index + 1}, ${item.title}${isLabelled ? ", labelled" : ""}`);
    }
  }
}
