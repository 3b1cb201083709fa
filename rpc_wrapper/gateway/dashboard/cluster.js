// The cluster: what state it is in and why, its figures, its picture, and where a token's time goes.

import { byId, h, show } from "/dashboard/dom.js";
import { bytes, percent, rate, seconds } from "/dashboard/format.js";
import { linkDetails } from "/dashboard/links.js";
import { throughput } from "/dashboard/load.js";
import { machines } from "/dashboard/machines.js";
import { picture, sparkline, table } from "/dashboard/topology.js";

const SPARK_VALUES = 90;
const MOST_NAMED = 6; // more names than this do not fit into one bar
const TITLES = {
  ready: "Ready",
  preparing: "Preparing",
  starting: "Loading",
  fencing: "Fencing",
  backoff: "Waiting before the next try",
  stopping: "Stopping",
  stopped: "Stopped",
  failed: "Given up",
};

let width = 0;

export function start(redraw) {
  new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now !== width) {
      width = now;
      redraw();
    }
  }).observe(byId("topology"));
}

export function draw({ snapshot, samples }) {
  if (!snapshot) return;
  const all = machines(snapshot);
  show(byId("cluster-head"), head(snapshot));
  show(byId("cluster-figures"), figures(snapshot, samples));
  if (width > 0) show(byId("topology"), picture(all, snapshot, width));
  show(byId("cluster-time"), timeShares(all.backends));
  show(byId("cluster-table"), all.backends.length ? table(all) : null);
  byId("cluster-table").hidden = all.backends.length === 0;
  byId("links").hidden = !(snapshot.links ?? []).length;
  if (byId("links").open) show(byId("links-body"), linkDetails(snapshot.links ?? []));
  if (byId("engine").open) show(byId("engine-body"), engine(snapshot));
}

function head(snapshot) {
  const isReady = snapshot.state === "ready";
  const doing = isReady ? snapshot.reason : snapshot.progress || snapshot.reason;
  const why = !isReady && snapshot.progress && snapshot.reason !== snapshot.progress ? snapshot.reason : "";
  return h(
    "div",
    { class: "headline state", "data-state": snapshot.state },
    h("i", { class: "dot" }),
    h("h2", {}, TITLES[snapshot.state] ?? snapshot.state),
    h("p", { class: "lead" }, doing, h("span", { class: "faint" }, ` · for ${seconds(Math.max(0, Math.floor(Date.now() / 1000 - snapshot.since)))}`)),
    why && h("p", { class: "why" }, why),
    loadBar(snapshot),
  );
}

/** While weights are sent: how far it is, and when it will be done. */
function loadBar(snapshot) {
  const load = snapshot.load;
  if (snapshot.state !== "starting" || !load || !load.total_bytes) return null;
  const fraction = Math.min(1, load.done_bytes / load.total_bytes);
  const left = load.left_s ? `, about ${seconds(Math.ceil(load.left_s))} left` : "";
  const text = `${bytes(load.done_bytes)} of ${bytes(load.total_bytes)}${left}`;
  return h("div", { class: "loading" }, h("progress", { value: fraction.toFixed(3), max: 1, "aria-label": "Load progress" }), h("span", {}, text));
}

function figures(snapshot, samples) {
  const speeds = throughput(samples, SPARK_VALUES);
  const { running = 0, queued = 0 } = snapshot.traffic ?? {};
  const facts = [
    ["Requests", `${running} running`, queued ? `${queued} waiting` : `${snapshot.slots} slots`],
    ["Resumed", String(snapshot.journal?.resumed_total ?? 0), "requests that outlived an engine"],
    ["Restarts", String(snapshot.restarts), snapshot.restarts ? "see Events" : "none needed"],
  ];
  return h(
    "dl",
    { class: "figures" },
    h("div", { class: "speed" }, h("dt", {}, "Throughput"), h("dd", {}, h("b", {}, rate(speeds.at(-1) ?? 0)), " tok/s"), sparkline(speeds, 320, 44)),
    facts.map(([name, value, note]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("b", {}, value)), h("dd", { class: "faint" }, note))),
  );
}

/** Where the time of a token goes: each backend's part of all waiting, the round trip set off from the computing. */
function timeShares(backends) {
  const busy = backends.filter((row) => row.share);
  if (!busy.length) return null;
  const parts = busy.map((row, index) => {
    const piece = h("li", { "data-tone": index % 4, title: `${row.name}: ${seconds(row.perToken)} per token` }, h("span", {}, h("b", {}, percent(100 * row.share)), busy.length <= MOST_NAMED && ` ${row.name}`));
    piece.style.flexGrow = String(Math.max(row.share, 0.02));
    return piece;
  });
  const perToken = busy.reduce((sum, row) => sum + row.perToken, 0);
  const network = busy.reduce((sum, row) => sum + Math.min(row.rtt ?? 0, row.perToken), 0);
  const lead = `${seconds(perToken)} of waiting per token, ${percent(Math.min(100, (100 * network) / perToken))} of it round trips`;
  return h("section", { class: "panel shares" }, h("header", {}, h("h2", {}, "Where a token’s time goes"), h("p", { class: "faint" }, lead)), h("ol", { class: "model tall" }, parts));
}

function engine(snapshot) {
  return [
    h("p", { class: "faint" }, `${snapshot.engine.version}, RPC protocol ${snapshot.engine.protocol}, pid ${snapshot.pid ?? "–"}, start number ${snapshot.generation}`),
    snapshot.last_exit && h("p", {}, `Last end: ${snapshot.last_exit.text}`),
    h("pre", { tabindex: 0 }, h("code", {}, snapshot.argv.join(" "))),
    h("pre", { tabindex: 0 }, h("code", {}, snapshot.last_lines.join("\n"))),
  ];
}
