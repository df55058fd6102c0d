// Any two dimensions against each other: the episode's path, and where it is now.

class PathView {
  constructor() {
    this.root = document.getElementById("path");
    this.canvas = document.getElementById("path-canvas");
    this.down = document.getElementById("path-down");
    this.selects = ["path-x", "path-y"].map((id) => document.getElementById(id));
    this.choices = DATA.keys.flatMap((key) => key.names.map((name, i) => ({ key, i, name })));
    this.root.hidden = this.choices.length < 2;
    if (this.root.hidden) return;
    for (const select of this.selects)
      this.choices.forEach(({ key, name }, n) => select.append(new Option(`${key.key} ${name}`, n)));
    const plane = DATA.keys.find((key) => key.columns === 2);
    const first = Math.max(0, this.choices.findIndex(({ key }) => key === plane));
    this.selects.forEach((select, axis) => (select.value = String(first + axis)));
    this.down.checked = Boolean(plane && /^p(x|ixels?)$/i.test(plane.units));
    this.root.open = Boolean(plane) && !DATA.scene && !DATA.cameras.length;
    for (const input of [...this.selects, this.down])
      input.addEventListener("change", () => this.at(this.frame));
    this.root.addEventListener("toggle", () => this.at(this.frame));
  }

  show(found) {
    this.found = found;
  }

  at(frame) {
    this.frame = frame;
    const surface = this.root.open && this.found && sheet(this.canvas);
    if (!surface) return;
    const chosen = this.selects.map((select) => this.choices[Number(select.value)]);
    const columns = chosen.map(({ key, i }) => this.column(key, i));
    if (columns.some((column) => !column)) return;
    this.draw(surface, chosen, columns, frame);
  }

  column(key, i) {
    const one = this.found.get(key.key);
    return one.error ? null : { values: one.low[i], stride: one.stride, range: key.ranges[i] };
  }

  draw({ context, width, height }, chosen, columns, frame) {
    const [x, y] = this.scales(columns, chosen[0].key === chosen[1].key, width, height);
    const [xs, ys] = columns.map(({ values }) => values);
    context.strokeStyle = context.fillStyle = colour("--line-1");
    context.lineWidth = 1.5;
    context.globalAlpha = 0.45;
    context.beginPath();
    trace(context, xs, ys, x, y);
    context.stroke();
    const point = Math.floor(frame / columns[0].stride);
    context.globalAlpha = 1;
    context.lineWidth = 2;
    context.beginPath();
    trace(context, xs.subarray(0, point + 1), ys.subarray(0, point + 1), x, y);
    context.stroke();
    if (Number.isNaN(xs[point] + ys[point])) return;
    context.fillStyle = colour("--cursor");
    context.beginPath();
    context.arc(x(xs[point]), y(ys[point]), 5, 0, 2 * Math.PI);
    context.fill();
  }

  // Two dimensions of one key share their units, and so their scale.
  scales(columns, same, width, height) {
    const pad = 12;
    const spans = columns.map(({ range }) => (range ? [range.min, range.max] : [0, 1]));
    let factors = spans.map(([low, high], axis) => {
      const room = (axis ? height : width) - 2 * pad;
      return high > low ? room / (high - low) : 1;
    });
    if (same) factors = factors.fill(Math.min(...spans.map(([low, high], axis) =>
      high > low ? ((axis ? height : width) - 2 * pad) / (high - low) : Infinity)));
    if (!Number.isFinite(factors[0])) factors = [1, 1];
    const centres = spans.map(([low, high]) => (low + high) / 2);
    const sign = this.down.checked ? 1 : -1;
    return [
      (value) => width / 2 + (value - centres[0]) * factors[0],
      (value) => height / 2 + sign * (value - centres[1]) * factors[1],
    ];
  }
}
