// The page's worker: opens the model, draws, and tells of each step. The page itself never waits.
//
// It is sent {kind: "draw", id, ...settings} and {kind: "stop"}; it posts {kind: "ready" | "backend" | "step" | "done" |
// "stopped" | "error", ...}. Images go to the page as RGBA bytes.

import { draw, inpaint, noiseOfImages, scheduleOf, sdedit, slerp } from "./diffusion.js";

const TOLERANCE = 1e-3; // by which WebGPU's values may differ from WASM's
const asked = new URL(self.location.href).searchParams.get("backend"); // wasm or webgpu: to insist
let model, schedule, bounds, run, weights;
let current = 0; // the drawing that is wanted
let before = Promise.resolve(); // the drawing before it, which stops soon

class Stopped extends Error {}

/** ONNX Runtime of one of its builds, with the model opened: a function of (noisy, time, labels) to {image, noise}. */
async function opened(build, backend) {
  const ort = await import(`./ort/ort.${build}.min.mjs`);
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(weights, { executionProviders: [backend], logSeverityLevel: 3 });
  return async (noisy, time, labels) => {
    const size = model.shape.reduce((a, b) => a * b), count = noisy.length / size;
    const feeds = {
      noisy: new ort.Tensor("float32", noisy, [count, ...model.shape]),
      time: new ort.Tensor("float32", new Float32Array(count).fill(time), [count]),
    };
    if (model.classes.length) feeds.label = new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [count]);
    const { image, noise } = await session.run(feeds);
    return { image: image.data, noise: noise.data };
  };
}

/** The denoiser of some labels, guided: unconditional + scale * (conditional - unconditional). */
function denoiserOf(labels, scale) {
  const interval = model.guidance.interval;
  return {
    schedule,
    bounds,
    predict: async (noisy, time) => {
      const [signal, noiseRate] = schedule(time);
      const within = !interval || (noiseRate >= interval[0] * signal && noiseRate <= interval[1] * signal);
      if (!model.classes.length || scale === 1 || !within) return run(noisy, time, labels);
      const twice = new Float32Array(2 * noisy.length);
      twice.set(noisy);
      twice.set(noisy, noisy.length);
      const both = await run(twice, time, [...labels, ...labels.map(() => -1)]);
      const guided = (part) => {
        const plain = part.subarray(noisy.length);
        return part.slice(0, noisy.length).map((value, i) => plain[i] + scale * (value - plain[i]));
      };
      return { image: guided(both.image), noise: guided(both.noise) };
    },
  };
}

/** Images in the model's space, scaled, as RGBA bytes. */
function pixelsOf(images, scale = 1) {
  const [channels, height, width] = model.shape, area = height * width, count = images.length / (channels * area);
  const bytes = new Uint8ClampedArray(count * area * 4).fill(255);
  for (let i = 0; i < count; i++) {
    for (let pixel = 0; pixel < area; pixel++) {
      for (let c = 0; c < Math.max(3, channels); c++) {
        const channel = channels === 1 ? 0 : c;
        const value = images[(i * channels + channel) * area + pixel] * scale * model.std[channel] + model.mean[channel];
        bytes[(i * area + pixel) * 4 + c] = Math.floor(Math.min(1, Math.max(0, value)) * 255 + 0.5);
      }
    }
  }
  return bytes;
}

/** The standard deviation: what is stronger than unit variance is shown as if it were not. */
function deviation(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
}

/** RGBA bytes of one image as `count` copies in the model's space. */
function imagesOf(bytes, count) {
  const [channels, height, width] = model.shape, area = height * width;
  const images = new Float32Array(count * channels * area);
  for (let i = 0; i < images.length; i++) {
    const channel = Math.floor(i / area) % channels;
    images[i] = (bytes[(i % area) * 4 + channel] / 255 - model.mean[channel]) / model.std[channel];
  }
  return images;
}

async function drawn(settings) {
  const { id, mode, labels, guidance, seed, sampler, steps } = settings;
  const size = bounds[0].length, count = labels.length, indices = labels.map((_, i) => i);
  // Between two seeds the noise of every step goes from one's to the other's, so that the ends are the images of both.
  const between = (drawing) => {
    const ends = [seed, settings.seed2].map((each) => noiseOfImages(each, [0], size, drawing));
    return Float32Array.from(indices.flatMap((i) => [...slerp(...ends, count === 1 ? 0 : i / (count - 1))]));
  };
  const noiseOf = mode === "between" ? between : (drawing) => noiseOfImages(seed, indices, size, drawing);
  const noise = noiseOf(0);
  const way = {
    ...(mode === "fill" ? model.fill : model.samplers[sampler]),
    steps,
    fresh: (drawing) => noiseOf(drawing + 1),
    step: async (call, calls, noisy, { image }) => {
      await new Promise((resolve) => setTimeout(resolve)); // lets a newer wish be heard
      if (id !== current) throw new Stopped();
      const seen = { noisy: pixelsOf(noisy, 1 / Math.max(1, deviation(noisy))), estimate: pixelsOf(image) };
      self.postMessage({ kind: "step", id, call, calls, ...seen }, [seen.noisy.buffer, seen.estimate.buffer]);
    },
  };
  const denoiser = denoiserOf(labels, guidance);
  if (mode === "noise" || mode === "between") return draw(denoiser, noise, way);
  const images = imagesOf(settings.pad, count);
  if (mode === "pad") return sdedit(denoiser, images, noise, settings.strength, way);
  const area = model.shape[1] * model.shape[2];
  return inpaint(denoiser, images, images.map((_, i) => settings.mask[i % area]), noise, way);
}

async function answer(settings) {
  if (settings.id !== current) return; // a newer wish came meanwhile
  const begun = performance.now();
  try {
    const images = await drawn(settings);
    const broken = images.some((value) => !Number.isFinite(value));
    if (broken) throw new Error("the images are not finite: take less guidance, other steps or another sampler");
    const pixels = pixelsOf(images);
    self.postMessage({ kind: "done", id: settings.id, milliseconds: performance.now() - begun, images: pixels }, [pixels.buffer]);
  } catch (error) {
    if (error instanceof Stopped) self.postMessage({ kind: "stopped", id: settings.id });
    else self.postMessage({ kind: "error", id: settings.id, text: error.message });
  }
}

/** Take WebGPU where there is one that gives WASM's values, and is not slower (or insisted on). */
async function tryWebgpu(wasm) {
  if (!model.webgpu || asked === "wasm" || !(await navigator.gpu?.requestAdapter().catch(() => null))) return;
  let said = "WebGPU";
  try {
    const gpu = await opened("webgpu", "webgpu");
    const count = 4, labels = Array.from({ length: count }, (_, i) => i % Math.max(1, model.classes.length));
    const noise = noiseOfImages(0, labels.map((_, i) => i), bounds[0].length);
    const timed = async (each) => {
      await each(noise, 0.5, labels); // the first call compiles
      const begun = performance.now();
      const { image } = await each(noise, 0.5, labels);
      return [image, performance.now() - begun];
    };
    const [[wanted, slow], [given, fast]] = [await timed(wasm), await timed(gpu)];
    const difference = wanted.reduce((most, value, i) => Math.max(most, Math.abs(value - given[i])), 0);
    if (!(difference <= TOLERANCE)) said = "WASM (WebGPU gives other values)";
    else if (fast > slow && asked !== "webgpu") said = "WASM (faster here than WebGPU)";
    else run = gpu;
  } catch {
    said = "WASM (WebGPU cannot run this model)";
  }
  self.postMessage({ kind: "backend", backend: said });
}

async function begin() {
  const fetched = async (name) => {
    const answered = await fetch(new URL(name, import.meta.url));
    if (!answered.ok) throw new Error(`${name} is not there (${answered.status})`);
    return answered;
  };
  const runtime = import("./ort/ort.wasm.min.mjs"); // meanwhile
  runtime.catch(() => {}); // is said where it is waited for
  try {
    [model, weights] = await Promise.all([
      fetched("./model.json").then((file) => file.json()),
      fetched("./model.onnx").then((file) => file.arrayBuffer()),
    ]);
    const area = model.shape[1] * model.shape[2];
    const each = (value) => Float32Array.from({ length: model.shape[0] * area }, (_, i) => value(Math.floor(i / area)));
    bounds = [each((c) => -model.mean[c] / model.std[c]), each((c) => (1 - model.mean[c]) / model.std[c])];
    schedule = scheduleOf(model.schedule);
    run = await opened("wasm", "wasm");
    const noise = pixelsOf(noiseOfImages(0, [...Array(16).keys()], bounds[0].length));
    self.postMessage({ kind: "ready", model: { ...model, schedule: null }, noise });
    const four = [0, 1, 2, 3];
    await run(noiseOfImages(0, four, bounds[0].length), 1, four.map(() => -1)); // the first call is slow: code is compiled
    await tryWebgpu(run);
  } catch (error) {
    self.postMessage({ kind: "error", text: `the model cannot be opened here: ${error.message}` });
  }
}

self.onmessage = ({ data }) => {
  current = data.kind === "draw" ? data.id : -1;
  if (data.kind === "draw") before = before.then(() => answer(data));
};
begin();
