// Numbers, times and elements. Texts of the dataset only ever become text nodes.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const MINUS = "\u2212";

function number(value) {
  if (value === null || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replaceAll("-", MINUS);
  const digits = Math.max(0, Math.min(4, 3 - Math.floor(Math.log10(size))));
  return value.toFixed(digits).replace("-", MINUS);
}

const whole = (value) => value.toLocaleString("en");
const counted = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;
const percent = (part, all) => `${Number(((100 * part) / all).toPrecision(2))} %`;

function clock(seconds) {
  if (seconds < 60) return `${seconds.toFixed(2)} s`;
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

function duration(seconds) {
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A canvas of its element's size, sharp on any screen; null where it is not on the page's face.
function sheet(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width || !height) return null;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return { context, width, height };
}

// Round numbers that cut a span into about `wanted` parts.
function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step + 0); // never -0
  return found;
}
