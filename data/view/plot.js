// One panel: rows of one dimension each, over the frames of the episode, and one cursor through all.

const INSET = 6; // pixels left and right of the first and the last frame

// A panel shows one key, or an action beside the state that it commands where their dimensions are
// the same: lines = [{key, colour}].
function panelsOf(keys) {
  const action = keys.find((key) => key.kind === "action");
  const same = (key) =>
    action && key !== action && key.kind === "state" && key.columns === action.columns &&
    key.columns > 1 && String(key.names) === String(action.names);
  const partners = keys.filter(same);
  const partner = partners.length === 1 ? partners[0] : null;
  const lines = (key) =>
    key === action && partner
      ? [{ key: partner, colour: "--line-1" }, { key: action, colour: "--line-2" }]
      : [{ key, colour: key === action ? "--line-2" : "--line-1" }];
  return keys.filter((key) => key !== partner).map((key) => new Panel(lines(key)));
}

class Panel {
  constructor(lines) {
    this.lines = lines;
    this.series = [];
    this.frames = 1;
    this.scale = "dataset";
    const [first] = lines;
    this.rows = Array.from({ length: first.key.shown }, (_, i) => this.makeRow(i));
    this.axis = element("canvas", { class: "axis", "aria-hidden": "true" });
    this.cursor = element("div", { class: "cursor", "aria-hidden": "true" });
    this.trouble = element("p", { class: "trouble", hidden: "" });
    this.grid = element("div", { class: `rows ${this.density()} lines-${lines.length}` });
    for (const row of this.rows) this.grid.append(row.name, row.canvas, row.value);
    this.grid.append(element("span"), this.axis, element("span"), this.cursor);
    this.root = element("section", { class: "card panel" }, this.heading(), this.trouble, this.grid);
  }

  density() {
    const { length } = this.rows;
    return length <= 3 ? "tall" : length <= 9 ? "middling" : "dense";
  }

  heading() {
    const heading = element("h2");
    for (const { key, colour: ink } of this.lines) {
      const swatch = element("i", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = `var(${ink})`;
      heading.append(swatch, key.key);
      if (key.units) heading.append(element("span", { class: "units" }, key.units));
    }
    const [{ key }] = this.lines;
    if (key.shown < key.columns)
      heading.append(element("span", { class: "units" }, `the first ${key.shown} of ${whole(key.columns)}`));
    return heading;
  }

  makeRow(i) {
    const [{ key }] = this.lines;
    const range = element("small");
    const name = element("span", { class: "name", title: key.names[i] }, key.names[i], range);
    const label = `${key.key} ${key.names[i]} over the episode`;
    const canvas = element("canvas", { role: "img", "aria-label": label });
    const value = element("span", { class: "value" });
    const texts = this.lines.map(({ colour: ink }) => {
      const text = element("b");
      if (this.lines.length > 1) text.style.color = `var(${ink})`;
      value.append(text);
      return text;
    });
    return { name, range, canvas, value, texts };
  }

  show(found, frames) {
    this.frames = frames;
    this.series = this.lines.map(({ key }) => found.get(key.key));
    const errors = this.series.filter((one) => one.error).map((one) => one.error);
    this.trouble.textContent = errors.join(" ");
    this.trouble.hidden = !errors.length;
    this.grid.hidden = errors.length === this.series.length;
    this.draw();
  }

  // Where a frame is drawn; a single frame stands in the middle.
  x(frame, width) {
    if (this.frames < 2) return width / 2;
    return INSET + (frame / (this.frames - 1)) * (width - 2 * INSET);
  }

  frameAt(clientX) {
    const box = this.rows[0].canvas.getBoundingClientRect();
    const along = (clientX - box.left - INSET) / Math.max(1, box.width - 2 * INSET);
    return Math.round(Math.min(1, Math.max(0, along)) * (this.frames - 1));
  }

  draw() {
    this.rows.forEach((row, i) => {
      const surface = sheet(row.canvas);
      if (surface) this.drawRow(surface, i);
    });
    const surface = sheet(this.axis);
    if (surface) this.drawAxis(surface);
  }

  drawRow({ context, width, height }, i) {
    const [low, high] = this.span(i);
    this.rows[i].range.textContent = low === high ? "" : `${number(low)} … ${number(high)}`;
    const flat = high === low;
    const y = (value) =>
      flat ? height / 2 : height - 4 - ((value - low) / (high - low)) * (height - 8);
    if (low < 0 && high > 0) rule(context, y(0), width);
    this.series.forEach((one, k) => {
      if (one.error) return;
      context.strokeStyle = context.fillStyle = colour(this.lines[k].colour);
      if (k === 0) shadeGaps(context, one.low[i], (point) => this.pointX(one, point, width), height);
      // What is commanded is a thin line on what was measured: where they agree, both are seen.
      const [thickness, opacity] = this.series.length < 2 ? [1.5, 1] : k ? [1.25, 1] : [3, 0.6];
      context.lineWidth = thickness;
      context.globalAlpha = opacity;
      drawLine(context, one.low[i], one.high[i], (point) => this.pointX(one, point, width), y, width);
      context.globalAlpha = 1;
    });
  }

  pointX(one, point, width) {
    const middle = point * one.stride + (one.stride - 1) / 2;
    return this.x(Math.min(middle, this.frames - 1), width);
  }

  // Lowest and highest value a row has room for, of the dataset or of this episode.
  span(i) {
    let low = Infinity;
    let high = -Infinity;
    this.series.forEach((one, k) => {
      if (one.error) return;
      const range = this.lines[k].key.ranges[i];
      if (this.scale === "dataset" && range) {
        low = Math.min(low, range.min);
        high = Math.max(high, range.max);
        return;
      }
      for (const value of one.low[i]) if (value < low) low = value;
      for (const value of one.high[i]) if (value > high) high = value;
    });
    return low > high ? [0, 0] : [low, high];
  }

  drawAxis({ context, width }) {
    const { fps } = DATA.facts;
    const last = this.frames - 1;
    context.fillStyle = colour("--quiet");
    context.font = `11px ${colour("--font")}`;
    const end = fps ? last / fps : last;
    for (const tick of ticks(0, end, width / 90)) {
      if (!fps && !Number.isInteger(tick)) continue;
      const x = this.x(fps ? tick * fps : tick, width);
      const text = fps ? `${Number(tick.toPrecision(6))} s` : whole(tick);
      context.textAlign = x > width - 20 ? "right" : x < 20 ? "left" : "center";
      context.fillText(text, Math.min(Math.max(x, 2), width - 2), 12);
    }
  }

  at(frame) {
    const { canvas } = this.rows[0];
    const x = canvas.offsetLeft + this.x(frame, canvas.clientWidth);
    this.cursor.style.transform = `translateX(${x.toFixed(1)}px)`;
    this.rows.forEach((row, i) => {
      row.texts.forEach((text, k) => {
        const one = this.series[k];
        text.textContent = one && !one.error ? valueAt(one, i, frame) : "";
      });
    });
  }
}

function valueAt(one, i, frame) {
  const point = Math.floor(frame / one.stride);
  const [low, high] = [one.low[i][point], one.high[i][point]];
  return low === high || Number.isNaN(low) ? number(low) : `${number(low)}\n… ${number(high)}`;
}

function rule(context, y, width) {
  context.strokeStyle = colour("--rule");
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(0, Math.round(y) + 0.5);
  context.lineTo(width, Math.round(y) + 0.5);
  context.stroke();
}

// Every point where there is room for it; else, per pixel, from the least to the greatest value.
function drawLine(context, low, high, x, y, width) {
  context.lineJoin = "round";
  const points = low === high && low.length <= 2 * width ? eachPoint(low) : eachPixel(low, high, x);
  context.beginPath();
  let drawing = false;
  points.forEach(([point, least, most], i) => {
    if (Number.isNaN(least)) {
      drawing = false;
      return;
    }
    const at = x(point);
    const next = points[i + 1];
    if (!drawing && (!next || Number.isNaN(next[1]))) dot(context, at, y(least));
    if (drawing) context.lineTo(at, y(least));
    else context.moveTo(at, y(least));
    if (most !== least) context.lineTo(at, y(most));
    drawing = true;
  });
  context.stroke();
}

function dot(context, x, y) {
  context.fillRect(x - 1.5, y - 1.5, 3, 3);
}

const eachPoint = (values) => Array.from(values, (value, i) => [i, value, value]);

function eachPixel(low, high, x) {
  const found = [];
  let pixel = null;
  for (let i = 0; i < low.length; i++) {
    const here = Math.floor(x(i));
    if (here !== pixel) found.push([i, NaN, NaN]);
    pixel = here;
    const last = found[found.length - 1];
    if (!(low[i] >= last[1])) last[1] = Number.isNaN(low[i]) ? last[1] : low[i];
    if (!(high[i] <= last[2])) last[2] = Number.isNaN(high[i]) ? last[2] : high[i];
  }
  return found;
}

// Where there are no numbers, the paper shows it.
function shadeGaps(context, values, x, height) {
  const ink = context.fillStyle;
  context.fillStyle = colour("--gap");
  for (let i = 0; i < values.length; i++) {
    if (!Number.isNaN(values[i])) continue;
    const start = i;
    while (i + 1 < values.length && Number.isNaN(values[i + 1])) i++;
    const left = x(Math.max(start - 0.5, 0));
    context.fillRect(left, 0, Math.max(x(Math.min(i + 0.5, values.length - 1)) - left, 2), height);
  }
  context.fillStyle = ink;
}
