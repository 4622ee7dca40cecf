// What a person sees and does. All settings are the form's and, for a link, the address's; drawing is the worker's.

const $ = (id) => document.getElementById(id);
const form = $("form"), fields = form.elements;
const SETTINGS = ["mode", "class", "guidance", "count", "steps", "seed", "seed2", "sampler", "strength"];
const WITH_PAD = ["pad", "fill"];
let model, worker, backend = "WASM";
let wish = 0; // the number of the latest drawing
const MOST = 2 ** 28; // bytes of steps that are kept: with more of them, every other goes
let history = []; // {call, calls, noisy, estimate} of each step, RGBA bytes
let shape; // [channels, height, width]
let playing;

// --- what is said ----------------------------------------------------------------------------------------------------

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

function cannot(text) {
  say(text, true);
  $("draw").disabled = true;
}

// --- images ----------------------------------------------------------------------------------------------------------

/** Whether there is one column, as on a phone. */
const isNarrow = () => matchMedia("(max-width: 46rem)").matches;

function columnsOf(count) {
  return Math.ceil(Math.sqrt(count));
}

/** Show RGBA bytes of some images as a grid on a canvas. */
function show(canvas, bytes, description) {
  const [, height, width] = shape, area = height * width * 4, count = bytes.length / area, columns = columnsOf(count);
  canvas.width = columns * (width + 1) - 1;
  canvas.height = Math.ceil(count / columns) * (height + 1) - 1;
  const context = canvas.getContext("2d");
  for (let i = 0; i < count; i++) {
    const image = new ImageData(bytes.slice(i * area, (i + 1) * area), width, height);
    context.putImageData(image, (i % columns) * (width + 1), Math.floor(i / columns) * (height + 1));
  }
  canvas.setAttribute("aria-label", description);
}

function showStep(step) {
  const seen = history[step - 1];
  if (!seen) return;
  const [, height, width] = shape, count = seen.estimate.length / (height * width * 4), of = `step ${seen.call + 1} of ${seen.calls}`;
  show($("noisy"), seen.noisy, `${count} noisy images, ${of}`);
  show($("estimate"), seen.estimate, `The model's estimate of ${count} images of ${model.data}, ${of}`);
  $("step").value = step;
  $("step-said").value = of;
}

function play() {
  clearInterval(playing);
  let step = 0;
  playing = setInterval(() => {
    step += 1;
    showStep(step);
    if (step >= history.length) clearInterval(playing);
  }, Math.max(40, Math.min(400, 3000 / history.length)));
}

// --- the pad: one image, and which of its pixels are to be made new -----------------------------------------------------

const pad = { canvas: $("pad"), at: null, cursor: [0.5, 0.5] };

function clearPad() {
  const [, height, width] = shape;
  pad.image = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  pad.image.canvas.width = width;
  pad.image.canvas.height = height;
  const mean = model.mean.reduce((a, b) => a + b) / model.mean.length;
  pad.image.fillStyle = mean < 0.5 ? "#000" : "#fff";
  pad.image.fillRect(0, 0, width, height);
  pad.mask = new Uint8Array(width * height);
  showPad();
}

function showPad() {
  const [, height, width] = shape, context = pad.canvas.getContext("2d");
  pad.canvas.width = width;
  pad.canvas.height = height;
  context.drawImage(pad.image.canvas, 0, 0);
  if (fields.mode.value === "fill") {
    context.fillStyle = "rgb(240 110 60 / 0.75)";
    pad.mask.forEach((hole, i) => hole && context.fillRect(i % width, Math.floor(i / width), 1, 1));
  }
  if (document.activeElement === pad.canvas && pad.keys) {
    context.strokeStyle = "#f0a";
    context.strokeRect(Math.floor(pad.cursor[0] * width) - 0.5, Math.floor(pad.cursor[1] * height) - 0.5, 2, 2);
  }
}

/** A stroke from one place to another, each [x, y] from 0 to 1: ink, or in the mode "fill" hole. */
function stroke(from, to) {
  const [channels, height, width] = shape, radius = (Number($("width").value) * width) / 28 / 2;
  const data = pad.image.getImageData(0, 0, width, height), ink = $("ink").value.match(/\w\w/g).map((hex) => parseInt(hex, 16));
  if (channels === 1) ink.fill(Math.round(ink.reduce((a, b) => a + b) / 3));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [dx, dy] = [(to[0] - from[0]) * width, (to[1] - from[1]) * height], [px, py] = [x + 0.5 - from[0] * width, y + 0.5 - from[1] * height];
      const along = Math.min(1, Math.max(0, (px * dx + py * dy) / (dx * dx + dy * dy || 1)));
      const cover = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(px - along * dx, py - along * dy)));
      const i = y * width + x;
      if (fields.mode.value === "fill") {
        if (cover > 0.5) pad.mask[i] = 1;
      } else {
        for (let c = 0; c < 3; c++) data.data[4 * i + c] += (ink[c] - data.data[4 * i + c]) * cover;
      }
    }
  }
  pad.image.putImageData(data, 0, 0);
  showPad();
}

function placeOf(event) {
  const box = pad.canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

pad.canvas.addEventListener("pointerdown", (event) => {
  pad.canvas.setPointerCapture(event.pointerId);
  pad.keys = false;
  pad.at = placeOf(event);
  stroke(pad.at, pad.at);
});
pad.canvas.addEventListener("pointermove", (event) => {
  if (!pad.at) return;
  const place = placeOf(event);
  stroke(pad.at, place);
  pad.at = place;
});
for (const over of ["pointerup", "pointercancel"]) pad.canvas.addEventListener(over, () => (pad.at = null));
pad.canvas.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!move && event.key !== " ") return;
  event.preventDefault();
  pad.keys = true;
  const before = pad.cursor;
  if (move) pad.cursor = pad.cursor.map((place, i) => Math.min(1, Math.max(0, place + move[i] / shape[2 - i])));
  if (event.key === " ") pad.down = !pad.down;
  if (pad.down) stroke(before, pad.cursor);
  showPad();
});

/** Put one of the images drawn on the pad. */
function take(index = 0) {
  const [, height, width] = shape, area = height * width * 4;
  const bytes = history.at(-1)?.estimate.slice(index * area, (index + 1) * area);
  if (!bytes?.length) return;
  pad.image.putImageData(new ImageData(bytes, width, height), 0, 0);
  pad.mask.fill(0);
  showPad();
}

// --- links -----------------------------------------------------------------------------------------------------------

const base64 = (bytes) => btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const unbase64 = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));

/** The settings, and what is on the pad where that counts, as the address's part behind #. */
function addressOf() {
  const words = new URLSearchParams(SETTINGS.map((name) => [name, fields[name].value]));
  if (WITH_PAD.includes(fields.mode.value)) {
    words.set("image", pad.image.canvas.toDataURL("image/png").split(",")[1].replace(/\+/g, "-").replace(/\//g, "_"));
    const bits = new Uint8Array(Math.ceil(pad.mask.length / 8));
    pad.mask.forEach((hole, i) => (bits[i >> 3] |= hole << (i & 7)));
    words.set("mask", base64(bits));
  }
  return `#${words}`;
}

/** Set all to what the address says; whether it said anything. */
async function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const name of SETTINGS) {
    if (!words.has(name)) continue;
    const field = fields[name], before = field.value, wanted = words.get(name);
    field.value = wanted;
    // A slider makes a number of anything.
    const odd = field.type === "range" && !(wanted >= Number(field.min) && wanted <= Number(field.max) && wanted.trim());
    const empty = field.value === "" && !(name === "class" && wanted === "");
    if (odd || empty || (field.checkValidity && !field.checkValidity())) field.value = before;
  }
  try {
    if (words.has("image")) {
      const image = await createImageBitmap(new Blob([unbase64(words.get("image"))], { type: "image/png" }));
      pad.image.drawImage(image, 0, 0, shape[2], shape[1]);
    }
    if (words.has("mask")) {
      const bits = unbase64(words.get("mask"));
      pad.mask = pad.mask.map((_, i) => (bits[i >> 3] >> (i & 7)) & 1);
    }
  } catch {
    say("The drawing in this link is damaged; the rest is taken.", true);
  }
  return words.size > 0;
}

// --- drawing ---------------------------------------------------------------------------------------------------------

/** What each image is asked to be: a class, -1 for none. */
function labelsOf(count) {
  const chosen = fields.class.value;
  return Array.from({ length: count }, (_, i) => (chosen === "each" ? i % model.classes.length : chosen === "" ? -1 : Number(chosen)));
}

function start() {
  clearInterval(playing);
  const mode = fields.mode.value;
  if (mode === "fill" && !pad.mask.some(Boolean)) return say("Paint over what is to be made new, then press Fill.", true);
  history = [];
  wish += 1;
  const settings = {
    kind: "draw",
    id: wish,
    mode,
    labels: labelsOf(Number(fields.count.value)),
    guidance: Number(fields.guidance.value),
    steps: Number(fields.steps.value),
    seed: BigInt(fields.seed.value),
    seed2: BigInt(fields.seed2.value),
    sampler: fields.sampler.value,
    strength: Number(fields.strength.value),
  };
  if (WITH_PAD.includes(mode)) {
    settings.pad = pad.image.getImageData(0, 0, shape[2], shape[1]).data;
    settings.mask = pad.mask;
  }
  worker.postMessage(settings);
  globalThis.history.replaceState(null, "", addressOf());
  say("Drawing …");
  $("stop").disabled = false;
  if (isNarrow()) document.querySelector(".results").scrollIntoView({ block: "nearest" });
}

function finished(text, wrong = false) {
  say(text, wrong);
  $("stop").disabled = true;
  $("step").max = Math.max(1, history.length);
  showStep(history.length);
  const any = history.length > 0;
  for (const id of ["play", "save", "link", "step"]) $(id).disabled = !any;
}

const HEARD = {
  ready: async ({ model: opened, noise }) => {
    model = opened;
    shape = model.shape;
    $("about").textContent = `Trained on ${model.data}. `;
    document.title = `${model.data}: ${document.title}`;
    const classes = model.classes.map((name, i) => new Option(name, i));
    const each = classes.length ? [new Option("each in turn", "each")] : [];
    fields.class.replaceChildren(...each, ...classes, new Option("none in particular", ""));
    if (!model.classes.length) {
      $("class-label").hidden = $("guidance-label").hidden = true;
    }
    fields.sampler.replaceChildren(...Object.keys(model.samplers).map((name) => new Option(name)));
    fields.guidance.value = model.guidance.scale;
    fields.steps.value = stepsOf();
    clearPad();
    show($("noisy"), noise, "Noise, from which images are drawn");
    show($("estimate"), noise.map((_, i) => (i % 4 === 3 ? 0 : 255)), "Nothing drawn yet");
    const asked = await readAddress();
    arrange();
    $("draw").disabled = false;
    document.documentElement.dataset.ready = Math.round(performance.now());
    say("Ready: press Draw.");
    if (asked) start();
  },
  backend: ({ backend: said }) => (document.documentElement.dataset.backend = backend = said),
  step: ({ id, call, calls, noisy, estimate }) => {
    if (id !== wish) return;
    if (2 * estimate.length * history.length > MOST) history = history.filter((_, i) => i % 2);
    history.push({ call, calls, noisy, estimate });
    showStep(history.length);
    $("step").max = calls; // how far it is
    $("step").value = call + 1;
  },
  done: ({ id, images, milliseconds }) => {
    if (id !== wish) return;
    history.at(-1).estimate = images;
    document.documentElement.dataset.drawn = `${id} ${Math.round(milliseconds)}`;
    finished(`Drawn in ${(milliseconds / 1000).toFixed(2)} s, by ${backend}.`);
  },
  stopped: ({ id }) => id === wish && finished("Stopped."),
  error: ({ text }) => (model ? finished(text, true) : cannot(text)),
};

function stepsOf() {
  return fields.mode.value === "fill" ? model.fill.steps : model.samplers[fields.sampler.value].steps;
}

/** Show the controls that count in the mode that is chosen. */
function arrange() {
  const mode = fields.mode.value, drawing = WITH_PAD.includes(mode);
  $("drawing").hidden = !drawing;
  $("strength-label").hidden = mode !== "pad";
  $("ink-label").hidden = mode !== "pad";
  $("sampler-label").hidden = mode === "fill";
  $("seed2-label").hidden = mode !== "between";
  $("dice-label").hidden = mode === "between";
  $("pad-title").textContent = mode === "fill" ? "Paint over what is to be made new" : "Draw here";
  $("draw").textContent = { noise: "Draw", pad: "Make it real", fill: "Fill", between: "Go from one to the other" }[mode];
  $("guidance").disabled = fields.class.value === "";
  $("guidance-said").value = fields.guidance.value;
  $("strength-said").value = fields.strength.value;
  if (drawing) showPad();
}

function listen() {
  let wasFilling = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (model) start();
  });
  form.addEventListener("input", (event) => {
    if (event.target.name === "mode" && fields.mode.value === "fill" && history.length && !pad.mask.some(Boolean)) take();
    const filling = fields.mode.value === "fill"; // by a sampler of its own
    if (event.target.name === "sampler" || (event.target.name === "mode" && filling !== wasFilling)) fields.steps.value = stepsOf();
    wasFilling = filling;
    arrange();
    if (event.target.name === "mode" && WITH_PAD.includes(fields.mode.value) && isNarrow()) pad.canvas.scrollIntoView({ block: "center" });
  });
  $("step").addEventListener("input", () => {
    clearInterval(playing);
    showStep(Number($("step").value));
  });
  $("play").addEventListener("click", play);
  $("stop").addEventListener("click", () => worker.postMessage({ kind: "stop" }));
  $("clear").addEventListener("click", clearPad);
  $("take").addEventListener("click", () => take());
  $("estimate").addEventListener("click", (event) => {
    if (!history.length || !WITH_PAD.includes(fields.mode.value)) return;
    const columns = columnsOf(history.at(-1).estimate.length / (4 * shape[1] * shape[2])), box = $("estimate").getBoundingClientRect();
    const cell = box.width / columns, row = Math.floor((event.clientY - box.top) / (cell * (shape[1] / shape[2])));
    take(row * columns + Math.floor((event.clientX - box.left) / cell));
  });
  $("dice").addEventListener("click", () => {
    fields.seed.value = crypto.getRandomValues(new Uint32Array(1))[0];
    form.requestSubmit();
  });
  $("save").addEventListener("click", () => {
    $("estimate").toBlob((blob) => {
      const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${model.name}_seed_${fields.seed.value}.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  });
  $("link").addEventListener("click", async () => {
    globalThis.history.replaceState(null, "", addressOf());
    const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
    say(copied ? "The link is copied: whoever opens it here sees the same images." : "The link is in the address bar.");
  });
  addEventListener("hashchange", async () => {
    if (!(await readAddress())) return;
    arrange();
    start();
  });
}

function begin() {
  say("Opening the model …");
  if (typeof WebAssembly !== "object" || typeof Worker !== "function" || typeof BigInt64Array !== "function") {
    return cannot("This browser cannot run the model: it has no WebAssembly, or no workers. A current Firefox, Chrome, Edge or Safari can.");
  }
  listen();
  const insisted = new URLSearchParams(location.search).get("backend");
  try {
    worker = new Worker(new URL(`worker.js${insisted ? `?backend=${encodeURIComponent(insisted)}` : ""}`, import.meta.url), { type: "module" });
  } catch (error) {
    return cannot(`This browser cannot run the model in a worker: ${error.message}`);
  }
  worker.onmessage = ({ data }) => HEARD[data.kind](data);
  worker.onerror = (event) => cannot(`This browser cannot run the model: ${event.message || "its worker did not start"}`);
}

begin();
