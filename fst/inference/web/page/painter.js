// The worker as seen from the page: calls that return promises.

const PATIENCE = 20_000; // milliseconds for a graphics processor to pass its check

/** What went wrong, as a sentence for the page. */
export class Trouble extends Error {}

class Painter {
  worker = new Worker("worker.js", { type: "module" });
  #calls = [];

  constructor() {
    this.loaded = new Promise(resolve => this.worker.addEventListener("message", ({ data }) => {
      if (data.loaded) return resolve();
      const { succeed, fail } = this.#calls[data.id];
      delete this.#calls[data.id];
      data.trouble ? fail(new Trouble(data.trouble)) : succeed(data.result);
    }));
    this.worker.addEventListener("error", () =>
      this.#calls.forEach(({ fail }) => fail(new Trouble("The worker stopped; reload the page."))));
  }

  call(name, argument, transfer = []) {
    return new Promise((succeed, fail) => {
      const id = this.#calls.push({ succeed, fail }) - 1;
      this.worker.postMessage({ id, name, argument }, transfer);
    });
  }
}

/** A painter that has loaded the runtime and checked it; without the graphics processor if that does not answer. */
export async function startPainter(description, useGpu = Boolean(navigator.gpu)) {
  const painter = new Painter();
  const late = painter.loaded.then(() => new Promise(resolve => setTimeout(resolve, PATIENCE, null)));
  const started = painter.call("start", { description, useGpu });
  const engine = await (useGpu ? Promise.race([started, late]) : started);
  if (engine) return { painter, engine };
  painter.worker.terminate();
  const plain = await startPainter(description, false);
  plain.engine.notes = ["WebGPU is not used: it did not answer."];
  return plain;
}
