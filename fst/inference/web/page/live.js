// Moving pictures: the camera, video files, and recording what is painted.

import { Trouble } from "./painter.js";

const TROUBLE = {
  NotAllowedError: "The camera is not allowed for this page; the browser’s settings change that.",
  NotFoundError: "No camera was found.",
};
const KINDS = [["video/mp4;codecs=avc1.42E01F,mp4a.40.2", "mp4"], ["video/webm", "webm"], ["video/mp4", "mp4"]];

/** A camera as the content of a video element; `facingMode` is "user" or "environment". */
export async function openCamera(facingMode) {
  if (!navigator.mediaDevices) throw new Trouble("The camera needs a secure address: https, or localhost.");
  const wanted = { facingMode, width: { ideal: 1280 }, height: { ideal: 720 } };
  const srcObject = await navigator.mediaDevices.getUserMedia({ video: wanted }).catch(({ name }) => {
    throw new Trouble(TROUBLE[name] ?? "The camera cannot be opened; another program may be using it.");
  });
  return { srcObject, muted: true };
}

/** A video file as the content of a video element; another element tries it, so that what is shown goes on. */
export async function openFilm(file) {
  const trial = Object.assign(document.createElement("video"), { playsInline: true, src: URL.createObjectURL(file) });
  const width = await new Promise((resolve, reject) => {
    trial.onloadeddata = () => resolve(trial.videoWidth);
    trial.onerror = () => reject(new Trouble(`This browser cannot play ${file.name}.`));
  }).finally(() => closeVideo(trial));
  if (!width) throw new Trouble(`${file.name} has no pictures, only sound.`);
  return { src: URL.createObjectURL(file), muted: false };
}

/** Play a camera or a video file in a video element. */
export async function play(video, content) {
  closeVideo(video);
  Object.assign(video, content);
  await video.play().catch(error => {
    if (error.name !== "NotAllowedError") throw error;
    video.muted = true; // browsers start sound only after a click
    return video.play();
  });
}

export function closeVideo(video) {
  video.pause();
  video.srcObject?.getTracks().forEach(track => track.stop());
  video.srcObject = null;
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.load();
}

let soundOf; // a video element can be connected once

async function filmSound(video) {
  if (!soundOf) {
    const context = new AudioContext(), source = context.createMediaElementSource(video);
    const sink = context.createMediaStreamDestination();
    for (const output of [sink, context.destination]) source.connect(output);
    soundOf = { context, sink };
  }
  const late = new Promise(resolve => setTimeout(resolve, 3000, []));
  const tracks = soundOf.context.resume().then(() => soundOf.sink.stream.getAudioTracks());
  return Promise.race([tracks, late]); // without a sound device, Firefox never starts
}

/** Record a canvas with its sound; returns { stop, finished }, a promise of { blob, suffix, isSilent }. */
export async function record(canvas, video) {
  const kind = KINDS.find(([type]) => self.MediaRecorder?.isTypeSupported(type));
  if (!kind || !canvas.captureStream) throw new Trouble("This browser cannot record.");
  const isCamera = Boolean(video.srcObject);
  const microphone = async () => (await navigator.mediaDevices.getUserMedia({ audio: true })).getTracks();
  const sound = await (isCamera ? microphone() : filmSound(video)).catch(() => []); // then without
  const stream = new MediaStream([...canvas.captureStream().getTracks(), ...sound]);
  const recorder = new MediaRecorder(stream, { mimeType: kind[0], videoBitsPerSecond: 8_000_000 });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const finished = new Promise((resolve, reject) => {
    recorder.onstop = () => {
      if (isCamera) sound.forEach(track => track.stop());
      resolve({ blob: new Blob(parts, { type: kind[0] }), suffix: kind[1], isSilent: !sound.length });
    };
    recorder.onerror = () => reject(new Trouble("The recording failed."));
  });
  recorder.start(1000);
  return { stop: () => recorder.state !== "inactive" && recorder.stop(), finished };
}
