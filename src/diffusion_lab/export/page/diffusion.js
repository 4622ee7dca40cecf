// Drawing with a diffusion model: what diffusion_lab.process and diffusion_lab.sampling do in Python, line by line.
//
// Images and noise are Float32Arrays of count * size numbers, image by image, in the model's space. A denoiser is
//   schedule(time) -> [signalRate, noiseRate], time in [0, 1]: 0 is the clean end, 1 the noisy one;
//   predict(noisy, time) -> a promise of {image, noise}, tied by noisy = signalRate * image + noiseRate * noise;
//   bounds: [black, white], one of each for every number of an image.
// Settings have the names that they have in conf/sampler.

const EXTRA = 1_000_000; // the first of the drawings of an image's noise that are not the sampler's

// --- noise ---------------------------------------------------------------------------------------------------------

const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57];
const WEYL = [0x9e3779b9, 0xbb67ae85];

/** The high and the low word of the product of two words of 32 bits. */
function product(a, b) {
  const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const other = (middle % 0x10000) + a0 * b1;
  return [a1 * b1 + Math.floor(middle / 0x10000) + Math.floor(other / 0x10000), Math.imul(a, b) >>> 0];
}

/** Philox4x32-10 (Salmon et al. 2011): four words of 32 bits for a counter of four, under a key of two. */
export function philox([c0, c1, c2, c3], key) {
  for (let turn = 0; turn < 10; turn++) {
    const k0 = (key[0] + turn * WEYL[0]) >>> 0, k1 = (key[1] + turn * WEYL[1]) >>> 0;
    const [high0, low0] = product(c0, MULTIPLIERS[0]), [high1, low1] = product(c2, MULTIPLIERS[1]);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
  }
  return [c0, c1, c2, c3];
}

/** Two standard normal numbers of two words (Box and Muller 1958), rounded where Python's float32 is. */
function gaussianPair(first, second) {
  const f = Math.fround;
  const uniform = f(f(f(first) + 0.5) / 2 ** 32);
  const radius = f(Math.sqrt(f(-2 * f(Math.log(uniform)))));
  const angle = f(f(second) * f((2 * Math.PI) / 2 ** 32));
  return [f(radius * f(Math.cos(angle))), f(radius * f(Math.sin(angle)))];
}

/** Standard normal noise: `size` numbers for each index; the same for the same (seed, index, drawing) as in Python. */
export function noiseOfImages(seed, indices, size, drawing = 0) {
  const whole = BigInt.asUintN(64, BigInt(seed));
  const key = [Number(whole & 0xffffffffn), Number(whole >> 32n)];
  const blocks = Math.ceil(size / 4);
  const noise = new Float32Array(indices.length * size);
  indices.forEach((index, row) => {
    const put = (place, value) => { if (place < size) noise[row * size + place] = value; };
    for (let block = 0; block < blocks; block++) {
      const words = philox([block, index >>> 0, drawing >>> 0, 0], key);
      const numbers = [...gaussianPair(words[0], words[1]), ...gaussianPair(words[2], words[3])];
      numbers.forEach((number, part) => put(part * blocks + block, number));
    }
  });
  return noise;
}

/** Between two noises along a great circle, so that it stays as strong as noise is (Shoemake 1985). */
export function slerp(first, second, share) {
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const cosine = dot(first, second) / Math.sqrt(dot(first, first) * dot(second, second));
  const angle = Math.max(1e-4, Math.acos(Math.min(1, Math.max(-1, cosine))));
  return mix(Math.sin((1 - share) * angle) / Math.sin(angle), first, Math.sin(share * angle) / Math.sin(angle), second);
}

// --- schedules and times ---------------------------------------------------------------------------------------------

/** The schedule of a table of powers, squares of rates: of a smooth one at even times, or of discrete steps. */
export function scheduleOf({ discrete, signal, noise }) {
  if (discrete) {
    return (time) => {
      const step = Math.max(0, Math.ceil(signal.length * time - 1e-3) - 1);
      return [Math.sqrt(signal[step]), Math.sqrt(noise[step])];
    };
  }
  const intervals = signal.length - 1;
  return (time) => {
    const place = Math.min(1, Math.max(0, time)) * intervals;
    const first = Math.min(Math.max(0, Math.floor(place) - 1), intervals - 3), x = place - first;
    // Lagrange's cubic through four points, at 0, 1, 2 and 3.
    const weights = [
      (-(x - 1) * (x - 2) * (x - 3)) / 6, (x * (x - 2) * (x - 3)) / 2,
      (-x * (x - 1) * (x - 3)) / 2, (x * (x - 1) * (x - 2)) / 6,
    ];
    const at = (table) => Math.sqrt(weights.reduce((sum, weight, i) => sum + weight * table[first + i], 0));
    return [at(signal), at(noise)];
  };
}

const logSnr = ([signal, noise]) => 2 * (Math.log(signal) - Math.log(noise));

/** The time at which a schedule has this log-SNR, by bisection; the nearer end where it has not. */
function timeOf(schedule, wanted) {
  let low = 0, high = 1;
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (logSnr(schedule(middle)) > wanted) low = middle; else high = middle;
  }
  return high === 1 ? 1 : low === 0 ? 0 : (low + high) / 2;
}

const line = (from, to, count) => Array.from({ length: count }, (_, i) => (count === 1 ? from : from + ((to - from) * i) / (count - 1)));
const ends = (schedule) => [Math.max(logSnr(schedule(1)), -2 * Math.log(80)), logSnr(schedule(0))];

/** The times of the network calls, falling: functions of (schedule, steps, settings). */
export const TIMES = {
  trailing: (schedule, steps) => line(1, 0, steps + 1).slice(0, -1),
  uniform: (schedule, steps) => line(1, 0, steps),
  quadratic: (schedule, steps) => TIMES.trailing(schedule, steps).map((time) => time ** 2),
  karras: (schedule, steps, { rho = 7 }) => {
    const [low, high] = ends(schedule);
    const rootLow = Math.exp(-low / 2 / rho), rootHigh = Math.exp(-high / 2 / rho);
    return line(1, 0, steps).map((root) => timeOf(schedule, -2 * rho * Math.log(rootHigh + (rootLow - rootHigh) * root)));
  },
  log_snr_uniform: (schedule, steps) => {
    const [low, high] = ends(schedule);
    return line(0, 1, steps).map((share) => timeOf(schedule, low + (high - low) * share));
  },
};

// --- samplers --------------------------------------------------------------------------------------------------------

/** a * x + b * y, number by number. */
function mix(a, x, b, y) {
  const sum = new Float32Array(x.length);
  for (let i = 0; i < sum.length; i++) sum[i] = a * x[i] + b * y[i];
  return sum;
}

/** The variances of a step from rates to those of an earlier time, [small, large] (Ho et al. 2020, sec. 3.2). */
function variances([signal, noise], [toSignal, toNoise]) {
  const large = noise ** 2 - ((signal / toSignal) * toNoise) ** 2;
  return [large * (toNoise / noise) ** 2, large];
}

/**
 * A denoiser called at falling times. `way` has
 *   steps: network calls; times: {name, ...settings}; threshold: null or {name: "static"};
 *   fresh(drawing): standard normal noise like `noise`; step(call, calls, noisy, {image, noise}): told of each call.
 */
class Walk {
  constructor(denoiser, noise, way, steps = way.steps) {
    Object.assign(this, { denoiser, noise, way, calls: 0, planned: steps });
    this.times = TIMES[way.times.name](denoiser.schedule, steps, way.times).map(Math.fround);
    this.rates = [...this.times.map(denoiser.schedule), [1, 0]];
  }

  start() {
    return mix(Math.hypot(...this.rates[0]), this.noise, 0, this.noise);
  }

  async predict(noisy, time, [signal, noiseRate]) {
    let prediction = await this.denoiser.predict(noisy, time);
    if (this.way.threshold?.name === "static") {
      const [black, white] = this.denoiser.bounds, size = black.length;
      const image = prediction.image.map((value, i) => Math.min(white[i % size], Math.max(black[i % size], value)));
      prediction = { image, noise: mix(1 / noiseRate, noisy, -signal / noiseRate, image) };
    }
    await this.way.step?.(this.calls, this.planned, noisy, prediction);
    this.calls += 1;
    return prediction;
  }

  fresh(drawing = this.calls - 1) {
    return this.way.fresh(drawing);
  }
}

/** DDIM (Song et al. 2021, eq. 12 and 16): deterministic with eta = 0, ancestral with eta = 1. */
async function ddim(denoiser, noise, way) {
  const walk = new Walk(denoiser, noise, way), eta = way.eta ?? 0;
  let noisy = walk.start();
  for (let i = 0; i < walk.times.length; i++) {
    const rates = walk.rates[i], [toSignal, toNoise] = walk.rates[i + 1];
    const { image, noise: estimate } = await walk.predict(noisy, walk.times[i], rates);
    const deviation = eta * Math.sqrt(Math.max(0, variances(rates, [toSignal, toNoise])[0]));
    noisy = mix(toSignal, image, Math.sqrt(Math.max(0, toNoise ** 2 - deviation ** 2)), estimate);
    if (deviation) noisy = mix(1, noisy, deviation, walk.fresh());
  }
  return noisy;
}

/** Ancestral sampling (Ho et al. 2020, algorithm 2); with resamples, back and forth (RePaint, Lugmayr et al. 2022). */
async function ddpm(denoiser, noise, way) {
  const path = resampledPath(way.steps, way.resamples ?? 1, way.jump ?? 1);
  const walk = new Walk(denoiser, noise, way, path.at(-1));
  walk.planned = path.filter((stop, i) => i && stop > path[i - 1]).length;
  let noisy = walk.start();
  for (let i = 1; i < path.length; i++) {
    const rates = walk.rates[path[i - 1]], to = walk.rates[path[i]];
    if (path[i] < path[i - 1]) {
      noisy = mix(to[0] / rates[0], noisy, Math.sqrt(Math.max(0, variances(to, rates)[1])), walk.fresh(way.steps + walk.calls));
      continue;
    }
    const { image, noise: estimate } = await walk.predict(noisy, walk.times[path[i - 1]], rates);
    noisy = mix(to[0], image, (rates[0] * to[1] ** 2) / (to[0] * rates[1]), estimate);
    const [small, large] = variances(rates, to);
    if (small > 0) noisy = mix(1, noisy, Math.sqrt(way.variance === "large" ? large : small), walk.fresh());
  }
  return noisy;
}

/** The stops of a way with `calls` steps forward, stretches of `jump` of which are gone again, up to `resamples` times in all, but
 * the last; see `_resampled_path` in samplers.py. */
export function resampledPath(calls, resamples, jump) {
  const beforeTheLast = (levels) => Math.ceil(levels / jump) - 1;
  let levels = Math.min(20, Math.ceil(calls / 2));
  while (levels < calls && levels + (resamples - 1) * jump * beforeTheLast(levels) < calls) levels += 1;
  const passes = Math.floor((calls - levels) / jump);
  levels = calls - passes * jump;
  const stretches = beforeTheLast(levels), stops = [0];
  for (let k = 0, begin = 0; begin < levels; k += 1, begin += jump) {
    const again = k < stretches ? Math.floor((passes * (k + 1)) / stretches) - Math.floor((passes * k) / stretches) : 0;
    for (let pass = 0; pass <= again; pass += 1) {
      for (let stop = begin + (stops.at(-1) === begin ? 1 : 0); stop <= Math.min(begin + jump, levels); stop++) stops.push(stop);
    }
  }
  return stops;
}

/** DPM-Solver++ of order 1 to 3 (Lu et al. 2022, arXiv:2211.01095), a multistep method; eta = 1 is stochastic. */
async function dpmSolver(denoiser, noise, way) {
  const walk = new Walk(denoiser, noise, way), eta = way.eta ?? 0;
  const images = [], lengths = []; // the newest first
  let noisy = walk.start();
  for (let i = 0; i < walk.times.length; i++) {
    const rates = walk.rates[i], [toSignal, toNoise] = walk.rates[i + 1];
    images.unshift((await walk.predict(noisy, walk.times[i], rates)).image);
    images.splice(way.order ?? 2);
    if (toNoise === 0) break;
    const length = Math.log(rates[1] / rates[0]) - Math.log(toNoise / toSignal);
    if (length === 0) { // a plateau of the schedule
      images.shift();
      continue;
    }
    const keep = Math.exp(-(1 + eta) * length);
    noisy = mix((toSignal * keep) / rates[0], noisy, toSignal, imagePart(images, length, lengths, eta));
    if (eta) noisy = mix(1, noisy, toNoise * Math.sqrt(-Math.expm1(-2 * eta * length)), walk.fresh());
    lengths.unshift(length);
  }
  return images[0];
}

/** The integral over a step of the polynomial through the latest image estimates (arXiv:2211.01095, eq. 12, app. B). */
function imagePart(images, length, lengths, eta) {
  const stretched = (1 + eta) * length, weight = -Math.expm1(-stretched);
  if (images.length === 1) return mix(weight, images[0], 0, images[0]);
  const scale = length / lengths[0];
  const slope = mix(scale, images[0], -scale, images[1]);
  if (images.length === 2) return mix(weight, images[0], weight / 2, slope);
  const olderScale = length / lengths[1], total = (lengths[0] + lengths[1]) / length;
  const older = mix(olderScale, images[1], -olderScale, images[2]);
  const curvature = mix(1 / total, slope, -1 / total, older);
  const bent = mix(1, slope, lengths[0] / length, curvature);
  const first = 1 - weight / stretched;
  return mix(1, mix(weight, images[0], first, bent), -(first / stretched - 0.5), curvature);
}

/** By the names of their functions in Python: (denoiser, noise, way) to a promise of images. */
export const SAMPLERS = { ddim, ddpm, dpm_solver: dpmSolver };

export const draw = (denoiser, noise, way) => SAMPLERS[way.sampler](denoiser, noise, way);

// --- edits -----------------------------------------------------------------------------------------------------------

/** The part of the way from diffusion time `begin` on: its time 1 is the denoiser's `begin`. */
function upTo(denoiser, begin) {
  const time = (own) => Math.fround(Math.fround(begin) * Math.fround(own));
  return {
    ...denoiser,
    schedule: (own) => denoiser.schedule(time(own)),
    predict: (noisy, own) => denoiser.predict(noisy, time(own)),
  };
}

/** SDEdit (Meng et al. 2022): noise the images to a time, `strength`, and draw from there. */
export async function sdedit(denoiser, images, noise, strength, way) {
  const [signal, noiseRate] = denoiser.schedule(Math.fround(strength)), power = Math.hypot(signal, noiseRate);
  return draw(upTo(denoiser, strength), mix(signal / power, images, noiseRate / power, noise), way);
}

/** Make new what is unknown (1 in `unknown`, which has a number for each of `images`), to fit the rest, which stays. */
export async function inpaint(denoiser, images, unknown, noise, way) {
  let calls = 0;
  const chosen = (made, kept) => made.map((value, i) => (unknown[i] ? value : kept[i]));
  const known = {
    ...denoiser,
    predict: async (noisy, time) => {
      const [signal, noiseRate] = denoiser.schedule(time);
      const seen = chosen(noisy, mix(signal, images, noiseRate, way.fresh(EXTRA - 1 + calls++)));
      const image = chosen((await denoiser.predict(seen, time)).image, images);
      return { image, noise: mix(1 / noiseRate, seen, -signal / noiseRate, image) };
    },
  };
  return chosen(await draw(known, noise, way), images);
}
