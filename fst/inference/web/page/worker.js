// The worker: loads the runtime, checks it against PyTorch, and paints, so that the page never waits.

import { difference, finish, fromCells, layout, toCells } from "./pixels.js";

const LEAST_DECIBELS = 40; // to PyTorch, as for the other exports
const MEASURED = 256; // side in pixels of the picture by which right backends are compared

class Trouble extends Error {} // its message is a sentence for the page

let site, ort, backend, photo; // photo: { pixels, width, height, painted: Map of "style at width × height" to pixels }
const describe = error => String(error?.message ?? error).split("\n")[0].slice(0, 160);
const sessions = new Map(); // of loaded styles, by name, each a promise

onmessage = async ({ data: { id, name, argument } }) => {
  try {
    const { result, transfer = [] } = await answers[name](argument);
    postMessage({ id, result }, transfer);
  } catch (error) {
    console.error(error);
    postMessage({ id, trouble: error instanceof Trouble ? error.message : `Painting failed (${describe(error)}).` });
  }
};

/** Choose the fastest of the backends that give PyTorch's pictures, by the first style for which there is one. */
async function start({ description, useGpu }) {
  site = description;
  if (draw(new OffscreenCanvas(8, 8), 8, 8).data.some(level => level < 250)) // noise in place of white
    throw new Trouble("This browser hides pixels from pages; let this page read its canvas, or use another browser.");
  const adapter = useGpu ? await navigator.gpu?.requestAdapter().catch(() => null) : null;
  const hasGpu = adapter && !adapter.info?.isFallbackAdapter;
  await loadRuntime(!hasGpu ? "wasm" : "Suspending" in WebAssembly ? "jspi" : "asyncify");
  postMessage({ loaded: true });
  const candidates = [{ provider: "wasm", half: false }], notes = [];
  if (hasGpu) candidates.push({ provider: "webgpu", half: false });
  else notes.push("WebGPU, which is faster, is not available here.");
  if (hasGpu && adapter.features.has("shader-f16")) candidates.push({ provider: "webgpu", half: true });
  for (const entry of site.styles) {
    const right = await findRight(entry, candidates, notes);
    if (!right.length) continue;
    const [{ candidate, session }, ...slower] = right.sort((a, b) => a.time - b.time);
    for (const found of slower) found.session.release();
    backend = candidate;
    sessions.set(entry.name, Promise.resolve(session));
    return { result: { backend: nameOf(backend), isGpu: backend.provider === "webgpu", notes } };
  }
  throw new Trouble(notes.at(-1).includes("wrong, ") ? "No backend of this browser paints as PyTorch does."
    : `No style could be loaded. ${notes.at(-1)}`);
}

async function findRight(entry, candidates, notes) {
  const right = [];
  for (const candidate of candidates) {
    try {
      const session = await open(entry, candidate);
      if (session.check.decibels < LEAST_DECIBELS) throw `wrong, ${Math.round(session.check.decibels)} dB`;
      right.push({ candidate, session, time: candidates.length > 1 ? await measure(session, entry) : 0 });
    } catch (error) {
      console.error(error);
      notes.push(`${nameOf(candidate)} is not used for ${entry.title}: ${describe(error)}.`);
    }
  }
  return right;
}

function nameOf({ provider, half }) {
  if (provider === "webgpu") return `WebGPU, ${half ? "half" : "single"} precision`;
  return `WebAssembly, ${ort.env.wasm.numThreads > 1 ? `${ort.env.wasm.numThreads} threads` : "one thread"}`;
}

async function loadRuntime(build) {
  const { local, version, files: { [build]: [script, module] } } = site.runtime;
  try {
    // A script from elsewhere is fetched with its hash first: imports in workers cannot have one.
    const address = local ? new URL(script.url, location).href
      : URL.createObjectURL(new Blob([await read(script.url, script.integrity)], { type: "text/javascript" }));
    const wasm = await read(module.url, module.integrity);
    ort = await import(address);
    ort.env.wasm.wasmBinary = wasm;
  } catch (cause) {
    throw new Trouble(local ? "The runtime’s files are missing or damaged on this site; export it again."
      : `The runtime could not be loaded from ${new URL(script.url).host}; without a connection, get it by `
        + `“npm pack onnxruntime-web@${version}” and give its file to --runtime.`, { cause });
  }
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
  ort.env.logLevel = "error";
}

async function read(url, integrity = "") {
  const response = await fetch(url, { integrity });
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response.arrayBuffer();
}

const find = style => site.styles.find(entry => entry.name === style);
const fileOf = (entry, suffix) => `styles/${encodeURIComponent(entry.name)}.${suffix}`;

/** A style's session, and how far it is from PyTorch. */
async function open(entry, { provider, half }) {
  const [graph, weights] = await Promise.all([half ? "half" : "onnx", "weights"].map(s => read(fileOf(entry, s))));
  const session = await ort.InferenceSession.create(new Uint8Array(graph), {
    executionProviders: [provider],
    externalData: [{ path: "weights", data: new Uint8Array(weights) }],
  });
  session.check = await compare(session, entry, new Uint8Array(await read(fileOf(entry, "check"))));
  return session;
}

/** Paint the stored picture and compare it with PyTorch's. */
async function compare(session, entry, stored) {
  const [width, height] = site.checked;
  const pixels = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let i = 0; i < width * height; i++) pixels.set(stored.subarray(3 * i, 3 * i + 3), 4 * i);
  return difference(await run(session, entry, pixels, width, height), stored.subarray(stored.length / 2));
}

async function measure(session, entry) {
  const pixels = new Uint8ClampedArray(4 * MEASURED * MEASURED).fill(128);
  let before;
  for (let i = 0; i < 3; i++) { // the last counts: the others prepare
    before = performance.now();
    await run(session, entry, pixels, MEASURED, MEASURED);
  }
  return performance.now() - before;
}

async function run(session, entry, pixels, width, height) {
  const plan = layout(width, height, entry);
  const shape = [1, 3 * plan.cell ** 2, plan.rows, plan.columns];
  const { stylized } = await session.run({ images: new ort.Tensor("float32", toCells(pixels, plan), shape) });
  return fromCells(await stylized.getData(true), plan);
}

/** The style's session, loaded at its first use. */
function load(style) {
  const entry = find(style);
  if (!sessions.has(style)) sessions.set(style, open(entry, backend).catch(cause => {
    sessions.delete(style); // to be tried again
    throw new Trouble(`${entry.title} could not be loaded; choose another style.`, { cause });
  }));
  return sessions.get(style);
}

function draw(source, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true, alpha: false });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** Paint RGBA pixels by one style, on `1 / stroke` of their size. */
async function paintOne(picture, style, stroke) {
  const { pixels, width, height, painted } = picture;
  const [w, h] = [width, height].map(side => Math.max(1, Math.round(side / stroke)));
  const key = `${style} at ${w} × ${h}`;
  if (painted.has(key)) return painted.get(key);
  if (Math.min(w, h) < site.least)
    throw new Trouble(`The picture has ${width} × ${height} pixels, ${w} × ${h} for this brush; `
      + `it needs at least ${site.least} × ${site.least}.`);
  const session = await load(style), { title } = find(style);
  if (session.check.decibels < LEAST_DECIBELS)
    throw new Trouble(`${title} is not painted as by PyTorch in this browser; choose another style.`);
  const image = new ImageData(pixels, width, height);
  const scaled = stroke === 1 ? image : draw(await createImageBitmap(image), w, h);
  let result = await run(session, find(style), scaled.data, w, h).catch(error => {
    console.error(error);
    throw new Trouble(`${w} × ${h} pixels are too many for ${title} in this browser; a broader brush needs fewer.`);
  });
  if (stroke !== 1) result = draw(await createImageBitmap(new ImageData(result, w, h)), width, height).data;
  painted.set(key, result);
  return result;
}

async function paintAll(picture, look) {
  const { check } = await load(look.style); // no part of the time
  const before = performance.now();
  if (picture.painted.size > 3) picture.painted.clear(); // each is as large as the photo
  const known = picture.painted.size;
  const first = await paintOne(picture, look.style, look.stroke);
  const isNew = picture.painted.size > known, time = performance.now() - before;
  const second = look.second && look.mix ? await paintOne(picture, look.second, look.stroke) : null;
  const result = new ImageData(finish(picture.pixels, first, second, look), picture.width, picture.height);
  const bitmap = await createImageBitmap(result);
  return { result: { bitmap, time, check, isNew }, transfer: [bitmap] };
}

function take(bitmap, width, height) {
  const { data: pixels } = draw(bitmap, width, height);
  bitmap.close();
  return { pixels, width, height, painted: new Map() };
}

const answers = {
  start,
  setPhoto: bitmap => { photo = take(bitmap, bitmap.width, bitmap.height); return {}; },
  paint: look => paintAll(photo, look),
  paintFrame: ({ bitmap, width, height, look }) => paintAll(take(bitmap, width, height), look),
};
