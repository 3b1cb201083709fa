// What the samples of a stretch of time say: load per machine, simulated delay, tokens per second. Pure.

/** Return per machine the highest and the mean load and memory between two times in ms. */
export function loadBetween(samples, from, to) {
  const before = samples.filter((sample) => sample.at <= from).at(-1);
  const during = samples.filter((sample) => sample.at > from && sample.at <= to);
  const last = during.at(-1);
  if (!last) return [];
  return last.nodes.map((node) => nodeLoad(node.name, before ? [before, ...during] : during, during));
}

function nodeLoad(name, span, during) {
  const rows = (list) => list.map((sample) => ({ at: sample.at, ...sample.nodes.find((node) => node.name === name) }));
  const percents = rows(during).map((row) => row.cpu_percent).filter(isNumber);
  const memory = rows(during).map((row) => row.rss_bytes).filter(isNumber);
  const gpus = rows(during).map((row) => row.gpus ?? []);
  const busy = gpus.map((list) => Math.max(...list.map((gpu) => 100 * gpu.busy))).filter((value) => value >= 0);
  const onGPU = gpus.filter((list) => list.length).map((list) => list.reduce((sum, gpu) => sum + gpu.used_bytes, 0));
  return {
    name,
    gpu: spread(busy),
    gpuMemory: spread(onGPU),
    cpu: percents.length ? { max: Math.max(...percents), avg: meanLoad(rows(span)) ?? mean(percents) } : null,
    memory: spread(memory),
  };
}

/** Processor seconds over elapsed seconds: exact, however the load jumped between the samples. */
function meanLoad(rows) {
  const known = rows.filter((row) => isNumber(row.cpu_s));
  if (known.length < 2) return null;
  const used = known.at(-1).cpu_s - known[0].cpu_s;
  const elapsed = (known.at(-1).at - known[0].at) / 1000;
  return used < 0 || elapsed <= 0 ? null : (100 * used) / elapsed;
}

/** Return the seconds that simulated latency took of the waits between two times: per wait once there and once back. */
export function simulatedBetween(samples, from, to) {
  const before = samples.filter((sample) => sample.at <= from).at(-1) ?? samples[0];
  const after = samples.filter((sample) => sample.at <= to).at(-1);
  if (!before || !after) return 0;
  return after.links.reduce((total, link) => {
    const was = before.links.find((each) => each.endpoint === link.endpoint);
    const network = link.simulated;
    if (!network || !was) return total;
    return total + (Math.max(0, link.stages - was.stages) * (network.latency_min_ms + network.latency_max_ms)) / 1000;
  }, 0);
}

/** Return tokens per second, one value per pair of samples that lie at least half a second apart. */
export function throughput(samples, count) {
  const values = [];
  let last = null;
  for (const sample of samples) {
    if (sample.tokens === null) continue;
    if (last && sample.at - last.at < 500) continue;
    if (last) values.push(Math.max(0, (sample.tokens - last.tokens) / ((sample.at - last.at) / 1000)));
    last = sample;
  }
  return values.slice(-count);
}

const isNumber = (value) => typeof value === "number";
const spread = (values) => (values.length ? { max: Math.max(...values), avg: mean(values) } : null);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
