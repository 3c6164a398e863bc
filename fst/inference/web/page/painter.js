// The worker as seen from the page: calls that return promises.

const GPU_PATIENCE = 20_000; // milliseconds for a graphics processor to pass its check

/** What went wrong, as a sentence for the page. */
export class Trouble extends Error {}

class Painter {
  #worker = new Worker("worker.js", { type: "module" });
  #waiting = new Map();
  #last = 0;

  constructor() {
    this.loaded = new Promise(resolve => this.#worker.addEventListener("message", ({ data }) => {
      if (data.loaded) resolve();
      const { resolve: succeed, reject: fail } = this.#waiting.get(data.id) ?? {};
      this.#waiting.delete(data.id);
      if (data.trouble) fail?.(new Trouble(data.trouble));
      else succeed?.(data.result);
    }));
    this.#worker.addEventListener("error", () => {
      for (const { reject } of this.#waiting.values()) reject(new Trouble("The worker stopped; reload the page."));
      this.#waiting.clear();
    });
  }

  call(name, argument, transfer = []) {
    return new Promise((resolve, reject) => {
      this.#waiting.set(++this.#last, { resolve, reject });
      this.#worker.postMessage({ id: this.#last, name, argument }, transfer);
    });
  }

  end() {
    this.#worker.terminate();
  }
}

/** A painter that has loaded the runtime and checked it; without the graphics processor if that does not answer. */
export async function startPainter(description, style) {
  const painter = new Painter();
  const started = painter.call("start", { description, style, useGpu: Boolean(navigator.gpu) });
  if (!navigator.gpu) return { painter, ...await started };
  const late = painter.loaded.then(() => new Promise((_, reject) => setTimeout(reject, GPU_PATIENCE, "late")));
  try {
    return { painter, ...await Promise.race([started, late]) };
  } catch (error) {
    if (error !== "late") throw error;
    painter.end();
    const plain = new Painter();
    const info = await plain.call("start", { description, style, useGpu: false });
    info.notes.push("WebGPU is not used: it did not answer.");
    return { painter: plain, ...info };
  }
}
