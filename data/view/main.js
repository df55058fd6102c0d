// The page's parts, put together.

const by = (id) => document.getElementById(id);

// The words of the task at a frame of an episode, after a dot; nothing where none are recorded.
function taskAt(entry, frame) {
  const span = entry.tasks.findLast(([start]) => start <= frame);
  const words = span ? span[1] : entry.task;
  return words ? ` · ${words}` : "";
}

class Page {
  constructor() {
    this.cameras = DATA.cameras.filter((name) => DATA.images && DATA.images[name]).map((name) => new Camera(name));
    this.scene = DATA.scene ? new SceneView(DATA.scene) : null;
    this.panels = panelsOf(DATA.keys);
    this.path = new PathView();
    this.player = new Player((frame) => this.showFrame(frame), () => this.showState());
    this.at = 0;
    this.describe();
    this.listEpisodes();
    this.lay();
    this.listen();
    fillDataset(by("view-dataset"));
  }

  describe() {
    const { facts } = DATA;
    document.title = `${facts.name} – dataset`;
    by("name").textContent = facts.name;
    const parts = [counted(facts.episodes, "episode"), counted(facts.frames, "frame")];
    if (facts.seconds !== null) parts.push(duration(facts.seconds));
    parts.push(facts.fps === null ? `frame rate not recorded (played at ${ASSUMED_FPS} Hz)` : `${facts.fps} Hz`);
    if (facts.environment) parts.push(facts.environment);
    by("summary").textContent = parts.join(" · ");
    const { problems, warnings } = facts.validation;
    const verdict = by("verdict");
    verdict.className = problems ? "problem" : warnings ? "warning" : "";
    if (problems || warnings) verdict.textContent = problems ? counted(problems, "problem") : counted(warnings, "warning");
  }

  listEpisodes() {
    const { episodes, facts } = DATA;
    const all = episodes.length === facts.episodes;
    by("count").textContent = all ? counted(episodes.length, "episode") : `${whole(episodes.length)} of ${whole(facts.episodes)} episodes`;
    this.options = episodes.map((entry, i) => {
      const images = Object.keys(entry.images).length > 0;
      const bar = element("i", { class: "length", "aria-hidden": "true" });
      bar.style.width = `${(100 * entry.frames) / facts.lengths.longest}%`;
      const said = facts.fps ? clock(entry.frames / facts.fps) : String(entry.frames);
      const kind = images && this.cameras.length ? element("span", { class: "has", title: "with images" }, "▣") : "";
      const option = element("li", { role: "option", id: `episode-${i}`, "aria-selected": "false" },
        element("b", {}, String(entry.episode)), kind, element("span", { class: "quiet" }, said), bar);
      option.setAttribute("aria-label", `episode ${entry.episode}, ${counted(entry.frames, "frame")}${kind ? ", with images" : ""}`);
      option.addEventListener("click", () => this.open(i));
      return option;
    });
    by("episodes").append(...this.options);
  }

  lay() {
    by("screens").append(...[...this.cameras, this.scene].filter(Boolean).map((view) => view.root));
    by("screens").classList.toggle("single", this.cameras.length + (this.scene ? 1 : 0) === 1);
    by("view-episodes").classList.toggle("plots-only", !this.cameras.length && !this.scene && !this.path.root.open);
    by("screens").hidden = !this.cameras.length && !this.scene;
    by("plots").append(...this.panels.map((panel) => panel.root));
    for (const speed of SPEEDS) by("speed").append(new Option(`${speed}×`, speed));
    this.showState();
  }

  async open(i, frame = 0) {
    const entry = DATA.episodes[i];
    this.player.pause();
    this.at = i;
    this.options.forEach((option, k) => option.setAttribute("aria-selected", String(k === i)));
    by("episodes").setAttribute("aria-activedescendant", `episode-${i}`);
    this.options[i].scrollIntoView({ block: "nearest", inline: "nearest" });
    const found = await readNumbers(entry);
    if (this.at !== i) return; // another one was opened meanwhile
    const images = readImages(entry);
    this.cameras.forEach((camera) => camera.show(images.get(camera.name)));
    if (this.scene) this.scene.show(found);
    this.path.show(found);
    by("slider").max = entry.frames - 1;
    this.panels.forEach((panel) => panel.show(found, entry.frames));
    this.player.load(entry.frames, frame);
    document.documentElement.dataset.ready = entry.episode;
  }

  showFrame(frame) {
    const entry = DATA.episodes[this.at];
    const { fps } = DATA.facts;
    by("slider").value = frame;
    const time = fps ? `${clock(frame / fps)} · ` : "";
    by("clock").textContent = `${time}frame ${frame} / ${entry.frames - 1}`;
    by("slider").setAttribute("aria-valuetext", `frame ${frame}${fps ? `, ${clock(frame / fps)}` : ""}`);
    by("where").textContent = `episode ${entry.episode}, frame ${whole(entry.start + frame)} of the dataset${taskAt(entry, frame)}`;
    [...this.cameras, this.scene, this.path, ...this.panels].forEach((view) => view && view.at(frame));
    if (!this.player.playing) this.remember(entry.episode, frame);
  }

  showState() {
    const { playing, speed } = this.player;
    by("play-icon").setAttribute("d", playing ? "M7 5h3.5v14H7zm6.5 0H17v14h-3.5z" : "M7 4.5v15l12.5-7.5z");
    by("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    by("speed").value = String(speed);
    if (!playing && this.options && document.documentElement.dataset.ready !== undefined)
      this.remember(DATA.episodes[this.at].episode, this.player.frame);
  }

  // The address says what is seen, so that it can be sent to somebody.
  remember(episode, frame) {
    try {
      history.replaceState(null, "", `#episode=${episode}&frame=${frame}`);
    } catch { /* a page inside another page may not */ }
  }

  fromAddress() {
    const said = new URLSearchParams(location.hash.slice(1));
    const i = DATA.episodes.findIndex((entry) => String(entry.episode) === said.get("episode"));
    if (said.has("dataset")) this.tab("dataset");
    return this.open(Math.max(i, 0), i < 0 ? 0 : Number(said.get("frame")) || 0);
  }

  turn(by_) {
    const next = Math.min(Math.max(this.at + by_, 0), DATA.episodes.length - 1);
    if (next !== this.at) this.open(next);
  }

  setScale(scale) {
    for (const name of ["dataset", "episode"]) by(`scale-${name}`).setAttribute("aria-pressed", String(name === scale));
    for (const panel of this.panels) {
      panel.scale = scale;
      panel.draw();
    }
  }

  tab(name) {
    for (const other of ["episodes", "dataset"]) {
      by(`view-${other}`).hidden = other !== name;
      by(`tab-${other}`).setAttribute("aria-selected", String(other === name));
      by(`tab-${other}`).tabIndex = other === name ? 0 : -1;
    }
    if (name === "episodes") this.redraw();
    else this.player.pause();
  }

  redraw() {
    if (document.documentElement.dataset.ready === undefined) return;
    this.panels.forEach((panel) => panel.draw());
    [this.scene, this.path, ...this.panels].forEach((view) => view && view.at(this.player.frame));
  }

  listen() {
    by("play").addEventListener("click", () => this.player.toggle());
    by("back").addEventListener("click", () => this.player.step(-1));
    by("forth").addEventListener("click", () => this.player.step(1));
    by("slider").addEventListener("input", (event) => this.player.seek(Number(event.target.value)));
    by("speed").addEventListener("change", (event) => this.player.setSpeed(Number(event.target.value)));
    by("help").addEventListener("click", () => this.toggleKeys());
    for (const name of ["dataset", "episode"]) by(`scale-${name}`).addEventListener("click", () => this.setScale(name));
    for (const name of ["episodes", "dataset"]) by(`tab-${name}`).addEventListener("click", () => this.tab(name));
    this.panels.forEach((panel) => this.listenTo(panel));
    document.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("hashchange", () => this.fromAddress());
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    new ResizeObserver(() => this.redraw()).observe(by("viewer"));
  }

  listenTo(panel) {
    const seek = (event) => this.player.seek(panel.frameAt(event.clientX));
    panel.grid.addEventListener("pointerdown", (event) => {
      if (event.target.tagName !== "CANVAS" || event.button) return;
      panel.grid.setPointerCapture(event.pointerId);
      seek(event);
    });
    panel.grid.addEventListener("pointermove", (event) => {
      if (panel.grid.hasPointerCapture(event.pointerId)) seek(event);
    });
  }

  toggleKeys() {
    by("keys").hidden = !by("keys").hidden;
    by("help").setAttribute("aria-expanded", String(!by("keys").hidden));
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { tagName, role } = event.target;
    if (role === "tab") return this.tabKey(event);
    if (by("view-episodes").hidden || tagName === "SELECT" || tagName === "SUMMARY") return;
    if (event.key === " " && tagName === "BUTTON" && event.target.id !== "play") return;
    const { player } = this;
    const far = event.shiftKey ? 10 : 1;
    const speed = SPEEDS.indexOf(player.speed);
    const actions = {
      " ": () => player.toggle(),
      ArrowLeft: () => player.step(-far),
      ArrowRight: () => player.step(far),
      Home: () => player.step(-Infinity),
      End: () => player.step(player.frames),
      ArrowUp: () => this.turn(-1),
      ArrowDown: () => this.turn(1),
      "[": () => player.setSpeed(SPEEDS[Math.max(speed - 1, 0)]),
      "]": () => player.setSpeed(SPEEDS[Math.min(speed + 1, SPEEDS.length - 1)]),
      s: () => this.setScale(by("scale-dataset").getAttribute("aria-pressed") === "true" ? "episode" : "dataset"),
      "?": () => this.toggleKeys(),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }

  tabKey(event) {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = by("view-dataset").hidden ? "dataset" : "episodes";
    this.tab(other);
    by(`tab-${other}`).focus();
  }
}

function start() {
  if (typeof DecompressionStream === "undefined") {
    by("trouble").textContent = "This browser cannot read the page: one from 2023 or later is needed.";
    by("trouble").hidden = false;
    return;
  }
  new Page().fromAddress().catch((error) => {
    by("trouble").textContent = `The page is damaged: ${error.message}`;
    by("trouble").hidden = false;
  });
}

start();
