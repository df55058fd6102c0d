// A scene of outlines, discs and marks (scene.py), placed by the columns of a frame.

class SceneView {
  constructor(scene) {
    this.scene = scene;
    this.canvas = element("canvas", { role: "img", "aria-label": "The scene, drawn from the state" });
    const mark = scene.shapes.find((shape) => shape.kind === "mark");
    const caption = element("figcaption", {}, element("b", {}, "scene"), " drawn from the state");
    if (mark) caption.append(`; + ${mark.label}`);
    const screen = element("div", { class: "screen paper" }, this.canvas);
    this.root = element("figure", {}, screen, caption);
    this.root.style.setProperty("--aspect", scene.width / scene.height);
    this.canvas.style.aspectRatio = `${scene.width} / ${scene.height}`;
  }

  show(found) {
    this.found = found;
  }

  at(frame) {
    const surface = this.found && sheet(this.canvas);
    if (!surface) return;
    const { context, width, height } = surface;
    const { scene } = this;
    context.scale(width / scene.width, height / scene.height);
    if (!scene.y_down) {
      context.translate(0, scene.height);
      context.scale(1, -1);
    }
    for (const shape of scene.shapes) this[shape.kind](context, shape, frame);
    this.canvas.dataset.frame = frame;
  }

  column(key, index, frame) {
    const one = this.found.get(key);
    return one.error ? NaN : one.low[index][Math.floor(frame / one.stride)];
  }

  place(body, frame) {
    const angle = body.angle === null ? 0 : this.column(body.key, body.angle, frame);
    return [this.column(body.key, body.x, frame), this.column(body.key, body.y, frame), angle];
  }

  outline(context, shape, frame) {
    const [x, y, angle] = shape.body ? this.place(shape.body, frame) : [0, 0, 0];
    if (Number.isNaN(x + y + angle)) return;
    context.save();
    context.translate(x, y);
    context.rotate(angle);
    context.beginPath();
    shape.points.forEach(([px, py]) => context.lineTo(px, py));
    context.closePath();
    context.restore();
    context.fillStyle = colour(`--scene-${shape.role}`);
    context.fill();
  }

  disc(context, shape, frame) {
    const [x, y] = this.place(shape.body, frame);
    if (Number.isNaN(x + y)) return;
    context.beginPath();
    context.arc(x, y, shape.radius, 0, 2 * Math.PI);
    context.fillStyle = colour(`--scene-${shape.role}`);
    context.fill();
  }

  mark(context, { body }, frame) {
    const one = this.found.get(body.key);
    if (one.error) return;
    const unit = this.scene.width / 100;
    context.strokeStyle = colour("--scene-mark");
    context.lineWidth = unit * 0.4;
    context.globalAlpha = 0.35;
    context.beginPath();
    trace(context, one.low[body.x], one.low[body.y], (x) => x, (y) => y);
    context.stroke();
    context.globalAlpha = 1;
    const [x, y] = this.place(body, frame);
    if (Number.isNaN(x + y)) return;
    context.lineWidth = unit * 0.6;
    context.beginPath();
    context.moveTo(x - 2 * unit, y);
    context.lineTo(x + 2 * unit, y);
    context.moveTo(x, y - 2 * unit);
    context.lineTo(x, y + 2 * unit);
    context.stroke();
  }
}

// The way through all points of two columns, interrupted where there is no number.
function trace(context, xs, ys, x, y) {
  let drawing = false;
  for (let i = 0; i < xs.length && i < ys.length; i++) {
    const there = !Number.isNaN(xs[i] + ys[i]);
    if (there && drawing) context.lineTo(x(xs[i]), y(ys[i]));
    else if (there) context.moveTo(x(xs[i]), y(ys[i]));
    drawing = there;
  }
}
