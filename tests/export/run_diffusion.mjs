// The page's samplers outside of a browser: cases as JSON on standard input, images as JSON on standard output.
//
// The denoiser is a wave that test_diffusion.py has too: image = signal * sin(0.7 * noisy + time) + 0.1 * noisy.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { draw, inpaint, noiseOfImages, scheduleOf, sdedit, slerp } = await import(pathToFileURL(process.argv[2]));
const { size, seed, indices, image, unknown, cases } = JSON.parse(readFileSync(0));
const results = [];
for (const each of cases) {
  const schedule = each.schedule && scheduleOf(each.schedule);
  const denoiser = {
    schedule,
    bounds: [new Float32Array(size).fill(-1), new Float32Array(size).fill(1)],
    predict: async (noisy, time) => {
      const [signal, noiseRate] = schedule(time);
      const estimate = noisy.map((value) => signal * Math.sin(0.7 * value + time) + 0.1 * value);
      return { image: estimate, noise: noisy.map((value, i) => (value - signal * estimate[i]) / noiseRate) };
    },
  };
  const noise = noiseOfImages(seed, indices, size, each.drawing ?? 0);
  const way = { ...each.way, fresh: (drawing) => noiseOfImages(seed, indices, size, drawing + 1) };
  const images = Float32Array.from(indices.flatMap(() => image)), holes = indices.flatMap(() => unknown);
  const made = {
    noise: () => noise,
    slerp: () => slerp(noise, noiseOfImages(seed, indices, size, 1), each.share),
    rates: () => each.times.flatMap(schedule),
    draw: () => draw(denoiser, noise, way),
    sdedit: () => sdedit(denoiser, images, noise, each.strength, way),
    inpaint: () => inpaint(denoiser, images, holes, noise, way),
  };
  results.push([...(await made[each.what]())]);
}
process.stdout.write(JSON.stringify(results));
