// The page: its controls, and what is shown.

import { closeVideo, openCamera, openFilm, play, record } from "./live.js";
import { startPainter, Trouble } from "./painter.js";

const MOST_PIXELS = 16e6; // of a photo; larger ones are scaled down
const MOST_PAINTED = { realtime: 16e6, small: 6e6, full: 2.5e6 }; // pixels that fit in a browser's memory
const PAINTED_SIDE = { fast: 1280, slow: 800 }; // pixels on the longer side, for which the brush is set at first

const the = Object.fromEntries([...document.querySelectorAll("[id]")].map(element => [element.id, element]));
let site, painter, engine, ready; // `ready`: a promise that the runtime is loaded and checked
let source = null; // { kind: "photo" | "camera" | "film", name, width, height, remark, isReady: for the worker, style }
let recording = null, facing = "user", brushIsChosen = false, speed = 0;
let busy = false, stale = false, asked = 0, shown = 0; // sources are numbered: none replaces one asked for later
let times = []; // when the last live pictures of the present look were shown

const say = (sentence = "") => Object.assign(the.message, { textContent: sentence, hidden: !sentence });

/** An event handler whose failure becomes a sentence on the page. */
const guarded = act => async (...given) => {
  try {
    await act(...given);
  } catch (error) {
    if (error?.name === "AbortError") return; // of a video that was replaced before it played
    console.error(error);
    if (the.status.textContent.endsWith("…")) the.status.textContent = "";
    say(error instanceof Trouble ? error.message : `That did not work (${error?.message ?? error}).`);
  }
};

// The look

const sizeOf = (width, height) => `${width} × ${height}`;
const chosen = () => site.styles.find(style => style.name === the.controls.elements.style.value);
const nameFor = suffix => `${source.name.replace(/\.[^.]*$/, "")}-${source.style ?? chosen().name}.${suffix}`;
const scaledSides = (width, height, factor) => [width, height].map(side => Math.max(1, Math.round(side * factor)));

/** The width and height of a photo, or of the frames as they are painted. */
const sidesOf = ({ kind, width, height }) =>
  scaledSides(width, height, kind === "photo" ? 1 : Math.min(1, the.size.value / Math.max(width, height)));

/** How the source is painted. What a browser's memory has no room for is painted with a broader brush. */
function look() {
  const [width, height] = sidesOf(source), style = chosen().name;
  const second = the.second.value === style ? null : the.second.value || null;
  const used = site.styles.filter(({ name }) => name === style || name === second);
  const most = Math.min(...used.map(({ kind }) => MOST_PAINTED[kind]));
  return {
    style, second, mix: the.mix.value / 100, strength: the.strength.value / 100, colours: the.colours.checked,
    stroke: Math.max(2 ** the.stroke.value, Math.sqrt(width * height / most)),
  };
}

/** A large photo is painted with a broad brush unless another is chosen: faster, and the strokes can be seen. */
function setBrush() {
  if (brushIsChosen || !source) return;
  const { kind, width, height } = source, side = PAINTED_SIDE[chosen().slow && !engine?.isGpu ? "slow" : "fast"];
  const steps = factor => Math.log2(factor) / the.stroke.step, most = steps(Math.min(width, height) / site.least);
  const wanted = Math.min(Math.ceil(steps(Math.max(width, height) / side)), Math.floor(most)); // a banner has few rows
  the.stroke.value = kind === "photo" ? Math.max(0, wanted) * the.stroke.step : 0;
}

function showValues() {
  const brush = source ? look().stroke : 2 ** the.stroke.value;
  const texts = { strength: `${the.strength.value} %`, stroke: `× ${brush.toFixed(2)}`, mix: `${the.mix.value} %` };
  for (const [name, text] of Object.entries(texts))
    document.querySelector(`output[for=${name}]`).textContent = the[name].ariaValueText = text;
  the.mix.disabled = ["", chosen().name].includes(the.second.value);
  the.size.disabled = the.record.classList.toggle("recording", Boolean(recording)); // a recording has one size
  the.record.textContent = recording ? "Stop recording" : "Record";
  the.stage.style.setProperty("--at", `${the.divider.value}%`);
}

// Painting: one picture at a time, always with the newest frame and look

async function repaint() {
  stale = true;
  if (busy) return;
  busy = true;
  while (stale && source?.isReady) {
    stale = false;
    await guarded(source.kind === "photo" ? paintPhoto : paintFrame)();
  }
  busy = false;
}

async function paintPhoto() {
  say();
  const current = source, wanted = look();
  const [width, height] = scaledSides(current.width, current.height, 1 / wanted.stroke);
  const work = chosen().cost * width * height, seconds = speed ? Math.round(work / speed / 1000) : 0;
  the.status.textContent = seconds > 1 ? `Painting, about ${seconds} s…` : "Painting…";
  the.stage.setAttribute("aria-busy", "true");
  try {
    const { bitmap, time, check, isNew } = await painter.call("paint", wanted);
    if (current !== source) return bitmap.close();
    if (isNew) speed = work / time;
    show(bitmap, check, wanted.style);
    const painted = wanted.stroke === 1 ? "" : `, painted at ${sizeOf(width, height)}`;
    const took = isNew ? ` in ${Math.round(time)} ms` : "";
    the.status.textContent = `${current.remark}${sizeOf(current.width, current.height)}${painted}${took}`;
  } finally {
    the.stage.removeAttribute("aria-busy");
  }
}

async function paintFrame() {
  const current = source, began = performance.now(), sameLook = times, [width, height] = sidesOf(current);
  const wanted = { bitmap: await createImageBitmap(the.video).catch(() => null), width, height, look: look() };
  if (!wanted.bitmap || current !== source) return; // the video has not begun, or another came
  const { bitmap, check } = await painter.call("paintFrame", wanted, [wanted.bitmap]);
  if (current !== source) return bitmap.close();
  show(bitmap, check, wanted.look.style);
  if (times !== sameLook) return;
  if (!times.length) say();
  if (times.push(performance.now()) > 20) times.shift();
  const rate = 1000 * (times.length - 1) / (times.at(-1) - times[0]), late = Math.round(performance.now() - began);
  const often = times.length > 1 ? ` · ${rate.toFixed(1)} frames a second` : "";
  the.status.textContent = `${sizeOf(width, height)}${often} · ${late} ms`;
}

function show(bitmap, { most, decibels }, style) {
  source.style = style;
  if (the.after.width !== bitmap.width || the.after.height !== bitmap.height)
    Object.assign(the.after, { width: bitmap.width, height: bitmap.height });
  the.after.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  the.save.disabled = false;
  const apart = `differs from PyTorch by at most ${most} of 255 levels (${decibels.toFixed(0)} dB)`;
  the.backend.textContent = [`${engine.backend}: ${most ? apart : "paints as PyTorch"}.`, ...engine.notes].join(" ");
}

// Sources

/** Show a source, and paint it once the worker is ready and has been prepared. */
async function setSource(next, prepare) {
  recording?.stop();
  if (next.kind === "photo") closeVideo(the.video);
  source = next;
  times = [];
  the.stage.style.setProperty("--ratio", source.width / source.height);
  document.body.dataset.source = source.kind; // the style sheet hides what does not belong to it
  the.status.setAttribute("aria-live", source.kind === "photo" ? "polite" : "off");
  the.save.disabled = true;
  the.after.width = the.after.height = 1; // nothing of the one before
  the.status.textContent = painter ? "Painting…" : "Loading the runtime…";
  setBrush();
  showValues();
  await ready;
  await prepare?.();
  next.isReady = true;
  repaint();
}

async function openPhoto(file, name, number) {
  const probe = Object.assign(new Image(), { src: URL.createObjectURL(file) }); // reads the size alone
  await new Promise(resolve => { probe.onload = probe.onerror = resolve; });
  URL.revokeObjectURL(probe.src);
  const { naturalWidth: width, naturalHeight: height } = probe;
  if (!width || file.type.includes("svg")) // createImageBitmap reads no SVG
    throw new Trouble(`${name} is not a picture or video that this browser can read.`);
  if (Math.min(width, height) < site.least)
    throw new Trouble(`${name} has ${sizeOf(width, height)} pixels; it needs ${sizeOf(site.least, site.least)}.`);
  const factor = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const [resizeWidth, resizeHeight] = scaledSides(width, height, factor);
  const bitmap = await createImageBitmap(file, { resizeWidth, resizeHeight, resizeQuality: "high" }).catch(() => {
    throw new Trouble(`${name} is damaged, or too large for this browser (${sizeOf(width, height)} pixels).`);
  });
  await usePhoto(bitmap, name, number, factor === 1 ? ""
    : `${name} is too large for a browser (${sizeOf(width, height)} pixels); it is scaled to `);
}

async function usePhoto(bitmap, name, number, remark = "") {
  if (number < shown) return bitmap.close();
  shown = number;
  const { width, height } = bitmap;
  Object.assign(the.before, { width, height });
  the.before.getContext("2d").drawImage(bitmap, 0, 0);
  await setSource({ kind: "photo", name, width, height, remark }, () => painter.call("setPhoto", bitmap, [bitmap]));
}

async function useVideo(content, kind, name, number) {
  if (number < shown) return content.srcObject?.getTracks().forEach(track => track.stop());
  shown = number;
  await play(the.video, content);
  const next = { kind, name, width: the.video.videoWidth, height: the.video.videoHeight };
  const follow = () => { if (next === source) { repaint(); the.video.requestVideoFrameCallback(follow); } };
  the.video.requestVideoFrameCallback(follow);
  await setSource(next);
}

/** An event handler that opens a source, which is given a number. */
const opening = act => guarded(async given => {
  say();
  await act(++asked, given);
});

const open = opening(async (number, file) => {
  if (file?.type.startsWith("video/")) await useVideo(await openFilm(file), "film", file.name, number);
  else if (file) await openPhoto(file, file.name, number);
});
const startCamera = opening(async number => useVideo(await openCamera(facing), "camera", "camera", number));
const takePhoto = opening(async number => usePhoto(await createImageBitmap(the.video), "camera", number));

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function save() {
  const blob = await new Promise(resolve => the.after.toBlob(resolve, "image/jpeg", 0.95));
  if (!blob) throw new Trouble("The picture is too large for this browser to save.");
  download(blob, nameFor("jpg"));
}

async function toggleRecording() {
  if (recording) return recording.stop();
  let name = nameFor(""), isWanted = true;
  recording = { stop() { isWanted = false; } }; // while the microphone is asked for
  showValues();
  try {
    recording = await record(the.after, the.video);
    if (!isWanted) recording.stop();
    const { blob, suffix, isSilent } = await recording.finished;
    if (!isWanted) return;
    if (!blob.size) throw new Trouble("Nothing was recorded: the video did not play.");
    download(blob, name + suffix);
    if (isSilent) say("The recording has no sound: no microphone or sound device could be used.");
  } finally {
    recording = null;
    showValues();
  }
}

function listStyles() {
  for (const { name, title, kind, slow } of site.styles) {
    const choice = the.choice.content.cloneNode(true), text = choice.querySelector("span");
    Object.assign(choice.querySelector("input"), { value: name, checked: name === site.styles[0].name });
    choice.querySelector("img").src = `styles/${encodeURIComponent(name)}.jpg`;
    text.prepend(title, " ");
    text.lastChild.textContent = slow ? "slow" : kind;
    the.second.append(new Option(text.textContent, name));
    the.styles.append(choice);
  }
}

function listen() {
  the.file.addEventListener("change", () => { open(the.file.files[0]); the.file.value = ""; }); // may be chosen again
  the.camera.addEventListener("click", startCamera);
  the.flip.addEventListener("click", () => { facing = facing === "user" ? "environment" : "user"; startCamera(); });
  the.shoot.addEventListener("click", () => { takePhoto(); the.camera.focus({ preventScroll: true }); });
  the.save.addEventListener("click", guarded(save));
  the.record.addEventListener("click", guarded(toggleRecording));
  the.play.addEventListener("click", guarded(() => the.video.paused ? the.video.play() : the.video.pause()));
  for (const [event, next] of [["play", "Pause"], ["pause", "Play"]])
    the.video.addEventListener(event, () => { the.play.textContent = next; });
  the.video.addEventListener("resize", guarded(async () => { // a phone was turned
    const { videoWidth: width, videoHeight: height } = the.video;
    const isOther = source && source.kind !== "photo" && width && width * source.height !== height * source.width;
    if (isOther) await setSource(Object.assign(source, { width, height }));
  }));
  the.video.addEventListener("ended", () => { repaint(); recording?.stop(); });
  the.divider.addEventListener("input", showValues);
  the.stroke.addEventListener("input", () => { brushIsChosen = true; });
  the.second.addEventListener("input", () => { if (the.mix.value === "0") the.mix.value = 50; });
  the.controls.addEventListener("input", ({ target }) => {
    if (target === the.file) return;
    if (target.name === "style") setBrush();
    say();
    times = [];
    if (source?.isReady && source.kind !== "photo") the.status.textContent = "Painting…";
    showValues();
    repaint();
  });
  addEventListener("paste", event => open(event.clipboardData?.files[0]));
  for (const name of ["dragover", "dragleave", "drop"]) addEventListener(name, event => {
    event.preventDefault();
    document.body.classList.toggle("dropping", name === "dragover" || Boolean(event.relatedTarget)); // in the window
    if (name === "drop") open(event.dataTransfer.files[0]);
  });
}

async function begin() {
  site = await fetch("site.json").then(response => response.json()).catch(() => {
    throw new Trouble("This site is not complete: site.json is missing.");
  });
  listStyles();
  showValues();
  listen();
  ready = startPainter(site).then(started => {
    ({ painter, engine } = started);
    if (engine.isGpu) the.size.value = 1280;
    if (!self.crossOriginIsolated && !engine.isGpu)
      engine.notes.push("Threads are off: this web server does not send the headers they need; “fst web” does.");
  });
  ready.catch(() => {}); // whoever waits for it says why
  await openPhoto(await (await fetch(site.sample)).blob(), site.sample, 0);
}

guarded(begin)();
