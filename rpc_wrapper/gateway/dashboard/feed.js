// The cluster as it is now: one stream of events, kept up to date for whoever looks, and what can only be seen over time.

import { events, key, request } from "/dashboard/api.js";

const HISTORY_KEPT = 1000;
const SAMPLES_KEPT = 1800; // 13 minutes
const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 3000;
const SILENCE_MS = 25000; // the server says something every 15 s

const state = { snapshot: null, connection: "connecting", samples: [] };
const watchers = new Set();
let lastId = null;
let waiting = false;

/** Call `watcher(state)` now and after every change, once per frame at most. */
export function watch(watcher) {
  watchers.add(watcher);
  watcher(state);
}

/** Return the state: the snapshot of /cluster, the connection, and samples {at, nodes, links, tokens} in ms. */
export const current = () => state;

/** Resolve as soon as a sample later than `at` (ms) is there, or after `most` ms. */
export function sampleAfter(at, most) {
  return new Promise((resolve) => {
    const done = () => {
      watchers.delete(check);
      clearTimeout(timer);
      resolve();
    };
    const check = () => state.samples.some((sample) => sample.at > at) && done();
    const timer = setTimeout(done, most);
    watchers.add(check);
  });
}

/** Follow the stream for ever; a lost connection is taken up where it was left. */
export async function follow() {
  let pause = FIRST_PAUSE_MS;
  for (;;) {
    try {
      await listen(() => (pause = FIRST_PAUSE_MS));
    } catch (error) {
      if (error.status === 401) {
        setConnection("locked");
        await key.change();
        continue;
      }
    }
    setConnection("lost");
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

async function listen(onEvent) {
  const abort = new AbortController();
  const headers = lastId ? { "Last-Event-ID": lastId } : {};
  let silence = setTimeout(() => abort.abort(), SILENCE_MS);
  try {
    const response = await request("/cluster/events", { headers, signal: abort.signal });
    for await (const event of events(response)) {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(), SILENCE_MS);
      onEvent();
      take(event);
    }
  } finally {
    clearTimeout(silence);
  }
}

function take(event) {
  setConnection("live");
  if (!event.data) return;
  const sections = JSON.parse(event.data);
  lastId = event.id ?? lastId;
  state.snapshot = event.event === "snapshot" ? merged(state.snapshot, sections) : changed(state.snapshot, sections);
  if (event.event === "snapshot" || sections.nodes || sections.links || sections.traffic) sample();
  changedNow();
}

/** Take a whole snapshot, but keep the older events of the same server that it no longer holds. */
function merged(old, fresh) {
  const oldest = fresh.history[0]?.number ?? 0;
  const same = old && old.history.at(-1)?.number <= (fresh.history.at(-1)?.number ?? -1);
  const kept = same ? old.history.filter((entry) => entry.number < oldest) : [];
  return { ...fresh, history: [...kept, ...fresh.history].slice(-HISTORY_KEPT) };
}

function changed(old, sections) {
  const history = sections.history ? [...old.history, ...sections.history].slice(-HISTORY_KEPT) : old.history;
  return { ...old, ...sections, history };
}

function sample() {
  const { nodes = [], links = [], traffic } = state.snapshot;
  state.samples.push({ at: performance.now(), nodes, links, tokens: traffic?.tokens_total ?? null });
  if (state.samples.length > SAMPLES_KEPT) state.samples.splice(0, state.samples.length - SAMPLES_KEPT);
}

function setConnection(connection) {
  if (state.connection === connection) return;
  state.connection = connection;
  changedNow();
}

function changedNow() {
  if (waiting) return;
  waiting = true;
  const tell = () => {
    waiting = false;
    for (const watcher of [...watchers]) watcher(state);
  };
  if (document.hidden) setTimeout(tell, 200);
  else requestAnimationFrame(tell);
}
