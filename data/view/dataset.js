// The dataset as a whole: facts, findings, how long episodes are, where the numbers lie.

function fillDataset(root) {
  const { facts } = DATA;
  root.append(
    card("At a glance", glance(facts)),
    card("Validation", validation(facts.validation)),
    card("Lengths of the episodes", lengths(facts)),
    card("Arrays", arrays(facts)),
    ...DATA.keys.map((key) => card(`Range of ${key.key}`, rangesOf(key))),
    card("In this page", inThisPage()),
  );
}

const card = (title, ...children) =>
  element("section", { class: "card" }, element("h2", {}, title), ...children);

function glance(facts) {
  const list = element("dl", { class: "facts" });
  const windows = Object.entries(facts.windows).map(([spec, count]) => `${whole(count)} at ${spec}`);
  const rows = {
    episodes: whole(facts.episodes),
    frames: whole(facts.frames) + (facts.seconds === null ? "" : `, ${duration(facts.seconds)}`),
    "frame rate": facts.fps === null ? "not recorded" : `${facts.fps} Hz`,
    environment: facts.environment || "not recorded",
    ...(facts.tasks.length ? { tasks: facts.tasks.join("; ") } : {}),
    "windows (horizon/observed/executed)": windows.join(", "),
    fingerprint: facts.fingerprint,
  };
  for (const [name, value] of Object.entries(rows))
    list.append(element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  return list;
}

function validation(found) {
  if (found.skipped)
    return element("p", {}, `Not validated here: ${found.skipped}. `, element("code", {}, "dipole data validate"), " reads everything.");
  if (!found.findings.length)
    return element("p", { class: "sound" }, "Sound: every chunk was read, and nothing is wrong or odd.");
  const list = element("ul", { class: "findings" });
  for (const { level, where, message } of found.findings)
    list.append(element("li", { class: level }, element("b", {}, level), element("code", {}, where), ` ${message}`));
  return list;
}

function lengths(facts) {
  const { histogram, bin_width: width, shortest, median, longest } = facts.lengths;
  const seconds = (frames) => (facts.fps ? ` (${clock(frames / facts.fps)})` : "");
  const said = `shortest ${whole(shortest)}${seconds(shortest)}, median ${whole(median)}${seconds(median)}, longest ${whole(longest)}${seconds(longest)} frames`;
  const bins = histogram.map((count, i) => {
    const first = shortest + i * width;
    const last = Math.min(first + width - 1, longest);
    const frames = first === last ? whole(first) : `${whole(first)} to ${whole(last)}`;
    return { count, title: `${counted(count, "episode")} of ${frames} frames` };
  });
  const ends = element("p", { class: "ends" }, element("span", {}, whole(shortest)), element("span", {}, "frames"), element("span", {}, whole(longest)));
  return element("div", {}, element("p", {}, said), bars(bins, "lengths"), ends);
}

// Upright bars; what they say is in their titles, and in the label for who cannot see them.
function bars(bins, kind) {
  const most = Math.max(1, ...bins.map(({ count }) => count));
  const chart = element("div", { class: `bars ${kind}`, role: "img" });
  chart.setAttribute("aria-label", bins.filter(({ count }) => count).map(({ title }) => title).join("; "));
  for (const { count, title } of bins) {
    const bar = element("i", { title });
    bar.style.height = `${count ? Math.max(4, (100 * count) / most) : 0}%`;
    chart.append(bar);
  }
  return chart;
}

function table(heads, rows) {
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  const body = element("tbody", {}, ...rows);
  const made = element("table", {}, element("thead", {}, head), body);
  return element("div", { class: "scroll", tabindex: "0" }, made);
}

const row = (first, ...cells) =>
  element("tr", {}, element("th", { scope: "row" }, first), ...cells.map((cell) => element("td", {}, cell)));

function arrays(facts) {
  return table(
    ["key", "kind", "shape", "dtype", "units", "in memory"],
    facts.arrays.map((array) =>
      row(array.key, array.kind, array.shape.join("×") || "1", array.dtype, array.units || "–", array.size)),
  );
}

function rangesOf(key) {
  const rows = key.ranges.map((range, i) => {
    if (!range) return row(key.names[i], "no finite number", "–", "–", "–", "–", "–");
    const still = range.min === range.max;
    const bins = range.histogram.map((count) => ({ count, title: whole(count) }));
    const shape = still ? "constant" : bars(bins, "spark");
    if (!still) shape.setAttribute("aria-label", "distribution");
    const gaps = range.not_finite ? whole(range.not_finite) : "0";
    return row(key.names[i], shape, number(range.min), number(range.max), number(range.mean), number(range.std), gaps);
  });
  const heads = ["dimension", "distribution", "least", "greatest", "mean", "deviation", "NaN or infinite"];
  const made = element("div", {}, table(heads, rows));
  if (key.shown < key.columns)
    made.prepend(element("p", {}, `The first ${key.shown} of ${whole(key.columns)} numbers a frame.`));
  if (key.unreadable)
    made.prepend(element("p", { class: "trouble" }, `Without ${counted(key.unreadable, "frame")} that cannot be read.`));
  return made;
}

function inThisPage() {
  const { facts, episodes, cameras, images, megabytes } = DATA;
  const shown = episodes.length === facts.episodes ? `all ${counted(facts.episodes, "episode")}` : `${whole(episodes.length)} of ${counted(facts.episodes, "episode")}`;
  const text = [`At most ${megabytes} MB: the numbers of ${shown}`];
  if (cameras.length) {
    const seen = episodes.filter((entry) => Object.keys(entry.images).length).length;
    const sizes = cameras.map((name) => `${name} ${images[name].shown.join("×")}`).join(", ");
    const { stride, quality } = images[cameras[0]];
    text.push(`, the images of ${whole(seen)} (${sizes}; ${stride > 1 ? `every ${ordinal(stride)} frame` : "every frame"}, WebP at quality ${quality})`);
  }
  const command = element("code", {}, "dipole data view PATH episodes=0,7,20-24 size=50");
  return element("p", {}, `${text.join("")}. `, command, " chooses others.");
}
