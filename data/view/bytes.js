// The page's own data: JSON once, and for each episode numbers and images that wait as base64
// until they are looked at.

const DATA = JSON.parse(document.getElementById("data").textContent);

function bytesOf(id) {
  const element = document.getElementById(id);
  if (!element) return null;
  const text = atob(element.textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Bytes of equal significance lie together (numbers.py): put each number's own ones side by side.
function numbersFrom(bytes, count, dtype) {
  const size = dtype === "f8" ? 8 : 4;
  const whole = new Uint8Array(count * size);
  for (let byte = 0; byte < size; byte++)
    for (let i = 0, at = byte * count; i < count; i++) whole[i * size + byte] = bytes[at + i];
  return dtype === "f8" ? new Float64Array(whole.buffer) : new Float32Array(whole.buffer);
}

// {key: {stride, points, low: [columns], high: [columns]} or {error}}; where every frame is there,
// low and high are the same arrays.
async function readNumbers(entry) {
  const bytes = await inflated(bytesOf(`numbers-${entry.episode}`));
  const found = new Map();
  let at = 0;
  for (const { key, shown } of DATA.keys) {
    const said = entry.series[key];
    if (said.error !== undefined) {
      found.set(key, { error: said.error });
      continue;
    }
    const count = shown * said.points * (said.stride > 1 ? 2 : 1);
    const length = count * (said.dtype === "f8" ? 8 : 4);
    const all = numbersFrom(bytes.subarray(at, at + length), count, said.dtype);
    at += length;
    const column = (i) => all.subarray(i * said.points, (i + 1) * said.points);
    const low = Array.from({ length: shown }, (_, i) => column(i));
    const high = said.stride > 1 ? low.map((_, i) => column(shown + i)) : low;
    found.set(key, { stride: said.stride, points: said.points, low, high });
  }
  return found;
}

// {camera: {blobs: [Blob]} or {error}}, in the order in which they were packed (images.py).
function readImages(entry) {
  const found = new Map();
  const bytes = Object.keys(entry.images).length ? bytesOf(`images-${entry.episode}`) : null;
  for (const camera of DATA.cameras) {
    const said = entry.images[camera];
    if (!said) continue;
    if (said.error !== undefined) {
      found.set(camera, { error: said.error });
      continue;
    }
    const view = new DataView(bytes.buffer);
    const count = view.getUint32(said.at, true);
    let at = said.at + 4 * (count + 1);
    const blobs = [];
    for (let i = 0; i < count; i++) {
      const length = view.getUint32(said.at + 4 * (i + 1), true);
      blobs.push(new Blob([bytes.subarray(at, at + length)], { type: "image/webp" }));
      at += length;
    }
    found.set(camera, { blobs });
  }
  return found;
}
