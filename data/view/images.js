// Cameras: each image is decoded when its frame is shown, and a few are decoded ahead.

const AHEAD = 12;
const REMEMBERED = 96;

class Camera {
  constructor(name) {
    this.said = DATA.images ? DATA.images[name] : null;
    const [width, height] = this.said.shown;
    this.canvas = element("canvas", { role: "img", "aria-label": name, width, height });
    if (Math.max(width, height) < 160) this.canvas.classList.add("pixels");
    this.caption = element("figcaption", {}, element("b", {}, name), ` ${this.terms()}`);
    this.note = element("p", { class: "absent", hidden: "" });
    this.screen = element("div", { class: "screen" }, this.canvas, this.note);
    this.root = element("figure", {}, this.screen, this.caption);
    this.root.style.setProperty("--aspect", width / height);
    this.name = name;
    this.decoded = new Map();
  }

  terms() {
    const { stored, shown, stride } = this.said;
    const size = `${stored[0]}×${stored[1]}`;
    const smaller = shown[0] === stored[0] ? "" : `, shown at ${shown[0]}×${shown[1]}`;
    return size + smaller + (stride > 1 ? `, every ${ordinal(stride)} frame` : "");
  }

  show(found) {
    for (const waiting of this.decoded.values()) waiting.then((image) => image && image.close());
    this.decoded.clear();
    this.blobs = found && found.blobs ? found.blobs : [];
    this.drawn = null;
    this.note.textContent =
      found && found.error ? found.error : "This episode's images did not fit into the page.";
    this.note.hidden = this.blobs.length > 0;
    this.canvas.hidden = !this.blobs.length;
  }

  at(frame) {
    if (!this.blobs.length) return;
    const index = Math.min(Math.floor(frame / this.said.stride), this.blobs.length - 1);
    this.wanted = index;
    if (this.drawn !== index) this.decode(index).then((image) => this.paint(index, image));
    for (let i = index + 1; i <= index + AHEAD && i < this.blobs.length; i++) this.decode(i);
  }

  decode(index) {
    if (!this.decoded.has(index)) {
      const { blobs } = this;
      const decoding = createImageBitmap(blobs[index]).catch(() => null);
      this.decoded.set(index, decoding);
      this.forget();
    }
    return this.decoded.get(index);
  }

  forget() {
    for (const [index, image] of this.decoded) {
      if (this.decoded.size <= REMEMBERED) return;
      if (index >= this.wanted && index <= this.wanted + AHEAD) continue;
      this.decoded.delete(index);
      image.then((bitmap) => bitmap && bitmap.close());
    }
  }

  paint(index, image) {
    if (this.wanted !== index || !image || !this.decoded.has(index)) return;
    this.canvas.getContext("2d").drawImage(image, 0, 0, this.canvas.width, this.canvas.height);
    this.canvas.setAttribute("aria-label", `${this.name}, frame ${index * this.said.stride}`);
    this.canvas.dataset.frame = index * this.said.stride;
    this.drawn = index;
  }
}

function ordinal(n) {
  const ending = n % 100 > 10 && n % 100 < 14 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[n % 10] || "th";
  return n === 2 ? "second" : n === 3 ? "third" : `${n}${ending}`;
}
